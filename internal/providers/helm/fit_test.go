package helm

import (
	"errors"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fks"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// What runs and what Helm's record holds has been fitted, hooks too, and is
// healed as that; a person is shown what was made of it.
func TestWhatRunsIsFitted(t *testing.T) {
	t.Parallel()
	r, _ := newFittedRig(t, map[string]string{
		"templates/probed.yaml": probed,
		"templates/secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {token: c4n4ry}\n",
		"templates/hook.yaml":   hook("ConfigMap", "before", "pre-install"),
		"templates/test.yaml":   strings.Replace(daemonSet, "{name: everywhere}", `{name: everywhere, annotations: {"helm.sh/hook": test}}`, 1),
	})
	steps := r.plan(r.asExplained())
	if len(steps) != 1 || len(steps[0].Fitted) != 4 {
		t.Fatalf("steps %+v", steps)
	}
	for _, c := range steps[0].Fitted {
		if strings.Contains(c.Path, "Secret") && (c.From != "" || c.To != "") || !strings.Contains(c.Path, " "+r.env.Namespace+"/") {
			t.Errorf("change %+v", c)
		}
	}
	if s := r.plan(r.request()); len(s[0].Fitted) > 0 {
		t.Error("nobody has asked for what was made of it")
	}
	r.converge()

	ctx, ns := t.Context(), r.env.Namespace
	check := func() {
		t.Helper()
		d, err := r.env.Client.AppsV1().Deployments(ns).Get(ctx, "probed", metav1.GetOptions{})
		if err != nil || d.Spec.Template.Spec.Containers[0].LivenessProbe != nil || d.Annotations[mark] == "" {
			t.Errorf("%v: it has a probe, or no mark: %v", err, d.Annotations)
		}
		if _, err := r.env.Client.NetworkingV1().NetworkPolicies(ns).Get(ctx, "none", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the NetworkPolicy was made: %v", err)
		}
		if n := r.notices(); len(n) != 2 || n[0].Object != "NetworkPolicy "+ns+"/none" || n[1].Object != "NetworkPolicy "+ns+"/none-either" {
			t.Errorf("notices %v", n)
		}
	}
	check()
	for _, name := range []string{"before", "listed", "kept"} {
		m, err := r.env.Client.CoreV1().ConfigMaps(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil || (m.Annotations[mark] != "") != (name == "before") {
			t.Errorf("%s: %v %v", name, err, m.Annotations)
		}
	}
	rel, err := action.NewGet(r.helm()).Run(releaseName)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(rel.Manifest, "livenessProbe") || strings.Contains(rel.Manifest, "NetworkPolicy") || strings.Contains(rel.Manifest, "uid") ||
		!strings.Contains(rel.Manifest, "# as a person has written it") || !strings.Contains(rel.Manifest, "name: listed") {
		t.Errorf("recorded:\n%s", rel.Manifest)
	}
	for _, h := range rel.Hooks {
		if strings.Contains(h.Manifest, mark) != (h.Name == "before") {
			t.Errorf("hook %s:\n%s", h.Name, h.Manifest)
		}
	}

	// Nothing moves any more, after a restart neither.
	r.restart()
	r.converge()
	before := r.requests.Load()
	for range 5 {
		if steps := r.converge(); len(steps) > 0 {
			t.Errorf("steps %v", steps)
		}
	}
	if n := r.requests.Load() - before; n != 0 {
		t.Errorf("5 quiet passes cost %d requests", n)
	}
	check()
	r.drain()
	if err := r.env.Client.AppsV1().Deployments(ns).Delete(ctx, "probed", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.changed("Deployment " + ns + "/probed")
	if steps := r.converge(); len(steps) != 1 || steps[0].Action != reconcile.ActionHeal {
		t.Errorf("steps %v", steps)
	}
	check()
}

// Another table is another way to render: once, and only where something comes
// of it.
func TestAnotherTableIsOneUpdate(t *testing.T) {
	t.Parallel()
	r, f := newFittedRig(t, map[string]string{"templates/probed.yaml": probed})
	r.converge()
	f.version = "2"
	steps := r.converge()
	if len(steps) != 1 || steps[0].Action != reconcile.ActionUpdate || !strings.Contains(steps[0].Reason.Text, "fitted to the cluster in another way") {
		t.Errorf("steps %v", steps)
	}
	d, err := r.env.Client.AppsV1().Deployments(r.env.Namespace).Get(t.Context(), "probed", metav1.GetOptions{})
	if err != nil || *d.Spec.Template.Spec.TerminationGracePeriodSeconds != 30 {
		t.Errorf("%v: it is not as the table has it", err)
	}
	f.version = "3"
	for range 2 {
		if steps := r.converge(); len(steps) > 0 {
			t.Errorf("nothing comes of it: %v", steps)
		}
		r.restart()
	}
	if h := r.history(); h != "superseded deployed" {
		t.Errorf("history %q", h)
	}
}

// A plan shows what is new in how something is fitted, and how much there is
// besides. From nothing, all is new.
func TestPlanShowsNewFits(t *testing.T) {
	t.Parallel()
	r, _ := newFittedRig(t, map[string]string{"templates/probed.yaml": probed})
	step := func() reconcile.Step {
		t.Helper()
		steps := r.plan(r.asExplained())
		if len(steps) != 1 {
			t.Fatalf("steps %v", steps)
		}
		return steps[0]
	}
	if s := step(); len(s.Fitted) != 3 || s.AsFit != 0 {
		t.Errorf("from nothing: %+v, and %d", s.Fitted, s.AsFit)
	}
	r.converge()
	newer := strings.Replace(probed, "web:1.0.0", "web:1.0.1", 1)
	r.with(map[string]string{"templates/probed.yaml": newer})
	if s := step(); len(s.Fitted) != 0 || s.AsFit != 3 || len(s.Changes) != 1 {
		t.Errorf("only an image changes: %+v, and %d; %+v", s.Fitted, s.AsFit, s.Changes)
	}
	r.with(map[string]string{
		"templates/probed.yaml": strings.Replace(newer, "name: none}", "name: nobody}", 1),
		"templates/token.yaml":  "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {token: c4n4ry}\n",
	})
	if s := step(); len(s.Fitted) != 2 || s.AsFit != 2 || !strings.Contains(s.Fitted[0].Path+s.Fitted[1].Path, "/nobody") {
		t.Errorf("two objects are new: %+v, and %d", s.Fitted, s.AsFit)
	}
	r.converge()
	r.restart()
	if _, err := action.NewUninstall(r.helm()).Run(releaseName); err != nil {
		t.Fatal(err)
	}
	r.eventually("its record is gone", func() bool { return r.revisions() == 0 })
	r.with(map[string]string{"templates/probed.yaml": newer})
	if s := step(); len(s.Fitted) != 3 || s.AsFit != 0 {
		t.Errorf("made anew: %+v, and %d", s.Fitted, s.AsFit)
	}
}

// What a person goes back from was shown once, too.
func TestGoingBackForgetsNoFits(t *testing.T) {
	t.Parallel()
	r, _ := newFittedRig(t, map[string]string{"templates/probed.yaml": probed})
	r.converge()
	r.with(map[string]string{"templates/probed.yaml": strings.Replace(probed, "web:1.0.0", "web:1.0.1", 1)})
	r.converge()
	asked := r.request().Resource
	step, number, err := r.p.PlanReturn(t.Context(), asked, forge.Policy{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.p.Return(t.Context(), asked, forge.Policy{}, step, number); err != nil {
		t.Fatal(err)
	}
	if steps := r.plan(r.asExplained()); len(steps) != 1 || len(steps[0].Fitted) != 0 || steps[0].AsFit != 3 {
		t.Errorf("%+v", steps)
	}
}

// What cannot run there is refused before anything is touched. What runs
// already is looked after all the same, and a person can allow it.
func TestWhatCannotRunTouchesNothing(t *testing.T) {
	t.Parallel()
	r, _ := newFittedRig(t, map[string]string{"templates/probed.yaml": probed, "templates/hook.yaml": hook("ConfigMap", "before", "pre-install,pre-upgrade"), "templates/set.yaml": daemonSet})
	refused := func() {
		t.Helper()
		for _, req := range []reconcile.Request{r.request(), r.asExplained()} {
			_, err := r.pass(t.Context(), req)
			var e *reconcile.Error
			switch {
			case reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(err.Error(), "DaemonSet "+r.env.Namespace+"/everywhere cannot be had (T001)"):
				t.Errorf("error %v", err)
			case !errors.As(err, &e) || e.ID != req.Resource.ID || e.Object != "release "+r.env.Namespace+"/"+releaseName || e.Hint == "":
				t.Errorf("it is not said of the release: %+v", err)
			}
		}
	}
	refused()
	// It is said before the inputs are known, to who asks for a plan.
	unknown := r.asExplained()
	unknown.Inputs = nil
	if spec := unknown.Resource.Spec.(forge.ReleaseSpec); true {
		spec.Inputs = []forge.Input{{Path: []string{"keys", "sum"}, From: rigSecrets, Output: "sum"}}
		unknown.Resource.Spec = spec
	}
	if _, err := r.pass(t.Context(), unknown); reconcile.KindOf(err) != reconcile.Invalid {
		t.Errorf("before inputs are known: %v", err)
	}
	maps, err := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelInstance})
	secrets, serr := r.env.Client.CoreV1().Secrets(r.env.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || serr != nil || len(maps.Items) > 0 || len(secrets.Items) > 0 {
		t.Errorf("%v %v: there are %d ConfigMaps and %d Secrets", err, serr, len(maps.Items), len(secrets.Items))
	}

	r.rules.Allow = []string{"T001"}
	if steps := r.converge(); len(steps) != 1 {
		t.Errorf("allowed: %v", steps)
	}
	r.rules.Allow = nil
	refused()
	r.drain()
	if err := r.env.Client.AppsV1().Deployments(r.env.Namespace).Delete(t.Context(), "probed", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.changed("Deployment " + r.env.Namespace + "/probed")
	r.eventually("what runs is healed", func() bool { // the event may be of what its controller has written before
		if _, err := r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Invalid {
			t.Errorf("error %v", err)
		}
		_, err := r.env.Client.AppsV1().Deployments(r.env.Namespace).Get(t.Context(), "probed", metav1.GetOptions{})
		return err == nil
	})
	if h := r.history(); h != "deployed" {
		t.Errorf("history %q", h)
	}
}

// A chart of everything that Fly Kubernetes does not do is refused with all that
// is wrong with it, before anything is made.
func TestEverythingUnsupportedIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fitter, r.rules = fks.NewFitter(""), forge.Rules{Table: forge.TableFKS}
	r.with(unsupported())
	r.restart()
	_, err := r.pass(t.Context(), r.request())
	if reconcile.KindOf(err) != reconcile.Invalid {
		t.Fatalf("error %v", err)
	}
	for _, what := range []string{"DaemonSet", "Deployment " + r.env.Namespace + "/two", "Deployment " + r.env.Namespace + "/init", "CronJob", "Job " + r.env.Namespace + "/before", "PersistentVolumeClaim", "Service " + r.env.Namespace + "/dns"} {
		if !strings.Contains(err.Error(), what) {
			t.Errorf("%s is not named in: %v", what, err)
		}
	}
	for _, list := range []func() (int, error){
		func() (int, error) {
			l, err := r.env.Client.CoreV1().Secrets(r.env.Namespace).List(t.Context(), metav1.ListOptions{})
			return len(l.Items), err
		},
		func() (int, error) {
			l, err := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelInstance})
			return len(l.Items), err
		},
		func() (int, error) {
			l, err := r.env.Client.AppsV1().Deployments(r.env.Namespace).List(t.Context(), metav1.ListOptions{})
			return len(l.Items), err
		},
		func() (int, error) {
			l, err := r.env.Client.BatchV1().Jobs(r.env.Namespace).List(t.Context(), metav1.ListOptions{})
			return len(l.Items), err
		},
	} {
		if n, err := list(); n != 0 || err != nil {
			t.Errorf("%d objects were made, %v", n, err)
		}
	}
}

func TestRulesWithoutAFitter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.rules = forge.Rules{Table: "fks"}
	_, err := r.p.Observe(t.Context(), r.request())
	if reconcile.KindOf(err) != reconcile.Internal || !strings.Contains(err.Error(), `by the table of rules "fks"`) {
		t.Errorf("error %v", err)
	}
}

func TestFitNoticesAreBounded(t *testing.T) {
	t.Parallel()
	var all []reconcile.Notice
	for range mostFitNotices + 12 {
		all = append(all, reconcile.Notice{Code: "c", Message: strings.Repeat("x", 400)})
	}
	got := briefly(all)
	if len(got) != mostFitNotices+1 || len([]rune(got[0].Message)) != longestFitNotice || got[mostFitNotices].Message != "and 12 more of the kind" {
		t.Errorf("%d notices, the last is %+v", len(got), got[len(got)-1])
	}
	if n := briefly(all[:2]); len(n) != 2 {
		t.Errorf("%d notices of 2", len(n))
	}
}

// What was begun is brought to its end as the table has it now: it may be the
// table that was in the way.
func TestWhatHasFailedIsFittedAnew(t *testing.T) {
	t.Parallel()
	r, f := newFittedRig(t, map[string]string{
		"templates/probed.yaml": strings.Replace(probed, "terminationGracePeriodSeconds: 7", "terminationGracePeriodSeconds: soon", 1),
	})
	if steps, err := r.pass(t.Context(), r.request()); err == nil || r.revisions() != 1 {
		t.Fatalf("it should be refused, and have a record: %v, %v", steps, err)
	}
	f.version = "2"
	r.converge()
	d, err := r.env.Client.AppsV1().Deployments(r.env.Namespace).Get(t.Context(), "probed", metav1.GetOptions{})
	if err != nil || *d.Spec.Template.Spec.TerminationGracePeriodSeconds != 30 {
		t.Errorf("%v: it is not as the table has it", err)
	}
}
