package helm

import (
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestInstallThenSteady(t *testing.T) {
	r := newRig(t)
	steps := r.converge()
	if len(steps) != 1 || steps[0].Action != reconcile.ActionCreate || steps[0].Reason.Code != reconcile.ReasonAbsent {
		t.Fatalf("steps %v", steps)
	}
	if len(steps[0].Changes) != 3 {
		t.Errorf("the plan lists %v, want the 3 objects", steps[0].Changes)
	}
	if h := r.history(); h != "deployed" {
		t.Errorf("history %q", h)
	}
	r.untilReady()
	passes := func() int64 {
		t.Helper()
		before := r.requests.Load()
		for range 50 {
			if steps, err := r.pass(t.Context(), r.request()); err != nil || len(steps) > 0 {
				t.Fatalf("steps %v, err %v", steps, err)
			}
		}
		return r.requests.Load() - before
	}
	// What was learned on the way is written down a moment later.
	r.eventually("all is written down", func() bool { return !r.record().Pending && r.written() && passes() == 0 })
	if n := passes() + passes(); n != 0 {
		t.Errorf("100 passes in the steady state cost %d requests", n)
	}
}

// written tells whether the inventory in the cluster says what is known of the
// last revision that was ready.
func (r *rig) written() bool {
	r.t.Helper()
	known := notesOf(r.record())
	other := &rig{t: r.t, env: r.env, target: r.target, mode: r.mode}
	other.start()
	defer other.stop()
	return notesOf(other.record()).Good.Revision == known.Good.Revision
}

func TestRestartFindsItsBaselines(t *testing.T) {
	r := newRig(t)
	r.converge()
	r.restart()
	if steps := r.converge(); len(steps) != 0 {
		t.Errorf("after a restart: %v", steps)
	}
	// What happens while nobody looks is found too.
	r.stop()
	r.patchMap(`{"data":{"level":"edited"}}`)
	r.start()
	steps := r.converge()
	if len(steps) != 1 || steps[0].Action != reconcile.ActionHeal {
		t.Errorf("steps %v", steps)
	}
}

func TestUpgradeIsExact(t *testing.T) {
	r := newRig(t)
	r.values = map[string]any{"level": "info", "extra": true, "keys": map[string]any{"a": "1", "b": "2"}, "extraEnv": map[string]any{"X": "1", "Y": "2"}}
	r.converge()
	r.values = map[string]any{"level": "debug", "keys": map[string]any{"b": "3"}, "extraEnv": map[string]any{"Y": "2"}, "replicas": 2.0}
	steps := r.converge()
	if len(steps) != 1 || steps[0].Action != reconcile.ActionUpdate || steps[0].Reason.Code != reconcile.ReasonConfig || steps[0].Deletes != 1 {
		t.Fatalf("steps %+v", steps)
	}
	var paths []string
	for _, c := range steps[0].Changes {
		paths = append(paths, c.Path+" "+c.From+"→"+c.To)
	}
	for _, want := range []string{"data.level info→debug", "spec.replicas 1→2", "extra →deleted"} {
		if !strings.Contains(strings.Join(paths, "\n"), want) {
			t.Errorf("the plan does not say %q: %v", want, paths)
		}
	}
	got := r.live()
	fresh := newRig(t)
	fresh.values = r.values
	fresh.converge()
	if want := strings.ReplaceAll(fresh.live(), fresh.env.Instance, r.env.Instance); got != want {
		t.Errorf("after an upgrade\n%s\nafter a fresh install\n%s", got, want)
	}
	if h := r.history(); h != "superseded deployed" {
		t.Errorf("history %q", h)
	}
}

func (r *rig) patchMap(patch string) {
	r.t.Helper()
	_, err := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace).Patch(r.t.Context(), "settings", types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "alice"})
	if err != nil {
		r.t.Fatal(err)
	}
}

// explained asks for a plan that will only be looked at.
func (r *rig) explained(object string, code reconcile.ReasonCode, writer, path string) {
	r.t.Helper()
	before, req := r.live(), r.request()
	req.Explain = true
	for range 2 { // the second time from memory
		o, err := r.p.Observe(r.t.Context(), req)
		if err != nil {
			r.t.Fatal(err)
		}
		steps, err := r.p.Plan(r.t.Context(), req, o)
		if err != nil || len(steps) != 1 {
			r.t.Fatalf("plan: %v, %v", steps, err)
		}
		s := steps[0]
		if s.Object != object || s.Reason.Code != code || s.Reason.Writer != writer && writer != "" || !strings.HasPrefix(strings.Join(s.Reason.Paths, " "), path) {
			r.t.Errorf("the plan says %v", s)
		}
	}
	if after := r.live(); after != before {
		r.t.Errorf("planning changed\n%s\nto\n%s", before, after)
	}
}

func TestHeal(t *testing.T) {
	r := newRig(t)
	r.converge()
	want := r.live()
	for _, test := range []struct {
		name, object string
		do           func()
		code         reconcile.ReasonCode
		writer, path string
	}{
		{"value edited", "ConfigMap settings", func() { r.patchMap(`{"data":{"level":"x"}}`) }, reconcile.ReasonEdited, "alice", "data.level"},
		{"key removed", "ConfigMap settings", func() { r.patchMap(`{"data":{"level":null}}`) }, reconcile.ReasonEdited, "", "data"},
		{"our label removed", "ConfigMap settings", func() { r.patchMap(`{"metadata":{"labels":{"forged.dev/instance":null}}}`) }, reconcile.ReasonEdited, "", "metadata.labels"},
		{"ownership wiped", "ConfigMap settings", func() { r.patchMap(`{"metadata":{"managedFields":[{}]}}`) }, reconcile.ReasonOwnership, "", ""},
		{"scaled", "Deployment web", func() {
			_, err := r.env.Client.AppsV1().Deployments(r.env.Namespace).UpdateScale(t.Context(), "web",
				&autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: r.env.Namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: 4}},
				metav1.UpdateOptions{FieldManager: "bob"})
			if err != nil {
				t.Fatal(err)
			}
		}, reconcile.ReasonEdited, "bob", "spec.replicas"},
		{"deleted", "Service web", func() {
			if err := r.env.Client.CoreV1().Services(r.env.Namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}, reconcile.ReasonDeleted, "", ""},
		{"replaced", "ConfigMap settings", func() {
			maps := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace)
			if err := maps.Delete(t.Context(), "settings", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"level": "x"}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}, reconcile.ReasonReplaced, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			r.drain()
			test.do()
			kind, name, _ := strings.Cut(test.object, " ")
			object := kind + " " + r.env.Namespace + "/" + name
			r.changed(object)
			r.explained(object, test.code, test.writer, test.path)
			steps := r.converge()
			if len(steps) != 1 {
				t.Fatalf("steps %v", steps)
			}
			s := steps[0]
			if s.Action != reconcile.ActionHeal || s.Object != object || s.Reason.Code != test.code || s.Reason.Writer != test.writer && test.writer != "" {
				t.Errorf("step %v", s)
			}
			if test.path != "" && !strings.HasPrefix(strings.Join(s.Reason.Paths, " "), test.path) {
				t.Errorf("paths %v, want %s", s.Reason.Paths, test.path)
			}
			if test.name == "replaced" {
				want = r.live() // a foreign object's own labels may stay
			}
			if got := r.live(); got != want {
				t.Errorf("after the heal\n%s\nwant\n%s", got, want)
			}
		})
	}
	r.t = t
	if h := r.history(); h != "deployed" {
		t.Errorf("healing made revisions: %q", h)
	}
}

func TestHelmUpgradeBehindOurBackIsTakenBack(t *testing.T) {
	r := newRig(t)
	r.converge()
	want := r.live()
	r.drain()
	r.helmUpgrade(map[string]any{"level": "theirs", "extra": true, "extraEnv": map[string]any{"Z": "9"}})
	r.helmActed()
	steps := r.converge()
	first := steps[0]
	if first.Action != reconcile.ActionHeal || first.Reason.Code != reconcile.ReasonForeign || first.Reason.Writer != "helm" || !strings.Contains(first.Reason.Text, "revision 2 is not forged's, its own is 1") {
		t.Errorf("step %v", first)
	}
	if got := r.live(); got != want {
		t.Errorf("after it was taken back\n%s\nwant\n%s", got, want)
	}
	if h := r.history(); h != "superseded superseded deployed" {
		t.Errorf("history %q", h)
	}
}

func TestHelmUninstallBehindOurBack(t *testing.T) {
	r := newRig(t)
	r.converge()
	want := r.live()
	r.drain()
	if _, err := action.NewUninstall(r.helm()).Run(releaseName); err != nil {
		t.Fatal(err)
	}
	r.helmActed()
	r.converge()
	if got := r.live(); got != want {
		t.Errorf("after it was put back\n%s\nwant\n%s", got, want)
	}
}

func TestHealModeBringsBackWhatWasAppliedLast(t *testing.T) {
	r := newRig(t)
	r.values = map[string]any{"level": "one"}
	r.converge()
	want := r.live()
	r.mode = forge.ModeHeal
	r.values = map[string]any{"level": "two"}
	if steps := r.converge(); len(steps) != 0 {
		t.Fatalf("heal mode rolls out: %v", steps)
	}
	r.drain()
	r.helmUpgrade(map[string]any{"level": "theirs"})
	r.helmActed()
	for _, s := range r.converge() {
		if s.Rollout() {
			t.Errorf("a rollout in heal mode: %v", s)
		}
	}
	if got := r.live(); got != want {
		t.Errorf("after it was taken back\n%s\nwant\n%s", got, want)
	}
	r.mode = forge.ModeApply
	steps := r.converge()
	if len(steps) != 1 || steps[0].Action != reconcile.ActionUpdate {
		t.Errorf("back in apply mode: %v", steps)
	}
}

func TestRefusedUpgradeChangesNothing(t *testing.T) {
	r := newRig(t)
	r.converge()
	want := r.live()
	r.values = map[string]any{"level": "new", "replicas": -1.0}
	_, err := r.pass(t.Context(), r.request())
	if reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(err.Error(), "replicas") {
		t.Errorf("error %v", err)
	}
	if got := r.live(); got != want {
		t.Errorf("live has changed\n%s\nwant\n%s", got, want)
	}
	if h := r.history(); h != "deployed" {
		t.Errorf("history %q", h)
	}
	r.values = map[string]any{"level": "new"}
	r.converge()
}

func TestObjectOfSomebodyElseIsRefused(t *testing.T) {
	r := newRig(t)
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"level": "theirs"}}
	maps := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace)
	if _, err := maps.Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := r.pass(t.Context(), r.request())
	if reconcile.KindOf(err) != reconcile.Conflict || !strings.Contains(err.Error(), "settings") {
		t.Errorf("error of kind %s: %v", reconcile.KindOf(err), err)
	}
	now, err := maps.Get(t.Context(), "settings", metav1.GetOptions{})
	if err != nil || now.Data["level"] != "theirs" || len(now.Labels) > 0 {
		t.Errorf("it was changed: %v %v", now, err)
	}
	if err := maps.Delete(t.Context(), "settings", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.converge()
}

func TestRemove(t *testing.T) {
	r := newRig(t)
	r.converge()
	req := r.request()
	req.Remove = true
	steps, err := r.pass(t.Context(), req)
	if err != nil || len(steps) != 1 || steps[0].Action != reconcile.ActionDelete || steps[0].Deletes != 3 {
		t.Fatalf("steps %v, err %v", steps, err)
	}
	if steps, err = r.pass(t.Context(), req); err != nil || len(steps) != 0 {
		t.Errorf("again: steps %v, err %v", steps, err)
	}
	maps, err := r.env.Client.CoreV1().Secrets(r.env.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil || len(maps.Items) != 0 {
		t.Errorf("%d Helm records are left, err %v", len(maps.Items), err)
	}
}

func TestHealOfAnOlderPlanIsStale(t *testing.T) {
	r := newRig(t)
	r.converge()
	want := r.live()
	r.drain()
	r.patchMap(`{"data":{"level":"x"}}`)
	r.changed("ConfigMap " + r.env.Namespace + "/settings")
	steps := r.plan(r.request())
	if len(steps) != 1 {
		t.Fatalf("plan: %v", steps)
	}
	r.drain()
	r.helmUpgrade(map[string]any{"level": "theirs"})
	r.helmActed()
	if _, err := r.p.Apply(t.Context(), r.request(), steps[0]); reconcile.KindOf(err) != reconcile.Stale {
		t.Errorf("a heal planned before somebody's helm upgrade: %v", err)
	}
	r.converge()
	if got := r.live(); got != want {
		t.Errorf("in the end\n%s\nwant\n%s", got, want)
	}
}

func TestAnotherForgedsReleaseIsRefused(t *testing.T) {
	r := newRig(t)
	r.converge()
	want := r.live()
	req := r.request()
	req.Resource.ID.Environment = "other" // the same namespace, by mistake
	_, err := r.pass(t.Context(), req)
	if reconcile.KindOf(err) != reconcile.Conflict || !strings.Contains(err.Error(), "forged takes nothing over unasked") {
		t.Errorf("error of kind %s: %v", reconcile.KindOf(err), err)
	}
	if got := r.live(); got != want {
		t.Errorf("it changed\n%s\nto\n%s", want, got)
	}
	if h := r.history(); h != "deployed" {
		t.Errorf("history %q", h)
	}
}

// The plan says what is in the way, and what is taken over, before anybody
// tries.
func TestPlanTellsWhatIsThere(t *testing.T) {
	r := newRig(t)
	maps := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace)
	_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}}, metav1.CreateOptions{FieldManager: "a-person"})
	if err != nil {
		t.Fatal(err)
	}
	object := "ConfigMap " + r.env.Namespace + "/settings"
	for adopt, want := range map[string]string{forge.AdoptMustMatch: "refused", forge.AdoptIfUnowned: "taken over"} {
		r.policy.Adopt = adopt
		req := r.request()
		req.Explain = true
		steps := r.plan(req)
		if len(steps) != 1 {
			t.Fatalf("%s: %v", adopt, steps)
		}
		i := slices.IndexFunc(steps[0].Changes, func(c reconcile.Change) bool { return c.Path == object })
		if i < 0 || steps[0].Changes[i].To != want {
			t.Errorf("%s: %+v", adopt, steps[0].Changes)
		}
		if refused := steps[0].Blocked != ""; refused != (want == "refused") || refused && !strings.Contains(steps[0].Blocked, object) {
			t.Errorf("%s: blocked %q", adopt, steps[0].Blocked)
		}
	}
}

// What is not known before something else is applied does not hide what would
// be made; it is not made with what stands for it.
func TestPlanBeforeInputsAreKnown(t *testing.T) {
	r := newRig(t)
	req := r.request()
	spec := req.Resource.Spec.(forge.ReleaseSpec)
	from := forge.ID{Environment: req.Resource.ID.Environment, Kind: forge.KindSecrets, Name: "shop"}
	spec.Inputs = []forge.Input{{Path: []string{"level"}, From: from, Output: "level"}}
	req.Resource.Spec, req.Explain = spec, true
	o, err := r.p.Observe(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := r.p.Plan(t.Context(), req, o)
	if reconcile.KindOf(err) != reconcile.Waiting || len(steps) != 1 || steps[0].Action != reconcile.ActionCreate || len(steps[0].Changes) == 0 {
		t.Fatalf("steps %v, err %v", steps, err)
	}
	if o, err := r.p.Apply(t.Context(), req, steps[0]); err == nil || o.Exists {
		t.Error("it was installed")
	}
}
