package reconcile

import (
	"context"
	"errors"

	"forged.dev/forged/internal/forge"
)

// convergeAttempts is how often in a row something may fail before Converge
// stops waiting for it.
const convergeAttempts = 5

// Converge makes g the active generation and reconciles until nothing moves
// any more: all is ready, or waits for a person, or has failed for good or
// often enough. In observe mode it ends when everything has been looked at.
// The status says how it ended; the error is about g, about ctx or about a
// step that had to be left behind. Run must not run at the same time.
func (e *Engine) Converge(ctx context.Context, g Generation) (Status, error) {
	if err := e.Set(g); err != nil {
		return Status{}, err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	idle := make(chan struct{}, 1)
	e.mu.Lock()
	e.idle = idle
	e.mu.Unlock()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(run) }()
	for {
		select {
		case <-idle:
		case err := <-ended:
			return e.Status(), errors.Join(err, ctx.Err())
		}
		if e.atRest() {
			break
		}
	}
	stop()
	return e.Status(), errors.Join(<-ended, ctx.Err())
}

// atRest tells whether nothing moves any more.
func (e *Engine) atRest() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.queue == nil {
		return false
	}
	gen := e.gen.Load()
	for name, s := range e.sweeps {
		if !s.done && s.waits == (forge.ID{}) && !lasting(s.err) && s.attempts < convergeAttempts && gen.environments[name].Policy.Mode != forge.ModePaused {
			return false
		}
	}
	for id, u := range e.units {
		if u.dirty || u.busy || !u.rests(gen.environments[id.Environment].Policy.Mode) {
			return false
		}
	}
	return true
}

// lasting tells of an error that waiting does not mend.
func lasting(err error) bool { return err != nil && lastingKind(KindOf(err)) }

func lastingKind(kind ErrorKind) bool { return kind == Invalid || kind == Denied || kind == Conflict }

// rests tells whether a unit will not change by itself. The caller holds
// Engine.mu.
func (u *unit) rests(mode forge.Mode) bool {
	switch s := u.status; s.State {
	case StateProgressing:
		return mode == forge.ModeObserve
	case StateFailed, StateUnknown:
		if s.Error == nil {
			return true // in its health; forged has nothing to try again
		}
		return lastingKind(s.Error.Kind) || max(u.attempts, u.stales) >= convergeAttempts
	}
	return true
}
