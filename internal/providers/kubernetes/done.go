package kubernetes

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/reconcile"
)

// A Job that has completed may vanish: by its time to live, or because somebody
// tidies up. Making it again would run it again, so that it has completed is
// written down, and gone is in sync then.

var jobKind = schema.GroupKind{Group: "batch", Kind: "Job"}

// complete notes that a Job has. The caller holds c.mu.
func (c *Cluster) complete(ref Ref, s State) {
	if ref.GVK.GroupKind() == jobKind && s.Exists && s.Health.Status == reconcile.Ready && !s.Deleting {
		c.completed[ref.id()] = s.UID
	}
}

// done tells whether the object of a baseline is a Job that has completed. The
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

// Vanished tells whether an object is rightly gone: it was a Job, and it has
// completed.
func (b Baseline) Vanished(s State) bool { return b.Done && b.gone(s) }

// gone tells whether the object is, or is going.
func (b Baseline) gone(s State) bool { return !s.Exists || s.Deleting && s.UID == b.UID }
