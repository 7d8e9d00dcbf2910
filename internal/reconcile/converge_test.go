package reconcile_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestConverge(t *testing.T) {
	observe, paused := policy, policy
	observe.Mode, paused.Mode = forge.ModeObserve, forge.ModePaused
	tests := []struct {
		name    string
		policy  forge.Policy
		prepare func(y *forgeYard)
		state   reconcile.State // of everything
		atMost  time.Duration
	}{
		{"all ready", policy, func(*forgeYard) {}, reconcile.StateReady, 0},
		{"slow", policy, func(y *forgeYard) { y.Slow(id("db"), time.Minute) }, reconcile.StateReady, time.Minute},
		{"mended in time", policy, func(y *forgeYard) {
			n := 0
			y.Fail("apply", id("db"), func() error {
				if n++; n < 4 {
					return reconcile.Errorf(reconcile.Unavailable, "apply", "no luck")
				}
				return nil
			})
		}, reconcile.StateReady, 10 * time.Second},
		{"unavailable for good", policy, func(y *forgeYard) { y.Fail("observe", id("db"), fail(reconcile.Unavailable)) }, reconcile.StateUnknown, time.Minute},
		{"denied", policy, func(y *forgeYard) { y.Fail("apply", id("db"), fail(reconcile.Denied)) }, reconcile.StateFailed, 0},
		{"invalid", policy, func(y *forgeYard) { y.Fail("plan", id("db"), fail(reconcile.Invalid)) }, reconcile.StateFailed, 0},
		{"stale for good", policy, func(y *forgeYard) { y.Fail("apply", id("db"), fail(reconcile.Stale)) }, reconcile.StateFailed, time.Minute},
		{"never ready", policy, func(y *forgeYard) {
			y.SetHealth(id("db"), reconcile.Health{Status: reconcile.Progressing, Message: "starting"})
		}, reconcile.StateFailed, 11 * time.Minute},
		{"observe", observe, func(*forgeYard) {}, reconcile.StateDrifted, 0},
		{"paused", paused, func(*forgeYard) {}, reconcile.StatePaused, 0},
		{"rival", policy, func(y *forgeYard) { y.Rival(id("db"), "pod", "evil") }, reconcile.StateDrifted, time.Minute},
		{"owners do not let us look", policy, func(y *forgeYard) { y.Fail("owned", forge.ID{}, fail(reconcile.Denied)) }, reconcile.StateUnknown, 0},
		{"owners do not answer", policy, func(y *forgeYard) { y.Fail("owned", forge.ID{}, fail(reconcile.Unavailable)) }, reconcile.StateUnknown, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newYard(t)
				tt.prepare(y)
				p := tt.policy
				p.Interval = time.Hour
				began := time.Now()
				s, err := y.engine.Converge(t.Context(), gen(1, p, one("db"), one("app", "db")))
				if err != nil {
					t.Fatal(err)
				}
				if s.State != tt.state {
					t.Errorf("ended %s, want %s: %+v", s.State, tt.state, *s.Environments[0].Resources[0])
				}
				if d := time.Since(began); d > tt.atMost {
					t.Errorf("took %s, at most %s", d, tt.atMost)
				}
			})
		})
	}
}

func TestConvergeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		y.Slow(id("db"), time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s, err := y.engine.Converge(ctx, gen(1, policy, one("db")))
		if !errors.Is(err, context.DeadlineExceeded) || s.State != reconcile.StateProgressing {
			t.Errorf("ended %s with %v", s.State, err)
		}
		if _, err := y.engine.Converge(t.Context(), gen(2, policy, one("db", "nothing"))); reconcile.KindOf(err) != reconcile.Invalid {
			t.Errorf("error %v", err)
		}
		<-time.After(time.Hour)
	})
}
