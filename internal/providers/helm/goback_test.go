package helm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// until passes until what it is waited for holds.
func (r *rig) until(what string, ok func(o reconcile.Observed, steps []reconcile.Step) bool) []reconcile.Step {
	r.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(60 * time.Second)
	var last []reconcile.Step
	for {
		o, err := r.p.Observe(r.t.Context(), r.request())
		if err != nil {
			r.t.Fatal(err)
		}
		if last, err = r.p.Plan(r.t.Context(), r.request(), o); err != nil && reconcile.KindOf(err) != reconcile.Stale {
			r.t.Fatal(err)
		}
		if ok(o, last) {
			return last
		}
		select {
		case <-tick.C:
		case <-limit:
			r.t.Fatalf("%s: not within a minute; health %v, steps %v", what, o.Health, last)
		}
	}
}

func (r *rig) untilReady() {
	r.t.Helper()
	r.until("ready", func(o reconcile.Observed, _ []reconcile.Step) bool { return o.Health.Status == reconcile.Ready })
}

// A rollout whose pods never run ends where it began when the policy says so,
// and what did not work is not tried again: not at once, not after a restart,
// only when something else is asked for.
func TestRolloutThatDoesNotBecomeReadyGoesBack(t *testing.T) {
	r := newRig(t)
	r.policy, r.timeout = forge.Policy{Rollback: true}, 2
	r.values = map[string]any{"level": "good"}
	r.converge()
	r.untilReady()
	want := r.live()
	r.values = map[string]any{"level": "bad", "nowhere": true, "extra": true}
	if steps := r.converge(); len(steps) != 1 || steps[0].Action != reconcile.ActionUpdate {
		t.Fatalf("steps %v", steps)
	}
	r.restart() // it is forgotten how long was waited, and no more
	steps := r.until("the way back", func(_ reconcile.Observed, s []reconcile.Step) bool { return len(s) > 0 })
	s := steps[0]
	if s.Action != reconcile.ActionRepair || s.Reason.Code != reconcile.ReasonFailed || !strings.Contains(s.Reason.Text, "back to revision 1") || !strings.Contains(s.Reason.Text, "not ready within 2s") {
		t.Errorf("step %v", s)
	}
	if _, err := r.p.Apply(t.Context(), r.request(), s); err != nil {
		t.Fatal(err)
	}
	if got := r.live(); got != want {
		t.Errorf("after going back\n%s\nwant\n%s", got, want)
	}
	if h := r.history(); h != "superseded superseded deployed" {
		t.Errorf("history %q", h)
	}
	blocked := func() {
		t.Helper()
		steps, err := r.pass(t.Context(), r.request())
		if err != nil || len(steps) != 1 || !strings.Contains(steps[0].Blocked, "What runs is revision 3") || !strings.Contains(steps[0].Reason.Text, "not ready within 2s") {
			t.Errorf("afterwards: %v, %v", steps, err)
		}
	}
	blocked()
	r.restart()
	blocked()
	// What runs is healed all the same.
	r.drain()
	r.patchMap(`{"data":{"level":"edited"}}`)
	r.changed("ConfigMap " + r.env.Namespace + "/settings")
	if steps, err := r.pass(t.Context(), r.request()); err != nil || len(steps) != 2 || steps[0].Action != reconcile.ActionHeal {
		t.Errorf("steps %v, err %v", steps, err)
	}
	if got := r.live(); got != want {
		t.Errorf("after the heal\n%s\nwant\n%s", got, want)
	}
	// What was good is not refused, and neither is anything new.
	r.values = map[string]any{"level": "good"}
	if steps := r.converge(); len(steps) != 0 {
		t.Errorf("what runs is rolled out again: %v", steps)
	}
	r.values = map[string]any{"level": "better"}
	r.converge()
	r.untilReady()
}

// After the way back the plan names the chart that runs, and not the one that
// failed.
func TestChartThatRunsIsNamedAfterGoingBack(t *testing.T) {
	h := newHazard(t, "", map[string]string{
		"Chart.yaml":         "apiVersion: v2\nname: shop\nversion: 0.1.0\n",
		"templates/web.yaml": demoChart["templates/all.yaml"],
		"values.yaml":        demoChart["values.yaml"],
	})
	h.policy, h.timeout = forge.Policy{Rollback: true}, 2
	h.settle()
	h.eventually("it is ready", func() bool {
		o, err := h.p.Observe(t.Context(), h.request())
		return err == nil && o.Health.Status == reconcile.Ready
	})
	version := func(v string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(h.dir, "Chart.yaml"), []byte("apiVersion: v2\nname: shop\nversion: "+v+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		h.end()
		h.begin()
	}
	chart := func(steps []reconcile.Step) string {
		for _, s := range steps {
			for _, c := range s.Changes {
				if c.Path == "chart" {
					return strings.ReplaceAll(c.From+" → "+c.To, " from "+h.dir, "")
				}
			}
		}
		return ""
	}
	version("0.2.0")
	h.values = map[string]any{"nowhere": true}
	if got := chart(h.settle()); got != "shop 0.1.0 → shop 0.2.0" {
		t.Errorf("the update: %q", got)
	}
	var steps []reconcile.Step
	h.eventually("the way back", func() bool {
		var err error
		if steps, err = h.pass(t.Context(), h.request()); err != nil {
			t.Fatal(err)
		}
		return len(steps) > 0
	})
	if got := chart(steps); got != "shop 0.2.0 → shop 0.1.0" {
		t.Errorf("the way back: %q", got)
	}
	version("0.3.0")
	h.values = nil
	if got := chart(h.settle()); got != "shop 0.1.0 → shop 0.3.0" {
		t.Errorf("after the way back: %q", got)
	}
}

// A first install has nothing to go back to, and a revision that was ready
// once is not given up for what happens to its pods later.
func TestNothingToGoBackTo(t *testing.T) {
	r := newRig(t)
	r.policy, r.timeout = forge.Policy{Rollback: true}, 1
	r.values = map[string]any{"nowhere": true}
	r.converge()
	r.until("the deadline has passed", func(o reconcile.Observed, steps []reconcile.Step) bool {
		if len(steps) > 0 {
			t.Fatalf("steps %v", steps)
		}
		return o.Detail.(*seen).unready != ""
	})
	r.values = nil
	r.converge()
	r.untilReady()
	if n := notesOf(r.record()); n.Good.Revision != 2 {
		t.Errorf("notes %+v", n)
	}
}

// An upgrade that the API server refuses half way is taken back as well, once.
func TestUpgradeThatFailsHalfWayGoesBack(t *testing.T) {
	r := newRig(t)
	r.policy = forge.Policy{Rollback: true}
	r.converge()
	r.untilReady()
	want := r.live()
	r.with(map[string]string{"templates/hook.yaml": hook("Job", "bad-after", "post-upgrade")})
	r.failJobs()
	r.values = map[string]any{"level": "bad", "extra": true}
	if _, err := r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Unavailable {
		t.Fatalf("error %v", err)
	}
	if got := r.live(); got == want {
		t.Fatal("nothing was applied; the hook is to fail after that")
	}
	steps, err := r.pass(t.Context(), r.request())
	if err != nil || len(steps) != 1 || steps[0].Action != reconcile.ActionRepair || !strings.Contains(steps[0].Reason.Text, "BackoffLimitExceeded") {
		t.Errorf("steps %v, err %v", steps, err)
	}
	if got := r.live(); got != want {
		t.Errorf("after going back\n%s\nwant\n%s", got, want)
	}
	if steps, err = r.pass(t.Context(), r.request()); err != nil || len(steps) != 1 || !strings.Contains(steps[0].Blocked, "failed once") {
		t.Errorf("steps %v, err %v", steps, err)
	}
	// Without the policy it is tried again, as often as anything else.
	r.policy.Rollback = false
	if steps, err = r.pass(t.Context(), r.request()); reconcile.KindOf(err) != reconcile.Unavailable || len(steps) != 1 {
		t.Errorf("steps %v, err %v", steps, err)
	}
}

// record is what the inventory holds of the release.
func (r *rig) record() kubernetes.Record {
	r.t.Helper()
	h, err := r.p.open(r.t.Context(), r.request())
	if err != nil {
		r.t.Fatal(err)
	}
	rec, _ := h.inventory.Record(h.id)
	return rec
}

// The way back from a rollout that made an object anew is to make it anew once
// more: as much as the policy lets it, told before it is done, and not a
// revision that fails half way, again and again, until none is left to go to.
func TestGoingBackMakesAnewWhatCannotChange(t *testing.T) {
	r := newRig(t)
	r.policy, r.timeout = forge.Policy{Rollback: true, Recreate: "stateless"}, 2
	r.with(map[string]string{"templates/role.yaml": role})
	r.converge()
	r.untilReady()
	r.values = map[string]any{"role": "two", "nowhere": true}
	r.converge()
	steps := r.until("the way back", func(_ reconcile.Observed, s []reconcile.Step) bool { return len(s) > 0 })
	if len(steps) != 1 || steps[0].Action != reconcile.ActionRepair || steps[0].Deletes != 1 {
		t.Errorf("steps %+v", steps)
	}
	if _, err := r.p.Apply(t.Context(), r.request(), steps[0]); err != nil {
		t.Error(err)
	}
	now, err := r.env.Client.RbacV1().RoleBindings(r.env.Namespace).Get(t.Context(), "app", metav1.GetOptions{})
	if err != nil || now.RoleRef.Name != "one" {
		t.Errorf("role %s, err %v", now.RoleRef.Name, err)
	}
	if h := r.history(); h != "superseded superseded deployed" {
		t.Errorf("history %q", h)
	}
	// Without the policy it is told, and nothing is begun.
	r.values = map[string]any{"role": "three", "nowhere": true}
	r.converge()
	r.policy.Recreate = "never"
	steps = r.until("the way back", func(_ reconcile.Observed, s []reconcile.Step) bool { return len(s) > 0 })
	if len(steps) != 1 || !strings.Contains(steps[0].Blocked, "roleRef") {
		t.Errorf("steps %+v", steps)
	}
}
