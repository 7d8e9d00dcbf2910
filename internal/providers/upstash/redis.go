package upstash

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// New makes the provider of kind "upstash-redis".
func New(a *fly.Accounts) *fly.Service {
	c := &catalogue{}
	return &fly.Service{Accounts: a, Kind: forge.KindUpstashRedis, Look: func(ctx context.Context, l fly.Look) (fly.View, error) {
		return look(ctx, l, c)
	}}
}

// Keys of the options of a database.
const (
	optionEviction = "eviction"
	optionProdPack = "prod_pack"
)

// Marks in the metadata of a database that say whose it is.
const (
	markInstance    = "forged.dev/instance"
	markEnvironment = "forged.dev/environment"
)

// entryRedis is the kind of the one entry in the inventory.
const entryRedis = "redis"

// database is what was found of a database, and for whom.
type database struct {
	fly.AddOn
	spec    forge.UpstashRedisSpec
	applied *forge.UpstashRedisSpec // what was applied last; nil: nothing
	planID  string                  // of the plan that is asked for; empty: nobody needs it
	place   fly.AddOnPlace
}

func look(ctx context.Context, l fly.Look, c *catalogue) (fly.View, error) {
	spec, ok := l.Request.Resource.Spec.(forge.UpstashRedisSpec)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "observe", "its spec is a %T", l.Request.Resource.Spec)
	}
	d := &database{spec: spec, AddOn: fly.AddOn{
		Look: l, Section: fly.SectionAddOns, Type: api.AddOnRedis, Entry: entryRedis, Name: spec.Name,
		Object: "redis " + spec.Name, All: "the Redis databases",
		Taken: "names are unique among all users of Upstash: write another services.redis.name",
	}}
	if l.Recorded && len(l.Record.Spec) > 0 {
		applied, err := fly.DecodeSpec(forge.KindUpstashRedis, l.Record.Spec, l.Account)
		if err != nil {
			return nil, &reconcile.Error{Kind: reconcile.Internal, Op: "read the inventory of", Object: d.Object, Err: err}
		}
		before := applied.(forge.UpstashRedisSpec)
		d.applied = &before
	}
	_, err := d.Find(ctx)
	if err != nil {
		return nil, err
	}
	d.place = d.Standing(spec.Create, d.owner() == ours || d.owner() == nobody && d.Claims())
	if !l.Request.Remove && spec.Create && (d.place == fly.AddOnAbsent || d.place == fly.AddOnKnown) {
		if d.planID, err = c.find(ctx, l.Org, spec.Plan); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// owner tells whose mark a database bears.
type owner int

const (
	nobody owner = iota
	ours
	another // forged, or another environment
)

func (d *database) owner() owner {
	instance, _ := d.Live.Metadata[markInstance].(string)
	environment, _ := d.Live.Metadata[markEnvironment].(string)
	switch {
	case instance == "" && environment == "":
		return nobody
	case instance == d.Org.Instance() && environment == d.ID().Environment:
		return ours
	}
	return another
}

// Observed implements fly.View.
func (d *database) Observed() reconcile.Observed {
	o := reconcile.Observed{Health: reconcile.Health{Status: reconcile.Unknown}}
	switch d.place {
	case fly.AddOnKnown, fly.AddOnUsed, fly.AddOnBegun:
		o.Exists = true
	case fly.AddOnGone:
		o.Health = reconcile.Health{Status: reconcile.Failed, Message: d.Object + " was deleted"}
		return o
	default:
		return o
	}
	if d.Request.Remove {
		o.Exists = d.Recorded
	}
	if d.place == fly.AddOnKnown {
		o.Objects = 1
	}
	switch d.Live.Status {
	case api.AddOnError:
		o.Health = reconcile.Health{Status: reconcile.Failed, Message: "Fly says that " + d.Object + " has failed: " + said(d.Live.Error) +
			"; ask Fly's support, or delete it with \"fly redis destroy " + d.spec.Name + "\" and write another services.redis.name"}
		return o
	case api.AddOnReady, "": // of a provider that makes it at once
	default:
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "Fly is making " + d.Object + " (" + d.Live.Status + ")"}
		return o
	}
	if len(d.Live.PublicURL.Reveal()) == 0 {
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: d.Object + " has no address yet"}
		return o
	}
	o.Health = reconcile.Health{Status: reconcile.Ready}
	o.Outputs = reconcile.Outputs{forge.OutputURL: {Secret: d.Live.PublicURL}}
	return o
}

func said(text string) string {
	if text == "" {
		return "it does not say why"
	}
	return text
}

// ready tells whether the database serves.
func (d *database) ready() bool { return d.Observed().Health.Status == reconcile.Ready }

// Print implements fly.View.
func (d *database) Print() string {
	h := sha256.New()
	a := d.Live
	fmt.Fprintf(h, "%s %s %s %s %s %s %v %v %v %x", d.place, a.ID, a.Status, a.Error, a.PlanID, a.PrimaryRegion,
		slices.Sorted(slices.Values(a.ReadRegions)), a.Options, a.Metadata, sha256.Sum256(a.PublicURL.Reveal()))
	return hex.EncodeToString(h.Sum(nil)[:16])
}
