package reconcile_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/world"
)

func fail(kind reconcile.ErrorKind) func() error {
	return func() error {
		err := reconcile.Errorf(kind, "call", "no luck")
		err.After = 42 * time.Second
		return err
	}
}

// The bounds are per virtual hour: what every kind of failure may cost when
// every call fails with it, with a watch that fires once a second on top.
func TestRetriesAreBounded(t *testing.T) {
	tests := []struct {
		kind     reconcile.ErrorKind
		min, max int // attempts in the first hour without events
		noisy    int // at most so many with events
	}{
		{reconcile.Unavailable, 18, 26, 26},
		{reconcile.Conflict, 18, 26, 26},
		{reconcile.Internal, 18, 26, 26},
		{reconcile.Denied, 13, 20, 20},
		{reconcile.Throttled, 84, 87, 87},
		{reconcile.Stale, 23, 32, 32},
		{reconcile.Invalid, 1, 1, 26},
		{reconcile.Waiting, 1, 1, 3601},
	}
	for _, op := range []string{"observe", "plan", "apply"} {
		for _, tt := range tests {
			t.Run(op+" "+string(tt.kind), func(t *testing.T) {
				for _, noisy := range []bool{false, true} {
					run(t, func(y *forgeYard) {
						y.Fail(op, id("app"), fail(tt.kind))
						y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
						if noisy {
							for range 3600 {
								y.pass(time.Second)
								y.Event(id("app"), "live")
							}
						} else {
							y.pass(time.Hour)
						}
						n, most := y.Count(op), tt.max
						if noisy {
							most = tt.noisy
						}
						if n < tt.min || n > most {
							t.Errorf("noisy %v: %d attempts in an hour, want %d to %d", noisy, n, tt.min, most)
						}
						if y.Count("write") != 0 {
							t.Error("something was written")
						}

						y.Fail(op, id("app"), nil)
						switch tt.kind {
						case reconcile.Invalid, reconcile.Waiting:
							y.set(gen(2, policy, res("app", map[string]any{"pod": "2"})))
						default:
							y.pass(5*time.Minute + time.Second)
						}
						y.wantState("app", reconcile.StateReady)
					})
				}
			})
		}
	}
}

func TestThrottledWaitsAsTold(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.Fail("apply", id("app"), fail(reconcile.Throttled))
		y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
		y.pass(200 * time.Second)
		calls := y.Calls("apply")
		if len(calls) != 5 {
			t.Fatalf("%d attempts", len(calls))
		}
		for i := range calls[1:] {
			if d := calls[i+1].At.Sub(calls[i].At); d != 42*time.Second {
				t.Errorf("came back after %s, told 42s", d)
			}
		}
		if r := y.status("app").NextRetry; time.Until(r) <= 0 {
			t.Errorf("next retry %s is in the past", r)
		}
	})
}

func TestStaleIsPlannedAgainAtOnce(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
		races := 3
		y.Fail("apply", id("app"), func() error {
			if races--; races >= 0 {
				y.Edit(id("app"), "pod", "evil", "kubectl")
			}
			return nil
		})
		began := time.Now()
		y.set(gen(2, policy, res("app", map[string]any{"pod": "2"})))
		y.wantState("app", reconcile.StateReady)
		if d := time.Since(began); d != 0 {
			t.Errorf("took %s", d)
		}
		if got := y.Live(id("app"))["pod"]; got != "2" {
			t.Errorf("pod is %q", got)
		}
		if n := y.saw.retried[reconcile.Stale]; n != 3 {
			t.Errorf("retried %d times", n)
		}
	})
}

func TestNewConfigOrModeEndsBackoff(t *testing.T) {
	observe := policy
	observe.Mode = forge.ModeObserve
	tests := []struct {
		name string
		next reconcile.Generation
	}{
		{"config", gen(2, policy, res("app", map[string]any{"pod": "2"}))},
		{"mode", gen(2, observe, res("app", map[string]any{"pod": "1"}))},
		{"neighbour", gen(2, policy, res("app", map[string]any{"pod": "1"}), res("new", map[string]any{"pod": "1"}))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(y *forgeYard) {
				y.Fail("observe", id("app"), fail(reconcile.Unavailable))
				y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
				y.pass(time.Hour)
				y.pass(time.Until(y.status("app").NextRetry) + time.Second) // the next one is minutes away
				before := y.Count("observe")
				y.Fail("observe", id("app"), nil)
				y.set(tt.next)
				if y.Count("observe") == before {
					t.Error("still in backoff")
				}
			})
		})
	}
}

// A config that changes all the time must not defeat the backoff of what it
// does not change.
func TestFlappingConfigIsBounded(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.Fail("observe", id("app"), fail(reconcile.Unavailable))
		for n := range 600 {
			y.set(gen(n, policy, res("app", map[string]any{"pod": "1"}), res("other", map[string]any{"pod": n})))
			y.pass(100 * time.Millisecond)
		}
		tries := 0
		for _, c := range y.Calls("observe") {
			if c.ID == id("app") {
				tries++
			}
		}
		if tries > 65 {
			t.Errorf("%d attempts in a minute", tries)
		}
	})
}

func TestLostAnswer(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.Lose(id("app"), 1)
		y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
		y.wantState("app", reconcile.StateFailed)
		y.pass(2 * time.Second)
		y.wantState("app", reconcile.StateReady)
		y.wantCount("apply", 1) // it was there already: looked, not applied again
	})
}

func TestInterruptedIsRepaired(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
		y.Interrupt(id("app"))
		y.Event(id("app"), "storage")
		synctest.Wait()
		y.wantState("app", reconcile.StateReady)
		if a := y.status("app").LastAction; a.Action != reconcile.ActionRepair {
			t.Errorf("last action %s", a.Action)
		}
	})
}

// herald is a world whose watch says when what has failed may work again.
type herald struct {
	*world.World
	say chan reconcile.Event
}

func (h herald) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	for {
		select {
		case ev := <-h.say:
			notify(ev)
		case <-ctx.Done():
			return nil
		}
	}
}

// The backoff of an hour-long outage is minutes long. Who knows that it is over
// ends it.
func TestRetryEventEndsBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		h := herald{y.World, make(chan reconcile.Event)}
		y.engine = reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: h}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- y.engine.Run(ctx) }()
		y.Fail("observe", id("app"), func() error { return reconcile.Errorf(reconcile.Unavailable, "observe", "no") })
		y.set(gen(1, policy, one("app")))
		y.pass(time.Hour)
		y.Fail("observe", id("app"), nil)
		y.Forget()
		h.say <- reconcile.Event{ID: id("app"), Cause: "live"}
		synctest.Wait()
		y.wantCount("observe", 0) // an event by itself does not
		h.say <- reconcile.Event{ID: id("app"), Cause: "watch", Retry: true}
		synctest.Wait()
		y.wantState("app", reconcile.StateReady)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
