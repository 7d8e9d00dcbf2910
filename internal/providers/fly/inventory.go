package fly

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Entry is one thing that a resource owns.
type Entry struct {
	Kind     string `json:"kind"` // app, ip, volume, …
	Name     string `json:"name"`
	Identity string `json:"identity,omitempty"` // what tells it from another one of this name; empty: not known yet
}

// Record is what one resource owns.
type Record struct {
	ID      forge.ID   `json:"id"`
	Pending bool       `json:"pending,omitempty"` // an action has begun and was not seen to end
	Needs   []forge.ID `json:"needs,omitempty"`   // what the resource needed, for the order of removals

	// Spec is what was asked for, as EncodeSpec writes it: by it the resource is
	// removed when forge.cue no longer knows it.
	Spec    json.RawMessage   `json:"spec,omitempty"`
	Entries []Entry           `json:"entries,omitempty"`
	Data    map[string]string `json:"data,omitempty"` // the provider's own; no secret
}

func (r Record) clone() Record {
	r.Needs, r.Entries, r.Data = slices.Clone(r.Needs), slices.Clone(r.Entries), maps.Clone(r.Data)
	return r
}

// Inventory is what this forged owns in one environment of one organization.
type Inventory struct {
	org *Org
	key inventoryKey
	log *slog.Logger

	turn chan struct{} // lock around everything that reads or writes what is stored

	mu      sync.Mutex
	records map[forge.ID]Record // as they are stored
	hashKey []byte              // nil until something is written
	at      stored
	stale   bool   // somebody else wrote
	next    *batch // what is to be written next
	writing bool   // somebody writes
	shown   string // version that the last listing showed
}

// inventoryKey names an inventory in an organization.
type inventoryKey struct{ environment, app string }

// inventorySlot serialises the first reading.
type inventorySlot struct {
	turn chan struct{}
	inv  *Inventory
}

// Inventory returns the inventory of an environment. It is read once, and again
// when somebody else has written it. One that does not exist is empty; an error
// means that nothing is known.
func (o *Org) Inventory(ctx context.Context, environment string, account forge.FlyAccount) (*Inventory, error) {
	if account.Inventory == "" {
		return nil, &reconcile.Error{
			Kind: reconcile.Invalid, Op: "read the inventory of", Object: environment,
			Err: errors.New("no app is named that keeps it"), Hint: "set platform.inventory",
		}
	}
	key := inventoryKey{environment, account.Inventory}
	o.mu.Lock()
	slot := o.inventories[key]
	if slot == nil {
		// forge.cue names one for each environment: the one before is over.
		maps.DeleteFunc(o.inventories, func(k inventoryKey, _ *inventorySlot) bool { return k.environment == environment })
		slot = &inventorySlot{turn: make(chan struct{}, 1)}
		o.inventories[key] = slot
	}
	inv := slot.inv
	o.mu.Unlock()
	if inv == nil {
		select {
		case slot.turn <- struct{}{}:
			defer func() { <-slot.turn }()
		case <-ctx.Done():
			return nil, Classify("read the inventory of", environment, ctx.Err())
		}
		o.mu.Lock()
		inv = slot.inv
		o.mu.Unlock()
	}
	if inv == nil {
		inv = &Inventory{
			org: o, key: key, log: o.log, turn: make(chan struct{}, 1),
			records: map[forge.ID]Record{}, stale: true,
		}
		if err := inv.refresh(ctx); err != nil {
			return nil, err
		}
		o.mu.Lock()
		slot.inv = inv
		o.mu.Unlock()
		return inv, nil
	}
	if err := inv.refresh(ctx); err != nil {
		return nil, err
	}
	return inv, nil
}

// refresh reads the inventory if somebody else has written it.
func (i *Inventory) refresh(ctx context.Context) error {
	i.mu.Lock()
	stale := i.stale
	i.mu.Unlock()
	if !stale {
		return nil
	}
	if err := i.lock(ctx); err != nil {
		return err
	}
	defer i.unlock()
	i.mu.Lock()
	stale = i.stale
	i.mu.Unlock()
	if !stale {
		return nil
	}
	return i.load(ctx)
}

func (i *Inventory) lock(ctx context.Context) error {
	select {
	case i.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return Classify("wait for", i.object(), ctx.Err())
	}
}

func (i *Inventory) unlock() { <-i.turn }

func (i *Inventory) object() string {
	return "the inventory of " + i.key.environment + " (app " + i.key.app + ")"
}

// Record is what a resource owns; false if it owns nothing.
func (i *Inventory) Record(id forge.ID) (Record, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r, ok := i.records[id]
	return r.clone(), ok
}

// IDs are the resources that own something, sorted.
func (i *Inventory) IDs() []forge.ID {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.SortedFunc(maps.Keys(i.records), forge.ID.Compare)
}

// Begin announces an action: what the resource owns and is about to own is
// written down before anything is made, so that nothing is made that nobody
// knows of. The record is pending until Commit.
func (i *Inventory) Begin(ctx context.Context, r Record) error {
	r = r.clone()
	r.Pending = true
	return i.put(ctx, r)
}

// Commit writes down what a resource owns after an action. If it cannot be
// written, the record stays pending and the action is to be repaired.
func (i *Inventory) Commit(ctx context.Context, r Record) error {
	r = r.clone()
	r.Pending = false
	return i.put(ctx, r)
}

func (i *Inventory) put(ctx context.Context, r Record) error {
	i.mu.Lock()
	old, ok := i.records[r.ID]
	same := ok && !i.stale && i.next == nil && !i.writing && sameRecord(old, r)
	i.mu.Unlock()
	if same {
		return nil
	}
	return i.update(ctx, func(records map[forge.ID]Record) error {
		if now, is := records[r.ID]; (is != ok || is && !sameRecord(now, old)) && !sameRecord(now, r) {
			return i.overtaken(r.ID)
		}
		records[r.ID] = r
		return nil
	})
}

// overtaken is the refusal to write over what another process has written of a
// resource since it was read: an old state must not bury a newer one.
func (i *Inventory) overtaken(id forge.ID) error {
	return &reconcile.Error{
		Kind: reconcile.Stale, ID: id, Op: "write", Object: i.object(),
		Err: errors.New("another process has written of this resource meanwhile"),
	}
}

func sameRecord(a, b Record) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// Drop forgets a resource that owns nothing any more.
func (i *Inventory) Drop(ctx context.Context, id forge.ID) error {
	old, ok := i.Record(id)
	if !ok {
		return nil
	}
	return i.update(ctx, func(records map[forge.ID]Record) error {
		if now, is := records[id]; is && !sameRecord(now, old) {
			return i.overtaken(id)
		}
		delete(records, id)
		return nil
	})
}

// HashKey is what hashes in records are keyed with: who may read the inventory
// could find a short secret by trying otherwise. nil: nothing was written yet;
// Begin makes it.
func (i *Inventory) HashKey() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.hashKey)
}

// doubt says that what is stored may be another one than is known.
func (i *Inventory) doubt() {
	i.mu.Lock()
	i.stale = true
	i.mu.Unlock()
}

// isGone tells that the inventory was there once, and is not any more.
func (i *Inventory) isGone() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.at.gone
}

// listed is told which version of the inventory a listing shows; empty: there is
// none. A listing may lag: what it showed before, and what we know, say nothing.
// moved: somebody else has written it since.
func (i *Inventory) listed(version string) (moved bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if version != i.at.version && version != i.shown && !i.writing {
		moved = !i.stale
		i.stale = true
	}
	i.shown = version
	return moved
}
