package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
)

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

// keepLeases gives back the leases of what is not acted on any more, and where
// no step is under way. The caller holds mu.
func (e *Engine) keepLeases(g *generation) {
	kept := g.acting()
	for environment := range e.steps {
		if !slices.Contains(kept, environment) {
			kept = append(kept, environment)
		}
	}
	maps.DeleteFunc(e.held, func(at place, _ *LeaseStatus) bool { return !slices.Contains(kept, at.environment) })
	maps.DeleteFunc(e.forgone, func(at place, _ struct{}) bool { return !slices.Contains(kept, at.environment) })
	if e.leases != nil {
		e.leases.Keep(kept)
	}
}

// enterStep has the leases of an environment stay until leaveStep, whatever
// becomes of forge.cue. False: the step is not to be begun any more, since there is
// a newer generation, or what it is for is not listed here any more.
func (e *Engine) enterStep(ctx context.Context, j *job) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ctx.Err() != nil || e.gen.Load() != j.gen || e.units[j.id] != j.unit {
		return false
	}
	e.steps[j.env.Name]++
	return true
}

func (e *Engine) leaveStep(environment string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.steps[environment]--; e.steps[environment] > 0 {
		return
	}
	delete(e.steps, environment)
	if g := e.gen.Load(); !slices.Contains(g.acting(), environment) {
		e.keepLeases(g)
	}
	e.release(environment)
}

// hold asks for the leases that a step needs. why says why the step cannot be
// carried out now; empty: it can.
//
// A cluster that is a resource itself has a lease inside, and one where it is
// asked for. They are taken in this order, and who sees another one have the first
// gives back the second: so each environment has one forged that acts, and nobody
// waits for somebody who waits for him. Who cannot ask for the first goes on in
// the cluster while it has the second: nobody else acts on the environment then,
// since that needs both.
func (e *Engine) hold(ctx context.Context, env *environment, r forge.Resource) (why string, err error) {
	if e.leases == nil {
		return "", nil
	}
	around, inside := r, []forge.Resource{r}
	if above, ok := e.above(env, r); ok {
		around = above
		why, err = e.takeInside(ctx, env, above, r)
	} else {
		inside = env.within(r.Target)
		if why, err = e.take(ctx, env.Name, r); err == nil && why == "" {
			why = e.below(ctx, env, r)
		}
	}
	if err != nil {
		return "", err
	}
	// Also when it has moved since it was taken: who found that has given back the
	// second one, and here it may have been taken again.
	if other := e.another(place{env.Name, around.Target}); other != "" {
		why = other
		for _, in := range inside {
			e.forgo(place{env.Name, in.Target})
		}
	}
	return why, nil
}

// takeInside asks for the lease in a cluster, after the one around it.
func (e *Engine) takeInside(ctx context.Context, env *environment, above, r forge.Resource) (why string, err error) {
	in := place{env.Name, r.Target}
	if !e.goesOn(in, place{env.Name, above.Target}) {
		why, err = e.take(ctx, env.Name, above)
		if why != "" || err != nil && !e.holds(in) {
			return why, err
		}
	}
	return e.take(ctx, env.Name, r)
}

// within are the resources in the clusters that are asked for in a place.
func (env *environment) within(target forge.Target) (all []forge.Resource) {
	for _, id := range env.known.order {
		in := env.known.resources[id]
		if cluster, ok := env.known.resources[in.Target.Cluster]; ok && cluster.Target == target {
			all = append(all, in)
		}
	}
	return all
}

// above is the resource that the place of another one is.
func (e *Engine) above(env *environment, r forge.Resource) (forge.Resource, bool) {
	id := r.Target.Cluster
	if id == (forge.ID{}) {
		return forge.Resource{}, false
	}
	if above, ok := env.known.resources[id]; ok {
		return above, true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if u := e.units[id]; u != nil {
		return u.resource, true
	}
	return forge.Resource{}, false
}

// below asks for the leases in the clusters that are asked for where a resource
// is. One that cannot be asked for, in a cluster that is not made yet or cannot
// be reached, holds up nothing: who acts there has the lease here as well.
func (e *Engine) below(ctx context.Context, env *environment, r forge.Resource) (why string) {
	ctx, cancel := context.WithTimeout(ctx, leaseRetry)
	defer cancel()
	unknown := map[forge.Target]bool{}
	for _, in := range env.within(r.Target) {
		if unknown[in.Target] {
			continue
		}
		why, err := e.take(ctx, env.Name, in)
		if why != "" {
			return why
		}
		unknown[in.Target] = err != nil
	}
	return ""
}

// take asks for the lease of one place.
func (e *Engine) take(ctx context.Context, environment string, r forge.Resource) (why string, err error) {
	l, err := e.leases.Hold(ctx, environment, r)
	e.mu.Lock()
	defer e.mu.Unlock()
	at := place{environment, r.Target}
	if err != nil {
		e.unsure(at, err)
		return "", err
	}
	if l.None {
		return "", nil
	}
	delete(e.forgone, at)
	old := e.held[at]
	if old == nil || old.Held != l.Held || old.Holder != l.Holder {
		e.held[at] = &LeaseStatus{Held: l.Held, Holder: l.Holder, Since: time.Now()}
		e.touch()
		switch {
		case !l.Held:
			e.log.Info("another forged acts", append(at.attrs(), "holder", l.Holder)...)
		case old != nil:
			e.log.Info("this forged acts from now on", at.attrs()...)
		}
	}
	return e.held[at].Message(), nil
}

// unsure notes that a lease that was held cannot be counted on. The caller holds
// mu.
func (e *Engine) unsure(at place, err error) {
	if old := e.held[at]; old == nil || !old.Held || KindOf(err) == Waiting || errors.Is(err, context.Canceled) {
		return
	}
	e.held[at] = &LeaseStatus{Since: time.Now()}
	e.touch()
	e.log.Warn("this forged changes nothing here until it has the lease again", append(at.attrs(), "error", err)...)
}

// attrs are for the log.
func (at place) attrs() []any {
	attrs := []any{"environment", at.environment}
	if target := at.target.String(); target != "" {
		attrs = append(attrs, "target", target)
	}
	return attrs
}

// goesOn tells whether a lease is had while that of the place around it is out
// of reach: whoever keeps that one says when it is not any more, so that nobody
// has to wait for what does not answer.
func (e *Engine) goesOn(in, around place) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	here, there := e.held[in], e.held[around]
	return here != nil && here.Held && there != nil && !there.Held && there.Holder == ""
}

// holds tells whether a lease is had, as far as is known.
func (e *Engine) holds(at place) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.held[at]
	return l != nil && l.Held
}

// another says who else has a lease, as far as is known; empty: nobody.
func (e *Engine) another(at place) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.held[at]; l != nil && l.Holder != "" {
		return l.Message()
	}
	return ""
}

// forgo gives back a lease that is of no use, when no step is under way.
func (e *Engine) forgo(at place) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held[at] != nil { // else it was never asked for
		e.forgone[at] = struct{}{}
		e.release(at.environment)
	}
}

// release gives back the leases of an environment that are of no use, when no
// step is under way: what is forgone, and what is of places where nothing of it is
// any more. The caller holds mu.
func (e *Engine) release(environment string) {
	if e.steps[environment] > 0 {
		return
	}
	for at := range e.held {
		if _, forgone := e.forgone[at]; at.environment == environment && (forgone || e.empty(at)) {
			delete(e.forgone, at)
			delete(e.held, at)
			e.touch()
			e.leases.Release(environment, at.target)
		}
	}
}

// empty tells that nothing of an environment is in a place, and nothing is to be.
// As long as it is not known what is owned, none is. The caller holds mu.
func (e *Engine) empty(at place) bool {
	env, s := e.gen.Load().environments[at.environment], e.sweeps[at.environment]
	if env == nil || s != nil && !s.done {
		return false
	}
	for id, u := range e.units {
		if id.Environment == at.environment && u.resource.Target == at.target {
			return false
		}
	}
	return !slices.ContainsFunc(env.places(), func(r forge.Resource) bool { return r.Target == at.target })
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
	ctx, end := context.WithCancel(ctx)
	defer func() {
		e.mu.Lock() // who is told from now on asks no more
		end()
		e.mu.Unlock()
		asking.Wait()
	}()
	// It ends with ctx; what it misses is found when a step asks.
	_ = e.leases.Watch(ctx, func(environment string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
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
		_, _ = e.hold(ctx, env, r)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if g := e.gen.Load(); g.environments[env.Name] != env { // what was asked for may be of no use by now
		e.keepLeases(g)
		e.release(env.Name)
	}
}
