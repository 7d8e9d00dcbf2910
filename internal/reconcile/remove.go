package reconcile

import (
	"context"
	"slices"
	"time"

	"forged.dev/forged/internal/forge"
)

const emptyWish = "forge.cue asks for nothing in this environment: an empty wish never removes"

// sweep is the search for what an environment owns and no longer wants.
type sweep struct {
	done      bool
	unread    bool // a place where something was left could not be read: there may be more
	attempts  int
	err       error
	said      string   // of err, in the log: once for as long as it stays the same
	waits     forge.ID // whose output is missing: the way into a cluster, for example
	notBefore time.Time
}

// sweepID is the key of an environment's sweep in the queue; no resource has it.
func sweepID(environment string) forge.ID { return forge.ID{Environment: environment} }

func isSweep(id forge.ID) bool { return id == sweepID(id.Environment) }

// resweep has an environment swept, now. The caller holds mu.
func (e *Engine) resweep(environment string) {
	if len(e.owners()) == 0 {
		return
	}
	next := &sweep{}
	if s := e.sweeps[environment]; s != nil {
		next.err, next.said = s.err, s.said // shown until the next answer
	}
	e.sweeps[environment] = next
	if e.queue != nil {
		e.queue.Add(sweepID(environment))
	}
}

// owners lists the providers that keep an inventory.
func (e *Engine) owners() []Owner {
	var out []Owner
	for _, w := range e.watched() {
		if o, ok := w.provider.(Owner); ok {
			out = append(out, o)
		}
	}
	return out
}

// sweep asks the providers what they own in an environment and makes orphans
// of what is not wanted.
func (e *Engine) sweep(ctx context.Context, name string) {
	now := time.Now()
	e.mu.Lock()
	gen, s := e.gen.Load(), e.sweeps[name]
	if gen == nil || s == nil || s.done && !s.unread || gen.environments[name] == nil || gen.environments[name].Policy.Mode == forge.ModePaused {
		e.mu.Unlock()
		return
	}
	env := gen.environments[name]
	if wait := s.notBefore.Sub(now); wait > 0 {
		e.after(sweepID(name), wait)
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()

	e.claim(ctx, env)
	owned, err := e.owned(ctx, env)
	if ctx.Err() != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sweeps[name] != s || e.gen.Load() != gen {
		return // a newer one is in the queue
	}
	if err != nil || s.err != nil {
		e.touch()
	}
	for _, r := range owned {
		if u := e.units[r.ID]; u != nil && !u.recorded {
			// From before a restart: it is kept as it is, whatever becomes of
			// what it needs. Who waits for nothing is looked at without this,
			// and may have been made while the list was asked for.
			u.recorded = true
			if !u.seen && slices.ContainsFunc(u.resource.Needs, func(need forge.ID) bool { return !e.isReady(need) }) {
				e.enqueue(u)
			}
		}
	}
	s.waits = forge.ID{}
	if s.err = err; err != nil {
		s.done = false
		s.attempts++
		r := react(err, s.attempts, staleInRow+1)
		wait := max(r.after, r.block, retryFirst)
		if missing, waits := waitingOf(err); waits {
			wait = backoff(retryFirst, s.attempts)
			if u := e.units[missing.From]; u == nil || !has(u.outputs, missing.Output) { // else it has come meanwhile
				s.waits = missing.From
			}
		}
		s.notBefore = now.Add(wait)
		e.after(sweepID(name), wait)
		// What has yet to be made tells nothing of what is owned there.
		if text := err.Error(); text != s.said && KindOf(err) != Waiting {
			s.said = text
			e.log.Warn("could not list what is owned; nothing is removed until then",
				"environment", name, "kind", KindOf(err), "error", err, "retry", wait)
		}
		return
	}
	s.done, s.said = true, ""
	if s.unread = slices.ContainsFunc(owned, func(r forge.Resource) bool { return r.Unread }); s.unread {
		// It is listed anew, also when a look at it finds nothing wrong. Nothing
		// else waits for that.
		s.attempts++
		wait := backoff(retryFirst, s.attempts)
		s.notBefore = now.Add(wait)
		e.after(sweepID(name), wait)
	}
	e.tidyLeft(name, owned)
	for _, r := range owned {
		p := e.providers[r.ID.Kind]
		if r.ID.Environment != name || gen.nodes[r.ID] != nil || e.units[r.ID] != nil || p == nil {
			continue
		}
		u := newUnit(r.ID, now)
		u.resource, u.provider, u.orphan = r, p, true
		e.units[r.ID] = u
		e.touch()
	}
	e.release(name)
	e.wakeOrphans(name)
}

// tidyLeft lets go of what is known of other places than the list of what is owned
// says: what was wanted there before this generation, and is listed by a name of
// its own now; and what was listed by such a name, and is no more, unless its place
// could not be read. The caller holds mu.
func (e *Engine) tidyLeft(environment string, owned []forge.Resource) {
	type at struct {
		id     forge.ID
		target forge.Target
	}
	listed, renamed, unread := map[forge.ID]bool{}, map[at]bool{}, map[forge.Target]bool{}
	for _, r := range owned {
		listed[r.ID] = true
		unread[r.Target] = unread[r.Target] || r.Unread
		if home, _, _, left := r.ID.Home(); left {
			renamed[at{home, r.Target}] = true
		}
	}
	for id, u := range e.units {
		if !u.orphan || id.Environment != environment || listed[id] {
			continue
		}
		if isLeft(id) && !unread[u.resource.Target] || renamed[at{id, u.resource.Target}] {
			delete(e.units, id)
			e.touch()
		}
	}
}

func has(outputs Outputs, name string) bool {
	_, ok := outputs[name]
	return ok
}

// wakeSweep has an environment swept that has waited for an output of id. The
// caller holds mu.
func (e *Engine) wakeSweep(id forge.ID) {
	s := e.sweeps[id.Environment]
	if s == nil || s.done || s.waits != id {
		return
	}
	s.waits, s.attempts, s.notBefore = forge.ID{}, 0, time.Time{}
	if e.queue != nil {
		e.queue.Add(sweepID(id.Environment))
	}
}

// owned lists what is owned in an environment. With an error it is not all.
func (e *Engine) owned(ctx context.Context, env *environment) ([]forge.Resource, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	places := env.places()
	if !env.Down { // who takes an environment down means the place where it is
		places = append(places, env.Former...)
	}
	var all []forge.Resource
	var first error // the others most likely say the same
	for _, o := range e.owners() {
		rs, err := e.askOwner(ctx, o, env.Name, places)
		if _, waits := waitingOf(first); err != nil && (first == nil || waits) {
			first = err
		}
		all = append(all, rs...)
	}
	if env.Down { // owners know of other places by themselves too
		all = slices.DeleteFunc(all, func(r forge.Resource) bool { return isLeft(r.ID) })
	}
	return all, first
}

// isLeft tells of what was left where its environment was before.
func isLeft(id forge.ID) bool {
	_, _, _, left := id.Home()
	return left
}

func (e *Engine) askOwner(ctx context.Context, o Owner, environment string, wanted []forge.Resource) (rs []forge.Resource, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = e.panicked(sweepID(environment), "list owned", r)
		}
	}()
	return o.Owned(ctx, environment, wanted)
}

// wakeOrphans has everything looked at that waits with a removal until the
// rest of an environment is ready. The caller holds mu.
func (e *Engine) wakeOrphans(environment string) {
	for id, u := range e.units {
		if (u.orphan || u.late) && id.Environment == environment {
			e.enqueue(u)
		}
	}
}

// keep says why an orphan is not removed now; empty: it is. forever tells
// that only a new config changes that. The caller holds mu.
func (e *Engine) keep(j *job) (why string, forever bool) {
	env := j.env
	switch {
	case env.Policy.Mode != forge.ModeApply:
		return "mode is " + string(env.Policy.Mode), true
	case !env.Policy.Prune:
		return "policy.prune is none", true
	case env.graph.Len() == 0 && !env.Down:
		return emptyWish, true
	}
	if s := e.sweeps[env.Name]; s != nil && !s.done {
		return "not everything that is owned here is known yet", false
	}
	for _, id := range env.graph.order {
		if !e.isReady(id) {
			return "until " + id.String() + " is ready", false
		}
	}
	for _, id := range sortedKeys(e.units) {
		o := e.units[id]
		if id == j.id || !o.orphan || id.Environment != env.Name {
			continue
		}
		for _, need := range o.resource.Needs {
			if need == j.id {
				return "until " + id.String() + ", which needs it, is gone", false
			}
		}
		if !o.looked {
			return "until " + id.String() + " has been looked at", false
		}
	}
	return "", false
}
