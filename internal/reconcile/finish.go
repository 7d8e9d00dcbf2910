package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
)

// finish takes down what came of a pass, decides when to come back, and wakes
// who has waited for it.
func (e *Engine) finish(ctx context.Context, j *job, out *outcome) {
	now := time.Now()
	cut := ctx.Err() != nil && out.err != nil // by our own end: means nothing
	var retried, told bool

	e.mu.Lock()
	u := j.unit
	u.busy = false
	switch {
	case e.units[j.id] != u || cut:
	case j.epoch != u.epoch:
		// Reset meanwhile: what was seen counts, what failed does not.
		e.learn(u, out, now)
		e.enqueue(u)
		e.touch()
	default:
		e.learn(u, out, now)
		retried, told = e.settleUnit(j, out, now)
	}
	e.mu.Unlock()

	if cut {
		return
	}
	if told {
		e.complain(j, out.err)
	}
	if retried {
		e.observer.Retried(j.id, KindOf(out.err))
	}
	e.observer.Reconciled(j.id, out.name(), now.Sub(j.began))
}

func (o *outcome) name() string {
	switch {
	case o.skipped, o.err != nil && KindOf(o.err) == Waiting:
		return OutcomeWaiting
	case o.err != nil:
		return OutcomeFailed
	case o.applied > 0:
		return OutcomeApplied
	case len(o.held) > 0:
		return OutcomeHeld
	}
	return OutcomeUnchanged
}

// learn takes over what was seen. The caller holds mu.
func (e *Engine) learn(u *unit, out *outcome, now time.Time) {
	if !out.read {
		return
	}
	u.seen = true
	if !equalOutputs(u.outputs, out.obs.Outputs) {
		u.outputs, u.told = out.obs.Outputs, plain(out.obs.Outputs)
		e.wakeDependants(u.id, true, now)
		e.wakeSweep(u.id)
	}
	if out.err == nil && len(out.held) == 0 {
		u.deletes, u.deleteCount, u.drifts = nil, 0, nil
	}
}

// settleUnit does the rest of finish. The caller holds mu.
func (e *Engine) settleUnit(j *job, out *outcome, now time.Time) (retried, told bool) {
	u := j.unit
	if out.err == nil && u.attempts > 0 && isLeft(u.id) {
		e.resweep(u.id.Environment) // a place can be read that could not: there may be more in it
	}
	if out.gone {
		delete(e.units, u.id)
		e.wakeOrphans(u.id.Environment)
		e.release(u.id.Environment)
		e.touch()
		return false, false
	}
	firstLook := !u.looked
	u.looked = true
	wake := time.Duration(0)
	u.retryAt, u.notBefore = time.Time{}, time.Time{}

	var react reaction
	if out.err != nil {
		react, told = e.failed(u, out.err, now)
		e.lookAgain(j, out.err)
		if react.after > 0 {
			u.retryAt = now.Add(react.after)
			wake = sooner(wake, react.after)
			retried = true
		}
		if react.block > 0 {
			u.notBefore = now.Add(react.block)
		}
		retried = retried || react.now
	} else {
		u.attempts, u.stales, u.lastError = 0, 0, ""
	}
	if out.rolled {
		u.progressing = time.Time{}
	}
	if d := u.track(out, j.timeout(), now); d > 0 {
		wake = sooner(wake, d)
	}
	for _, h := range out.held {
		if h.hold == holdFight || h.hold == holdWindow || h.hold == holdLease {
			wake = sooner(wake, h.at.Sub(now))
			u.retryAt = h.at
		}
	}

	was := u.ready
	early := func(h held) bool { return !h.step.Late }
	u.late = slices.ContainsFunc(out.held, func(h held) bool { return h.step.Late })
	// Healed while what it needs was not ready: what it is to be may not be known.
	premature := j.needs && out.applied > 0
	u.ready = out.read && out.err == nil && !out.back && !premature && !u.moved && !slices.ContainsFunc(out.held, early) && !u.orphan && healthOf(out.obs) == Ready
	u.lookedAt, u.lookBegan = now, j.began
	if !react.now {
		e.publish(j, out, now)
	}
	// What time changes without an event is looked at in every round.
	u.still = u.ready && out.applied == 0 && len(out.held) == 0 && u.status.Fight == "" &&
		len(out.obs.Notices) == 0 && out.obs.Expires.IsZero()
	if u.ready && !was {
		u.readyAt = now
		e.wakeDependants(u.id, false, now)
		e.wakeOrphans(u.id.Environment)
	}
	if u.orphan && firstLook {
		e.wakeOrphans(u.id.Environment)
	}
	if react.now || out.again || out.err == nil && (out.rolled || premature) {
		e.enqueue(u)
	}
	if wake > 0 {
		e.after(u.id, wake)
	}
	return retried, told
}

// failed counts a failure and decides what follows. The caller holds mu.
func (e *Engine) failed(u *unit, err error, now time.Time) (r reaction, told bool) {
	switch KindOf(err) {
	case Waiting:
	case Stale:
		u.stales++
	default:
		u.attempts++
	}
	r = react(err, u.attempts, u.stales)
	if text := err.Error(); KindOf(err) != Waiting && text != u.lastError && !r.now {
		u.lastError = text
		told = true
	}
	u.failedAt = now
	return r, told
}

// track follows a resource on its way to being ready, and returns the time
// left, 0 when there is nothing to wait for. The caller holds Engine.mu.
func (u *unit) track(out *outcome, timeout time.Duration, now time.Time) time.Duration {
	if !out.read || out.err != nil {
		return 0
	}
	if healthOf(out.obs) != Progressing {
		u.progressing = time.Time{}
		return 0
	}
	if u.progressing.IsZero() {
		u.progressing = now
	}
	return max(0, u.progressing.Add(timeout).Sub(now))
}

// healthOf reads a zero status as what Exists says.
func healthOf(o Observed) HealthStatus {
	switch {
	case o.Health.Status != "":
		return o.Health.Status
	case o.Exists:
		return Ready
	}
	return Unknown
}

func (j *job) timeout() time.Duration { return cmp.Or(j.env.Policy.Timeout, defaultTimeout) }

// sooner is the smaller of two delays of which 0 means never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// wakeDependants has everything looked at that needs id, and when id has become
// ready what comes after it too. The caller holds mu.
func (e *Engine) wakeDependants(id forge.ID, outputs bool, now time.Time) {
	n := e.gen.Load().nodes[id]
	if n == nil {
		return
	}
	for _, d := range n.dependants {
		if u := e.units[d]; u != nil {
			if outputs {
				u.inputsFresh, u.moved = false, true
				u.unsettle("not looked at since "+id.String()+" has changed", now)
			} else if _, judges := u.provider.(Judge); judges {
				u.moved = true
				u.unsettle("not looked at since "+id.String()+" is ready", now)
			}
			e.enqueue(u)
		}
	}
	if outputs {
		return
	}
	for _, f := range n.followers {
		if u := e.units[f]; u != nil {
			e.enqueue(u)
		}
	}
}

// publish makes the resource's status, if it is another one. The caller holds mu.
func (e *Engine) publish(j *job, out *outcome, now time.Time) {
	u, old := j.unit, j.unit.status
	if u.ready && !u.late && old.State == StateReady && old.Objects == out.obs.Objects &&
		old.Message == out.obs.Health.Message && old.LastAction == u.last && len(u.bouts) == 0 &&
		maps.Equal(old.Outputs, u.told) && old.Expires.Equal(out.obs.Expires) && slices.Equal(old.Notices, out.obs.Notices) {
		return // the steady state: nothing to make, nothing to compare
	}
	s := &ResourceStatus{
		ID: u.id, Since: now, Objects: old.Objects,
		Error: errorStatus(out.err), NextRetry: u.retryAt, LastAction: u.last, Outputs: u.told,
	}
	s.Notices, s.Expires = old.Notices, old.Expires
	if out.read {
		s.Objects, s.Notices, s.Expires = out.obs.Objects, out.obs.Notices, out.obs.Expires
		e.notice(j, old.Notices, s.Notices)
	}
	for _, h := range out.held {
		s.Steps = append(s.Steps, stepStatus(h.step, h.why))
	}
	e.judge(j, out, s, now)
	s.Fight = u.fight(now)
	if s.State == old.State {
		s.Since = old.Since
	}
	if s.State != old.State {
		e.warn(j, out, s)
	}
	if !reflect.DeepEqual(s, old) {
		u.status = s
		e.touch()
	}
}

// judge finds the state and its message.
func (e *Engine) judge(j *job, out *outcome, s *ResourceStatus, now time.Time) {
	u, none := j.unit, forge.ID{}
	var waiting *Error
	switch {
	case out.skipped:
		s.State, s.WaitingFor = StateWaiting, j.waiting.String()
		s.Message = "waits until " + j.waiting.String() + " is ready"
		return
	case errors.As(out.err, &waiting) && waiting.Kind == Waiting:
		s.State, s.WaitingFor = StateWaiting, waiting.From.String()
		s.Message = fmt.Sprintf("waits for output %q of %s", waiting.Output, waiting.From)
		s.Error = nil
		return
	case out.unread:
		s.State, s.Message = StateUnknown, "could not be read: "+out.err.Error()
		return
	case out.err != nil:
		s.State, s.Message = StateFailed, out.err.Error()
		return
	}
	s.Message = out.obs.Health.Message
	has := func(kinds ...hold) bool {
		return slices.ContainsFunc(out.held, func(h held) bool { return slices.Contains(kinds, h.hold) })
	}
	health := healthOf(out.obs)
	late := health == Progressing && now.Sub(u.progressing) >= j.timeout()
	switch {
	case has(holdBlocked):
		s.State = StateBlocked
	case u.orphan && len(out.held) > 0:
		s.State = StateOrphaned
		s.Message = "no longer in forge.cue; kept: " + out.held[0].why
		if j.env.Down {
			s.Message = "not removed yet: " + out.held[0].why
		}
	case late:
		s.State = StateFailed
		s.Message = fmt.Sprintf("not ready within %s: %s", short(j.timeout()), out.obs.Health.Message)
	case health == Failed:
		s.State = StateFailed
	case has(holdLease):
		s.State = StateDrifted
		s.Message = out.held[slices.IndexFunc(out.held, func(h held) bool { return h.hold == holdLease })].why
	case has(holdMode, holdFight, holdWindow):
		s.State = StateDrifted
		if s.Message == "" {
			s.Message = behindConfig(out.held)
		}
	case has(holdNeeds) && j.waiting != none:
		s.State, s.WaitingFor = StateWaiting, j.waiting.String()
	case u.ready && has(holdLate):
		late := out.held[slices.IndexFunc(out.held, func(h held) bool { return h.hold == holdLate })]
		s.State, s.WaitingFor, s.Message = StateWaiting, late.from.String(), "waits with a removal "+late.why
	case len(out.held) > 0, health == Progressing:
		s.State = StateProgressing
	case health == Unknown:
		s.State = StateUnknown
	default:
		s.State = StateReady
	}
}

// bout finds or begins the bout over an object. The caller holds Engine.mu.
func (u *unit) bout(key string) *bout {
	b := u.bouts[key]
	if b == nil {
		if u.bouts == nil {
			u.bouts = map[string]*bout{}
		}
		b = &bout{}
		u.bouts[key] = b
	}
	return b
}

// fight says which fights are on, and forgets those long over. The caller
// holds Engine.mu.
func (u *unit) fight(now time.Time) string {
	text := ""
	for _, key := range slices.Sorted(maps.Keys(u.bouts)) {
		b := u.bouts[key]
		switch {
		case b.levelAt(now) > 0 && text == "":
			text = "fight with " + b.opponent()
			if object := objectOf(key); object != "" {
				text += " over " + object
			}
		case b.levelAt(now) == 0 && now.Sub(b.heals[len(b.heals)-1]) >= fightWindow:
			delete(u.bouts, key)
		}
	}
	if len(u.bouts) == 0 {
		u.bouts = nil
	}
	return text
}

// short prints 10m0s as 10m.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
