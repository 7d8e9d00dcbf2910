package reconcile_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/world"
)

func one(name string, needs ...string) forge.Resource {
	return res(name, map[string]any{"pod": "1"}, needs...)
}

func TestPruneInReverseOrder(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, one("db"), one("app", "db"), one("web", "app"), one("keep")))
		y.Forget()
		y.set(gen(2, policy, one("keep")))
		if diff := cmp.Diff([]string{"web", "app", "db"}, applied(y.Calls("apply"))); diff != "" {
			t.Errorf("removed (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]forge.ID{id("keep")}, y.Inventory()); diff != "" {
			t.Errorf("inventory (-want +got):\n%s", diff)
		}
		if rs := y.engine.Status().Environments[0].Resources; len(rs) != 1 {
			t.Errorf("%d resources in the status", len(rs))
		}
	})
}

// After a restart only the inventory knows what was owned.
func TestPruneAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, one("db"), one("app", "db"), one("keep"))); err != nil {
			t.Fatal(err)
		}
		y.Forget()
		y.engine = engineOn(y.World, y.saw)
		if _, err := y.engine.Converge(t.Context(), gen(2, policy, one("keep"))); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"app", "db"}, applied(y.Calls("apply"))); diff != "" {
			t.Errorf("removed (-want +got):\n%s", diff)
		}
	})
}

func TestPruneGates(t *testing.T) {
	with := func(f func(*forge.Policy)) forge.Policy { p := policy; f(&p); return p }
	tests := []struct {
		name    string
		policy  forge.Policy
		wanted  []forge.Resource
		message string
	}{
		{"prune off", with(func(p *forge.Policy) { p.Prune = false }), []forge.Resource{one("keep")}, "policy.prune is none"},
		{"heal", with(func(p *forge.Policy) { p.Mode = forge.ModeHeal }), []forge.Resource{one("keep")}, "mode is heal"},
		{"observe", with(func(p *forge.Policy) { p.Mode = forge.ModeObserve }), []forge.Resource{one("keep")}, "mode is observe"},
		{"empty wish", policy, nil, "an empty wish never removes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(y *forgeYard) {
				y.set(gen(1, policy, one("old"), one("keep")))
				y.set(gen(2, tt.policy, tt.wanted...))
				y.pass(time.Hour)
				y.wantCount("delete", 0)
				s := y.status("old")
				if s.State != reconcile.StateOrphaned || !strings.Contains(s.Message, tt.message) {
					t.Errorf("%s: %s", s.State, s.Message)
				}
				if st := y.engine.Status(); st.State != reconcile.StateReady {
					t.Errorf("an orphan makes everything %s", st.State)
				}
			})
		})
	}
}

func TestPruneWaitsForTheRest(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, one("old"), one("keep")))
		y.SetHealth(id("keep"), reconcile.Health{Status: reconcile.Progressing, Message: "rolling"})
		y.set(gen(2, policy, res("keep", map[string]any{"pod": "2"})))
		y.pass(time.Minute)
		y.wantCount("delete", 0)
		y.SetHealth(id("keep"), reconcile.Health{})
		synctest.Wait()
		y.wantCount("delete", 1)
	})
}

func TestPruneNeverWhileOwnershipIsUnknown(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, one("old"), one("keep")))
		y.Fail("owned", forge.ID{}, fail(reconcile.Unavailable))
		y.set(gen(2, policy, one("keep")))
		y.pass(time.Hour)
		y.wantCount("delete", 0)
		if env := y.engine.Status().Environments[0]; env.State != reconcile.StateUnknown || env.Error == nil {
			t.Errorf("environment is %s, error %+v", env.State, env.Error)
		}
		if n := strings.Count(y.saw.lines(), "could not list what is owned"); n != 1 {
			t.Errorf("said %d times in an hour", n)
		}
		y.Fail("owned", forge.ID{}, nil)
		y.pass(6 * time.Minute)
		y.wantCount("delete", 1)
	})
}

func TestMaxDelete(t *testing.T) {
	run(t, func(y *forgeYard) {
		many := res("many", map[string]any{"a": 1, "b": 2, "c": 3, "d": 4})
		y.set(gen(1, policy, many, one("x"), one("y"), one("keep")))
		y.set(gen(2, policy, one("keep")))
		y.pass(time.Hour)
		y.wantCount("delete", 0)
		for _, name := range []string{"many", "x", "y"} {
			y.wantState(name, reconcile.StateBlocked)
		}
		want := "6 objects of environment local would be deleted, policy.maxDelete is 5: local/release/many (4 objects), local/release/x, local/release/y; " +
			"if that is meant, set policy.maxDelete to 6 or more in forge.cue"
		if got := y.status("y").Steps[0].Blocked; got != want {
			t.Errorf("blocked: %s\nwant: %s", got, want)
		}
		p := policy
		p.MaxDelete = 6
		y.set(gen(3, p, one("keep")))
		y.wantCount("delete", 6)
	})
}

// What stays because of prune is not about to be deleted: it neither reads as
// too much, nor keeps an update from deleting what it may.
func TestMaxDeleteCountsNothingThatStays(t *testing.T) {
	run(t, func(y *forgeYard) {
		seven := map[string]any{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7}
		p := policy
		p.Prune = false
		y.set(gen(1, p, res("old", seven), res("keep", seven)))
		next := gen(2, p, res("keep", map[string]any{"a": 1, "b": 2, "c": 3, "d": 4}))
		for _, i := range y.plan(next, nil).Environments[0].Items {
			for _, s := range i.Steps {
				if s.Blocked != "" {
					t.Errorf("plan: %s is blocked: %s", i.ID, s.Blocked)
				}
			}
		}
		y.set(next)
		y.pass(time.Hour)
		y.wantState("old", reconcile.StateOrphaned)
		y.wantState("keep", reconcile.StateReady)
		y.wantCount("delete", 3)
	})
}

// Objects that go with an update count too, and what was deleted already counts.
func TestMaxDeleteOfUpdates(t *testing.T) {
	run(t, func(y *forgeYard) {
		big := func(n int) forge.Resource {
			objects := map[string]any{}
			for i := range n {
				objects[string(rune('a'+i))] = "1"
			}
			return res("big", objects)
		}
		y.set(gen(1, policy, big(10), one("keep")))
		y.set(gen(2, policy, big(2), one("keep")))
		y.wantState("big", reconcile.StateBlocked)
		y.wantCount("delete", 0)
		y.set(gen(3, policy, big(5), one("keep")))
		y.wantState("big", reconcile.StateReady)
		y.wantCount("delete", 5)
	})
}

// What is found out late is counted together with what is gone already.
func TestMaxDeleteRemembers(t *testing.T) {
	run(t, func(y *forgeYard) {
		four := map[string]any{"a": 1, "b": 2, "c": 3, "d": 4}
		y.set(gen(1, policy, res("early", four), res("late", four), one("keep")))
		y.Fail("observe", id("late"), fail(reconcile.Unavailable))
		y.set(gen(2, policy, one("keep")))
		y.wantCount("delete", 4)
		y.Fail("observe", id("late"), nil)
		y.pass(time.Hour)
		y.wantState("late", reconcile.StateBlocked)
		y.wantCount("delete", 4)
	})
}

func TestVanishedEnvironmentIsLeftAlone(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, one("app")))
		y.set(reconcile.Generation{Number: 2})
		y.set(reconcile.Generation{Number: 3})
		y.pass(time.Hour)
		y.wantCount("delete", 0)
		if n := strings.Count(y.saw.lines(), "environment left forge.cue"); n != 1 {
			t.Errorf("said %d times", n)
		}
		if s := y.engine.Status(); len(s.Environments) != 0 {
			t.Errorf("status still has %d environments", len(s.Environments))
		}
	})
}

func TestOrphanComesBack(t *testing.T) {
	run(t, func(y *forgeYard) {
		p := policy
		p.Prune = false
		y.set(gen(1, p, one("old"), one("keep")))
		y.set(gen(2, p, one("keep")))
		y.wantState("old", reconcile.StateOrphaned)
		y.set(gen(3, p, one("old"), one("keep")))
		y.wantState("old", reconcile.StateReady)
		y.wantCount("delete", 0)
	})
}

// tidy is a world in which a resource that loses objects parts with them late.
type tidy struct{ *world.World }

func (w tidy) Plan(ctx context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	steps, err := w.World.Plan(ctx, r, o)
	for i := range steps {
		steps[i].Late = steps[i].Deletes > 0 && !r.Remove
	}
	return steps, err
}

// What a resource no longer needs may be in use until everything else has
// moved on. Nothing waits for its removal: one that may not be done, or not
// yet, must not hold up a rollout.
func TestLateStepsComeLast(t *testing.T) {
	bounded := policy
	bounded.MaxDelete = 0
	for _, tt := range []struct {
		name    string
		policy  forge.Policy
		fails   bool
		applied []string
		state   reconcile.State
		message string
	}{
		{"after the rest", policy, false, []string{"app", "keys"}, reconcile.StateReady, ""},
		{"not allowed", bounded, false, []string{"app"}, reconcile.StateBlocked, ""},
		{"the rest does not come up", policy, true, nil, reconcile.StateWaiting, "waits with a removal until local/release/app is ready"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newYard(t)
				y.engine = reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: tidy{y.World}}})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- y.engine.Run(ctx) }()
				y.set(gen(1, tt.policy, res("keys", map[string]any{"a": "1", "b": "1"}), one("app", "keys")))
				if tt.fails {
					y.Fail("apply", id("app"), func() error { return reconcile.Errorf(reconcile.Unavailable, "apply", "no") })
				}
				y.Forget()
				y.set(gen(2, tt.policy, res("keys", map[string]any{"a": "1"}), res("app", map[string]any{"pod": "2"}, "keys")))
				y.wantState("keys", tt.state)
				if s := y.status("keys"); tt.message != "" && s.Message != tt.message {
					t.Errorf("message %q", s.Message)
				}
				if tt.fails {
					if len(y.Live(id("keys"))) != 2 {
						t.Error("removed while it may be in use")
					}
					y.Fail("apply", id("app"), nil)
					y.Forget()
					y.pass(time.Minute)
					tt.applied = []string{"app", "keys"}
					y.wantState("keys", reconcile.StateReady)
				}
				y.wantState("app", reconcile.StateReady)
				if diff := cmp.Diff(tt.applied, applied(y.Calls("apply"))); diff != "" {
					t.Errorf("applied (-want +got):\n%s", diff)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What is owned is listed while resources are looked at, and may show what has
// just been made: that is no reason to look at anything once more.
func TestListingIsNoReasonToLook(t *testing.T) {
	run(t, func(y *forgeYard) {
		list := y.hang("owned", forge.ID{})
		y.set(gen(1, policy, one("db")))
		y.wantState("db", reconcile.StateReady)
		list()
		y.wantCount("observe", 2) // before it was made, and after
	})
	t.Run("after a restart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			y := newYard(t)
			if _, err := y.engine.Converge(t.Context(), gen(1, policy, one("db"))); err != nil {
				t.Fatal(err)
			}
			y.Forget()
			y.engine = engineOn(y.World, y.saw)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- y.engine.Run(ctx) }()
			look := y.hang("observe", id("db"))
			y.set(gen(1, policy, one("db")))
			y.wantCount("owned", 1)
			look()
			y.wantState("db", reconcile.StateReady)
			y.wantCount("observe", 1)
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	})
}
