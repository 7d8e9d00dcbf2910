package fks

import (
	"context"
	"errors"
	"maps"
	"time"

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
		return c.note(ctx, c.next(), c.live, c.place == begun)
	case taskDelete:
		if err := c.Org.Client().DeleteAddOn(ctx, c.live.ID); err != nil {
			return fly.Classify(op, c.object(), err)
		}
		c.way.close(true)
		return c.Inventory.Drop(ctx, c.ID())
	case taskForget:
		return c.Inventory.Drop(ctx, c.ID())
	}
	return reconcile.Errorf(reconcile.Internal, op, "planned by another provider: %T", step.Detail)
}

// next is the record as it is to be written.
func (c *cluster) next() fly.Record {
	r := c.Record
	r.Needs, r.Data = c.Request.Resource.Needs, maps.Clone(r.Data)
	if r.Data == nil {
		r.Data = map[string]string{}
	}
	return r
}

// create asks for a cluster, once. It is written down before that, so that
// nobody asks for a second one.
func (c *cluster) create(ctx context.Context) error {
	const op = "create"
	r := c.next()
	r.Spec = fly.EncodeSpec(c.spec)
	begun, err := time.Parse(time.RFC3339, r.Data[dataAsked])
	if e := c.entry(); err == nil && e != nil && e.Identity == "" {
		found, err := c.lookFor(ctx, begun.Add(fly.Unseen))
		if err != nil || found != nil {
			return c.made(ctx, r, found, err)
		}
	}
	org, err := c.Org.Client().Organization(ctx, c.Org.Slug())
	if err != nil {
		return fly.Classify(op, c.object(), err)
	}
	r.Data[dataAsked] = time.Now().UTC().Format(time.RFC3339)
	r.Entries = []fly.Entry{{Kind: entryCluster, Name: c.spec.Name}}
	if err := c.Inventory.Begin(ctx, r); err != nil {
		return err
	}
	made, err := c.Org.Client().CreateAddOn(ctx, api.CreateAddOn{
		Type: api.AddOnKubernetes, OrgID: org.ID, Name: c.spec.Name, PrimaryRegion: c.spec.Region,
	})
	c.Org.Touch(topic())
	switch api.KindOf(err) {
	case "":
		if err != nil {
			return fly.Classify(op, c.object(), err)
		}
		return c.made(ctx, r, &made, nil)
	case api.Ambiguous:
		found, again := c.lookFor(ctx, time.Now().Add(fly.Unseen))
		if again == nil && found == nil {
			again = fly.Classify(op, c.object(), err)
		}
		return c.made(ctx, r, found, again)
	case api.Taken:
		err = &reconcile.Error{
			Kind: reconcile.Conflict, Op: op, Object: c.object(), Err: err,
			Hint: "another organization may have a cluster of this name: write another platform.cluster",
		}
	default:
		err = fly.Classify(op, c.object(), err)
	}
	// Fly has made nothing: nobody need look for it, and what appears under its
	// name is not ours.
	delete(r.Data, dataAsked)
	r.Entries = nil
	return errors.Join(err, c.Inventory.Commit(ctx, r))
}

// made writes down that forged has made a cluster, if it has.
func (c *cluster) made(ctx context.Context, r fly.Record, found *api.AddOn, err error) error {
	if err != nil || found == nil {
		return err
	}
	return c.note(ctx, r, *found, true)
}

// lookFor looks for the cluster by its name until a time; nil: there is none.
func (c *cluster) lookFor(ctx context.Context, until time.Time) (*api.AddOn, error) {
	found, _, err := fly.LookFor(ctx, until, func(ctx context.Context) (*api.AddOn, bool, error) {
		c.Org.Touch(topic())
		all, err := c.list(ctx)
		for _, a := range all {
			if a.Name == c.spec.Name {
				return &a, true, nil
			}
		}
		return nil, false, err
	})
	return found, fly.Classify("look for", c.object(), err)
}

// note writes down which cluster it is, and whether forged made it, in the
// inventory: Fly keeps the way in in the metadata of the cluster, so nothing is
// written there.
func (c *cluster) note(ctx context.Context, r fly.Record, a api.AddOn, made bool) error {
	r.Entries = []fly.Entry{{Kind: entryCluster, Name: a.Name, Identity: a.ID}}
	delete(r.Data, dataAsked)
	delete(r.Data, dataMade)
	if made {
		r.Data[dataMade] = "yes"
	}
	r.Spec = fly.EncodeSpec(c.spec)
	return c.Inventory.Commit(ctx, r)
}
