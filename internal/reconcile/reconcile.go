package reconcile

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"time"

	"forged.dev/forged/internal/forge"
)

const (
	readTimeout    = time.Minute // for an Observe and its Plan, or one Owned
	defaultTimeout = 10 * time.Minute
)

// job is one pass over one resource: what it starts from.
type job struct {
	id       forge.ID
	unit     *unit
	epoch    int
	gen      *generation
	env      *environment
	provider Provider
	request  Request
	orphan   bool
	seen     bool     // was read before
	waiting  forge.ID // the first need that is not ready, or what it comes after; zero: none
	needs    bool     // it is a need: without it there may be nothing to look at
	event    time.Time
	began    time.Time
}

// outcome is what came of it.
type outcome struct {
	skipped bool // not even read
	unread  bool // err is from Observe: nothing is known
	read    bool
	obs     Observed
	held    []held // outstanding steps
	applied int
	rolled  bool // a rollout step was applied
	back    bool // a repair was applied, which may be a way back: no proof that what is asked for is there
	gone    bool // an orphan does not exist any more
	again   bool // to be looked at again at once
	err     error
}

// pass looks at one resource and does what is to be done. The queue sees to
// it that there is only one pass over a resource at a time.
func (e *Engine) pass(ctx, work context.Context, id forge.ID) {
	j, ok := e.begin(id, time.Now())
	if !ok {
		return
	}
	out := e.reconcile(ctx, work, &j)
	e.finish(ctx, &j, &out)
}

// begin takes down what a pass needs to know.
func (e *Engine) begin(id forge.ID, now time.Time) (job, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	u, gen := e.units[id], e.gen.Load()
	if u == nil || gen == nil {
		return job{}, false
	}
	u.dirty = false
	env := gen.environments[id.Environment]
	looksOnly := env.Policy.Mode == forge.ModeObserve || opens(env.Policy.Windows, now).After(now)
	if env.Policy.Mode == forge.ModePaused {
		e.pause(u, now)
		return job{}, false
	}
	if wait := u.notBefore.Sub(now); wait > 0 {
		e.after(id, wait)
		return job{}, false
	}
	u.busy, u.moved = true, false
	j := job{
		id: id, unit: u, epoch: u.epoch, gen: gen, env: env, provider: u.provider,
		request: Request{Resource: u.resource, Inputs: e.inputs(u), Policy: env.Policy, Remove: u.orphan, Explain: looksOnly},
		orphan:  u.orphan, seen: u.seen || u.recorded, event: u.event, began: now,
	}
	u.event = time.Time{}
	if !u.orphan {
		for _, need := range u.resource.Needs {
			if !e.isReady(need) {
				j.waiting, j.needs, j.request.Settled = need, true, time.Time{}
				break
			}
			if at := e.units[need].readyAt; at.After(j.request.Settled) {
				j.request.Settled = at
			}
		}
		for _, before := range u.resource.After {
			if none := (forge.ID{}); j.waiting == none && !e.isReady(before) {
				j.waiting = before
			}
		}
	}
	return j, true
}

// isReady tells whether a resource is in sync and serving. One that a newer
// generation has taken away while a pass was under way is not. The caller
// holds mu.
func (e *Engine) isReady(id forge.ID) bool {
	u := e.units[id]
	return u != nil && u.ready
}

// pause marks a unit as paused. The caller holds mu.
func (e *Engine) pause(u *unit, now time.Time) {
	u.event, u.ready = time.Time{}, false
	if u.status.State == StatePaused {
		return
	}
	u.status = &ResourceStatus{ID: u.id, State: StatePaused, Since: now, Objects: u.status.Objects, LastAction: u.last}
	e.touch()
}

// inputs collects the outputs of what a unit needs. The map is made once and
// never changed, so that it can be handed out. The caller holds mu.
func (e *Engine) inputs(u *unit) map[forge.ID]Outputs {
	if u.inputsFresh || len(u.resource.Needs) == 0 {
		return u.inputs
	}
	u.inputs = make(map[forge.ID]Outputs, len(u.resource.Needs))
	for _, need := range u.resource.Needs {
		if n := e.units[need]; n != nil && n.outputs != nil {
			u.inputs[need] = n.outputs
		}
	}
	u.inputsFresh = true
	return u.inputs
}

// reconcile is the pass itself: observe, plan, gate, apply. It holds no lock
// while it talks to the provider.
func (e *Engine) reconcile(ctx, work context.Context, j *job) (out outcome) {
	if j.needs && !j.seen && j.env.Policy.Mode == forge.ModeApply {
		out.skipped = true
		return out
	}
	read, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	out.obs, out.err = e.observe(read, j.provider, j.request)
	if j.orphan && errors.Is(out.err, ErrGone) {
		out.obs, out.err = Observed{}, nil
	}
	if out.err != nil {
		out.unread = true
		return out
	}
	out.read = true
	if j.orphan && !out.obs.Exists {
		out.gone = true
		return out
	}
	steps, err := e.plan(read, j.provider, j.request, out.obs)
	if err != nil || len(steps) == 0 {
		out.err = err
		return out
	}
	out.held = e.gate(j, steps)
	e.execute(ctx, work, j, &out)
	return out
}

// execute applies what the gate let through, in order, and leaves in out.held
// what remains.
func (e *Engine) execute(ctx, work context.Context, j *job, out *outcome) {
	left := out.held[:0]
	for i, h := range out.held {
		if h.hold != holdNone {
			left = append(left, h)
			continue
		}
		if !e.enterStep(ctx, j) {
			out.again = true
			left = append(left, out.held[i:]...)
			break
		}
		why, err := e.hold(work, j.env, j.request.Resource)
		if err != nil || why != "" {
			e.leaveStep(j.env.Name)
			if out.err = err; err == nil {
				without(out.held[i:], why, time.Now().Add(leaseRetry))
			}
			left = append(left, out.held[i:]...)
			break
		}
		began := time.Now()
		obs, err := e.apply(work, j, h.step)
		e.applied(j, h.step, obs.Reason, err, began)
		e.leaveStep(j.env.Name)
		if err != nil {
			if obs.Exists || obs.Health.Status != "" {
				out.obs = obs
			}
			if out.err == nil {
				out.err = err
			}
			if !h.step.Rollout() && refused(err) {
				// The other objects are not to blame; a rollout may be what
				// mends this one.
				left = append(left, h)
				continue
			}
			left = append(left, out.held[i:]...)
			break
		}
		out.obs = obs
		out.applied++
		if h.step.Rollout() {
			out.rolled, out.err = true, nil // looked at again at once
			out.back = out.back || h.step.Action == ActionRepair
		}
	}
	out.held = left
}

// without holds back what would be carried out now, since another forged acts.
func without(hs []held, why string, again time.Time) {
	for i := range hs {
		if hs[i].hold == holdNone {
			hs[i].hold, hs[i].why, hs[i].at = holdLease, why, again
		}
	}
}

// observe calls Observe and survives its panic.
func (e *Engine) observe(ctx context.Context, p Provider, r Request) (o Observed, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = e.panicked(r.Resource.ID, "observe", v)
		}
	}()
	o, err = p.Observe(ctx, r)
	return o, timedOut(ctx, "observe", err)
}

// plan calls Plan and survives its panic.
func (e *Engine) plan(ctx context.Context, p Provider, r Request, o Observed) (s []Step, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = e.panicked(r.Resource.ID, "plan", v)
		}
	}()
	s, err = p.Plan(ctx, r, o)
	return s, timedOut(ctx, "plan", err)
}

// apply calls Apply within the policy's deadline and survives its panic.
func (e *Engine) apply(ctx context.Context, j *job, s Step) (o Observed, err error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(j.env.Policy.Timeout, defaultTimeout))
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = e.panicked(j.id, "apply", v)
		}
	}()
	o, err = j.provider.Apply(ctx, j.request, s)
	return o, timedOut(ctx, "apply", err)
}

// timedOut gives a plain deadline error its kind; what the provider judged
// itself stands.
func timedOut(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	var typed *Error
	if errors.As(err, &typed) || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	return &Error{Kind: Unavailable, Op: op, Err: err, Hint: "no answer in time"}
}

// refused tells an error about one object from trouble that the next step
// would run into as well.
func refused(err error) bool {
	switch KindOf(err) {
	case Invalid, Denied, Conflict:
		return true
	}
	return false
}

func isRuntime(err error) bool {
	var r runtime.Error
	return errors.As(err, &r)
}
