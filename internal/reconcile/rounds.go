package reconcile

import (
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
// for it. All its resources have their turn together: a process that sleeps is
// woken once.
type rounds struct {
	every time.Duration
	due   time.Time
}

// roundID is the key of an environment's rounds in the queue; no resource has it.
func roundID(environment string) forge.ID { return forge.ID{Environment: environment, Name: "round"} }

func isRound(id forge.ID) bool { return id == roundID(id.Environment) }

// reround begins, changes or ends the rounds of an environment. The caller
// holds mu.
func (e *Engine) reround(environment string, every time.Duration, now time.Time) {
	old := e.rounds[environment]
	switch {
	case every <= 0:
		delete(e.rounds, environment)
	case old == nil || old.every != every:
		e.rounds[environment] = &rounds{every: every, due: now.Add(around(every))}
		e.after(roundID(environment), e.rounds[environment].due.Sub(now))
	}
}

// round has everything in an environment looked at, but for what is as it is
// to be and has not changed since.
func (e *Engine) round(environment string) {
	now := time.Now()
	e.mu.Lock()
	r, gen := e.rounds[environment], e.gen.Load()
	if r == nil {
		e.mu.Unlock()
		return
	}
	if wait := r.due.Sub(now); wait > 0 { // an earlier one, of another interval
		e.after(roundID(environment), wait)
		e.mu.Unlock()
		return
	}
	r.due = now.Add(around(r.every))
	e.after(roundID(environment), r.due.Sub(now))
	if gen.environments[environment].Policy.Mode == forge.ModePaused {
		e.mu.Unlock()
		return
	}
	type turn struct {
		unit     *unit
		provider Provider
		resource forge.Resource
	}
	var still []turn
	for id, u := range e.units {
		switch {
		case id.Environment != environment || u.dirty || u.busy:
		case u.still && u.ready && now.Sub(u.lookedAt) < fullLook:
			still = append(still, turn{u, u.provider, u.resource})
		default:
			e.enqueue(u)
		}
	}
	e.mu.Unlock()

	for _, t := range still {
		if f, ok := t.provider.(Follower); ok && f.Follows(t.resource) {
			continue
		}
		e.mu.Lock()
		if u := t.unit; e.units[u.id] == u && !u.dirty {
			e.enqueue(u)
		}
		e.mu.Unlock()
	}
}
