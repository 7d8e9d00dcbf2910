package reconcile

import (
	"context"
	"time"

	"forged.dev/forged/internal/forge"
)

// fullLook is after how long a resource is looked at in full, although nothing
// is known to have changed: as often as the watches are checked by a list.
const fullLook = 30 * time.Minute

// Follower is implemented by providers that tell of every change of what they
// observe. A round costs next to nothing for what they serve, however large it
// is.
type Follower interface {
	// Follows tells whether everything Observe looks at is being watched, so
	// that a resource about which there was no event is as it was. false: that
	// is not known. It costs no request and waits for nothing.
	Follows(r forge.Resource) bool
}

// rounds are when an environment is gone through, because policy.interval asks
// for it. All its resources have their turn together, and so have environments
// in which nothing is to be done: a process that sleeps is woken once.
type rounds struct {
	every time.Duration
	due   time.Time
}

// reround begins, changes or ends the rounds of an environment. The caller
// holds mu.
func (e *Engine) reround(environment string, every time.Duration, now time.Time) {
	old := e.rounds[environment]
	switch {
	case every <= 0:
		delete(e.rounds, environment)
	case old == nil || old.every != every:
		e.rounds[environment] = &rounds{every: every, due: now.Add(around(every))}
		select {
		case e.rerounds <- struct{}{}:
		default: // it is told already
		}
	}
}

// goRounds goes through the environments whenever it is time to, until ctx ends.
func (e *Engine) goRounds(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.rerounds:
		case <-timer.C:
		}
		timer.Reset(e.round(time.Now()))
	}
}

// turn is a resource that is passed over if it is followed.
type turn struct {
	unit     *unit
	provider Provider
	resource forge.Resource
}

func (t turn) followed() bool {
	f, ok := t.provider.(Follower)
	return ok && f.Follows(t.resource)
}

// round goes through the environments that are due: it has everything looked at
// but for what is as it is to be and has not changed since. Environments that
// are due soon have their round too if that is nothing at all. It returns when
// it is time for the next one.
func (e *Engine) round(now time.Time) (next time.Duration) {
	e.mu.Lock()
	gen := e.gen.Load()
	early := map[string]bool{} // of those that have a round now: is it before its time?
	for name, r := range e.rounds {
		wait := r.due.Sub(now)
		paused := gen.environments[name].Policy.Mode == forge.ModePaused
		if wait <= 0 {
			r.due = now.Add(around(r.every))
		}
		if soon := time.Duration(2 * everyJitter * float64(r.every)); wait <= soon && !paused {
			early[name] = wait > 0
		}
	}
	still := map[string][]turn{}
	for id, u := range e.units {
		before, has := early[id.Environment]
		switch {
		case !has || u.dirty || u.busy:
		case u.still && u.ready && now.Sub(u.lookedAt) < fullLook:
			still[id.Environment] = append(still[id.Environment], turn{u, u.provider, u.resource})
		case before:
			delete(early, id.Environment) // there is something to look at, at its own time
		default:
			e.enqueue(u)
		}
	}
	e.mu.Unlock()

	for name, before := range early {
		for _, t := range still[name] {
			if t.followed() {
				continue
			}
			if before {
				delete(early, name)
				break
			}
			e.mu.Lock()
			if u := t.unit; e.units[u.id] == u && !u.dirty {
				e.enqueue(u)
			}
			e.mu.Unlock()
		}
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	next = time.Hour
	for name, r := range e.rounds {
		if early[name] {
			r.due = now.Add(around(r.every))
		}
		next = min(next, max(0, r.due.Sub(now)))
	}
	return next
}
