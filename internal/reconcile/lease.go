package reconcile

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
)

// Leases see to it that of several forged of one instance only one acts on an
// environment. The others look, and say who it is.
type Leases interface {
	// Hold takes the lease of the place where a resource of an environment is,
	// or confirms it. While it is held that costs no request. An error means
	// that nothing is known: nothing is done then.
	Hold(ctx context.Context, environment string, r forge.Resource) (Lease, error)

	// Keep names the environments that may be acted on. The leases of all
	// others are given back. It does not block.
	Keep(environments []string)

	// Watch tells whenever a lease was won or lost without anybody asking,
	// until ctx ends. notify does not block.
	Watch(ctx context.Context, notify func(environment string)) error
}

// LeaseHolder names this process to people, and tells it from every other one.
func LeaseHolder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	random := make([]byte, 4)
	_, _ = rand.Read(random) // it never fails
	return fmt.Sprintf("%s, process %d (%s)", host, os.Getpid(), hex.EncodeToString(random))
}

// LeaseWatchers are those who watch the leases of one Leases. The zero value is
// ready for use.
type LeaseWatchers struct {
	mu     sync.Mutex
	notify map[*func(environment string)]struct{}
}

// Watch has notify be told until ctx or ended does.
func (w *LeaseWatchers) Watch(ctx context.Context, ended <-chan struct{}, notify func(environment string)) {
	key := &notify
	w.mu.Lock()
	if w.notify == nil {
		w.notify = map[*func(string)]struct{}{}
	}
	w.notify[key] = struct{}{}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.notify, key)
		w.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
	case <-ended:
	}
}

// Tell says that a lease of an environment was won or lost.
func (w *LeaseWatchers) Tell(environment string) {
	w.mu.Lock()
	to := slices.Collect(maps.Keys(w.notify))
	w.mu.Unlock()
	for _, notify := range to {
		(*notify)(environment)
	}
}

// Lease is who may act.
type Lease struct {
	Held   bool
	Holder string // who else, in words; empty when held
}

// LeaseStatus is a lease as people see it.
type LeaseStatus struct {
	Held   bool      `json:"held"`
	Holder string    `json:"holder,omitempty"` // who else
	Since  time.Time `json:"since"`
}

// place is where a lease is: an environment in several clusters has one in each.
type place struct {
	environment string
	target      forge.Target
}

// leaseRetry is when a step that waits for the lease asks for it again.
const leaseRetry = 5 * time.Second

// acting are the environments whose mode allows to change something.
func (g *generation) acting() []string {
	var names []string
	for _, env := range g.Environments {
		if env.Policy.Mode == forge.ModeHeal || env.Policy.Mode == forge.ModeApply {
			names = append(names, env.Name)
		}
	}
	return names
}

// keepLeases gives back the leases of what is not acted on any more. The caller
// holds mu.
func (e *Engine) keepLeases(g *generation) {
	acting := g.acting()
	maps.DeleteFunc(e.held, func(at place, _ *LeaseStatus) bool { return !slices.Contains(acting, at.environment) })
	if e.leases != nil {
		e.leases.Keep(acting)
	}
}

// hold asks for the lease before a step. what says why the step cannot be
// carried out now; empty: it can.
func (e *Engine) hold(ctx context.Context, environment string, r forge.Resource) (why string, err error) {
	if e.leases == nil {
		return "", nil
	}
	l, err := e.leases.Hold(ctx, environment, r)
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	at := place{environment, r.Target}
	old := e.held[at]
	if old == nil || old.Held != l.Held || old.Holder != l.Holder {
		e.held[at] = &LeaseStatus{Held: l.Held, Holder: l.Holder, Since: time.Now()}
		e.touch()
		attrs := []any{"environment", environment}
		if target := r.Target.String(); target != "" {
			attrs = append(attrs, "target", target)
		}
		switch {
		case !l.Held:
			e.log.Info("another forged acts", append(attrs, "holder", l.Holder)...)
		case old != nil:
			e.log.Info("this forged acts from now on", attrs...)
		}
	}
	if l.Held {
		return "", nil
	}
	return "another forged acts on this environment: " + l.Holder, nil
}

// leaseOf is who acts on an environment: this process, where it does so in all
// of its places. The caller holds mu.
func (e *Engine) leaseOf(environment string) *LeaseStatus {
	var found *LeaseStatus
	for at, l := range e.held {
		switch {
		case at.environment != environment:
		case found == nil, found.Held && !l.Held:
			found = l
		case found.Held == l.Held && (l.Since.Before(found.Since) || l.Since.Equal(found.Since) && l.Holder < found.Holder):
			found = l
		}
	}
	return found
}

// watchLeases looks again at environments whose lease has moved, and says who
// acts now, where there is nothing to do as well.
func (e *Engine) watchLeases(ctx context.Context) {
	if e.leases == nil {
		return
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	// It ends with ctx; what it misses is found when a step asks.
	_ = e.leases.Watch(ctx, func(environment string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		for id, u := range e.units {
			if id.Environment == environment && !u.ready {
				u.notBefore = time.Time{}
				e.enqueue(u)
			}
		}
		if g := e.gen.Load(); g != nil && g.environments[environment] != nil {
			asking.Go(func() { e.claim(ctx, g.environments[environment]) })
		}
	})
}

// claim asks for the leases of an environment before anything is to be done
// there, so that it is known from the start who acts.
func (e *Engine) claim(ctx context.Context, env *environment) {
	if e.leases == nil || env.Policy.Mode != forge.ModeHeal && env.Policy.Mode != forge.ModeApply {
		return
	}
	for _, r := range env.places() {
		// A place that cannot be reached is told by what is to be done there.
		_, _ = e.hold(ctx, env.Name, r)
	}
}
