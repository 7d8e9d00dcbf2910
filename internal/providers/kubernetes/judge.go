package kubernetes

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Causes of events.
const (
	causeLive   = "live"   // an object differs from its baseline
	causeHealth = "health" // an object's health status has changed
	causeWatch  = "watch"  // a watch works again after it had failed
	causeSource = "source" // a Secret that forge.cue refers to has changed
)

// tracked is an object some resource owns.
type tracked struct {
	inv   *Inventory
	id    forge.ID
	entry Entry
	told  State // the difference that was reported last, so that it is not again
}

// ownWrite is what is known of our own writes to an object in this process.
// Events of them often arrive before the response.
type ownWrite struct {
	inFlight int
	baseline Baseline // of the last response
	old      bool     // it was nobody's at the last sweep, and not written since
}

// beginWrite notes that a write of ours is under way and returns the resource
// version the object is known to have before it, "" if that is not known.
func (c *Cluster) beginWrite(ref Ref, lens Lens) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setLens(ref, lens)
	own := c.own[ref.id()]
	if own == nil {
		own = &ownWrite{}
		c.own[ref.id()] = own
	}
	own.inFlight++
	own.old = false
	state, known := c.lastSeen(ref)
	if !known || !state.Exists {
		return own.baseline.ResourceVersion
	}
	if olderThan(state.ResourceVersion, own.baseline.ResourceVersion) {
		return own.baseline.ResourceVersion
	}
	return state.ResourceVersion
}

// endWrite notes the outcome and judges what arrived meanwhile. The zero
// Baseline is one that no watch will show.
func (c *Cluster) endWrite(ref Ref, b Baseline) {
	c.mu.Lock()
	own := c.own[ref.id()]
	own.inFlight--
	if b.ResourceVersion != "" && !olderThan(b.ResourceVersion, own.baseline.ResourceVersion) {
		own.baseline = b
		c.refocus(ref, b)
	}
	var events []reconcile.Event
	if state, known := c.lastSeen(ref); known && own.inFlight == 0 {
		events = c.judge(ref, state, state)
	}
	if own.inFlight == 0 && own.baseline.ResourceVersion == "" {
		delete(c.own, ref.id())
	}
	c.mu.Unlock()
	c.clusters.publish(events)
}

// setLens has the watch of an object take digests through a lens from now on.
// The caller holds c.mu.
func (c *Cluster) setLens(ref Ref, lens Lens) {
	if lens == "" {
		delete(c.lenses, ref.id())
	} else {
		c.lenses[ref.id()] = lens
	}
	if c.unowned[ref.GVK.GroupKind()] == nil && lens.has(markProjects) {
		c.unowned[ref.GVK.GroupKind()] = &unowned{} // in a former life
	}
}

func (c *Cluster) lens(ref Ref) Lens {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lenses[ref.id()]
}

// refocus puts the digest of a baseline in the place of one that was taken of
// the same version of the object through another lens. The caller holds c.mu.
func (c *Cluster) refocus(ref Ref, b Baseline) {
	c.setLens(ref, b.Lens)
	for _, w := range c.watches {
		if !w.shows(ref) {
			continue
		}
		if s, ok := w.states[ref.key()]; ok && s.UID == b.UID && s.ResourceVersion == b.ResourceVersion {
			s.Digest, s.Lens, s.Writers = b.Digest, b.Lens, nil
			w.states[ref.key()] = s
		}
	}
}

// forget drops what is known of our writes to an object we have deleted.
func (c *Cluster) forget(ref Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.completed, ref.id())
	if own := c.own[ref.id()]; own != nil && own.inFlight == 0 {
		delete(c.own, ref.id())
		delete(c.lenses, ref.id())
	}
}

// forgetOrder drops all resource versions noted for a kind. The caller holds
// c.mu.
func (c *Cluster) forgetOrder(gk schema.GroupKind) {
	for ref, own := range c.own {
		if ref.GVK.GroupKind() == gk {
			own.baseline = Baseline{}
		}
	}
	for ref, t := range c.index {
		if ref.GVK.GroupKind() == gk {
			t.entry.Baseline.ResourceVersion = ""
		}
	}
}

// lastSeen is the state of an object in its watch, if there is one that is
// complete. The caller holds c.mu.
func (c *Cluster) lastSeen(ref Ref) (State, bool) {
	for _, w := range c.watches {
		if !w.shows(ref) {
			continue
		}
		if !w.synced {
			return State{}, false
		}
		state := w.states[ref.key()]
		if !state.Exists {
			state.ResourceVersion = w.rv
		}
		return state, true
	}
	return State{}, false
}

// judge decides which events a new state of an object is worth. Nothing is
// said about objects nobody owns, nor while an action or a write of ours is
// under way: what is left then is judged at its end. The caller holds c.mu and
// publishes the events without it.
func (c *Cluster) judge(ref Ref, old, now State) []reconcile.Event {
	t := c.index[ref.id()]
	if t == nil {
		return nil
	}
	healthMoved := old.Health.Status != now.Health.Status
	if busy := t.inv.busy[t.id]; busy != nil {
		busy.health = busy.health || healthMoved
		return nil
	}
	c.noteDone(ref, t, now)
	var events []reconcile.Event
	if healthMoved {
		events = append(events, reconcile.Event{ID: t.id, Cause: causeHealth, At: now.SeenAt, Object: ref.String()})
	}
	own := c.own[ref.id()]
	if own != nil && own.inFlight > 0 {
		return events
	}
	base := t.entry.Baseline
	if own != nil && own.baseline.ResourceVersion != "" && !olderThan(own.baseline.ResourceVersion, base.ResourceVersion) {
		base = own.baseline
	}
	switch {
	case base.matches(now), c.done(ref, base) && base.gone(now):
		t.told = State{}
		delete(c.verdicts, ref.id())
	case olderThan(now.ResourceVersion, base.ResourceVersion):
		// From before our last write.
	case sameDifference(t.told, now):
	default:
		t.told = now
		at := now.SeenAt
		if at.IsZero() {
			at = time.Now()
		}
		events = append(events, reconcile.Event{ID: t.id, Cause: causeLive, At: at, Object: ref.String()})
	}
	return events
}

// matches tells whether a state is that of the baseline.
func (b Baseline) matches(s State) bool {
	return s.Exists && !s.Deleting && s.UID == b.UID && s.Digest == b.Digest && s.Lens == b.Lens
}

func sameDifference(a, b State) bool {
	return !a.SeenAt.IsZero() && a.Exists == b.Exists && a.Deleting == b.Deleting && a.UID == b.UID && a.Digest == b.Digest && a.Lens == b.Lens
}

// eventsOf makes every resource look again that has objects in a watch. The
// caller holds c.mu.
func (c *Cluster) eventsOf(w *watch) []reconcile.Event {
	var ids []forge.ID
	for ref, t := range c.index {
		if w.shows(ref) {
			ids = append(ids, t.id)
		}
	}
	return watchEvents(ids)
}

// ownersOf are the resources that have objects of a kind. The caller holds
// c.mu.
func (c *Cluster) ownersOf(gk schema.GroupKind) []forge.ID {
	var ids []forge.ID
	for ref, t := range c.index {
		if ref.GVK.GroupKind() == gk {
			ids = append(ids, t.id)
		}
	}
	return ids
}

// trackedBy is the resource whose record lists an object; zero: none.
func (c *Cluster) trackedBy(ref Ref) forge.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.index[ref.id()]; t != nil {
		return t.id
	}
	return forge.ID{}
}

// owners are the resources that have objects in the cluster.
func (c *Cluster) owners() []forge.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []forge.ID
	for _, t := range c.index {
		ids = append(ids, t.id)
	}
	return ids
}

// watchEvents makes resources be looked at again, each once.
func watchEvents(ids []forge.ID) []reconcile.Event {
	slices.SortFunc(ids, forge.ID.Compare)
	var events []reconcile.Event
	for _, id := range slices.Compact(ids) {
		events = append(events, reconcile.Event{ID: id, Cause: causeWatch, At: time.Now()})
	}
	return events
}
