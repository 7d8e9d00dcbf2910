package helm

import (
	"slices"
	"strings"
	"testing"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// What was rolled out can be looked back at and gone back to, on the word of a
// person. In mode heal it stays; in mode apply what is asked for comes again.
func TestReturnToARevision(t *testing.T) {
	r := newRig(t)
	asked := r.request().Resource
	if revs, err := r.p.History(t.Context(), asked); err != nil || len(revs) > 0 {
		t.Errorf("before anything was installed: %v, %v", revs, err)
	}
	if _, _, err := r.p.PlanReturn(t.Context(), asked, forge.Policy{}, 0); err == nil || !strings.Contains(err.Error(), "it is not installed") {
		t.Errorf("before anything was installed: %v", err)
	}
	r.values = map[string]any{"level": "first"}
	r.converge()
	r.untilReady()
	first := r.live()
	asked = r.request().Resource
	if _, _, err := r.p.PlanReturn(t.Context(), asked, forge.Policy{}, 0); err == nil || !strings.Contains(err.Error(), "there is no earlier revision") {
		t.Errorf("after one revision: %v", err)
	}
	r.values = map[string]any{"level": "second"}
	r.converge()
	r.untilReady()
	r.restart()

	asked = r.request().Resource
	revs, err := r.p.History(t.Context(), asked)
	if err != nil || len(revs) != 2 {
		t.Fatalf("%+v, %v", revs, err)
	}
	if n := revs[0]; n.Number != 2 || n.Status != "deployed" || !n.Runs || !n.Ready || n.By != "forged" || n.Chart == "" || n.At.IsZero() {
		t.Errorf("what runs: %+v", n)
	}
	if n := revs[1]; n.Number != 1 || n.Status != "superseded" || n.Runs || n.Ready {
		t.Errorf("the one before: %+v", n)
	}
	for number, want := range map[int]string{2: "revision 2 is what runs", 9: "revision 9 is none that forged has rolled out"} {
		if _, _, err := r.p.PlanReturn(t.Context(), asked, forge.Policy{}, number); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("revision %d: %v", number, err)
		}
	}

	step, number, err := r.p.PlanReturn(t.Context(), asked, forge.Policy{}, 0)
	if err != nil || number != 1 || len(step.Changes) == 0 || step.Blocked != "" {
		t.Fatalf("revision %d, %+v, %v", number, step, err)
	}
	if h := r.history(); h != "superseded deployed" {
		t.Errorf("planning has changed the history: %q", h)
	}
	if err := r.p.Return(t.Context(), asked, forge.Policy{}, step, number); err != nil {
		t.Fatal(err)
	}
	if got := r.live(); got != first {
		t.Errorf("after going back\n%s\nwant\n%s", got, first)
	}
	if h := r.history(); h != "superseded superseded deployed" {
		t.Errorf("history %q", h)
	}
	if err := r.p.Return(t.Context(), asked, forge.Policy{}, step, number); reconcile.KindOf(err) != reconcile.Stale || err == nil {
		t.Errorf("a step of before: %v", err)
	}

	r.restart()
	r.mode = forge.ModeHeal
	if steps, err := r.pass(t.Context(), r.request()); err != nil || slices.ContainsFunc(steps, reconcile.Step.Rollout) {
		t.Errorf("in mode heal: %v, %v", steps, err)
	}
	r.mode = forge.ModeApply
	if steps := r.converge(); len(steps) != 1 || steps[0].Action != reconcile.ActionUpdate || !strings.Contains(steps[0].Reason.Text, "a person went back to revision 1") {
		t.Errorf("what is asked for: %v", steps)
	}
	if got := r.live(); got == first {
		t.Error("what is asked for did not come again")
	}
}

// Images are found wherever there are containers.
func TestImages(t *testing.T) {
	pod := func(names ...any) map[string]any {
		var list []any
		for _, n := range names {
			list = append(list, map[string]any{"image": n})
		}
		return map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": list}}}}
	}
	got := images(nil, []any{pod("a:1", "b:2"), pod("a:1"), pod(7), map[string]any{"containers": "none"}})
	if !slices.Equal(got, []string{"a:1", "b:2"}) {
		t.Errorf("%q", got)
	}
}
