package reconcile_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/world"
)

// registry is who holds which environment.
type registry struct {
	mu     sync.Mutex
	holder map[string]string
	err    error
	kept   []string
	asked  int
	notify func(string)

	places   []string // that were asked for, in their order
	released []string
	dark     map[string]error // of places that cannot be asked
	stops    func(place string)
	none     map[forge.ID]bool // resources that need no lease
}

func (r *registry) Hold(_ context.Context, environment string, in forge.Resource) (reconcile.Lease, error) {
	r.mu.Lock()
	stops := r.stops
	r.mu.Unlock()
	if stops != nil {
		stops(in.Target.String())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	r.places = append(r.places, in.Target.String())
	if r.none[in.ID] {
		return reconcile.Lease{Held: true, None: true}, nil
	}
	if err := cmp.Or(r.err, r.dark[in.Target.String()]); err != nil {
		return reconcile.Lease{}, err
	}
	other := r.holder[environment]
	if other == "" {
		other = r.holder[environment+" "+in.Target.String()]
	}
	return reconcile.Lease{Held: other == "", Holder: other}, nil
}

func (r *registry) Keep(environments []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = slices.Clone(environments)
}

func (r *registry) Release(_ string, target forge.Target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.released = append(r.released, target.String())
}

func (r *registry) Watch(ctx context.Context, notify func(string)) error {
	r.mu.Lock()
	r.notify = notify
	r.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (r *registry) give(environment, holder string) {
	r.mu.Lock()
	r.holder[environment] = holder
	notify := r.notify
	r.mu.Unlock()
	name, _, _ := strings.Cut(environment, " ")
	notify(name)
}

func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func (r *registry) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func leased(t *testing.T, f func(y *forgeYard, r *registry)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		reg := &registry{holder: map[string]string{}}
		y := &forgeYard{World: world.New(), t: t, saw: newWitness()}
		y.engine = reconcile.New(reconcile.Options{
			Providers: map[string]reconcile.Provider{forge.KindRelease: y.World, forge.KindNamespace: y.World},
			Observer:  y.saw, Leases: reg,
			Logger: slog.New(slog.NewTextHandler(y.saw, nil)),
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- y.engine.Run(ctx) }()
		synctest.Wait()
		f(y, reg)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func (y *forgeYard) lease() *reconcile.LeaseStatus { return y.engine.Status().Environments[0].Lease }

// Who does not hold the lease looks, says who does, and changes nothing.
func TestWithoutTheLeaseNothingIsDone(t *testing.T) {
	leased(t, func(y *forgeYard, reg *registry) {
		reg.give("local", "elsewhere, process 7")
		y.set(gen(1, policy, res("db", map[string]any{"pod": "1"}), res("app", map[string]any{"pod": "1"}, "db")))
		y.wantState("db", reconcile.StateDrifted)
		y.wantCount("apply", 0)
		if s := y.status("db"); !strings.Contains(s.Message, "elsewhere, process 7") || s.Steps[0].Held == "" {
			t.Errorf("who acts is not said: %+v", s)
		}
		if l := y.lease(); l == nil || l.Held || l.Holder != "elsewhere, process 7" {
			t.Errorf("lease %+v", l)
		}
		before := reg.count()
		y.pass(time.Hour)
		if asked := reg.count() - before; asked < 10 || asked > 900 {
			t.Errorf("asked %d times in an hour", asked)
		}
		y.wantCount("apply", 0)

		// It is told when the other one has ended.
		reg.give("local", "")
		synctest.Wait()
		y.pass(time.Minute)
		y.wantState("app", reconcile.StateReady)
		if l := y.lease(); l == nil || !l.Held {
			t.Errorf("lease %+v", l)
		}
	})
}

// Heals stop as well when the lease is lost, and unknown is not held.
func TestLosingTheLease(t *testing.T) {
	leased(t, func(y *forgeYard, reg *registry) {
		y.set(gen(1, policy, res("db", map[string]any{"pod": "1"})))
		y.wantState("db", reconcile.StateReady)
		done := y.Count("apply")
		reg.fail(reconcile.Errorf(reconcile.Unavailable, "take", "no answer"))
		y.Edit(id("db"), "pod", "2", "kubectl")
		y.pass(time.Second)
		y.wantState("db", reconcile.StateFailed)
		y.wantCount("apply", done)
		reg.fail(nil)
		y.pass(5 * time.Minute)
		y.wantState("db", reconcile.StateReady)
		y.wantCount("apply", done+1)

		reg.give("local", "elsewhere")
		y.Edit(id("db"), "pod", "3", "kubectl")
		y.pass(time.Minute)
		y.wantState("db", reconcile.StateDrifted)
		y.wantCount("apply", done+1)
	})
}

// Who acts is said where there is nothing to do as well.
func TestLeaseThatMovesInQuiet(t *testing.T) {
	leased(t, func(y *forgeYard, reg *registry) {
		y.set(gen(1, policy, res("db", map[string]any{"pod": "1"})))
		y.wantState("db", reconcile.StateReady)
		for _, holder := range []string{"elsewhere", "", "elsewhere"} {
			reg.give("local", holder)
			synctest.Wait()
			if l := y.lease(); l == nil || l.Held != (holder == "") || l.Holder != holder {
				t.Errorf("held by %q: %+v", holder, l)
			}
		}
	})
}

// An environment in two clusters has two leases. It is acted on where both are
// held, and nothing flaps while one of them is not.
func TestALeaseInEachCluster(t *testing.T) {
	leased(t, func(y *forgeYard, reg *registry) {
		at := func(name, context string) forge.Resource {
			r := one(name)
			r.Target = forge.Target{Context: context}
			return r
		}
		reg.give("local eu", "elsewhere")
		two := gen(1, policy, at("app-us", "us"), at("app-eu", "eu"))
		y.set(two)
		y.wantState("app-us", reconcile.StateReady)
		y.wantState("app-eu", reconcile.StateDrifted)
		if l := y.lease(); l == nil || l.Held || l.Holder != "elsewhere" {
			t.Errorf("lease %+v", l)
		}
		for range 10 {
			y.Edit(id("app-us"), "pod", "2", "kubectl")
			y.pass(time.Hour)
		}
		if n := strings.Count(y.saw.lines(), "another forged acts"); n != 1 {
			t.Errorf("said %d times:\n%s", n, y.saw.lines())
		}
		reg.give("local eu", "")
		y.pass(time.Minute)
		if l := y.lease(); l == nil || !l.Held {
			t.Errorf("lease %+v", l)
		}
		if s := y.saw.lines(); strings.Count(s, "this forged acts from now on") != 1 || strings.Contains(s, `holder=""`) {
			t.Errorf("log:\n%s", s)
		}
	})
}

// The modes that change nothing need no lease, and give it back.
func TestLeasesAreOfWhatIsActedOn(t *testing.T) {
	leased(t, func(y *forgeYard, reg *registry) {
		observe := policy
		observe.Mode = forge.ModeObserve
		y.set(gen(1, observe, res("db", map[string]any{"pod": "1"})))
		if reg.asked != 0 || len(reg.kept) != 0 || y.lease() != nil {
			t.Errorf("asked %d times, kept %q, %+v", reg.asked, reg.kept, y.lease())
		}
		y.set(gen(2, policy, res("db", map[string]any{"pod": "1"})))
		if reg.asked == 0 || !slices.Equal(reg.kept, []string{"local"}) || y.lease() == nil {
			t.Errorf("asked %d times, kept %q, %+v", reg.asked, reg.kept, y.lease())
		}
		y.set(gen(3, observe, res("db", map[string]any{"pod": "1"})))
		if len(reg.kept) != 0 || y.lease() != nil {
			t.Errorf("kept %q, %+v", reg.kept, y.lease())
		}
	})
}

// A run that ends by itself does not wait for another forged.
func TestConvergeSaysWhoActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &registry{holder: map[string]string{"local": "elsewhere"}}
		w := world.New()
		e := reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: w}, Leases: reg})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s, err := e.Converge(ctx, gen(1, policy, res("db", map[string]any{"pod": "1"}), res("app", map[string]any{"pod": "1"}, "db")))
		if err != nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Fatalf("%v", err)
		}
		if env := s.Environments[0]; env.State != reconcile.StateDrifted || env.Lease == nil || env.Lease.Holder != "elsewhere" {
			t.Errorf("%+v", env)
		}
	})
}
