package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// every is policy with rounds.
func every(d time.Duration) forge.Policy {
	p := policy
	p.Interval = d
	return p
}

func TestRoundsPassOverWhatIsFollowed(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.SetFollows(true)
		y.set(gen(1, every(2*time.Minute), fed("app", "db", "url"), res("db", map[string]any{"pod": "1"})))
		y.Forget()
		y.pass(25 * time.Minute)
		y.wantCount("observe", 0)

		// Who cannot say so any more is looked at in the next round.
		y.SetFollows(false)
		y.pass(3 * time.Minute)
		if n := y.Count("observe"); n < 2 {
			t.Errorf("%d looks at two resources that nobody follows", n)
		}
	})
}

func TestRoundsLookInFullNowAndThen(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.SetFollows(true)
		y.set(gen(1, every(2*time.Minute), res("app", map[string]any{"pod": "1"})))
		y.SetDeaf(true)
		y.Edit(id("app"), "pod", "2", "somebody")
		y.pass(35 * time.Minute)
		if got := y.Live(id("app"))["pod"]; got != "1" {
			t.Errorf("a change without an event is not found within 35 minutes: pod is %q", got)
		}
	})
}

func TestRoundsLookAtWhatIsNotWell(t *testing.T) {
	tests := map[string]func(y *forgeYard){
		"not ready": func(y *forgeYard) {
			y.SetHealth(id("app"), reconcile.Health{Status: reconcile.Progressing, Message: "starting"})
		},
		"with a notice": func(y *forgeYard) {
			y.SetNotices(id("app"), reconcile.Notice{Code: "dns", Message: "does not resolve"})
		},
		"drifted, in a mode that only looks": func(y *forgeYard) {
			p := every(2 * time.Minute)
			p.Mode = forge.ModeObserve
			y.set(gen(2, p, res("app", map[string]any{"pod": "1"})))
			y.Edit(id("app"), "pod", "2", "somebody")
		},
	}
	for name, upset := range tests {
		t.Run(name, func(t *testing.T) {
			run(t, func(y *forgeYard) {
				y.SetFollows(true)
				y.set(gen(1, every(2*time.Minute), res("app", map[string]any{"pod": "1"})))
				upset(y)
				synctest.Wait()
				y.Forget()
				y.pass(5 * time.Minute)
				if y.Count("observe") == 0 {
					t.Error("it is not looked at")
				}
			})
		})
	}
}

func TestRoundsFollowThePolicy(t *testing.T) {
	run(t, func(y *forgeYard) {
		app := res("app", map[string]any{"pod": "1"})
		y.set(gen(1, every(time.Hour), app))
		paused := every(time.Hour)
		paused.Mode = forge.ModePaused
		y.set(gen(2, paused, app))
		y.Forget()
		y.pass(3 * time.Hour)
		y.wantCount("observe", 0)

		y.set(gen(3, every(time.Hour), app))
		y.Forget()
		y.pass(70 * time.Minute)
		if n := y.Count("observe"); n < 1 || n > 2 {
			t.Errorf("looked %d times in 70 minutes with an interval of an hour", n)
		}

		y.set(gen(4, every(time.Minute), app))
		y.Forget()
		y.pass(10 * time.Minute)
		if n := y.Count("observe"); n < 8 {
			t.Errorf("looked %d times in ten minutes with an interval of one", n)
		}

		y.set(gen(5, policy, app))
		y.Forget()
		y.pass(10 * time.Hour)
		y.wantCount("observe", 0)
	})
}
