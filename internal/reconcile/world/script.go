package world

import (
	"maps"
	"slices"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Fail runs f before every call of an operation (observe, plan, apply, owned,
// watch) and fails the call with what f returns; nil f ends that. A zero id
// means all resources. f may also wait, or panic.
func (w *World) Fail(op string, id forge.ID, f func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if id != (forge.ID{}) {
		op += " " + id.String()
	}
	w.faults[op] = f
}

// Lose lets the next n applies of a resource take effect and then lose their
// answer.
func (w *World) Lose(id forge.ID, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost[id] = n
}

// Interrupt leaves a resource as if an apply had died half way.
func (w *World) Interrupt(id forge.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rec := w.owned[id]; rec != nil {
		rec.pending = true
		w.rev[id]++
	}
}

// CutAfter lets n more writes of ours through; then every call fails, until
// CutAfter is called with a negative number.
func (w *World) CutAfter(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = n
}

// Slow makes a resource take d from an apply until it is ready.
func (w *World) Slow(id forge.ID, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow[id] = d
}

// SetHealth fixes the health of a resource and sends an event; a zero health
// lets it go.
func (w *World) SetHealth(id forge.ID, h reconcile.Health) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h == (reconcile.Health{}) {
		delete(w.health, id)
	} else {
		w.health[id] = h
	}
	w.tell(reconcile.Event{ID: id, Cause: "health", At: time.Now()})
}

// SetNotices says what is worth knowing of a resource, and sends an event.
func (w *World) SetNotices(id forge.ID, notices ...reconcile.Notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notices[id] = notices
	w.tell(reconcile.Event{ID: id, Cause: "health", At: time.Now()})
}

// Edit writes an object as somebody else.
func (w *World) Edit(id forge.ID, object, value, writer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.live[id][object]
	if o.UID == 0 {
		w.uids++
		o.UID = w.uids
	}
	o.Value, o.Writer = value, writer
	w.put(id, object, o)
	w.rev[id]++
	w.tell(reconcile.Event{ID: id, Cause: "live", At: time.Now(), Object: object})
}

// Delete deletes an object as somebody else.
func (w *World) Delete(id forge.ID, object string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.live[id], object)
	w.rev[id]++
	w.tell(reconcile.Event{ID: id, Cause: "live", At: time.Now(), Object: object})
}

// Rival answers every write of ours to an object with its own value; an empty
// value ends that.
func (w *World) Rival(id forge.ID, object, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if value == "" {
		delete(w.rivals, id.String()+" "+object)
		return
	}
	w.rivals[id.String()+" "+object] = value
}

// Event sends an event about a resource.
func (w *World) Event(id forge.ID, cause string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell(reconcile.Event{ID: id, Cause: cause, At: time.Now()})
}

// DropEvents loses the events that nobody has watched for yet.
func (w *World) DropEvents() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.early = nil
}

// SetFollows has the world say that its events tell of every change.
func (w *World) SetFollows(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.follows = yes
}

// SetDeaf loses all events from now on.
func (w *World) SetDeaf(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = yes
}

// Live is what lives of a resource: names to values.
func (w *World) Live(id forge.ID) map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]string{}
	for name, o := range w.live[id] {
		out[name] = o.Value
	}
	return out
}

// Inventory lists the ids of what is owned.
func (w *World) Inventory() []forge.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.SortedFunc(maps.Keys(w.owned), forge.ID.Compare)
}

// Count is how often something happened: observe, plan, apply, owned, watch
// calls, and single object writes ("write") and deletes ("delete").
func (w *World) Count(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[what]
}

// Calls lists the calls of one operation since the last Forget, in order.
func (w *World) Calls(op string) []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Call
	for _, c := range w.calls {
		if c.Op == op {
			out = append(out, c)
		}
	}
	return out
}

// Forget sets all counts back.
func (w *World) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.counts = nil, map[string]int{}
}
