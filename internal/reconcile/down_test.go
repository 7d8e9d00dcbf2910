package reconcile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/world"
)

func down(n int, p forge.Policy, rs ...forge.Resource) reconcile.Generation {
	g := gen(n, p, rs...)
	g.Environments[0].Down = true
	return g
}

// A person's word removes what forge.cue asks for, the other way round than the
// needs, and what an inventory alone knows; nothing of it is made first.
func TestDown(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			y := newYard(t)
			asked := []forge.Resource{one("db"), one("app", "db"), one("web", "app"), one("never-made", "app")}
			if _, err := y.engine.Converge(t.Context(), gen(1, policy, one("db"), one("app", "db"), one("web", "app"), one("old", "db"))); err != nil {
				t.Fatal(err)
			}
			y.Forget()
			if restart {
				y.engine = engineOn(y.World, y.saw)
			}
			plan := y.plan(down(2, policy, asked...), nil)
			var names []string
			for _, i := range plan.Environments[0].Items {
				names = append(names, i.ID.Name)
				if !i.Remove || len(i.Steps) != 1 || i.Steps[0].Action != reconcile.ActionDelete {
					t.Errorf("%+v", i)
				}
			}
			if diff := cmp.Diff([]string{"old", "web", "app", "db"}, names); diff != "" {
				t.Errorf("planned (-want +got):\n%s", diff)
			}
			y.wantCount("delete", 0)
			status, err := y.engine.Converge(t.Context(), down(2, policy, asked...))
			if err != nil {
				t.Fatal(err)
			}
			if left := status.Environments[0].Resources; len(left) > 0 || len(y.Inventory()) > 0 {
				t.Errorf("%d resources are left in the status, %v in the inventory", len(left), y.Inventory())
			}
			order := applied(y.Calls("apply"))
			if n := len(order); n != 4 || order[n-1] != "db" {
				t.Errorf("removed: %v", order)
			}
			order = slices.DeleteFunc(order, func(name string) bool { return name == "old" })
			if diff := cmp.Diff([]string{"web", "app", "db"}, order); diff != "" {
				t.Errorf("removed (-want +got):\n%s", diff)
			}
			// Again: there is nothing, and nothing is done.
			y.Forget()
			if again := y.plan(down(3, policy, asked...), nil); len(again.Environments[0].Items) > 0 {
				t.Errorf("%+v", again.Environments[0].Items)
			}
			if _, err := y.engine.Converge(t.Context(), down(3, policy, asked...)); err != nil {
				t.Fatal(err)
			}
			if calls := y.Calls("apply"); len(calls) > 0 {
				t.Errorf("applied: %v", applied(calls))
			}
			// What was taken down comes back when it is asked for again.
			if _, err := y.engine.Converge(t.Context(), gen(4, policy, one("db"))); err != nil {
				t.Fatal(err)
			}
			y.wantState("db", reconcile.StateReady)
		})
	}
}

// What holds data stays without permission, and so does what it needs; the rest
// goes. With the token of the plan all of it goes.
func TestDownLeavesData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		never, withToken := policy, policy
		never.DestroyData, withToken.DestroyData = "never", "with-token"
		asked := []forge.Resource{one("place"), res("db", map[string]any{world.Volume: "1"}, "place"), one("app", "db")}
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, asked...)); err != nil {
			t.Fatal(err)
		}
		if _, err := y.engine.Converge(t.Context(), down(2, never, asked...)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]forge.ID{id("db"), id("place")}, y.Inventory()); diff != "" {
			t.Fatalf("what stays (-want +got):\n%s", diff)
		}
		y.wantState("db", reconcile.StateBlocked)
		if s := y.status("place"); s.State != reconcile.StateOrphaned || !strings.Contains(s.Message, "until local/release/db, which needs it, is gone") {
			t.Errorf("%s: %s", s.State, s.Message)
		}
		token := y.plan(down(3, withToken, asked...), nil).Environments[0].Items[0].Steps[0].Approve
		if token == "" {
			t.Fatal("no token is shown")
		}
		y.engine = reconcile.New(reconcile.Options{
			Providers: map[string]reconcile.Provider{forge.KindRelease: y.World}, Approved: []string{token},
		})
		if _, err := y.engine.Converge(t.Context(), down(4, withToken, asked...)); err != nil {
			t.Fatal(err)
		}
		if left := y.Inventory(); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	})
}

// Whoever does not hold the lease takes nothing down, and says who does. What
// cannot be listed is not taken for absent.
func TestDownNeedsTheLeaseAndTheInventory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, one("db"), one("app", "db"))); err != nil {
			t.Fatal(err)
		}
		reg := &registry{holder: map[string]string{"local": "a daemon"}}
		y.engine = reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: y.World}, Leases: reg})
		status, err := y.engine.Converge(t.Context(), down(2, policy, one("db"), one("app", "db")))
		if err != nil {
			t.Fatal(err)
		}
		if l := status.Environments[0].Lease; l == nil || l.Held || l.Holder != "a daemon" {
			t.Errorf("lease: %+v", l)
		}
		y.wantCount("delete", 0)

		y.engine = engineOn(y.World, y.saw)
		y.Fail("owned", forge.ID{}, fail(reconcile.Denied))
		status, err = y.engine.Converge(t.Context(), down(2, policy, one("db"), one("app", "db")))
		if err != nil {
			t.Fatal(err)
		}
		if status.Environments[0].Error == nil {
			t.Error("it is not said that what is owned could not be listed")
		}
		y.wantCount("delete", 0)
		if p := y.plan(down(2, policy, one("db"), one("app", "db")), nil); !p.Failed() {
			t.Error("the plan does not say so either")
		}
	})
}

// Cut anywhere and run again, it comes to the same end.
func TestDownCutAnywhere(t *testing.T) {
	for cut := range 6 {
		synctest.Test(t, func(t *testing.T) {
			y := newYard(t)
			asked := []forge.Resource{res("db", map[string]any{"a": 1, "b": 2}), res("app", map[string]any{"a": 1, "b": 2}, "db")}
			if _, err := y.engine.Converge(t.Context(), gen(1, policy, asked...)); err != nil {
				t.Fatal(err)
			}
			y.CutAfter(cut)
			y.engine = engineOn(y.World, y.saw)
			if _, err := y.engine.Converge(t.Context(), down(2, policy, asked...)); err != nil {
				t.Fatal(err)
			}
			y.CutAfter(-1)
			y.engine = engineOn(y.World, y.saw)
			if _, err := y.engine.Converge(t.Context(), down(2, policy, asked...)); err != nil {
				t.Fatal(err)
			}
			if left := y.Inventory(); len(left) > 0 || len(y.Live(id("db")))+len(y.Live(id("app"))) > 0 {
				t.Errorf("cut after %d: %v is left", cut, left)
			}
		})
	}
}

// What was in a place that is gone is gone with it; of one that cannot be
// reached nothing is known.
func TestDownOfWhatIsGone(t *testing.T) {
	for name, gone := range map[string]bool{"gone": true, "out of reach": false} {
		synctest.Test(t, func(t *testing.T) {
			y := newYard(t)
			asked := []forge.Resource{one("cluster"), one("app", "cluster")}
			if _, err := y.engine.Converge(t.Context(), gen(1, policy, asked...)); err != nil {
				t.Fatal(err)
			}
			why := &reconcile.Error{Kind: reconcile.Invalid, Op: "reach", Err: reconcile.ErrGone}
			if !gone {
				why.Err = errors.New("no such context")
			}
			y.Fail("observe", id("app"), func() error { return why })
			status, err := y.engine.Converge(t.Context(), down(2, policy, asked...))
			if err != nil {
				t.Fatal(err)
			}
			if left := len(status.Environments[0].Resources); (left == 0) != gone {
				t.Errorf("%s: %d resources are left", name, left)
			}
			if items := y.plan(down(2, policy, one("app")), nil).Environments[0].Items; (len(items) == 0) != gone {
				t.Errorf("%s: planned: %+v", name, items)
			}
		})
	}
}
