package upstash

import (
	"context"
	"errors"
	"maps"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// Apply implements fly.View.
func (d *database) Apply(ctx context.Context, step reconcile.Step) error {
	t, _ := step.Detail.(task)
	op := string(step.Action)
	switch t {
	case taskMake:
		return d.create(ctx)
	case taskDelete:
		if err := d.Org.Client().DeleteAddOn(ctx, d.Live.ID); err != nil {
			return fly.Classify(op, d.Object, err)
		}
		return d.Inventory.Drop(ctx, d.ID())
	case taskForget:
		return d.Inventory.Drop(ctx, d.ID())
	case taskNote:
		return d.note(ctx, d.Next(), d.Live)
	}
	r := d.Next()
	applied := d.spec
	if d.applied != nil {
		applied = *d.applied
	}
	ask := api.UpdateAddOn{ID: d.Live.ID}
	switch t {
	case taskPlan:
		ask.PlanID, applied.Plan = &d.planID, d.spec.Plan
	case taskRegions:
		regions := d.wantsRegions(d.spec)
		ask.ReadRegions, applied.ReadRegions = &regions, d.spec.ReadRegions
	case taskEvict:
		ask.Options, applied.Evict = d.options(), d.spec.Evict
	case taskProdPack:
		// Fly takes it together with a plan only.
		ask.PlanID, ask.ProdPack, applied.ProdPack = &d.Live.PlanID, d.spec.ProdPack, d.spec.ProdPack
	default:
		return reconcile.Errorf(reconcile.Internal, op, "planned by another provider: %T", step.Detail)
	}
	if _, err := d.Org.Client().UpdateAddOn(ctx, ask); err != nil {
		return fly.Classify(op, step.Object, err)
	}
	d.Touch()
	r.Spec = fly.EncodeSpec(applied)
	return d.Inventory.Commit(ctx, r)
}

// options are those of the database, with what is asked for: they are replaced
// as a whole. The production pack costs much, and stays as it is when it is not
// mentioned.
func (d *database) options() map[string]any {
	all := maps.Clone(d.Live.Options)
	if all == nil {
		all = map[string]any{}
	}
	delete(all, optionProdPack)
	all[optionEviction] = d.spec.Evict
	return all
}

// create asks for a database, and notes whose it is.
func (d *database) create(ctx context.Context) error {
	r := d.Next()
	r.Spec = fly.EncodeSpec(d.spec)
	options := map[string]any{optionEviction: d.spec.Evict}
	if p := d.spec.ProdPack; p != nil {
		options[optionProdPack] = *p
	}
	d.Live = api.AddOn{PrimaryRegion: d.spec.Region}
	found, err := d.Make(ctx, r, api.CreateAddOn{
		PlanID: d.planID, PrimaryRegion: d.spec.Region, ReadRegions: d.wantsRegions(d.spec), Options: options,
	})
	if err != nil || found == nil {
		return err
	}
	d.Live, d.There = *found, true
	if d.owner() == another { // who was faster
		return &reconcile.Error{Kind: reconcile.Conflict, Op: "create", Object: d.Object, Err: errors.New(d.theirs())}
	}
	return d.note(ctx, r, *found)
}

// note writes down whose a database is: in its metadata, and in the inventory.
func (d *database) note(ctx context.Context, r fly.Record, a api.AddOn) error {
	d.Live, d.There = a, true
	if d.owner() != ours {
		metadata := maps.Clone(a.Metadata) // others keep things there, too
		if metadata == nil {
			metadata = map[string]any{}
		}
		metadata[markInstance], metadata[markEnvironment] = d.Org.Instance(), d.ID().Environment
		// The id comes first: what is not marked is found by it.
		d.Note(&r, a)
		if err := d.Inventory.Begin(ctx, r); err != nil {
			return err
		}
		if _, err := d.Org.Client().UpdateAddOn(ctx, api.UpdateAddOn{ID: a.ID, Metadata: metadata}); err != nil {
			return fly.Classify("mark", d.Object, err)
		}
		d.Touch()
	}
	d.Note(&r, a)
	if len(r.Spec) == 0 {
		r.Spec = fly.EncodeSpec(asTaken(d.spec, a))
	}
	return d.Inventory.Commit(ctx, r)
}

// asTaken is the spec of a database that was taken over: what differs from what
// is asked for is a rollout, and no drift.
func asTaken(spec forge.UpstashRedisSpec, a api.AddOn) forge.UpstashRedisSpec {
	spec.Plan, spec.Region, spec.ReadRegions = planOf(a.Plan), a.PrimaryRegion, a.ReadRegions
	spec.Evict, _ = a.Options[optionEviction].(bool)
	spec.ProdPack = nil
	return spec
}
