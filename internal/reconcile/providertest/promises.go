package providertest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

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
