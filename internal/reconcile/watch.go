package reconcile

import (
	"context"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"time"

	"forged.dev/forged/internal/forge"
)

// watched is a provider and the kinds it is registered for.
type watched struct {
	provider Provider
	kinds    []string
}

// watched lists every provider once, however many kinds it serves.
func (e *Engine) watched() []watched {
	kinds := make([]string, 0, len(e.providers))
	for kind := range e.providers {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	var out []watched
	for _, kind := range kinds {
		p := e.providers[kind]
		i := slices.IndexFunc(out, func(w watched) bool { return same(w.provider, p) })
		if i < 0 {
			out = append(out, watched{p, []string{kind}})
			continue
		}
		out[i].kinds = append(out[i].kinds, kind)
	}
	return out
}

func same(a, b Provider) bool {
	t := reflect.TypeOf(a)
	return t == reflect.TypeOf(b) && t.Comparable() && a == b
}

// watch keeps a provider's Watch running until ctx ends. After it broke,
// everything the provider serves is looked at again, since events may be lost.
func (e *Engine) watch(ctx context.Context, w watched) {
	for attempt := 1; ; attempt++ {
		began := time.Now()
		err := e.watchOnce(ctx, w)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > retryMost {
			attempt = 1
		}
		wait := backoff(retryFirst, attempt)
		e.log.Warn("watch broke", "kinds", w.kinds, "kind", KindOf(err), "error", err, "retry", wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		e.recheckKinds(w.kinds)
	}
}

func (e *Engine) watchOnce(ctx context.Context, w watched) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = e.panicked(forge.ID{Kind: w.kinds[0]}, "watch", r)
		}
	}()
	if err := w.provider.Watch(ctx, e.notify); err != nil {
		return err
	}
	return Errorf(Unavailable, "watch", "ended without an error")
}

// notify is what providers call. It does not block.
func (e *Engine) notify(ev Event) {
	at := ev.At
	if at.IsZero() {
		at = time.Now()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	u := e.units[ev.ID]
	if u == nil {
		return // not ours, or not any more
	}
	if u.event.IsZero() {
		u.event = at
	}
	if ev.Retry {
		u.retryNow(time.Now())
	}
	e.enqueue(u)
}

// recheckKinds looks at all resources of some kinds a moment from now, when
// the new watch stands.
func (e *Engine) recheckKinds(kinds []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.units {
		if slices.Contains(kinds, id.Kind) {
			e.after(id, time.Second)
		}
	}
}

// panicked turns a panic of a provider into an error.
func (e *Engine) panicked(id forge.ID, op string, r any) error {
	e.observer.Panicked(id)
	// The value may hold anything, a secret too: only its type is told.
	e.log.Debug("provider panicked", "resource", id.String(), "op", op, "stack", string(debug.Stack()))
	err := &Error{
		Kind: Internal, ID: id, Op: op,
		Err:  fmt.Errorf("the provider panicked (%T)", r),
		Hint: "this is a bug in forged; run with debug logs for the stack and report it",
	}
	if re, ok := r.(error); ok && isRuntime(re) {
		err.Err = fmt.Errorf("the provider panicked: %w", re)
	}
	return err
}
