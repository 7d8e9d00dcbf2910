package reconcile_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/reconcile"
)

func TestFightBreaker(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, res("app", map[string]any{"pod": "1", "calm": "1"})))
		y.Forget()
		y.Rival(id("app"), "pod", "evil")
		y.Edit(id("app"), "pod", "evil", "rival")
		began := time.Now()
		y.pass(time.Hour)

		// Six at once, then after 2, 6, 18, 54, 162 and 300 seconds, then every 300.
		want := []time.Duration{0, 0, 0, 0, 0, 0, 2, 8, 26, 80, 242, 542, 842}
		calls := y.Calls("apply")
		for i, w := range want {
			if i >= len(calls) {
				t.Fatalf("%d heals in an hour, want more", len(calls))
			}
			if got := calls[i].At.Sub(began); got != w*time.Second {
				t.Errorf("heal %d after %s, want %s", i+1, got, w*time.Second)
			}
		}
		if n := len(calls); n > 24 {
			t.Errorf("%d heals in an hour", n)
		}
		s := y.status("app")
		if s.State != reconcile.StateDrifted || s.Fight != "fight with rival over pod" || s.NextRetry.IsZero() {
			t.Errorf("status %s, fight %q, next %s", s.State, s.Fight, s.NextRetry)
		}
		if n := len(y.saw.fights); n < 10 || y.saw.fights[0] != "pod rival" {
			t.Errorf("told of %d fights: %v", n, y.saw.fights)
		}

		// Another object of the same resource is not part of the fight.
		for range 2 {
			y.Delete(id("app"), "calm")
			synctest.Wait()
			if got := y.Live(id("app"))["calm"]; got != "1" {
				t.Error("a heal waited for another object's fight")
			}
		}
		deletions := 0
		for _, r := range y.saw.drifts {
			if r.Code == reconcile.ReasonDeleted {
				deletions++
			}
		}
		if deletions != 2 {
			t.Errorf("two deletions were told %d times", deletions)
		}

		// The rival gives up: one more heal ends it, and it is forgotten in time.
		y.Rival(id("app"), "pod", "")
		y.pass(6 * time.Minute)
		y.wantState("app", reconcile.StateReady)
		y.pass(3 * time.Hour)
		y.Edit(id("app"), "pod", "evil", "human")
		synctest.Wait()
		y.wantState("app", reconcile.StateReady)
		if f := y.status("app").Fight; f != "" {
			t.Errorf("still %q", f)
		}
	})
}

func TestFiveHealsAreNoFight(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
		for range 50 {
			y.pass(2*time.Minute + time.Second)
			y.Edit(id("app"), "pod", "evil", "kubectl")
			synctest.Wait()
			y.wantState("app", reconcile.StateReady)
		}
		if len(y.saw.fights) != 0 {
			t.Errorf("told of fights: %v", y.saw.fights)
		}
	})
}

// A provider whose plan is never empty must not make a hot loop either.
func TestRolloutThatNeverSticksIsBounded(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.Fail("observe", id("app"), func() error { y.Interrupt(id("app")); return nil })
		y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
		y.pass(time.Hour)
		if n := y.Count("apply"); n < 6 || n > 24 {
			t.Errorf("%d applies in an hour", n)
		}
		if f := y.status("app").Fight; !strings.HasPrefix(f, "fight with an unnamed writer") {
			t.Errorf("fight %q", f)
		}
	})
}
