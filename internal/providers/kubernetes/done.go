package kubernetes

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/reconcile"
)

// A Job or a Pod that has completed may vanish: by its time to live, or because somebody
// tidies up. Making it again would run it again, so that it has completed is
// written down, and gone is in sync then.

var (
	jobKind = schema.GroupKind{Group: "batch", Kind: "Job"}
	podKind = schema.GroupKind{Kind: "Pod"}
)

// completed tells whether an object has come to its end, and well: not one that
// is stopped by being deleted.
func completed(obj *unstructured.Unstructured, h reconcile.Health) bool {
	if obj.GetDeletionTimestamp() != nil || h.Status != reconcile.Ready {
		return false
	}
	switch obj.GroupVersionKind().GroupKind() {
	case jobKind:
		return true
	case podKind:
		phase, _, _ := unstructured.NestedString(obj.Object, "status", "phase")
		return phase == "Succeeded"
	}
	return false
}

// complete notes that an object has. The caller holds c.mu.
func (c *Cluster) complete(ref Ref, s State) {
	if s.Completed {
		c.completed[ref.id()] = s.UID
	}
}

// done tells whether the object of a baseline is one that has completed. The
// caller holds c.mu.
func (c *Cluster) done(ref Ref, b Baseline) bool {
	return b.Done || b.UID != "" && c.completed[ref.id()] == b.UID
}

// noteDone has it written down. The caller holds c.mu.
func (c *Cluster) noteDone(ref Ref, t *tracked, now State) {
	b := t.entry.Baseline
	if b.Done || !c.done(ref, b) || now.Exists && now.UID != b.UID {
		return
	}
	r := t.inv.records[t.id].clone()
	i := slices.IndexFunc(r.Entries, func(e Entry) bool { return e.Ref == t.entry.Ref })
	if i < 0 {
		return
	}
	r.Entries[i].Baseline.Done = true
	t.entry.Baseline.Done = true
	t.inv.records[t.id], t.inv.dirty = r, true
	select {
	case t.inv.wake <- struct{}{}:
	default: // it is awake
	}
}

// Vanished tells whether an object is rightly gone: it was to come to its end,
// and has.
func (b Baseline) Vanished(s State) bool { return b.Done && b.gone(s) }

// gone tells whether the object is, or is going.
func (b Baseline) gone(s State) bool { return !s.Exists || s.Deleting && s.UID == b.UID }
