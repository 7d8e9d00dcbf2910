package upstash

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

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

// entryRedis is the kind of the one entry in the inventory. Its identity is
// empty until the database was seen to be there.
const entryRedis = "redis"

// dataAsked is the key of when Fly was asked for it last, without an answer
// since.
const dataAsked = "asked"

// place is where a database stands.
type place string

const (
	absent  place = "absent"  // there is none, and none is known of
	gone    place = "gone"    // the one that is known of is not there any more
	foreign place = "foreign" // it is there, and forged did not make it
	begun   place = "begun"   // it is there, and was asked for by an action that was cut
	known   place = "known"   // it is there, and in the inventory
	used    place = "used"    // it is there, somebody else's, and forge.cue says to use it
)

// database is what was found of a database, and for whom.
type database struct {
	fly.Look
	spec    forge.UpstashRedisSpec
	applied *forge.UpstashRedisSpec // what was applied last; nil: nothing
	planID  string                  // of the plan that is asked for; empty: nobody needs it

	place place
	live  api.AddOn // unless it is absent; the other one of its name if it is gone
	there bool
}

func topic() fly.Topic { return fly.Topic{Section: fly.SectionAddOns} }

func look(ctx context.Context, l fly.Look, c *catalogue) (fly.View, error) {
	spec, ok := l.Request.Resource.Spec.(forge.UpstashRedisSpec)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "observe", "its spec is a %T", l.Request.Resource.Spec)
	}
	d := &database{Look: l, spec: spec}
	if l.Recorded && len(l.Record.Spec) > 0 {
		applied, err := fly.DecodeSpec(forge.KindUpstashRedis, l.Record.Spec, l.Account)
		if err != nil {
			return nil, &reconcile.Error{Kind: reconcile.Internal, Op: "read the inventory of", Object: d.object(), Err: err}
		}
		before := applied.(forge.UpstashRedisSpec)
		d.applied = &before
	}
	l.Accounts.Follow(l.ID(), l.Account, topic())
	if l.Fresh {
		l.Org.Touch(topic())
	}
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		switch e := d.entry(); {
		case e != nil && e.Identity == a.ID:
			d.live, d.there = a, true
		case a.Name == spec.Name && !d.there:
			d.live, d.there = a, true
		}
	}
	d.place = d.standing()
	if !l.Request.Remove && spec.Create && (d.place == absent || d.place == known) {
		if d.planID, err = c.find(ctx, l.Org, spec.Plan); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *database) list(ctx context.Context) ([]api.AddOn, error) {
	all, err := fly.Read(ctx, d.Org, topic(), func(ctx context.Context) ([]api.AddOn, error) {
		return d.Org.Client().AddOns(ctx, d.Org.Slug(), api.AddOnRedis)
	})
	return all, fly.Classify("list", "the Redis databases of organization "+d.Org.Slug(), err)
}

// standing tells where the database stands.
func (d *database) standing() place {
	entry := d.entry()
	switch {
	case entry != nil && entry.Identity != "":
		if d.there && d.live.ID == entry.Identity {
			return known
		}
		return gone
	case !d.there:
		return absent
	case entry != nil && (d.owner() == ours || d.owner() == nobody && d.claims()):
		return begun
	case d.spec.Create && !d.Request.Remove:
		return foreign
	}
	return used
}

// claims tells whether a database that bears no mark was made when forged had
// asked for it, by an action that was not seen to end.
func (d *database) claims() bool {
	asked, err := time.Parse(time.RFC3339, d.Record.Data[dataAsked])
	return err == nil && d.live.CreatedAt.Before(asked.Add(claimAfter))
}

// owner tells whose mark a database bears.
type owner int

const (
	nobody owner = iota
	ours
	another // forged, or another environment
)

func (d *database) owner() owner {
	instance, _ := d.live.Metadata[markInstance].(string)
	environment, _ := d.live.Metadata[markEnvironment].(string)
	switch {
	case instance == "" && environment == "":
		return nobody
	case instance == d.Org.Instance() && environment == d.ID().Environment:
		return ours
	}
	return another
}

func (d *database) entry() *fly.Entry {
	for i, e := range d.Record.Entries {
		if e.Kind == entryRedis {
			return &d.Record.Entries[i]
		}
	}
	return nil
}

func (d *database) object() string { return entryRedis + " " + d.spec.Name }

// Observed implements fly.View.
func (d *database) Observed() reconcile.Observed {
	o := reconcile.Observed{Health: reconcile.Health{Status: reconcile.Unknown}}
	switch d.place {
	case known, used, begun:
		o.Exists = true
	case gone:
		o.Health = reconcile.Health{Status: reconcile.Failed, Message: d.object() + " was deleted"}
		return o
	default:
		return o
	}
	if d.Request.Remove {
		o.Exists = d.Recorded
	}
	if d.place == known {
		o.Objects = 1
	}
	switch d.live.Status {
	case api.AddOnError:
		o.Health = reconcile.Health{Status: reconcile.Failed, Message: "Fly says that " + d.object() + " has failed: " + said(d.live.Error) +
			"; ask Fly's support, or delete it with \"fly redis destroy " + d.spec.Name + "\" and write another services.redis.name"}
		return o
	case api.AddOnReady, "": // of a provider that makes it at once
	default:
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "Fly is making " + d.object() + " (" + d.live.Status + ")"}
		return o
	}
	if len(d.live.PublicURL.Reveal()) == 0 {
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: d.object() + " has no address yet"}
		return o
	}
	o.Health = reconcile.Health{Status: reconcile.Ready}
	o.Outputs = reconcile.Outputs{forge.OutputURL: {Secret: d.live.PublicURL}}
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
	a := d.live
	fmt.Fprintf(h, "%s %s %s %s %s %s %v %v %v %x", d.place, a.ID, a.Status, a.Error, a.PlanID, a.PrimaryRegion,
		slices.Sorted(slices.Values(a.ReadRegions)), a.Options, a.Metadata, sha256.Sum256(a.PublicURL.Reveal()))
	return hex.EncodeToString(h.Sum(nil)[:16])
}
