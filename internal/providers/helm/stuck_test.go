package helm

import (
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// What waits, or cannot be carried out, must not keep drift from being healed.
func TestDriftIsHealedBesideAnUpdateThatFails(t *testing.T) {
	r := newRig(t)
	r.converge()
	want := r.live()
	r.values = map[string]any{"level": "new", "replicas": -1.0}
	r.drain()
	r.patchMap(`{"data":{"level":"edited"}}`)
	if err := r.env.Client.CoreV1().Services(r.env.Namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.changed("Service " + r.env.Namespace + "/web")
	steps, err := r.pass(t.Context(), r.request())
	if reconcile.KindOf(err) != reconcile.Invalid {
		t.Errorf("error %v", err)
	}
	if len(steps) != 3 || steps[0].Rollout() || steps[1].Rollout() || steps[2].Action != reconcile.ActionUpdate {
		t.Errorf("steps %v", steps)
	}
	if got := r.live(); got != want {
		t.Errorf("after the heals\n%s\nwant\n%s", got, want)
	}
	r.values = map[string]any{"level": "new"}
	r.converge()
}

// A helm upgrade of somebody else that failed is theirs as well, and is taken
// back in heal mode too.
func TestFailedHelmUpgradeBehindOurBackIsTakenBack(t *testing.T) {
	for _, mode := range []forge.Mode{forge.ModeApply, forge.ModeHeal} {
		t.Run(string(mode), func(t *testing.T) {
			r := newRig(t)
			r.converge()
			want := r.live()
			r.mode = mode
			r.drain()
			cfg := r.helm()
			current, err := action.NewGet(cfg).Run(releaseName)
			if err != nil {
				t.Fatal(err)
			}
			up := action.NewUpgrade(cfg)
			up.Namespace = r.env.Namespace
			if _, err := up.Run(releaseName, current.Chart, map[string]any{"level": "theirs", "replicas": -1.0}); err == nil {
				t.Fatal("helm upgrade did not fail")
			}
			r.helmActed()
			steps := r.converge()
			if len(steps) == 0 || steps[0].Action != reconcile.ActionHeal || steps[0].Reason.Code != reconcile.ReasonForeign {
				t.Errorf("steps %v", steps)
			}
			if got := r.live(); got != want {
				t.Errorf("after it was taken back\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// With --keep-history a release is gone although its records are there.
func TestHelmUninstallThatKeepsHistory(t *testing.T) {
	for _, mode := range []forge.Mode{forge.ModeApply, forge.ModeHeal} {
		t.Run(string(mode), func(t *testing.T) {
			r := newRig(t)
			r.converge()
			r.values = map[string]any{"level": "two"} // a revision that is superseded
			r.converge()
			want := r.live()
			r.mode = mode
			r.drain()
			un := action.NewUninstall(r.helm())
			un.KeepHistory = true
			if _, err := un.Run(releaseName); err != nil {
				t.Fatal(err)
			}
			r.helmActed()
			steps := r.converge()
			if len(steps) == 0 || steps[0].Action != reconcile.ActionHeal || steps[0].Reason.Code != reconcile.ReasonDeleted {
				t.Errorf("steps %v", steps)
			}
			if got := r.live(); got != want {
				t.Errorf("after it was put back\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// A revision of ours that failed is brought to an end in heal mode as well:
// what was applied last comes back, and not what forge.cue asks for now.
func TestFailedRevisionDoesNotEndHealing(t *testing.T) {
	r := newRig(t)
	r.values = map[string]any{"level": "one"}
	r.converge()
	want := r.live()
	r.fail()
	r.mode = forge.ModeHeal
	r.values = map[string]any{"level": "two"}
	r.drain()
	r.patchMap(`{"data":{"level":"edited"}}`)
	r.changed("")
	for _, s := range r.converge() {
		if s.Rollout() {
			t.Errorf("a rollout in heal mode: %v", s)
		}
	}
	if got := r.live(); got != want {
		t.Errorf("after the heal\n%s\nwant\n%s", got, want)
	}
}

// fail marks the first revision as failed, as an action that ends badly does.
func (r *rig) fail() {
	r.t.Helper()
	records := r.helm().Releases
	rel, err := records.Get(releaseName, 1)
	if err != nil {
		r.t.Fatal(err)
	}
	rel.SetStatus("failed", "the API server was away")
	if err := records.Update(rel); err != nil {
		r.t.Fatal(err)
	}
}

// A release of that name which forged never made is nothing to remove, though
// forge.cue asked for one of that name a moment ago.
func TestForeignReleaseIsNotRemoved(t *testing.T) {
	r := newRig(t)
	in := action.NewInstall(r.helm())
	in.ReleaseName, in.Namespace = releaseName, r.env.Namespace
	files, err := chartFiles("")
	if err != nil {
		t.Fatal(err)
	}
	ch, err := loaded(files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Run(ch, nil); err != nil {
		t.Fatal(err)
	}
	before := r.live()
	untouched := func(when string) {
		t.Helper()
		if got := r.live(); got != before || r.history() != "deployed" {
			t.Errorf("%s\n%s\nwant\n%s", when, got, before)
		}
	}
	if _, err := r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Conflict {
		t.Errorf("error %v", err)
	}
	untouched("after it was wanted")
	req := r.request()
	req.Remove = true
	o, err := r.p.Observe(t.Context(), req)
	if err != nil || o.Exists {
		t.Errorf("observed for its removal: exists %t, err %v", o.Exists, err)
	}
	if steps, err := r.pass(t.Context(), req); err != nil || len(steps) > 0 {
		t.Errorf("steps %v, err %v", steps, err)
	}
	untouched("after it was no longer wanted")

	// Announced by us, made by somebody else before we came to it.
	h, err := r.p.open(t.Context(), r.request())
	if err != nil {
		t.Fatal(err)
	}
	ref := kubernetes.Ref{GVK: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Namespace: r.env.Namespace, Name: "settings"}
	if err := h.inventory.Begin(t.Context(), h.id, []kubernetes.Ref{ref}); err != nil {
		t.Fatal(err)
	}
	h.inventory.Abort(h.id)
	if _, err := r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Conflict {
		t.Errorf("error %v", err)
	}
	if _, err := r.pass(t.Context(), req); err != nil {
		t.Error(err)
	}
	untouched("after what was announced is no longer wanted")
	if _, recorded := h.inventory.Record(h.id); recorded {
		t.Error("the inventory still lists it")
	}
}

// An object of another tool in the place of one of ours is neither healed nor
// updated over.
func TestObjectOfAnotherToolInPlaceOfOursIsLeftAlone(t *testing.T) {
	r := newRig(t)
	r.converge()
	r.drain()
	maps := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace)
	if err := maps.Delete(t.Context(), "settings", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.changed("ConfigMap " + r.env.Namespace + "/settings")
	if _, err := maps.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "settings", Labels: map[string]string{"kapp.k14s.io/app": "17"}},
		Data:       map[string]string{"level": "theirs"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	untouched := func() {
		t.Helper()
		live, err := maps.Get(t.Context(), "settings", metav1.GetOptions{})
		if err != nil || live.Data["level"] != "theirs" || len(live.Labels) != 1 {
			t.Errorf("it was changed: %v %v, err %v", live.Data, live.Labels, err)
		}
	}
	steps, err := r.pass(t.Context(), r.request())
	if err != nil || len(steps) != 1 || !strings.Contains(steps[0].Blocked, "kapp app 17") {
		t.Errorf("steps %v, err %v", steps, err)
	}
	untouched()
	for _, values := range []map[string]any{{"level": "new"}, {"replicas": 2.0}} {
		r.values = values
		if _, err := r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Conflict {
			t.Errorf("error %v", err)
		}
		untouched()
	}
	if h := r.history(); h != "deployed" {
		t.Errorf("history %q", h)
	}
}

func loaded(files []charts.File) (*chart.Chart, error) {
	var buffered []*loader.BufferedFile
	for _, f := range files {
		buffered = append(buffered, &loader.BufferedFile{Name: f.Name, Data: f.Data})
	}
	return loader.LoadFiles(buffered)
}
