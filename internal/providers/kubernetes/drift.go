package kubernetes

import (
	"context"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Drift is an object that is not as our last write left it.
type Drift struct {
	Entry Entry
	State State                // what is there now
	Code  reconcile.ReasonCode // edited, deleted or replaced
}

// Drifted compares all objects of a resource with their baselines. While the
// watches are up and nothing is missing it costs no request. An error means
// that nothing is known. An object whose deletion has begun counts as deleted;
// it is still there, so State.Deleting tells to wait.
func (inv *Inventory) Drifted(ctx context.Context, id forge.ID) ([]Drift, error) {
	r, _ := inv.Record(id)
	for _, e := range r.Entries {
		// All at once, so that the first use waits for the slowest, not for
		// the sum.
		if _, err := inv.c.watchFor(ctx, e.Ref.GVK, e.Ref.Name); err != nil {
			return nil, aboutResource(about(err, e.Ref), id)
		}
	}
	var drifts []Drift
	for _, e := range r.Entries {
		d, err := inv.drift(ctx, e)
		if err != nil {
			return nil, aboutResource(err, id)
		}
		if d != nil {
			drifts = append(drifts, *d)
		}
	}
	return drifts, nil
}

func (inv *Inventory) drift(ctx context.Context, e Entry) (*Drift, error) {
	state, err := inv.c.Live(ctx, e.Ref)
	if err != nil {
		return nil, err
	}
	if e.Baseline.matches(state) {
		return nil, nil
	}
	if !state.Exists {
		// Gone from the watch is not gone: our label may have been taken off.
		live, err := inv.c.Get(ctx, e.Ref)
		if err != nil {
			return nil, err
		}
		if live == nil {
			return &Drift{Entry: e, State: state, Code: reconcile.ReasonDeleted}, nil
		}
		state = stateOf(live, inv.c.manager)
		if hasHealth(e.Ref.GVK.GroupKind()) {
			state.Health = HealthOf(live)
		}
		if e.Baseline.matches(state) {
			return nil, nil // the watch is a moment behind
		}
	}
	d := &Drift{Entry: e, State: state}
	switch {
	case state.Deleting:
		d.Code = reconcile.ReasonDeleted
	case e.Baseline.UID != "" && state.UID != e.Baseline.UID:
		d.Code = reconcile.ReasonReplaced
	default:
		d.Code = reconcile.ReasonEdited
	}
	return d, nil
}
