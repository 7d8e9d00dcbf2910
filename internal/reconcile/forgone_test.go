package reconcile_test

import (
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/world"
)

// The lease of a place is given back when nothing of the environment is there any
// more, and its holder is not said to act on the environment then.
func TestLeaseOfAPlaceThatIsLeft(t *testing.T) {
	left := one("db@@shop@old")
	left.Target = forge.Target{Context: "old"}
	leftBehind := func(t *testing.T, holder string, f func(y *forgeYard, l *lister, reg *registry)) {
		synctest.Test(t, func(t *testing.T) {
			y := &forgeYard{World: world.New(), t: t, saw: newWitness()}
			l := y.listedBy()
			if _, err := y.engine.Converge(t.Context(), gen(1, policy, left, one("app"))); err != nil {
				t.Fatal(err)
			}
			reg := &registry{holder: map[string]string{"local old": holder}}
			y.engine = reconcile.New(reconcile.Options{
				Providers: map[string]reconcile.Provider{forge.KindRelease: l}, Leases: reg,
				Logger: slog.New(slog.NewTextHandler(y.saw, nil)),
			})
			l.lists(nil, left, one("app"))
			y.running(func() { f(y, l, reg) })
		})
	}
	t.Run("it is removed", func(t *testing.T) {
		leftBehind(t, "", func(y *forgeYard, _ *lister, reg *registry) {
			y.set(movedGen(2, policy, one("app")))
			y.pass(time.Minute)
			y.wantCount("delete", 1)
			if !slices.Contains(reg.places, "old") || !slices.Equal(reg.released, []string{"old"}) {
				t.Errorf("asked for %q, given back %q", reg.places, reg.released)
			}
			if l := y.lease(); l == nil || !l.Held {
				t.Errorf("%+v", l)
			}
		})
	})
	t.Run("it is in no list", func(t *testing.T) {
		leftBehind(t, "the old forged", func(y *forgeYard, l *lister, reg *registry) {
			y.set(movedGen(2, policy, one("app")))
			y.pass(time.Minute)
			if m := y.lease().Message(); m != "another forged acts on this environment: the old forged" {
				t.Errorf("%q", m)
			}
			l.lists(fail(reconcile.Unavailable)())
			y.set(gen(3, policy, one("app")))
			y.pass(time.Minute)
			if len(reg.released) > 0 {
				t.Errorf("not known what is there, and given back %q", reg.released)
			}
			l.lists(nil, one("app"))
			y.engine.Recheck("")
			y.pass(time.Minute)
			if m := y.lease().Message(); m != "" || !slices.Equal(reg.released, []string{"old"}) {
				t.Errorf("%q, given back %q", m, reg.released)
			}
			y.wantCount("delete", 0)
		})
	})
	t.Run("a step is under way", func(t *testing.T) {
		leftBehind(t, "the old forged", func(y *forgeYard, l *lister, reg *registry) {
			y.set(movedGen(2, policy, one("app")))
			y.pass(time.Minute)
			begun, on := make(chan struct{}), make(chan struct{})
			y.Fail("apply", id("app"), func() error {
				y.Fail("apply", id("app"), nil)
				close(begun)
				<-on
				return nil
			})
			y.Edit(id("app"), "pod", "2", "kubectl")
			y.engine.Recheck("") // nobody watches
			<-begun
			l.lists(nil, one("app"))
			y.engine.Recheck("")
			synctest.Wait()
			if got := y.shown(); len(got) != 1 || len(reg.released) > 0 {
				t.Errorf("shown %q, given back %q", got, reg.released)
			}
			close(on)
			synctest.Wait()
			if !slices.Equal(reg.released, []string{"old"}) {
				t.Errorf("given back %q", reg.released)
			}
		})
	})
}

// The lease around a cluster may move while the one inside is asked for: nothing
// is done then, and the one inside is given back.
func TestOuterLeaseMovesWhileTheInnerIsAskedFor(t *testing.T) {
	for name, object := range map[string]string{"app": "pod", "beside": "disk"} {
		t.Run(name, func(t *testing.T) {
			leased(t, func(y *forgeYard, reg *registry) {
				y.set(inside(1, policy, "1"))
				y.wantState("app", reconcile.StateReady)
				before := y.Count("apply")
				begun, on := reg.stopAt("made")
				y.Edit(id(name), object, "2", "kubectl")
				<-begun
				reg.give("local acme", "elsewhere")
				synctest.Wait()
				close(on)
				synctest.Wait()
				if !slices.Equal(reg.released, []string{"made"}) {
					t.Errorf("given back: %q", reg.released)
				}
				y.wantCount("apply", before)
			})
		})
	}
}

// A lease that is had when its environment is not acted on any more is given back.
func TestLeaseThatComesTooLate(t *testing.T) {
	leased(t, func(y *forgeYard, reg *registry) {
		y.set(gen(1, policy, res("db", map[string]any{"pod": "1"})))
		begun, on := reg.stopAt("")
		reg.notify("local")
		<-begun
		observe := policy
		observe.Mode = forge.ModeObserve
		y.set(gen(2, observe, res("db", map[string]any{"pod": "1"})))
		reg.Keep([]string{"local"}) // as it is for a lease that is made after Keep
		close(on)
		synctest.Wait()
		if len(reg.kept) != 0 || y.lease() != nil {
			t.Errorf("kept %q, %+v", reg.kept, y.lease())
		}
	})
}

// Who is told of a lease after Run has ended does not ask for it.
func TestNobodyAsksForALeaseAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &registry{holder: map[string]string{}}
		y := &forgeYard{World: world.New(), t: t, saw: newWitness()}
		y.engine = reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: y.World}, Leases: reg})
		y.running(func() { y.set(gen(1, policy, one("app"))) })
		before := reg.count()
		reg.notify("local")
		synctest.Wait()
		if before == 0 || reg.count() != before {
			t.Errorf("asked %d times, then %d", before, reg.count())
		}
	})
}

// stopAt has the next who asks for the lease of a place wait: begun tells when,
// and it goes on with the end of on.
func (r *registry) stopAt(place string) (begun, on chan struct{}) {
	begun, on = make(chan struct{}), make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	var once sync.Once
	r.stops = func(at string) {
		if at == place {
			once.Do(func() {
				close(begun)
				<-on
			})
		}
	}
	return begun, on
}
