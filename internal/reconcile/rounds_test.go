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

// A process that sleeps is woken once for all environments in which nothing is
// to be done, and each has its round as often as it asks for.
func TestRoundsOfMany(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.SetFollows(true)
		g := reconcile.Generation{Number: 1, Hash: "hash"}
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			r := res("app", map[string]any{"pod": "1"})
			r.ID.Environment = name
			g.Environments = append(g.Environments, reconcile.Environment{
				Name: name, Platform: forge.PlatformMinikube, Target: "minikube", Policy: every(time.Minute), Resources: []forge.Resource{r},
			})
		}
		y.set(g)
		y.Forget()
		y.pass(20 * time.Minute)
		y.wantCount("observe", 0)
		wakes, rounds := map[time.Time]bool{}, map[string]int{}
		for _, c := range y.Calls("follows") {
			wakes[c.At] = true
			rounds[c.ID.Environment]++
		}
		if len(wakes) > 40 {
			t.Errorf("woken %d times in 20 minutes", len(wakes))
		}
		for _, env := range g.Environments {
			if n := rounds[env.Name]; n < 18 || n > 30 {
				t.Errorf("%s had %d rounds in 20 minutes", env.Name, n)
			}
		}
	})
}
