package providertest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// trial is a Harness with a provider started on it.
type trial struct {
	*testing.T
	Harness
	ctx      context.Context
	provider reconcile.Provider
	stop     func()
	events   chan struct{}
}

func newTrial(t *testing.T, h Harness) *trial {
	if h.Patience == 0 {
		h.Patience = 30 * time.Second
	}
	tr := &trial{T: t, Harness: h, ctx: t.Context(), events: make(chan struct{}, 1)}
	tr.restart()
	t.Cleanup(func() { tr.stop() })
	return tr
}

// restart begins with a new provider, as after a crash.
func (t *trial) restart() {
	t.Helper()
	if t.stop != nil {
		t.stop()
	}
	p := t.Start(t.T)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// An error is judged by what the provider does, not by its text here.
		_ = p.Watch(ctx, func(ev reconcile.Event) {
			if ev.ID == t.Resource.ID {
				select {
				case t.events <- struct{}{}:
				default:
				}
			}
		})
	}()
	t.provider = p
	t.stop = func() { cancel(); <-ended }
}

func (t *trial) request(r forge.Resource) reconcile.Request {
	return reconcile.Request{Resource: r, Inputs: t.Inputs, Policy: t.Policy}
}

// look observes and plans, and expects both to work.
func (t *trial) look(r reconcile.Request) (reconcile.Observed, []reconcile.Step) {
	t.Helper()
	o, steps, err := t.see(r)
	if err != nil {
		t.Fatal(err)
	}
	return o, steps
}

func (t *trial) see(r reconcile.Request) (reconcile.Observed, []reconcile.Step, error) {
	t.Helper()
	o, err := t.provider.Observe(t.ctx, r)
	t.clean(err)
	if err != nil {
		return o, nil, fmt.Errorf("observe: %w", err)
	}
	steps, err := t.provider.Plan(t.ctx, r, o)
	t.clean(err, steps, o.Health, fmt.Sprintf("%+v", o.Outputs))
	if err != nil {
		return o, nil, fmt.Errorf("plan: %w", err)
	}
	for _, s := range steps {
		if s.ID != r.Resource.ID {
			t.Errorf("a step is about %s, asked about %s", s.ID, r.Resource.ID)
		}
		if s.Action == "" || s.Reason.Code == "" {
			t.Errorf("a step without action or reason: %+v", s)
		}
	}
	return o, steps, nil
}

// clean fails when a secret is in anything that people may get to see.
func (t *trial) clean(things ...any) {
	t.Helper()
	for _, thing := range things {
		text := fmt.Sprint(thing)
		if steps, ok := thing.([]reconcile.Step); ok {
			b, err := json.Marshal(steps)
			if err != nil {
				t.Fatal(err)
			}
			text += string(b)
		}
		for _, s := range t.Secrets {
			if strings.Contains(text, s) {
				t.Errorf("a secret is in: %s", text)
			}
		}
	}
}

// converge applies until nothing is planned any more.
func (t *trial) converge(r reconcile.Request) reconcile.Observed {
	t.Helper()
	const rounds = 6
	var steps []reconcile.Step
	for range rounds {
		var o reconcile.Observed
		if o, steps = t.look(r); len(steps) == 0 {
			return o
		}
		for _, s := range steps {
			if s.Blocked != "" {
				t.Fatalf("blocked: %s", s)
			}
			_, err := t.provider.Apply(t.ctx, r, s)
			t.clean(err)
			if err != nil && reconcile.KindOf(err) == reconcile.Stale {
				break
			}
			if err != nil {
				t.Fatalf("apply %s: %v", s, err)
			}
		}
	}
	t.Fatalf("still something to do after %d rounds: %v", rounds, steps)
	return reconcile.Observed{}
}

// await looks again with every event until ok. Where a line was cut, something
// may be out of reach for a moment: an event tells when that is over.
func (t *trial) await(r reconcile.Request, what string, ok func(reconcile.Observed, []reconcile.Step) bool) []reconcile.Step {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, t.Patience)
	defer cancel()
	for {
		o, steps, err := t.see(r)
		switch {
		case err == nil && ok(o, steps):
			return steps
		case err != nil && reconcile.KindOf(err) != reconcile.Unavailable:
			t.Fatal(err)
		}
		select {
		case <-t.events:
		case <-ctx.Done():
			t.Fatalf("%s: not seen within %s; last %v, %v", what, t.Patience, steps, err)
		}
	}
}

func (t *trial) quiet(what string, f func()) {
	t.Helper()
	before := t.Writes()
	f()
	if n := t.Writes() - before; n != 0 {
		t.Errorf("%s: %d changing requests", what, n)
	}
}

// attempt is a cycle that may be cut; it tells whether it was not, and whether
// it took too long.
func (t *trial) attempt(r reconcile.Request, limit time.Duration) (done, late bool) {
	ctx, cancel := context.WithTimeout(t.ctx, limit)
	defer cancel()
	o, err := t.provider.Observe(ctx, r)
	if err != nil {
		return false, ctx.Err() != nil
	}
	steps, err := t.provider.Plan(ctx, r, o)
	if err != nil {
		return false, ctx.Err() != nil
	}
	for _, s := range steps {
		if _, err := t.provider.Apply(ctx, r, s); err != nil {
			t.clean(err)
			return false, ctx.Err() != nil
		}
	}
	return true, false
}
