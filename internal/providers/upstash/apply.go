package upstash

import (
	"context"
	"errors"
	"maps"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// claimAfter so long after it was asked for, what appears under its name is
// somebody else's: by then the request has come to its end.
const claimAfter = 10 * time.Minute

// Apply implements fly.View.
func (d *database) Apply(ctx context.Context, step reconcile.Step) error {
	t, _ := step.Detail.(task)
	op := string(step.Action)
	switch t {
	case taskMake:
		return d.create(ctx)
	case taskDelete:
		if err := d.Org.Client().DeleteAddOn(ctx, d.live.ID); err != nil {
			return fly.Classify(op, d.object(), err)
		}
		return d.Inventory.Drop(ctx, d.ID())
	case taskForget:
		return d.Inventory.Drop(ctx, d.ID())
	case taskNote:
		return d.note(ctx, d.next(), d.live)
	}
	r := d.next()
	applied := d.spec
	if d.applied != nil {
		applied = *d.applied
	}
	ask := api.UpdateAddOn{ID: d.live.ID}
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
		ask.PlanID, ask.ProdPack, applied.ProdPack = &d.live.PlanID, d.spec.ProdPack, d.spec.ProdPack
	default:
		return reconcile.Errorf(reconcile.Internal, op, "planned by another provider: %T", step.Detail)
	}
	if _, err := d.Org.Client().UpdateAddOn(ctx, ask); err != nil {
		return fly.Classify(op, step.Object, err)
	}
	d.Org.Touch(topic())
	r.Spec = fly.EncodeSpec(applied)
	return d.Inventory.Commit(ctx, r)
}

// options are those of the database, with what is asked for: they are replaced
// as a whole. The production pack costs much, and stays as it is when it is not
// mentioned.
func (d *database) options() map[string]any {
	all := maps.Clone(d.live.Options)
	if all == nil {
		all = map[string]any{}
	}
	delete(all, optionProdPack)
	all[optionEviction] = d.spec.Evict
	return all
}

// next is the record as it is to be written.
func (d *database) next() fly.Record {
	r := d.Record
	r.Needs, r.Data = d.Request.Resource.Needs, maps.Clone(r.Data)
	if r.Data == nil {
		r.Data = map[string]string{}
	}
	return r
}

// create asks for a database, once. It is written down before that, so that
// nobody asks for a second one.
func (d *database) create(ctx context.Context) error {
	const op = "create"
	r := d.next()
	r.Spec = fly.EncodeSpec(d.spec)
	begun, err := time.Parse(time.RFC3339, r.Data[dataAsked])
	if e := d.entry(); err == nil && e != nil && e.Identity == "" {
		found, err := d.lookFor(ctx, begun.Add(fly.Unseen))
		if err != nil || found != nil {
			return d.made(ctx, r, found, err)
		}
	}
	org, err := d.Org.Client().Organization(ctx, d.Org.Slug())
	if err != nil {
		return fly.Classify(op, d.object(), err)
	}
	r.Data[dataAsked] = time.Now().UTC().Format(time.RFC3339)
	r.Entries = []fly.Entry{{Kind: entryRedis, Name: d.spec.Name}}
	if err := d.Inventory.Begin(ctx, r); err != nil {
		return err
	}
	d.live = api.AddOn{PrimaryRegion: d.spec.Region}
	options := map[string]any{optionEviction: d.spec.Evict}
	if p := d.spec.ProdPack; p != nil {
		options[optionProdPack] = *p
	}
	made, err := d.Org.Client().CreateAddOn(ctx, api.CreateAddOn{
		Type: api.AddOnRedis, OrgID: org.ID, Name: d.spec.Name, PlanID: d.planID, PrimaryRegion: d.spec.Region,
		ReadRegions: d.wantsRegions(d.spec), Options: options,
	})
	d.Org.Touch(topic())
	switch api.KindOf(err) {
	case "":
		if err != nil {
			return fly.Classify(op, d.object(), err)
		}
		return d.made(ctx, r, &made, nil)
	case api.Ambiguous:
		found, again := d.lookFor(ctx, time.Now().Add(fly.Unseen))
		if again == nil && found == nil {
			again = fly.Classify(op, d.object(), err)
		}
		return d.made(ctx, r, found, again)
	case api.Taken:
		err = &reconcile.Error{
			Kind: reconcile.Conflict, Op: op, Object: d.object(), Err: err,
			Hint: "names are unique among all users of Upstash: write another services.redis.name",
		}
	default:
		err = fly.Classify(op, d.object(), err)
	}
	// Fly has made nothing: nobody need look for it, and what appears under its
	// name is not ours.
	delete(r.Data, dataAsked)
	r.Entries = nil
	return errors.Join(err, d.Inventory.Commit(ctx, r))
}

func (d *database) made(ctx context.Context, r fly.Record, found *api.AddOn, err error) error {
	if err != nil || found == nil {
		return err
	}
	d.live, d.there = *found, true
	if d.owner() == another { // who was faster
		return &reconcile.Error{Kind: reconcile.Conflict, Op: "create", Object: d.object(), Err: errors.New(d.theirs())}
	}
	return d.note(ctx, r, *found)
}

// lookFor looks for the database by its name until a time; nil: there is none.
func (d *database) lookFor(ctx context.Context, until time.Time) (*api.AddOn, error) {
	found, _, err := fly.LookFor(ctx, until, func(ctx context.Context) (*api.AddOn, bool, error) {
		d.Org.Touch(topic())
		all, err := d.list(ctx)
		for _, a := range all {
			if a.Name == d.spec.Name {
				return &a, true, nil
			}
		}
		return nil, false, err
	})
	return found, fly.Classify("look for", d.object(), err)
}

// note writes down whose a database is: in its metadata, and in the inventory.
func (d *database) note(ctx context.Context, r fly.Record, a api.AddOn) error {
	d.live, d.there = a, true
	if d.owner() != ours {
		metadata := maps.Clone(a.Metadata) // others keep things there, too
		if metadata == nil {
			metadata = map[string]any{}
		}
		metadata[markInstance], metadata[markEnvironment] = d.Org.Instance(), d.ID().Environment
		// The id comes first: what is not marked is found by it.
		r.Entries = []fly.Entry{{Kind: entryRedis, Name: a.Name, Identity: a.ID}}
		delete(r.Data, dataAsked)
		if err := d.Inventory.Begin(ctx, r); err != nil {
			return err
		}
		if _, err := d.Org.Client().UpdateAddOn(ctx, api.UpdateAddOn{ID: a.ID, Metadata: metadata}); err != nil {
			return fly.Classify("mark", d.object(), err)
		}
		d.Org.Touch(topic())
	}
	r.Entries = []fly.Entry{{Kind: entryRedis, Name: a.Name, Identity: a.ID}}
	delete(r.Data, dataAsked)
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
