package fks

import (
	"context"

	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// Apply implements fly.View.
func (c *cluster) Apply(ctx context.Context, step reconcile.Step) error {
	op := string(step.Action)
	switch t, _ := step.Detail.(task); t {
	case taskMake:
		return c.create(ctx)
	case taskNote:
		return c.note(ctx, c.Next(), c.Live, c.place == fly.AddOnBegun)
	case taskDelete:
		if err := c.Org.Client().DeleteAddOn(ctx, c.Live.ID); err != nil {
			return fly.Classify(op, c.Object, err)
		}
		c.way.close(true, nil)
		return c.Inventory.Drop(ctx, c.ID())
	case taskForget:
		return c.Inventory.Drop(ctx, c.ID())
	}
	return reconcile.Errorf(reconcile.Internal, op, "planned by another provider: %T", step.Detail)
}

// create asks for a cluster, and writes down that forged has made it.
func (c *cluster) create(ctx context.Context) error {
	r := c.Next()
	r.Spec = fly.EncodeSpec(c.spec)
	found, err := c.Make(ctx, r, api.CreateAddOn{PrimaryRegion: c.spec.Region})
	if err != nil || found == nil {
		return err
	}
	return c.note(ctx, r, *found, true)
}

// note writes down which cluster it is, and whether forged made it, in the
// inventory: Fly keeps the way in in the metadata of the cluster, so nothing is
// written there.
func (c *cluster) note(ctx context.Context, r fly.Record, a api.AddOn, made bool) error {
	c.Note(&r, a)
	delete(r.Data, dataMade)
	if made {
		r.Data[dataMade] = "yes"
	}
	r.Spec = fly.EncodeSpec(c.spec)
	return c.Inventory.Commit(ctx, r)
}
