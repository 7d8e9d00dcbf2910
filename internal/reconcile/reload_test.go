package reconcile_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/world"
)

// hang holds every call of an operation on a resource until it is opened.
func (y *forgeYard) hang(op string, on forge.ID) (open func()) {
	opened := make(chan struct{})
	y.Fail(op, on, func() error { <-opened; return nil })
	return func() {
		y.Fail(op, on, nil)
		close(opened)
		synctest.Wait()
	}
}

// An environment that leaves forge.cue while its passes are under way takes
// nothing down with it.
func TestEnvironmentLeavesDuringAPass(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, one("old"), one("keep")))
		open := y.hang("plan", id("old"))
		y.set(gen(2, policy, one("keep")))
		y.set(reconcile.Generation{Number: 3})
		open()
		y.wantCount("delete", 0)
		if n := len(y.engine.Status().Environments); n != 0 {
			t.Errorf("%d environments in the status", n)
		}
	})
}

// A resource whose input has changed while it was being looked at is not ready:
// what needs it would be rolled out too early.
func TestInputChangesDuringAPass(t *testing.T) {
	run(t, func(y *forgeYard) {
		db, app := one("db"), fed("app", "db", "url")
		y.set(gen(1, policy, db, app, res("web", map[string]any{"pod": "1"}, "app")))
		y.wantState("web", reconcile.StateReady)
		y.Forget()

		open := y.hang("observe", id("app"))
		y.Event(id("app"), "live")
		synctest.Wait()
		y.SetHealth(id("db"), reconcile.Health{Status: reconcile.Progressing, Message: "restarting"})
		synctest.Wait()
		y.set(gen(2, policy, db, app, res("web", map[string]any{"pod": "2"}, "app")))
		open() // this look at app began with what db said before
		y.wantCount("apply", 0)
		y.wantState("app", reconcile.StateWaiting)
		y.SetHealth(id("db"), reconcile.Health{})
		synctest.Wait()
		y.wantState("web", reconcile.StateReady)
		y.wantCount("apply", 1)
	})
}

// An event that says that it may work now does not defeat the backoff.
func TestRetryEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		h := herald{y.World, make(chan reconcile.Event)}
		y.engine = reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: h}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- y.engine.Run(ctx) }()
		y.Fail("observe", id("app"), fail(reconcile.Unavailable))
		y.set(gen(1, policy, one("app")))
		y.Forget()
		for range 10_000 {
			h.say <- reconcile.Event{ID: id("app"), Cause: "watch", Retry: true}
			y.pass(10 * time.Millisecond)
		}
		if n := y.Count("observe"); n < 90 || n > 110 {
			t.Errorf("%d looks within 100 s, want one each second", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// half is a world that cannot list all that is owned.
type half struct{ *world.World }

func (w half) Owned(ctx context.Context, environment string, wanted []forge.Resource) ([]forge.Resource, error) {
	owned, err := w.World.Owned(ctx, environment, wanted)
	return owned, errors.Join(err, reconcile.Errorf(reconcile.Unavailable, "list", "one of two clusters is away"))
}

// A region that cannot be listed keeps nothing that is owned elsewhere from
// being healed after a start, whatever it needs; and nothing is removed.
func TestWhatIsListedIsHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		app := res("app", map[string]any{"pod": "1"}, "db")
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, one("db"), app, one("old"))); err != nil {
			t.Fatal(err)
		}
		y.engine = reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: half{y.World}}})
		y.Fail("observe", id("db"), fail(reconcile.Unavailable))
		y.Edit(id("app"), "pod", "edited", "a-person")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- y.engine.Run(ctx) }()
		y.set(gen(1, policy, one("db"), app))
		y.pass(time.Second)
		if got := y.Live(id("app"))["pod"]; got != "1" {
			t.Errorf("not healed: pod is %q", got)
		}
		y.wantCount("delete", 0)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
