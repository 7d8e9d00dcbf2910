// Package providertest is the conformance suite that every provider passes:
// docs/contract.md says what is promised, the tests here hold providers to it.
package providertest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Harness is one provider on a place of its own to work in. The functions act
// on that place as somebody else would.
type Harness struct {
	Resource forge.Resource                 // absent at first
	Changed  forge.Resource                 // the same id, asked for differently
	Inputs   map[forge.ID]reconcile.Outputs // that Resource and Changed need
	Policy   forge.Policy
	Secrets  []string      // must not be in any string; there must be one at least
	Patience time.Duration // for what a watch has to show; 0: 30 s
	Attempt  time.Duration // for a cycle whose line is cut somewhere; 0: 3 s

	// Start makes a provider on the place, the way a process does that has
	// just begun. What was started before is not used any more. The provider
	// may live until the test ends.
	Start func(t *testing.T) reconcile.Provider
	// Edit changes a field we own.
	Edit func(t *testing.T)
	// Delete deletes an object we own.
	Delete func(t *testing.T)
	// BreakReads makes every read fail until mend is called. Watches that
	// stand may go on or break.
	BreakReads func(t *testing.T) (mend func())
	// CutAfter lets n more changing requests through and then fails every
	// request, until mend is called.
	CutAfter func(t *testing.T, n int) (mend func())
	// Writes counts the changing requests so far; dry runs are none.
	Writes func() int
	// Bystander fails the test if something that we do not own was changed or
	// deleted.
	Bystander func(t *testing.T)
	// Proxy is the line to the place, when there is one to break in more ways:
	// the subtests about a bad line are run then.
	Proxy *faultproxy.Proxy
	// Data is set when the resource holds data: removal then names what would
	// be lost, or keeps it.
	Data bool
	// Settle waits until what was removed is gone for good, where that takes
	// longer than the removal. May be nil.
	Settle func(t *testing.T)
	// Restore is set when what Delete deletes takes data along: Plan then says so
	// in a blocked step, and nothing is made in its place. It is what a person
	// does about it.
	Restore func(t *testing.T)
	// Fixed is set when nothing about the resource can be asked for in another
	// way: Changed is Resource then.
	Fixed bool
	// Keeps is set when removal leaves the resource where it is: Plan then
	// says so in a blocked step, or plans nothing.
	Keeps bool
}

// Test holds a provider to the contract. setup makes a new place for every
// subtest.
func Test(t *testing.T, setup func(t *testing.T) Harness) {
	t.Helper()
	suite(t, setup, func(t *testing.T, test func(*testing.T)) { test(t) })
}

// TestInBubble is Test for a place within this process: each subtest is in a
// bubble of testing/synctest, in which waiting takes no time. What setup and
// Start begin must end with the test.
func TestInBubble(t *testing.T, setup func(t *testing.T) Harness) {
	t.Helper()
	suite(t, setup, synctest.Test)
}

func suite(t *testing.T, setup func(t *testing.T) Harness, within func(*testing.T, func(*testing.T))) {
	t.Helper()
	for _, tt := range []struct {
		name string
		test func(*trial)
	}{
		{"LookingChangesNothing", lookingChangesNothing},
		{"ObserveAfterApplyIsClean", observeAfterApplyIsClean},
		{"ApplyTwiceChangesNothing", applyTwiceChangesNothing},
		{"RestartChangesNothing", restartChangesNothing},
		{"ForeignEditIsDrift", foreignEditIsDrift},
		{"ForeignDeleteIsDrift", foreignDeleteIsDrift},
		{"OvertakenStepIsStaleOrDone", overtakenStepIsStaleOrDone},
		{"NewConfigIsRollout", newConfigIsRollout},
		{"UnknownIsNeverAbsent", unknownIsNeverAbsent},
		{"CancelledCallsEnd", cancelledCallsEnd},
		{"CutAnywhereConverges", cutAnywhereConverges},
		{"RemovalIsPlannedAndEnds", removalIsPlannedAndEnds},
	} {
		t.Run(tt.name, func(t *testing.T) {
			within(t, func(t *testing.T) {
				h := setup(t)
				if h.Resource.ID != h.Changed.ID || len(h.Secrets) == 0 {
					t.Fatal("harness: Resource and Changed must have one id, and there must be a secret to look for")
				}
				tr := newTrial(t, h)
				tt.test(tr)
				h.Bystander(t)
			})
		})
	}
	badLine(t, setup, within)
}

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

func lookingChangesNothing(t *trial) {
	r := t.request(t.Resource)
	t.quiet("looking", func() {
		o, steps := t.look(r)
		if o.Exists || len(steps) == 0 {
			t.Errorf("nothing is there, but exists %v, steps %v", o.Exists, steps)
		}
		for _, s := range steps {
			if !s.Rollout() {
				t.Errorf("a first install is a rollout, not %s", s)
			}
		}
	})
}

func observeAfterApplyIsClean(t *trial) {
	o := t.converge(t.request(t.Resource))
	if !o.Exists {
		t.Error("applied, and does not exist")
	}
	if o.Health.Status == "" {
		t.Error("health is not said")
	}
}

func applyTwiceChangesNothing(t *trial) {
	r := t.request(t.Resource)
	o, err := t.provider.Observe(t.ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	first, err := t.provider.Plan(t.ctx, r, o)
	if err != nil || len(first) == 0 {
		t.Fatalf("plan: %v, %v", first, err)
	}
	t.converge(r)
	for _, s := range first {
		if _, err := t.provider.Apply(t.ctx, r, s); err != nil && reconcile.KindOf(err) != reconcile.Stale {
			t.Errorf("apply %s again: %v", s, err)
		}
	}
	t.converge(r)
	t.quiet("a second cycle", func() { t.converge(r) })
}

func restartChangesNothing(t *trial) {
	r := t.request(t.Resource)
	t.converge(r)
	t.restart()
	t.quiet("the first cycle after a restart", func() {
		if _, steps := t.look(r); len(steps) > 0 {
			t.Errorf("after a restart: %v", steps)
		}
	})
	if owner, ok := t.provider.(reconcile.Owner); ok {
		owned, err := owner.Owned(t.ctx, t.Resource.ID.Environment, []forge.Resource{t.Resource})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(owned, func(o forge.Resource) bool { return o.ID == t.Resource.ID }) && !t.Keeps {
			t.Errorf("what was applied is not among what is owned: %v", owned)
		}
	}
}

func drift(_ reconcile.Observed, steps []reconcile.Step) bool {
	return slices.ContainsFunc(steps, func(s reconcile.Step) bool { return !s.Rollout() })
}

func foreignEditIsDrift(t *trial) {
	r := t.request(t.Resource)
	t.converge(r)
	t.Edit(t.T)
	r.Explain = true
	for _, s := range t.await(r, "an edit", drift) {
		if s.Rollout() {
			t.Errorf("an edit asks for a rollout: %s", s)
		}
		if s.Object == "" || s.Reason.Writer == "" {
			t.Errorf("who wrote what is not said: %s", s)
		}
	}
	r.Explain = false
	t.converge(r)
}

func foreignDeleteIsDrift(t *trial) {
	r := t.request(t.Resource)
	t.converge(r)
	t.Delete(t.T)
	for _, s := range t.await(r, "a deletion", drift) {
		if s.Reason.Code != reconcile.ReasonDeleted && s.Reason.Code != reconcile.ReasonReplaced {
			t.Errorf("a deletion is called %s", s.Reason.Code)
		}
		if t.Restore != nil && s.Blocked == "" {
			t.Errorf("data is gone, and something is to take its place: %s", s)
		}
	}
	t.restore()
	t.converge(r)
}

// restore does what a person does about data that is gone.
func (t *trial) restore() {
	if t.Restore != nil {
		t.Restore(t.T)
	}
}

func overtakenStepIsStaleOrDone(t *trial) {
	r := t.request(t.Resource)
	t.converge(r)
	t.Edit(t.T)
	steps := t.await(r, "an edit", drift)
	t.Delete(t.T)
	if _, err := t.provider.Apply(t.ctx, r, steps[0]); err != nil && reconcile.KindOf(err) != reconcile.Stale {
		t.Errorf("apply of an overtaken step: %v", err)
	}
	t.restore()
	t.converge(r)
}

func newConfigIsRollout(t *trial) {
	t.converge(t.request(t.Resource))
	if t.Fixed {
		return
	}
	r := t.request(t.Changed)
	_, steps := t.look(r)
	if len(steps) == 0 {
		t.Fatal("new config, nothing planned")
	}
	for _, s := range steps {
		if !s.Rollout() {
			t.Errorf("new config is not a rollout: %s", s)
		}
	}
	t.converge(r)
}

// brokenFor is how long a line stays broken while a provider acts. Clients try
// again for longer than that, which shows nothing more.
const brokenFor = 3 * time.Second

func unknownIsNeverAbsent(t *trial) {
	r := t.request(t.Resource)
	t.converge(r)
	mend := t.BreakReads(t.T)
	mended := false
	defer func() {
		if !mended {
			mend()
		}
	}()
	t.quiet("while nothing can be read", func() {
		if o, err := t.provider.Observe(t.ctx, r); err == nil && !o.Exists {
			t.Error("said to be absent while it cannot be read")
		}
		t.restart()
		ctx, cancel := context.WithTimeout(t.ctx, brokenFor)
		defer cancel()
		o, err := t.provider.Observe(ctx, r)
		if err == nil {
			t.Errorf("read without being able to read: %+v", o.Health)
		}
		if kind := reconcile.KindOf(err); kind == reconcile.Invalid || kind == reconcile.Waiting {
			t.Errorf("kind %s: it would not be tried again", kind)
		}
		t.clean(err)
	})
	mend()
	mended = true
	t.restart()
	t.quiet("once it can be read again", func() { t.converge(r) })
}

func cancelledCallsEnd(t *trial) {
	r := t.request(t.Resource)
	_, steps := t.look(r)
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	t.quiet("with a context that has ended", func() {
		if _, err := t.provider.Apply(ctx, r, steps[0]); err == nil {
			t.Error("apply does not heed its context")
		}
	})
	t.converge(r)
}

func cutAnywhereConverges(t *trial) {
	const most = 200
	for n := range most {
		if !t.Keeps {
			gone := t.request(t.Resource)
			gone.Remove = true
			t.converge(gone)
			if t.Settle != nil {
				t.Settle(t.T)
			}
		}
		whole := true
		for _, want := range []forge.Resource{t.Resource, t.Changed} { // an install, then an update
			r := t.request(want)
			before := t.Writes()
			mend := t.CutAfter(t.T, n)
			done, late := t.attempt(r, cmp.Or(t.Attempt, brokenFor))
			if late && t.Writes()-before < n {
				done, _ = t.attempt(r, t.Patience) // nothing was cut: it is slow
			}
			whole = done && whole
			mend()
			t.restart()
			t.converge(r)
		}
		if whole {
			return // n requests are enough for both: cut everywhere before
		}
	}
	t.Errorf("not done after %d requests", most)
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

func removalIsPlannedAndEnds(t *trial) {
	r := t.request(t.Resource)
	t.converge(r)
	r.Remove = true
	_, steps := t.look(r)
	if t.Keeps {
		for _, s := range steps {
			if s.Blocked == "" {
				t.Errorf("is to be kept, but: %s", s)
			}
		}
		return
	}
	deletes := 0
	for _, s := range steps {
		if t.Data && s.Blocked == "" && len(s.Destroys) == 0 {
			t.Errorf("data would be lost, and the step does not say so: %s", s)
		}
		if s.Action != reconcile.ActionDelete && s.Action != reconcile.ActionForget || s.Reason.Code != reconcile.ReasonUnwanted {
			t.Errorf("removal is %s", s)
		}
		deletes += s.Deletes
	}
	if deletes == 0 {
		t.Error("removal does not say how many objects go")
	}
	for _, s := range steps {
		if _, err := t.provider.Apply(t.ctx, r, s); err != nil {
			t.Fatalf("apply %s: %v", s, err)
		}
	}
	t.await(r, "removal", func(o reconcile.Observed, steps []reconcile.Step) bool { return !o.Exists && len(steps) == 0 })
	t.quiet("removing again", func() { t.look(r) })
}
