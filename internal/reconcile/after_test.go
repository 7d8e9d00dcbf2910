package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/world"
)

// behind is a resource that comes after another one, which it does not need.
func behind(r forge.Resource, before string) forge.Resource {
	r.After = []forge.ID{id(before)}
	return r
}

func regions(version string) []forge.Resource {
	pod := map[string]any{"pod": version}
	return []forge.Resource{res("app-us", pod), behind(res("app-eu", pod), "app-us"), behind(res("app-ap", pod), "app-eu")}
}

// A new version reaches one region after the other, and goes no further than
// the region in which it does not become ready.
func TestRegionsGoOneAfterTheOther(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, regions("1")...))
		if diff := cmp.Diff([]string{"app-us", "app-eu", "app-ap"}, applied(y.Calls("apply"))); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
		y.Forget()
		y.Slow(id("app-eu"), time.Hour)
		y.set(gen(2, policy, regions("2")...))
		if diff := cmp.Diff([]string{"app-us", "app-eu"}, applied(y.Calls("apply"))); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
		y.wantState("app-us", reconcile.StateReady)
		y.wantState("app-eu", reconcile.StateProgressing)
		y.wantState("app-ap", reconcile.StateWaiting)
		if got := y.status("app-ap").WaitingFor; got != id("app-eu").String() {
			t.Errorf("it waits for %q", got)
		}
	})
}

// A region that is out of reach keeps no other from being read and healed, not
// even right after a start; only what is new waits.
func TestRegionOutOfReachDelaysNoHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, regions("1")...)); err != nil {
			t.Fatal(err)
		}
		y.Fail("observe", id("app-us"), func() error { return reconcile.Errorf(reconcile.Unavailable, "connect", "no route") })
		y.engine = engineOn(y.World, y.saw)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- y.engine.Run(ctx) }()
		y.set(gen(1, policy, regions("1")...))
		y.wantState("app-us", reconcile.StateUnknown)
		y.wantState("app-eu", reconcile.StateReady)
		y.Forget()
		y.Edit(id("app-eu"), "pod", "edited", "a-person")
		synctest.Wait()
		y.wantState("app-eu", reconcile.StateReady)
		if diff := cmp.Diff([]string{"app-eu"}, applied(y.Calls("apply"))); diff != "" {
			t.Errorf("healed (-want +got):\n%s", diff)
		}
		y.Forget()
		y.set(gen(2, policy, regions("2")...))
		y.wantCount("apply", 0)
		y.wantState("app-eu", reconcile.StateWaiting)

		p, err := y.engine.Plan(t.Context(), gen(2, policy, regions("2")...), nil)
		if err != nil {
			t.Fatal(err)
		}
		waits := ""
		for _, item := range p.Environments[0].Items {
			if item.ID == id("app-eu") {
				waits = item.Waiting
			}
		}
		if waits != "rollout waits until local/release/app-us can be read" {
			t.Errorf("the plan says %q", waits)
		}
		y.Fail("observe", id("app-us"), nil)
		y.pass(time.Hour)
		for _, name := range []string{"app-us", "app-eu", "app-ap"} {
			y.wantState(name, reconcile.StateReady)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// turnback is a world in which a rollout has failed: it is taken back, and then
// waits for a person.
type turnback struct {
	*world.World
	turned bool
}

func (b *turnback) Plan(ctx context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	steps, err := b.World.Plan(ctx, r, o)
	if r.Resource.ID != id("app-us") || len(steps) == 0 || !steps[0].Rollout() {
		return steps, err
	}
	steps[0].Action, steps[0].Reason.Code = reconcile.ActionRepair, reconcile.ReasonFailed
	if b.turned {
		<-time.After(time.Second) // it takes a while to find out
		steps[0].Blocked = "it has failed once"
	}
	return steps, nil
}

func (b *turnback) Apply(ctx context.Context, r reconcile.Request, s reconcile.Step) (reconcile.Observed, error) {
	if s.Action != reconcile.ActionRepair {
		return b.World.Apply(ctx, r, s)
	}
	b.turned = true
	return b.Observe(ctx, r) // as it was before: well, and not what is asked for
}

// A release that went back to what ran before is well again, and no reason to
// try in the next region what has failed in this one.
func TestAWayBackStopsTheNextRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, regions("1")...)); err != nil {
			t.Fatal(err)
		}
		y.Forget()
		engine := reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: &turnback{World: y.World}}})
		s, err := engine.Converge(t.Context(), gen(2, policy, regions("2")...))
		if err != nil {
			t.Fatal(err)
		}
		if got := applied(y.Calls("apply")); len(got) != 0 {
			t.Errorf("rolled out in %v", got)
		}
		states := map[string]reconcile.State{}
		for _, r := range s.Environments[0].Resources {
			states[r.ID.Name] = r.State
		}
		want := map[string]reconcile.State{"app-us": reconcile.StateBlocked, "app-eu": reconcile.StateWaiting, "app-ap": reconcile.StateWaiting}
		if diff := cmp.Diff(want, states); diff != "" {
			t.Errorf("ended (-want +got):\n%s", diff)
		}
	})
}

// A region cannot come after one that is not there, nor after itself.
func TestRegionsInACircle(t *testing.T) {
	run(t, func(y *forgeYard) {
		for want, rs := range map[string][]forge.Resource{
			"which is not in this environment": {behind(one("a"), "b")},
			"in a circle":                      {behind(one("a"), "b"), behind(one("b"), "a")},
		} {
			err := y.engine.Set(gen(1, policy, rs...))
			var e *reconcile.Error
			if !errors.As(err, &e) || e.Kind != reconcile.Invalid || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
	})
}
