package reconcile_test

import (
	"context"
	"errors"
	"fmt"
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

// inside is an environment with a cluster that is a resource itself, something
// beside it, and something in it.
func inside(n int, p forge.Policy, value string) reconcile.Generation {
	cluster := forge.Resource{
		ID: forge.ID{Environment: "local", Kind: forge.KindNamespace, Name: "made"}, Target: forge.Target{Org: "acme"},
		Spec: forge.ReleaseSpec{Name: "made", Values: map[string]any{"node": "1"}},
	}
	beside := res("beside", map[string]any{"disk": value})
	beside.Target = cluster.Target
	app := res("app", map[string]any{"pod": value})
	app.Target, app.Needs = forge.Target{Cluster: cluster.ID}, []forge.ID{cluster.ID}
	return gen(n, p, cluster, beside, app)
}

// Who acts in a cluster that is a resource acts around it as well. The lease
// around it comes first: without it nobody asks for the one inside.
func TestLeasesFromTheOutsideIn(t *testing.T) {
	t.Run("around it", func(t *testing.T) {
		leased(t, func(y *forgeYard, reg *registry) {
			reg.give("local acme", "elsewhere")
			y.set(inside(1, policy, "1"))
			y.pass(time.Minute)
			y.wantCount("apply", 0)
			if slices.Contains(reg.places, "made") {
				t.Errorf("asked for %q", reg.places)
			}
			if l := y.lease(); l.Message() != "another forged acts on this environment: elsewhere" {
				t.Errorf("%+v", l)
			}
			reg.give("local acme", "")
			y.pass(time.Minute)
			y.wantState("app", reconcile.StateReady)
			if i := slices.Index(reg.places, "made"); i < 1 || reg.places[i-1] != "acme" {
				t.Errorf("asked for %q", reg.places)
			}
		})
	})
	t.Run("in it", func(t *testing.T) {
		leased(t, func(y *forgeYard, reg *registry) {
			reg.give("local made", "elsewhere")
			y.set(inside(1, policy, "1"))
			y.pass(time.Minute)
			y.wantCount("apply", 0)
			if s := y.status("beside"); len(s.Steps) != 1 || !strings.Contains(s.Steps[0].Held, "elsewhere") {
				t.Errorf("%+v", s)
			}
			if n := strings.Count(y.saw.lines(), "another forged acts"); n != 1 {
				t.Errorf("said %d times:\n%s", n, y.saw.lines())
			}
			reg.give("local made", "")
			y.pass(time.Minute)
			y.wantState("app", reconcile.StateReady)
			y.wantState("beside", reconcile.StateReady)
		})
	})
	t.Run("a cluster out of reach", func(t *testing.T) {
		leased(t, func(y *forgeYard, reg *registry) {
			reg.dark = map[string]error{"made": reconcile.Errorf(reconcile.Unavailable, "take", "no answer")}
			y.set(inside(1, policy, "1"))
			y.pass(time.Minute)
			y.wantState("beside", reconcile.StateReady) // it may be what mends the cluster
			y.wantState("app", reconcile.StateFailed)
		})
	})
}

// Who sees another one have the lease around a cluster gives back the one inside,
// with nothing to do as well: whoever is next needs both.
func TestWithoutTheOuterLeaseTheInnerIsGivenBack(t *testing.T) {
	leased(t, func(y *forgeYard, reg *registry) {
		y.set(inside(1, policy, "1"))
		y.wantState("app", reconcile.StateReady)
		if l := y.lease(); l == nil || !l.Held {
			t.Fatalf("%+v", l)
		}
		begun, on := make(chan struct{}), make(chan struct{})
		y.Fail("apply", id("app"), func() error {
			y.Fail("apply", id("app"), nil)
			close(begun)
			<-on
			return nil
		})
		y.Edit(id("app"), "pod", "2", "kubectl")
		<-begun // a step is under way
		reg.give("local acme", "elsewhere")
		synctest.Wait()
		if len(reg.released) > 0 {
			t.Error("given back in the middle of a step")
		}
		close(on)
		synctest.Wait()
		if !slices.Equal(reg.released, []string{"made"}) {
			t.Errorf("given back: %q", reg.released)
		}
		if l := y.lease(); l == nil || l.Held || l.Message() == "" {
			t.Errorf("%+v", l)
		}
		before := y.Count("apply")
		y.Edit(id("app"), "pod", "3", "kubectl")
		y.pass(time.Minute)
		y.wantCount("apply", before)
		reg.give("local acme", "")
		y.pass(5 * time.Minute)
		y.wantState("app", reconcile.StateReady)
		if l := y.lease(); l == nil || !l.Held {
			t.Errorf("%+v", l)
		}
	})
}

// That another one has the lease around a cluster may be found by a step there.
func TestStepAroundGivesBackTheInnerLease(t *testing.T) {
	leased(t, func(y *forgeYard, reg *registry) {
		y.set(inside(1, policy, "1"))
		y.wantState("app", reconcile.StateReady)
		reg.mu.Lock()
		reg.holder["local acme"] = "elsewhere"
		reg.mu.Unlock()
		y.Edit(id("beside"), "disk", "2", "somebody")
		synctest.Wait()
		if !slices.Equal(reg.released, []string{"made"}) {
			t.Errorf("given back: %q", reg.released)
		}
	})
}

// Who cannot ask for the lease around a cluster goes on inside, and changes
// nothing around it.
func TestOuterLeaseOutOfReach(t *testing.T) {
	leased(t, func(y *forgeYard, reg *registry) {
		y.set(inside(1, policy, "1"))
		y.wantState("app", reconcile.StateReady)
		reg.mu.Lock()
		reg.dark = map[string]error{"acme": reconcile.Errorf(reconcile.Unavailable, "renew", "no answer")}
		reg.mu.Unlock()
		reg.notify("local")
		synctest.Wait()
		reg.mu.Lock()
		reg.places = nil
		reg.mu.Unlock()
		y.Edit(id("app"), "pod", "2", "kubectl")
		y.pass(time.Second)
		y.wantState("app", reconcile.StateReady)
		if slices.Contains(reg.places, "acme") {
			t.Error("a heal inside waits for the answer of what does not answer")
		}
		before := y.Count("apply")
		y.Edit(id("beside"), "disk", "2", "somebody")
		y.pass(time.Minute)
		y.wantCount("apply", before)
		if l := y.lease(); l == nil || l.Held || l.Message() == "" {
			t.Errorf("%+v", l)
		}
		if strings.Count(y.saw.lines(), "changes nothing here until") != 1 {
			t.Error(y.saw.lines())
		}
		if len(reg.released) > 0 {
			t.Errorf("given back: %q", reg.released)
		}
		reg.mu.Lock()
		reg.dark = nil
		reg.mu.Unlock()
		reg.notify("local")
		y.pass(time.Minute)
		y.wantState("beside", reconcile.StateReady)
	})
}

// What needs no lease says nothing of the one in its place.
func TestResourceWithoutALease(t *testing.T) {
	leased(t, func(y *forgeYard, reg *registry) {
		reg.dark = map[string]error{"made": reconcile.Errorf(reconcile.Unavailable, "take", "no answer")}
		reg.none = map[forge.ID]bool{id("asked"): true}
		g := inside(1, policy, "1")
		asked := res("asked", nil)
		asked.Target = forge.Target{Cluster: g.Environments[0].Resources[0].ID}
		g.Environments[0].Resources = append(g.Environments[0].Resources, asked)
		y.set(g)
		for range 5 {
			y.pass(time.Minute)
			reg.notify("local")
		}
		y.wantState("app", reconcile.StateFailed)
		if lines := y.saw.lines(); strings.Contains(lines, "acts from now on") || strings.Contains(lines, "changes nothing here") {
			t.Error(lines)
		}
	})
}

// A step under way is finished with the lease it began with, although its
// environment is only looked at from now on, or has left forge.cue.
func TestLeaseStaysUntilTheStepIsDone(t *testing.T) {
	observe := policy
	observe.Mode = forge.ModeObserve
	for what, next := range map[string]reconcile.Generation{
		"it is observed":      gen(2, observe, res("db", map[string]any{"pod": "1"})),
		"it is in no file":    {Number: 2, Hash: "2"},
		"it is paused":        gen(2, forge.Policy{Mode: forge.ModePaused}, res("db", map[string]any{"pod": "1"})),
		"its db is not there": gen(2, observe, res("other", map[string]any{"pod": "1"})),
	} {
		t.Run(what, func(t *testing.T) {
			leased(t, func(y *forgeYard, reg *registry) {
				y.set(gen(1, policy, res("db", map[string]any{"pod": "1"})))
				begun, on := make(chan struct{}), make(chan struct{})
				y.Fail("apply", id("db"), func() error {
					y.Fail("apply", id("db"), nil)
					close(begun)
					<-on
					return nil
				})
				y.Edit(id("db"), "pod", "2", "kubectl")
				<-begun
				y.set(next)
				if !slices.Equal(reg.kept, []string{"local"}) {
					t.Errorf("in the middle of a step only %q is kept", reg.kept)
				}
				close(on)
				synctest.Wait()
				if len(reg.kept) != 0 {
					t.Errorf("after it %q is kept", reg.kept)
				}
			})
		})
	}
}

// book is where the leases of several forged are.
type book struct {
	mu      sync.Mutex
	holder  map[string]string // by the place
	parties map[string]*party
}

// party is one forged.
type party struct {
	*book
	name   string
	cut    map[string]bool // places that it cannot reach
	notify func(string)
}

var errCut = errors.New("no answer")

func (p *party) Hold(_ context.Context, _ string, r forge.Resource) (reconcile.Lease, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := r.Target.String()
	if p.cut[at] {
		return reconcile.Lease{}, &reconcile.Error{Kind: reconcile.Unavailable, Op: "take", Err: errCut}
	}
	if other := p.holder[at]; other != "" && other != p.name {
		return reconcile.Lease{Holder: other}, nil
	}
	p.holder[at] = p.name
	return reconcile.Lease{Held: true}, nil
}

func (p *party) Keep([]string) {}

func (p *party) Release(_ string, target forge.Target) {
	go p.pass(target.String(), "")
}

func (p *party) Watch(ctx context.Context, notify func(string)) error {
	p.mu.Lock()
	p.notify = notify
	p.mu.Unlock()
	<-ctx.Done()
	return nil
}

// pass has a lease go from one to the other, and says so, as renewals do.
func (b *book) pass(at, to string) {
	b.mu.Lock()
	b.holder[at] = to
	var all []func(string)
	for _, p := range b.parties {
		all = append(all, p.notify)
	}
	b.mu.Unlock()
	for _, notify := range all {
		notify("local")
	}
}

// TestTwoForgedNeverActOnAHalfEach has two forged begin with one lease each, in
// either way: one of them comes to act on all, and never do both act.
func TestTwoForgedNeverActOnAHalfEach(t *testing.T) {
	for _, first := range []string{"one", "two"} {
		t.Run(first, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				second := map[string]string{"one": "two", "two": "one"}[first]
				b := &book{holder: map[string]string{"acme": first, "made": second}, parties: map[string]*party{}}
				w := world.New()
				ctx, cancel := context.WithCancel(t.Context())
				var all sync.WaitGroup
				acting := &acts{World: w, book: b}
				all.Go(func() { _ = w.Watch(ctx, acting.tell) })
				for _, name := range []string{"one", "two"} {
					p := &party{book: b, name: name, cut: map[string]bool{}, notify: func(string) {}}
					b.parties[name] = p
					e := reconcile.New(reconcile.Options{
						Providers: map[string]reconcile.Provider{forge.KindRelease: acting.by(name), forge.KindNamespace: acting.by(name)}, Leases: p,
					})
					if err := e.Set(inside(1, policy, "1")); err != nil {
						t.Fatal(err)
					}
					all.Go(func() {
						if err := e.Run(ctx); err != nil {
							t.Error(err)
						}
					})
				}
				synctest.Wait()
				acting.want(t, "nobody") // until the one that has the lease around it has the other one too
				b.pass("made", "")       // as when its holder finds that it has lost the first, or is gone
				time.Sleep(time.Minute)
				acting.want(t, first)
				w.Edit(id("app"), "pod", "2", "kubectl")
				w.Edit(id("beside"), "disk", "2", "kubectl")
				time.Sleep(time.Minute)
				acting.want(t, first)

				// The first is cut off from the place around the cluster, where its
				// lease runs out.
				acting.forget()
				b.mu.Lock()
				b.parties[first].cut["acme"] = true
				b.mu.Unlock()
				b.pass("acme", "")
				time.Sleep(time.Minute)
				w.Edit(id("app"), "pod", "3", "kubectl")
				w.Edit(id("beside"), "disk", "3", "kubectl")
				time.Sleep(time.Minute)
				acting.want(t, first) // in the cluster
				// It ends, or is cut off from the cluster as well.
				acting.forget()
				b.mu.Lock()
				b.parties[first].cut["made"] = true
				b.mu.Unlock()
				b.pass("made", "")
				time.Sleep(time.Minute)
				w.Edit(id("app"), "pod", "4", "kubectl")
				w.Edit(id("beside"), "disk", "4", "kubectl")
				time.Sleep(time.Minute)
				acting.want(t, second)
				cancel()
				all.Wait()
			})
		})
	}
}

// acts are who has changed what.
type acts struct {
	*world.World
	book *book
	mu   sync.Mutex
	who  map[string]bool
	told []func(reconcile.Event)
}

func (a *acts) tell(ev reconcile.Event) {
	a.mu.Lock()
	to := slices.Clone(a.told)
	a.mu.Unlock()
	for _, notify := range to {
		notify(ev)
	}
}

func (a *acts) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.who = nil
}

func (a *acts) want(t *testing.T, who string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	got := fmt.Sprint(a.who)
	want := fmt.Sprint(map[string]bool{who: true})
	if who == "nobody" {
		want = fmt.Sprint(map[string]bool{})
	}
	if got != want {
		t.Errorf("changed by %s, want %s; leases %v", got, want, a.book.holder)
	}
}

type actor struct {
	*acts
	name string
}

func (a *acts) by(name string) actor { return actor{a, name} }

// Watch has all of them see what changes.
func (a actor) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	a.mu.Lock()
	a.told = append(a.told, notify)
	a.mu.Unlock()
	<-ctx.Done()
	return nil
}

// Apply notes who it was.
func (a actor) Apply(ctx context.Context, r reconcile.Request, s reconcile.Step) (reconcile.Observed, error) {
	a.mu.Lock()
	if a.who == nil {
		a.who = map[string]bool{}
	}
	a.who[a.name] = true
	a.mu.Unlock()
	return a.World.Apply(ctx, r, s)
}

// A lease that cannot be renewed is told of when that begins, when the reason is
// another, and when it is over.
func TestTroubleWithALeaseIsToldOnce(t *testing.T) {
	saw := newWitness()
	log := slog.New(slog.NewTextHandler(saw, nil))
	var trouble reconcile.LeaseTrouble
	refused := func(port int) error {
		return reconcile.Errorf(reconcile.Unavailable, "renew", "dial tcp 127.0.0.1:%d: connection refused", port)
	}
	held := reconcile.Lease{Held: true}
	for port := range 100 {
		trouble.Tell(log, "prod", reconcile.Lease{}, refused(40_000+port))
	}
	trouble.Tell(log, "prod", reconcile.Lease{}, reconcile.Errorf(reconcile.Denied, "renew", "forbidden"))
	trouble.Tell(log, "prod", reconcile.Lease{}, refused(1))
	for range 100 {
		trouble.Tell(log, "prod", held, nil)
	}
	if lines := strings.Count(saw.lines(), "\n"); lines != 4 || strings.Count(saw.lines(), "lease not renewed") != 3 || strings.Count(saw.lines(), "lease renewed again") != 1 {
		t.Errorf("told:\n%s", saw.lines())
	}
}
