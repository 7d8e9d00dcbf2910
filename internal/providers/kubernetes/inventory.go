package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Entry is one object a resource owns.
type Entry struct {
	Ref      Ref      `json:"ref"`
	Desired  string   `json:"desired,omitempty"` // hash of what we sent; never reversible to a secret
	Baseline Baseline `json:"baseline,omitzero"`
	Keep     bool     `json:"keep,omitempty"` // is left in the cluster when it is no longer wanted

	// Of is the uid of the StatefulSet that a claim was made for by its controller:
	// see Volumes.
	Of string `json:"of,omitempty"`

	// Generated are the keys of a Secret whose values are known to the cluster
	// only, each with its rotation: "password=0,token=2".
	Generated string `json:"generated,omitempty"`
}

// Record is what one resource owns.
type Record struct {
	ID       forge.ID   `json:"id"`
	Name     string     `json:"name,omitempty"`     // in the cluster, where the resource itself has one: a release's
	Revision int        `json:"revision,omitempty"` // of the release
	Pending  bool       `json:"pending,omitempty"`  // an action has begun and was not seen to end
	Needs    []forge.ID `json:"needs,omitempty"`    // what the resource needed, for the order of removals
	Entries  []Entry    `json:"entries"`

	// Detail is what the provider of the resource notes beside it. It holds no
	// secret, and is not changed once it is in a record.
	Detail json.RawMessage `json:"detail,omitempty"`
}

func (r Record) clone() Record {
	r.Needs, r.Entries = slices.Clone(r.Needs), slices.Clone(r.Entries)
	return r
}

// Put lists an object as it is now, in the place of what was listed of it.
func (r *Record) Put(e Entry) {
	if i := slices.IndexFunc(r.Entries, func(old Entry) bool { return old.Ref.Same(e.Ref) }); i >= 0 {
		r.Entries[i] = e
	} else {
		r.Entries = append(r.Entries, e)
	}
}

// Inventory is what this forged owns in one environment of one cluster. It is
// kept beside what it lists, in a ConfigMap of the environment's namespace,
// and holds names, uids and digests: no values.
type Inventory struct {
	c   *Cluster
	key inventoryKey

	turn chan struct{} // lock around writes of the ConfigMap

	// Guarded by Cluster.mu:
	records map[forge.ID]Record
	left    []Left
	busy    map[forge.ID]*busy
	stored  stored
	holder  string // who writes; empty unless there is a lease
	dirty   bool   // rebased since the last write
	tidied  bool   // parts that a crash has left were looked for
	wake    chan struct{}
}

type inventoryKey struct{ environment, namespace string }

// busy marks a resource with an action under way.
type busy struct{ health bool } // whether health moved meanwhile

// inventorySlot serialises the first load.
type inventorySlot struct {
	turn chan struct{}
	inv  *Inventory
}

// Inventory returns the inventory of an environment. It is read once; one that
// does not exist is empty; a read error means that nothing is known.
func (c *Cluster) Inventory(ctx context.Context, environment, namespace string) (*Inventory, error) {
	key := inventoryKey{environment, namespace}
	c.mu.Lock()
	slot := c.inventories[key]
	if slot == nil {
		slot = &inventorySlot{turn: make(chan struct{}, 1)}
		c.inventories[key] = slot
	}
	inv := slot.inv
	c.mu.Unlock()
	if inv != nil {
		return inv, nil
	}
	select {
	case slot.turn <- struct{}{}:
		defer func() { <-slot.turn }()
	case <-ctx.Done():
		return nil, Classify("read the inventory of "+environment, Ref{}, ctx.Err())
	}
	c.mu.Lock()
	inv = slot.inv
	c.mu.Unlock()
	if inv != nil {
		return inv, nil
	}
	inv = &Inventory{
		c: c, key: key,
		turn:    make(chan struct{}, 1),
		records: map[forge.ID]Record{},
		busy:    map[forge.ID]*busy{},
		wake:    make(chan struct{}, 1),
	}
	read, at, err := inv.load(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	inv.adopt(read, at)
	if !c.verifying {
		c.verifying = c.start(c.verification.run)
	}
	if !c.start(inv.flushLoop) {
		return nil, reconcile.Errorf(reconcile.Unavailable, "read the inventory of "+environment, "shutting down")
	}
	slot.inv = inv
	return inv, nil
}

// adopt takes what was read for the truth. The caller holds c.mu.
func (inv *Inventory) adopt(read contents, at stored) {
	for id := range inv.records {
		inv.unindex(id)
	}
	inv.records, inv.left, inv.stored, inv.dirty = read.records, read.left, at, false
	for id := range inv.records {
		inv.reindex(id)
	}
}

// unindex makes events of a resource's objects be nobody's. The caller holds
// c.mu.
func (inv *Inventory) unindex(id forge.ID) {
	for _, e := range inv.records[id].Entries {
		if t := inv.c.index[e.Ref.id()]; t != nil && t.inv == inv && t.id == id {
			delete(inv.c.index, e.Ref.id())
		}
	}
}

func (inv *Inventory) reindex(id forge.ID) {
	for _, e := range inv.records[id].Entries {
		inv.c.index[e.Ref.id()] = &tracked{inv: inv, id: id, entry: e}
		if e.Baseline.Lens != "" {
			inv.c.setLens(e.Ref, e.Baseline.Lens)
		}
	}
}

// Record is what a resource owns; false if it owns nothing.
func (inv *Inventory) Record(id forge.ID) (Record, bool) {
	inv.c.mu.Lock()
	defer inv.c.mu.Unlock()
	r, ok := inv.records[HomeID(id)]
	return r.clone().seenFrom(id), ok
}

// IDs are the resources that own something, sorted.
func (inv *Inventory) IDs() []forge.ID {
	inv.c.mu.Lock()
	defer inv.c.mu.Unlock()
	ids := make([]forge.ID, 0, len(inv.records))
	for id := range inv.records {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, forge.ID.Compare)
	return ids
}

// Begin announces an action: what the resource owns and what it is about to
// own is written down before anything is applied, so that a crash leaves
// nothing that nobody knows of. Of those about to be owned, keep are to stay in
// the cluster when they are not wanted any more: who is cut here knows that too.
// Until Commit or Abort its events are held back.
func (inv *Inventory) Begin(ctx context.Context, id forge.ID, pending []Ref, keep ...Ref) error {
	inv.c.warm(ctx, pending)
	id = HomeID(id)
	err := inv.update(ctx, func() func() {
		old, had := inv.records[id]
		r := old.clone()
		r.ID, r.Pending = id, true
		for _, ref := range pending {
			// A manifest that moves to another version of a kind means the same
			// object: noted as another one, the old would be pruned.
			i := slices.IndexFunc(r.Entries, func(e Entry) bool { return e.Ref.Same(ref) })
			if i < 0 {
				i, r.Entries = len(r.Entries), append(r.Entries, Entry{})
			}
			r.Entries[i].Ref = ref
			r.Entries[i].Keep = r.Entries[i].Keep || slices.Contains(keep, ref)
		}
		inv.set(r)
		inv.busy[id] = &busy{}
		return func() {
			delete(inv.busy, id)
			inv.unindex(id)
			delete(inv.records, id)
			if had {
				inv.set(old)
			}
		}
	})
	return aboutResource(err, id)
}

// Commit writes down what a resource owns after an action and judges what
// happened to its objects meanwhile. If it cannot be written, the record stays
// pending and the action is to be repaired.
func (inv *Inventory) Commit(ctx context.Context, r Record) error {
	refs := make([]Ref, 0, len(r.Entries))
	for _, e := range r.Entries {
		refs = append(refs, e.Ref)
	}
	inv.c.warm(ctx, refs)
	r = r.atHome()
	err := inv.update(ctx, func() func() {
		inv.set(r.clone())
		return func() {
			undone := r.clone()
			undone.Pending = true
			inv.set(undone)
		}
	})
	inv.release(r.ID)
	return aboutResource(err, r.ID)
}

// Abort ends an action without a result: the record stays as Begin left it.
func (inv *Inventory) Abort(id forge.ID) { inv.release(HomeID(id)) }

// Rebase notes new baselines after objects were put back. It holds at once and
// is written down soon after.
func (inv *Inventory) Rebase(id forge.ID, entries ...Entry) {
	c, id := inv.c, HomeID(id)
	c.mu.Lock()
	r, ok := inv.records[id]
	if !ok {
		c.mu.Unlock()
		return
	}
	r = r.clone()
	for _, e := range entries {
		r.Put(e)
	}
	inv.set(r)
	inv.dirty = true
	events := inv.judgeAll(id)
	c.mu.Unlock()
	select {
	case inv.wake <- struct{}{}:
	default: // it is awake
	}
	c.clusters.publish(events)
}

// Note puts a provider's detail into a record. Like Rebase it holds at once
// and is written down with the next write, or soon after; false if the
// resource owns nothing.
func (inv *Inventory) Note(id forge.ID, detail json.RawMessage) bool {
	c, id := inv.c, HomeID(id)
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := inv.records[id]
	if !ok || bytes.Equal(r.Detail, detail) {
		return ok
	}
	r.Detail = detail
	inv.records[id] = r
	inv.dirty = true
	select {
	case inv.wake <- struct{}{}:
	default: // it is awake
	}
	return true
}

// Drop forgets a resource that owns nothing any more.
func (inv *Inventory) Drop(ctx context.Context, id forge.ID) error {
	id = HomeID(id)
	err := inv.update(ctx, func() func() {
		old, had := inv.records[id]
		inv.unindex(id)
		delete(inv.records, id)
		return func() {
			if had {
				inv.set(old)
			}
		}
	})
	inv.release(id)
	return aboutResource(err, id)
}

// set puts a record in place of the old one. The caller holds c.mu.
func (inv *Inventory) set(r Record) {
	inv.unindex(r.ID)
	inv.records[r.ID] = r
	inv.reindex(r.ID)
}

// release lets events of a resource through again, first those held back.
func (inv *Inventory) release(id forge.ID) {
	c := inv.c
	c.mu.Lock()
	was := inv.busy[id]
	delete(inv.busy, id)
	var events []reconcile.Event
	if was != nil {
		events = inv.judgeAll(id)
		if was.health {
			events = append(events, reconcile.Event{ID: id, Cause: causeHealth, At: time.Now()})
		}
	}
	c.mu.Unlock()
	c.clusters.publish(events)
}

// judgeAll compares all objects of a resource with what was seen last. The
// caller holds c.mu.
func (inv *Inventory) judgeAll(id forge.ID) []reconcile.Event {
	r := inv.records[id]
	if r.Pending {
		return nil // whoever left it so knows
	}
	var events []reconcile.Event
	for _, e := range r.Entries {
		if state, known := inv.c.lastSeen(e.Ref); known {
			events = append(events, inv.c.judge(e.Ref, state, state)...)
		}
	}
	return events
}

// warm starts the watches of objects about to be applied, so that they are
// complete when their health is asked for. Failing here is told there.
func (c *Cluster) warm(ctx context.Context, refs []Ref) {
	for _, ref := range refs {
		_, _ = c.watchOf(ctx, ref)
	}
}
