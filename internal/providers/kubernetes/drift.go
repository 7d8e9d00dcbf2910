package kubernetes

import (
	"cmp"
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Drift is an object that is not as our last write left it.
type Drift struct {
	Entry Entry
	State State                // what is there now
	Code  reconcile.ReasonCode // edited, deleted or replaced

	// Blocked is why it cannot be put back now, "" if it can.
	Blocked string
}

// Drifted compares all objects of a resource with their baselines. While the
// watches are up and nothing is missing it costs no request. An error means
// that nothing is known. An object whose deletion has begun counts as deleted;
// it is still there, so State.Deleting tells to wait.
func (inv *Inventory) Drifted(ctx context.Context, id forge.ID) ([]Drift, error) {
	inv.c.mu.Lock()
	entries := inv.records[HomeID(id)].Entries // a record is replaced, and not changed
	inv.c.mu.Unlock()
	for _, e := range entries {
		// All at once, so that the first use waits for the slowest, not for
		// the sum.
		if _, err := inv.c.watchOf(ctx, e.Ref); err != nil && !UnknownKind(err) {
			return nil, aboutResource(about(err, e.Ref), id)
		}
	}
	var drifts []Drift
	for _, e := range entries {
		d, err := inv.drift(ctx, id, e)
		if d != nil && d.Code == reconcile.ReasonDeleted && !d.State.Exists {
			if _, err := inv.c.mappingOf(ctx, e.Ref.GVK); UnknownKind(err) {
				d = inv.gone(entries, e)
			}
		}
		if err != nil {
			return nil, aboutResource(err, id)
		}
		if d != nil {
			drifts = append(drifts, *d)
		}
	}
	slices.SortStableFunc(drifts, func(a, b Drift) int { return cmp.Compare(Phase(a.Entry.Ref.GVK), Phase(b.Entry.Ref.GVK)) })
	return drifts, nil
}

// gone is the drift of an object whose kind is not served any more. It can be
// put back when its definition is, which may be what is put back before it.
func (inv *Inventory) gone(entries []Entry, e Entry) *Drift {
	d := &Drift{Entry: e, Code: reconcile.ReasonDeleted}
	if !slices.ContainsFunc(entries, func(other Entry) bool {
		return other.Ref.GVK.Kind == "CustomResourceDefinition" && strings.HasSuffix(other.Ref.Name, "."+e.Ref.GVK.Group)
	}) {
		d.Blocked = UntilDefined(e.Ref.GVK)
		inv.c.awaitKind(e.Ref.GVK)
	}
	return d
}

func (inv *Inventory) drift(ctx context.Context, id forge.ID, e Entry) (*Drift, error) {
	c := inv.c
	state, err := c.Live(ctx, e.Ref)
	if err != nil {
		return nil, err
	}
	lines, same := c.rulesFor(e.Ref), e.Baseline.matches(state)
	if !same || e.Baseline.Lens.has(markScaled) {
		// Autoscalers matter to what has changed, and to what they scaled.
		if lines, err = c.withScaler(ctx, e.Ref, lines); err != nil {
			return nil, err
		}
	}
	if missing, dropped := e.Baseline.Lens.against(lines); e.Baseline.Digest != "" && (missing || len(dropped) > 0) {
		return inv.refocus(ctx, id, e, lines, dropped)
	}
	c.mu.Lock()
	done := e.Baseline.gone(state) && c.done(e.Ref, e.Baseline)
	c.mu.Unlock()
	if same || done {
		return nil, nil
	}
	if !state.Exists || state.Lens != e.Baseline.Lens {
		// Gone from the watch is not gone: our label may have been taken off.
		live, err := c.Get(ctx, e.Ref)
		if err != nil {
			return nil, err
		}
		if live == nil {
			return &Drift{Entry: e, State: State{}, Code: reconcile.ReasonDeleted}, nil
		}
		state = c.stateOf(live, e.Baseline.Lens)
		if e.Baseline.matches(state) {
			c.mu.Lock()
			c.refocus(e.Ref, e.Baseline)
			c.mu.Unlock()
			return nil, nil // the watch is a moment behind, or saw it through another lens
		}
	}
	d := driftOf(e, state)
	if d.Code == reconcile.ReasonEdited {
		d.Blocked = state.Taken(id)
	}
	return d, nil
}

// stateOf is the state of an object that was read.
func (c *Cluster) stateOf(live *unstructured.Unstructured, lens Lens) State {
	s := stateOf(live, c.manager, lens)
	if hasHealth(live.GroupVersionKind().GroupKind()) {
		s.Health = HealthOf(live)
		s.Completed = completed(live, s.Health)
	}
	return s
}

func driftOf(e Entry, state State) *Drift {
	d := &Drift{Entry: e, State: state}
	switch {
	case state.Deleting:
		d.Code = reconcile.ReasonDeleted
	case e.Baseline.UID != "" && state.UID != e.Baseline.UID:
		d.Code = reconcile.ReasonReplaced
	default:
		d.Code = reconcile.ReasonEdited
	}
	return d
}

// refocus compares an object for which other rules hold than when its baseline
// was taken. If nothing but what is ignored now has changed, the baseline is
// taken anew, and that was all. If something is not ignored any more, it has
// to be put back, or at least to be held again.
func (inv *Inventory) refocus(ctx context.Context, id forge.ID, e Entry, lines []line, dropped []pattern) (*Drift, error) {
	c := inv.c
	live, err := c.Get(ctx, e.Ref)
	if err != nil {
		return nil, err
	}
	if live == nil {
		return &Drift{Entry: e, State: State{}, Code: reconcile.ReasonDeleted}, nil
	}
	lens := lensOf(append(e.Baseline.Lens.kept(), lines...), live)
	v := lens.view()
	state := c.stateOf(live, lens)
	if state.Deleting || state.UID != e.Baseline.UID {
		return driftOf(e, state), nil
	}
	fields := live.GetManagedFields()
	if !e.Baseline.matches(c.stateOf(live, e.Baseline.Lens)) && !c.explains(fields, e.Baseline, v) ||
		len(dropped) > 0 || !v.extras(fields, c.manager).Empty() {
		return driftOf(e, state), nil
	}
	b := baselineOf(live, c.manager, lens)
	b.Mutated = e.Baseline.Mutated
	e.Baseline = b
	c.mu.Lock()
	c.refocus(e.Ref, b)
	c.mu.Unlock()
	inv.Rebase(id, e)
	return nil, nil
}

// explains tells whether an object is as the baseline says but for fields
// which are ignored now and which somebody else holds.
func (c *Cluster) explains(fields []metav1.ManagedFieldsEntry, b Baseline, now view) bool {
	e := entryOf(fields, c.manager)
	ours, err := fieldSet(e)
	if err != nil || e == nil {
		return false
	}
	for i := range fields {
		if &fields[i] == e {
			continue
		}
		set, err := fieldSet(&fields[i])
		if err != nil {
			return false
		}
		for p := range set.All() {
			if covers(now.ignored, p) {
				ours.Insert(p.Copy())
			}
		}
	}
	then := b.Lens.view()
	return then.digest(ours, e, then.extras(fields, c.manager)) == b.Digest
}
