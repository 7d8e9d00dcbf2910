package reconcile_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// noWayIn fails to list what is owned: the way to it is an output of "cluster".
func noWayIn() error {
	err := reconcile.Errorf(reconcile.Waiting, "list owned", "there is no way in yet")
	err.From, err.Output = id("cluster"), "url"
	return err
}

// What is owned behind an output that is not there yet is no trouble: nobody is
// told that it is unknown. It is listed as soon as the output comes, however
// long that took.
func TestOwnedBehindAnOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, one("cluster"), one("old", "cluster"))); err != nil {
			t.Fatal(err)
		}
		y.SetHealth(id("cluster"), reconcile.Health{Status: reconcile.Progressing, Message: "starting"})
		y.DropEvents()
		y.Fail("owned", forge.ID{}, noWayIn)

		y.engine = engineOn(y.World, y.saw)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- y.engine.Run(ctx) }()
		y.set(gen(1, policy, one("cluster")))
		for range 9 {
			y.pass(time.Minute)
			if env := y.engine.Status().Environments[0]; env.State != reconcile.StateProgressing || env.Error != nil {
				t.Errorf("environment is %s, error %+v", env.State, env.Error)
			}
		}
		y.wantCount("delete", 0)
		if n := y.Count("owned"); n < 2 || n > 20 {
			t.Errorf("asked %d times", n)
		}
		y.Fail("owned", forge.ID{}, nil)
		y.SetHealth(id("cluster"), reconcile.Health{Status: reconcile.Ready})
		synctest.Wait() // and no time passes
		y.wantCount("delete", 1)
		y.wantState("cluster", reconcile.StateReady)
		if diff := cmp.Diff([]forge.ID{id("cluster")}, y.Inventory()); diff != "" {
			t.Errorf("inventory (-want +got):\n%s", diff)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Converge ends where the output does not come, and lists what is owned where it
// does.
func TestConvergeBehindAnOutput(t *testing.T) {
	observe := policy
	observe.Mode = forge.ModeObserve
	tests := []struct {
		name    string
		policy  forge.Policy
		slow    time.Duration // of the cluster, until it is ready
		refused int           // listings that fail though the output is there
		deletes int
		state   reconcile.State
	}{
		{name: "it is there", policy: policy, deletes: 1, state: reconcile.StateReady},
		{name: "it comes", policy: policy, slow: 9 * time.Minute, deletes: 1, state: reconcile.StateReady},
		{name: "it has come meanwhile", policy: policy, slow: time.Minute, refused: 1, deletes: 1, state: reconcile.StateReady},
		{name: "it does not come in time", policy: policy, slow: time.Hour, state: reconcile.StateFailed},
		{name: "nobody makes it", policy: observe, state: reconcile.StateDrifted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newYard(t)
				if _, err := y.engine.Converge(t.Context(), gen(1, policy, one("old"))); err != nil {
					t.Fatal(err)
				}
				y.Slow(id("cluster"), tt.slow)
				refused, began := 0, time.Now()
				y.Fail("owned", forge.ID{}, func() error {
					there := y.Live(id("cluster"))["pod"] != "" && time.Since(began) >= tt.slow
					if there && refused == tt.refused {
						return nil
					}
					if there {
						refused++
					}
					return noWayIn()
				})
				y.engine = engineOn(y.World, y.saw)
				s, err := y.engine.Converge(t.Context(), gen(2, tt.policy, one("cluster")))
				if err != nil {
					t.Fatal(err)
				}
				if env := s.Environments[0]; env.State != tt.state || env.Error != nil {
					t.Errorf("environment is %s, error %+v", env.State, env.Error)
				}
				y.wantCount("delete", tt.deletes)
				if refused != tt.refused {
					t.Errorf("refused %d times", refused)
				}
				// Nothing is waited for but the cluster, and the pause after a refusal.
				most := min(tt.slow, policy.Timeout) + time.Duration(tt.refused)*2*time.Second
				if took := time.Since(began); took > most {
					t.Errorf("took %s, at most %s", took, most)
				}
			})
		})
	}
}
