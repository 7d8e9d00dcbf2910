package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// An environment that is given another cluster shows the one that it was in, which
// Fly still has, before the other one is made. It stays for as long as not all is
// known, and for as long as nobody permits its end.
func TestPlanShowsWhatFlyStillHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		first := res("first", map[string]any{"volume": "1"})
		first.Target = forge.Target{Org: "acme"}
		second := one("second")
		second.Target = first.Target
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, first)); err != nil {
			t.Fatal(err)
		}
		l := y.listedBy()
		waits := reconcile.WaitingFor(second.ID, forge.OutputKubeconfig)
		l.lists(waits, first, one("inside"))
		kept := policy
		kept.Prune = false
		items := y.plan(gen(2, kept, second), nil).Environments[0].Items
		if len(items) != 2 || items[1].ID != first.ID || !items[1].Remove || !items[1].Exists || items[1].Kept != "policy.prune is none" {
			t.Errorf("kept: %+v", items)
		}
		g := gen(2, policy, second)
		g.Environments[0].Policy.DestroyData = "with-token"
		items = y.plan(g, nil).Environments[0].Items
		if len(items) != 2 || items[1].ID != first.ID || items[1].Kept != "" || len(items[1].Steps) != 1 {
			t.Fatalf("to be removed: %+v", items)
		}
		step := items[1].Steps[0]
		if step.Action != reconcile.ActionDelete || len(step.Destroys) != 1 || step.Blocked == "" || step.Approve == "" {
			t.Errorf("step %+v", step)
		}
		y.Forget()
		y.running(func() {
			y.set(g)
			y.pass(time.Hour)
			y.wantCount("delete", 0)
			l.lists(nil, first, second)
			y.engine.Recheck("")
			y.pass(time.Hour)
			y.wantCount("delete", 0)
			y.wantState("first", reconcile.StateBlocked)
			if err := y.engine.Approve(step.Approve); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			y.wantCount("delete", 1)
		})
		if _, err := y.engine.Plan(t.Context(), g, nil); err != nil {
			t.Error(err)
		}
		l.lists(fail(reconcile.Unavailable)(), first)
		if p := y.plan(g, nil).Environments[0]; p.Error == nil || len(p.Items) != 1 {
			t.Errorf("not listed: %+v", p)
		}
	})
}
