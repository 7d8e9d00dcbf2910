package reconcile_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/world"
)

// lister is a world of which somebody else says what is owned in it.
type lister struct {
	*world.World
	mu    sync.Mutex
	owned []forge.Resource
	err   error
	asked []forge.Resource // with, the last time
	n     int              // how often
}

func (l *lister) Owned(_ context.Context, _ string, wanted []forge.Resource) ([]forge.Resource, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = wanted
	l.n++
	return l.owned, l.err
}

func (l *lister) lists(err error, rs ...forge.Resource) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owned, l.err = rs, err
}

func (l *lister) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

func (y *forgeYard) listedBy() *lister {
	l := &lister{World: y.World}
	y.engine = reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: l}})
	return l
}

func former() forge.Resource {
	return forge.Resource{
		ID: forge.ID{Environment: "local", Kind: forge.KindNamespace, Name: "shop@@shop@old"}, Target: forge.Target{Context: "old"},
		Spec: forge.FormerSpec{Namespace: "shop"},
	}
}

// movedGen is a generation that says where its environment was before.
func movedGen(n int, p forge.Policy, rs ...forge.Resource) reconcile.Generation {
	g := gen(n, p, rs...)
	g.Environments[0].Former = []forge.Resource{former()}
	return g
}

func (y *forgeYard) running(f func()) {
	y.t.Helper()
	ctx, cancel := context.WithCancel(y.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- y.engine.Run(ctx) }()
	synctest.Wait()
	f()
	cancel()
	if err := <-ended; err != nil {
		y.t.Errorf("run: %v", err)
	}
}

func (y *forgeYard) shown() (names []string) {
	for _, r := range y.engine.Status().Environments[0].Resources {
		names = append(names, r.ID.Name)
	}
	return names
}

// Where an environment was before is told to who lists what is owned. It is no
// resource: nobody looks at it. Who takes an environment down means where it is.
func TestFormerPlaceIsOnlyToldToOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		l := y.listedBy()
		told := func() bool {
			return slices.ContainsFunc(l.asked, func(r forge.Resource) bool { return r.ID == former().ID })
		}
		g := movedGen(1, policy, one("app"))
		if _, err := y.engine.Converge(t.Context(), g); err != nil || !told() {
			t.Errorf("told %t, %v", told(), err)
		}
		p := y.plan(g, nil).Environments[0]
		if want := []reconcile.Place{{Cluster: "old", Namespace: "shop"}}; !told() || !slices.Equal(p.Former, want) || len(p.Items) != 1 {
			t.Errorf("told %t, plan %+v", told(), p)
		}
		for _, c := range slices.Concat(y.Calls("observe"), y.Calls("plan")) {
			if c.ID == former().ID {
				t.Errorf("%s of where it was before", c.Op)
			}
		}
		g.Environments[0].Down = true
		if p := y.plan(g, nil).Environments[0]; told() || p.Former != nil {
			t.Errorf("taken down, and told %t, plan %+v", told(), p)
		}
	})
}

// The plan shows what was left while what is to be the new place is not there
// yet; it does not when the answer may be wrong.
func TestPlanShowsWhatWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		left := one("app@@shop@old")
		left.Target = forge.Target{Context: "old"}
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, left, one("app"))); err != nil {
			t.Fatal(err)
		}
		l := y.listedBy()
		l.lists(reconcile.WaitingFor(id("cluster"), forge.OutputKubeconfig), left, one("app"), one("other"))
		p := y.plan(movedGen(2, policy, one("app")), nil).Environments[0]
		if p.Error != nil || len(p.Items) != 2 {
			t.Fatalf("plan %+v", p)
		}
		item := p.Items[1]
		if item.ID != left.ID || !item.Remove || item.Left == nil || *item.Left != (reconcile.Place{Cluster: "old", Namespace: "shop"}) || len(item.Steps) != 1 {
			t.Errorf("item %+v", item)
		}
		if p.Items[0].Left != nil {
			t.Errorf("what is wanted was left: %+v", p.Items[0])
		}
		l.lists(fail(reconcile.Unavailable)(), left, one("app"))
		if p := y.plan(movedGen(2, policy, one("app")), nil).Environments[0]; p.Error == nil || len(p.Items) != 1 {
			t.Errorf("plan %+v", p)
		}
	})
}

// While it is not known what is where, nothing is removed anywhere: what was left
// goes last.
func TestWhatWasLeftGoesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		left := one("app@@shop@old")
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, left)); err != nil {
			t.Fatal(err)
		}
		l := y.listedBy()
		l.lists(reconcile.WaitingFor(id("cluster"), forge.OutputKubeconfig), left)
		y.SetHealth(id("app"), reconcile.Health{Status: reconcile.Progressing, Message: "starts"})
		y.running(func() {
			y.set(movedGen(2, policy, one("app")))
			y.pass(time.Minute)
			y.wantCount("delete", 0)
			l.lists(nil, left, one("app"))
			y.engine.Recheck("")
			y.pass(time.Minute)
			y.wantCount("delete", 0)
			y.SetHealth(id("app"), reconcile.Health{})
			synctest.Wait()
			y.wantCount("delete", 1)
			if want := []string{"app"}; !slices.Equal(y.shown(), want) {
				t.Errorf("shown are %v", y.shown())
			}
		})
	})
}

// What a process has seen in a place, and finds in a list under the name of that
// place, is one thing. What is not listed any more is not there any more.
func TestWhatWasLeftIsShownOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		l := y.listedBy()
		kept := policy
		kept.Prune = false
		left := one("db@@shop@old")
		l.lists(nil)
		y.running(func() {
			y.set(gen(1, kept, one("db"), one("cache"), one("app"), left))
			l.lists(nil, left, one("app"), one("cache"))
			y.set(movedGen(2, kept, one("app")))
			if want := []string{"app", "cache", "db@@shop@old"}; !slices.Equal(y.shown(), want) {
				t.Errorf("shown are %v, want %v", y.shown(), want)
			}
			if s := y.status("db@@shop@old"); s.State != reconcile.StateOrphaned || !strings.Contains(s.Message, "policy.prune is none") {
				t.Errorf("%s: %s", s.State, s.Message)
			}
			l.lists(nil, one("app"))
			y.engine.Recheck("")
			synctest.Wait()
			if want := []string{"app", "cache"}; !slices.Equal(y.shown(), want) {
				t.Errorf("shown are %v, want %v", y.shown(), want)
			}
			y.wantCount("delete", 0)
		})
	})
}

// A place that could not be read is looked at again when it can be: there may be
// more in it.
func TestPlaceThatCanBeReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		namespace, left := one("shop@@shop@old"), one("db@@shop@old")
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, namespace, left, one("app"))); err != nil {
			t.Fatal(err)
		}
		l := y.listedBy()
		kept := policy
		kept.Prune = false
		y.Fail("observe", namespace.ID, fail(reconcile.Unavailable))
		l.lists(nil, namespace, one("app"))
		y.running(func() {
			y.set(movedGen(2, kept, one("app")))
			y.wantState("shop@@shop@old", reconcile.StateUnknown)
			y.wantState("app", reconcile.StateReady)
			l.lists(nil, namespace, left, one("app"))
			y.Fail("observe", namespace.ID, nil)
			y.pass(10 * time.Minute)
			if diff := cmp.Diff([]string{"app", "db@@shop@old", "shop@@shop@old"}, y.shown()); diff != "" {
				t.Errorf("shown (-want +got):\n%s", diff)
			}
		})
	})
}

// A namespace that somebody else has made counts as gone as soon as it can be read:
// what was made in it is looked for all the same.
func TestForeignPlaceThatCanBeReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		namespace, left := one("shop@@shop@old"), one("db@@shop@old")
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, left, one("app"))); err != nil {
			t.Fatal(err)
		}
		l := y.listedBy()
		kept := policy
		kept.Prune = false
		y.Fail("observe", namespace.ID, fail(reconcile.Unavailable))
		l.lists(nil, namespace, one("app"))
		y.running(func() {
			y.set(movedGen(2, kept, one("app")))
			y.wantState("shop@@shop@old", reconcile.StateUnknown)
			l.lists(nil, left, one("app"))
			y.Fail("observe", namespace.ID, nil)
			y.pass(10 * time.Minute)
			if diff := cmp.Diff([]string{"app", "db@@shop@old"}, y.shown()); diff != "" {
				t.Errorf("shown (-want +got):\n%s", diff)
			}
		})
	})
}

// Who takes an environment down means the place where it is: what was left where it
// was before stays, although its owners list it by themselves.
func TestDownLeavesTheOldPlace(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			y := newYard(t)
			l := y.listedBy()
			left := one("db@@shop@old")
			left.Target = forge.Target{Context: "old"}
			if _, err := y.engine.Converge(t.Context(), gen(1, policy, left, one("app"))); err != nil {
				t.Fatal(err)
			}
			if restart {
				l = y.listedBy()
			}
			l.lists(nil, left, one("app"))
			g := movedGen(2, policy, one("app"))
			g.Environments[0].Down = true
			if items := y.plan(g, nil).Environments[0].Items; len(items) != 1 || items[0].ID != id("app") {
				t.Errorf("planned: %+v", items)
			}
			y.Forget()
			status, err := y.engine.Converge(t.Context(), g)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"app"}, applied(y.Calls("apply"))); diff != "" {
				t.Errorf("taken down (-want +got):\n%s", diff)
			}
			if rs := status.Environments[0].Resources; len(rs) != 0 {
				t.Errorf("shown: %+v", rs)
			}
		})
	}
}

// What a policy keeps is kept, and in nobody's way, whatever else would be in the
// way of its removal.
func TestWhatIsKeptIsNotBlocked(t *testing.T) {
	run(t, func(y *forgeYard) {
		kept := policy
		kept.Prune, kept.DestroyData = false, "never"
		y.set(gen(1, kept, res("db", map[string]any{world.Volume: "1"}), one("app")))
		y.set(gen(2, kept, one("app")))
		y.wantState("db", reconcile.StateOrphaned)
		if st := y.engine.Status(); st.State != reconcile.StateReady {
			t.Errorf("what is kept makes everything %s", st.State)
		}
		kept.Prune = true
		y.set(gen(3, kept, one("app")))
		y.wantState("db", reconcile.StateBlocked)
	})
}
