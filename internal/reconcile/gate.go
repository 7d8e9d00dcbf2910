package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
)

// hold is why a step is not carried out now.
type hold int

const (
	holdNone    hold = iota
	holdBlocked      // a person is needed
	holdWindow       // it is not the time for changes
	holdMode         // the mode does not allow it
	holdFight        // another writer keeps undoing it
	holdNeeds        // something it needs is not ready
	holdKeep         // an orphan that stays for now, or for good
	holdBehind       // a step before it is held
	holdLate         // a removal whose time has not come
	holdLease        // another forged acts here
)

// held is a step and what the gate says of it.
type held struct {
	step Step
	hold hold
	why  string
	at   time.Time // holdFight, holdWindow, holdLease: when it may be tried again
	from forge.ID  // holdLate: what it waits for
}

// gate decides for every step whether it is carried out now. It also tells
// the observer of drift and fights not told before.
func (e *Engine) gate(j *job, steps []Step) []held {
	now := time.Now()
	out := make([]held, len(steps))
	var drifts []Reason
	var fights []held

	e.mu.Lock()
	u := j.unit
	keep, forever := "", false
	if j.orphan {
		keep, forever = e.keep(j)
	}
	blocked := ""
	if forever {
		u.deletes, u.deleteCount = nil, 0 // what stays takes nothing away from what may go
	} else {
		blocked = e.overdelete(j, steps)
	}
	behind := ""
	u.permits = nil
	for i, s := range steps {
		if s.Blocked == "" && len(s.Destroys) > 0 {
			u.permits = append(u.permits, permit(s))
			s.guard(j.env.Policy, func(token string) bool { return e.approved[token] })
		}
		if s.Blocked == "" && s.Deletes > 0 {
			s.Blocked = blocked
		}
		h := held{step: s}
		h.hold, h.why, h.at = e.holdOf(j, s, keep, forever, behind, now)
		if h.hold == holdNone && s.Late {
			if h.from, h.why = e.late(j, steps[:i]); h.why != "" {
				h.hold = holdLate
			}
		}
		if h.hold != holdNone && s.Rollout() && !s.Late {
			behind = s.subject()
		}
		if b := u.bouts[boutKey(s)]; h.hold == holdFight && !b.told.Equal(h.at) {
			b.told = h.at
			fights = append(fights, h)
		}
		if key := keyOf(s); !s.Rollout() && !slices.Contains(u.drifts, key) {
			u.drifts = append(u.drifts, key)
			drifts = append(drifts, s.Reason)
		}
		out[i] = h
	}
	u.drifts = slices.DeleteFunc(u.drifts, func(k driftKey) bool {
		return !slices.ContainsFunc(steps, func(s Step) bool { return !s.Rollout() && keyOf(s) == k })
	})
	e.mu.Unlock()

	for _, r := range drifts {
		e.observer.Drift(j.id, r)
	}
	for _, f := range fights {
		e.observer.Fight(j.id, f.step.Object, f.step.Reason.Writer)
		e.log.Warn("fight", "environment", j.id.Environment, "resource", j.id.String(),
			"object", f.step.Object, "writer", f.step.Reason.Writer, "next", f.at)
	}
	return out
}

// holdOf judges one step. The caller holds mu.
func (e *Engine) holdOf(j *job, s Step, keep string, forever bool, behind string, now time.Time) (hold, string, time.Time) {
	none, mode, open := forge.ID{}, j.env.Policy.Mode, opens(j.env.Policy.Windows, now)
	switch {
	case j.env.Down && keep != "" && !forever:
		return holdKeep, keep, time.Time{} // what blocks it now may go before its turn
	case forever:
		return holdMode, keep, time.Time{} // whatever blocks it, nobody has asked for it to go
	case s.Blocked != "":
		return holdBlocked, "", time.Time{}
	case keep != "":
		return holdKeep, keep, time.Time{}
	case mode != forge.ModeApply && mode != forge.ModeHeal, mode == forge.ModeHeal && s.Rollout():
		return holdMode, "mode is " + string(mode), time.Time{}
	case open.After(now):
		return holdWindow, "no change before " + open.UTC().Format(time.RFC3339) + ", by policy.windows", open
	case s.Rollout() && j.waiting != none:
		return holdNeeds, "until " + j.waiting.String() + " is ready", time.Time{}
	case s.Rollout() && behind != "":
		return holdBehind, "after " + behind, time.Time{}
	}
	if b := j.unit.bouts[boutKey(s)]; b != nil {
		if at := b.next(now); at.After(now) {
			return holdFight, "fight with " + b.opponent() + ", again at " + at.UTC().Format(time.TimeOnly), at
		}
	}
	return holdNone, "", time.Time{}
}

// late says why it is too early for a removal from a resource that stays: what
// it removes may be in use until everything else has moved on, and so is what
// comes before it in the same pass. Empty: it is not. The caller holds mu.
func (e *Engine) late(j *job, before []Step) (from forge.ID, why string) {
	env := j.env
	for _, s := range before {
		if !s.Late {
			return j.id, "after " + s.subject()
		}
	}
	for _, id := range env.graph.order {
		if id != j.id && !e.isReady(id) {
			return id, "until " + id.String() + " is ready"
		}
	}
	if s := e.sweeps[env.Name]; s != nil && !s.done {
		return j.id, "not everything that is owned here is known yet"
	}
	for _, id := range sortedKeys(e.units) {
		if o := e.units[id]; o.orphan && id.Environment == env.Name && slices.Contains(o.resource.Needs, j.id) {
			return id, "until " + id.String() + ", which needs it, is gone"
		}
	}
	return forge.ID{}, ""
}

// boutKey tells heals of an object from rollouts of it.
func boutKey(s Step) string {
	if s.Rollout() {
		return s.Object + "\x00rollout"
	}
	return s.Object
}

// objectOf is the object of a bout's key.
func objectOf(key string) string {
	object, _, _ := strings.Cut(key, "\x00")
	return object
}

// overdelete says why the steps that delete may not be carried out: together
// with what has been deleted and what others are about to delete in the
// environment they are too many. Empty: they may. The caller holds mu.
func (e *Engine) overdelete(j *job, steps []Step) string {
	u := j.unit
	u.deletes, u.deleteCount = deletesOf(steps)
	total, names := e.deleted[j.env.Name], []string(nil)
	for _, id := range sortedKeys(e.units) {
		if o := e.units[id]; id.Environment == j.env.Name && len(o.deletes) > 0 {
			total += o.deleteCount
			names = append(names, o.deletes...)
		}
	}
	if len(u.deletes) == 0 {
		return ""
	}
	return tooMany(j.env.Name, j.env.Policy.MaxDelete, total, names)
}

// tooMany says that total is more than most, and what to do; empty: it is not.
func tooMany(environment string, most, total int, names []string) string {
	if total <= most {
		return ""
	}
	const shown = 10
	list := strings.Join(names[:min(shown, len(names))], ", ")
	if len(names) > shown {
		list += fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return fmt.Sprintf("%d objects of environment %s would be deleted, policy.maxDelete is %d: %s; "+
		"if that is meant, set policy.maxDelete to %d or more in forge.cue", total, environment, most, list, total)
}

// deletesOf names what steps would delete, and counts the objects.
func deletesOf(steps []Step) (names []string, count int) {
	for _, s := range steps {
		if s.Blocked != "" || s.Deletes == 0 {
			continue
		}
		name := s.subject()
		if s.Deletes > 1 {
			name += fmt.Sprintf(" (%d objects)", s.Deletes)
		}
		names = append(names, name)
		count += s.Deletes
	}
	return names, count
}

// applied takes down that a step was carried out, or was tried. better is the
// reason as applying it showed it, if it did.
func (e *Engine) applied(j *job, s Step, better *Reason, err error, began time.Time) {
	now, planned := time.Now(), keyOf(s)
	if better != nil {
		s.Reason = *better
	}
	a := &ActionStatus{
		ID: j.id, Action: s.Action, Object: s.Object, Reason: s.Reason.String(),
		At: began, Seconds: now.Sub(began).Seconds(),
	}
	if err != nil {
		a.Error = err.Error()
	}
	stale := err != nil && KindOf(err) == Stale

	e.mu.Lock()
	u := j.unit
	if !stale {
		u.last = a
		e.remember(*a)
	}
	if err == nil {
		u.drifts = slices.DeleteFunc(u.drifts, func(k driftKey) bool { return k == planned })
		e.deleted[j.env.Name] += s.Deletes
		if len(s.Destroys) > 0 {
			delete(e.approved, permit(s))
		}
		u.deleteCount = max(0, u.deleteCount-s.Deletes)
		if u.deleteCount == 0 {
			u.deletes = nil
		}
		if j.epoch == u.epoch {
			u.bout(boutKey(s)).healed(now, s.Reason.Writer)
		}
	}
	e.touch()
	e.mu.Unlock()

	if err != nil {
		return // finish tells
	}
	e.observer.Stepped(j.id, s.Action)
	e.log.Info(string(s.Action), "environment", j.id.Environment, "resource", j.id.String(),
		"object", s.Object, "action", string(s.Action), "reason", s.Reason.String(),
		"writer", s.Reason.Writer, "duration", now.Sub(began))
	if !s.Rollout() {
		since := j.event
		if since.IsZero() || since.After(now) {
			since = j.began
		}
		e.observer.Healed(j.id, s.Reason, now.Sub(since))
	}
}
