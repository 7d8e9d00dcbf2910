package fks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// entryCluster is the kind of the one entry in the inventory. Its identity is
// empty until the cluster was seen to be there.
const entryCluster = "kubernetes"

// Keys of the data of a record.
const (
	dataAsked = "asked" // when Fly was asked for it last, without an answer since
	dataMade  = "made"  // forged made it: it may be destroyed
)

// claimAfter so long after it was asked for, what appears under its name is
// somebody else's: by then the request has come to its end.
const claimAfter = 10 * time.Minute

// place is where a cluster stands.
type place string

const (
	absent  place = "absent"  // there is none, and none is known of
	gone    place = "gone"    // the one that is known of is not there any more
	foreign place = "foreign" // it is there, and forged did not make it
	begun   place = "begun"   // it is there, and was asked for by an action that was cut
	known   place = "known"   // it is there, and in the inventory
	used    place = "used"    // it is there, somebody else's, and forge.cue says to use it
)

// cluster is what was found of a cluster, and for whom.
type cluster struct {
	fly.Look
	spec forge.FlyClusterSpec
	way  *way

	place place
	live  api.AddOn // unless it is absent; the other one of its name if it is gone
	there bool
	beta  bool // the organization may have clusters; known where one is to be made
	wrong error
}

func topic() fly.Topic { return fly.Topic{Section: fly.SectionClusters} }

func (p *Provider) look(ctx context.Context, l fly.Look) (fly.View, error) {
	spec, ok := l.Request.Resource.Spec.(forge.FlyClusterSpec)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "observe", "its spec is a %T", l.Request.Resource.Spec)
	}
	c := &cluster{Look: l, spec: spec, way: p.wayOf(l)}
	l.Accounts.Follow(l.ID(), l.Account, topic())
	if l.Fresh {
		l.Org.Touch(topic())
	}
	all, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		switch e := c.entry(); {
		case e != nil && e.Identity == a.ID:
			c.live, c.there = a, true
		case a.Name == spec.Name && !c.there:
			c.live, c.there = a, true
		}
	}
	c.place = c.standing()
	if c.place == absent && spec.Create && !l.Request.Remove {
		if c.beta, err = c.inBeta(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.tell(ctx, len(all)); err != nil {
		return nil, err
	}
	return c, nil
}

// list are the clusters of the organization.
func (c *cluster) list(ctx context.Context) ([]api.AddOn, error) {
	all, err := fly.Read(ctx, c.Org, topic(), func(ctx context.Context) ([]api.AddOn, error) {
		return c.Org.Client().AddOns(ctx, c.Org.Slug(), api.AddOnKubernetes)
	})
	return all, fly.Classify("list", "the clusters of organization "+c.Org.Slug(), err)
}

// inBeta tells whether the organization may have clusters. Nothing tells when
// that changes, so it is not remembered for long.
func (c *cluster) inBeta(ctx context.Context) (bool, error) {
	org, err := fly.Read(ctx, c.Org, fly.Topic{App: "beta", Section: fly.SectionClusters}, func(ctx context.Context) (api.Org, error) {
		return c.Org.Client().Organization(ctx, c.Org.Slug())
	})
	return org.Beta, fly.Classify("read", "organization "+c.Org.Slug(), err)
}

// standing tells where the cluster stands.
func (c *cluster) standing() place {
	entry := c.entry()
	switch {
	case entry != nil && entry.Identity != "":
		if c.there && c.live.ID == entry.Identity {
			return known
		}
		return gone
	case !c.there:
		return absent
	case entry != nil && c.claims():
		return begun
	case c.spec.Create && !c.Request.Remove:
		return foreign
	}
	return used
}

// claims tells whether a cluster was made when forged had asked for it, by an
// action that was not seen to end. Nothing in it says whose it is.
func (c *cluster) claims() bool {
	asked, err := time.Parse(time.RFC3339, c.Record.Data[dataAsked])
	return err == nil && c.live.CreatedAt.Before(asked.Add(claimAfter))
}

func (c *cluster) entry() *fly.Entry {
	for i, e := range c.Record.Entries {
		if e.Kind == entryCluster {
			return &c.Record.Entries[i]
		}
	}
	return nil
}

func (c *cluster) object() string { return "cluster " + c.spec.Name }

// usable tells that forged looks after the cluster, or may use it.
func (c *cluster) usable() bool { return c.place == known || c.place == used || c.place == begun }

// tell has the way into the cluster known, or that there is none any more.
func (c *cluster) tell(ctx context.Context, clusters int) error {
	if !c.usable() || c.live.Status != api.AddOnReady && c.live.Status != "" {
		c.way.close(c.Request.Remove && (c.place == gone || !c.there))
		return nil
	}
	c.wrong = c.way.open(c.spec, c.Account, c.live)
	if c.wrong == nil && !c.Request.Remove && c.way.app() == "" && clusters == 1 {
		return c.onlyApp(ctx)
	}
	return nil
}

// Observed implements fly.View.
func (c *cluster) Observed() reconcile.Observed {
	o := reconcile.Observed{Health: reconcile.Health{Status: reconcile.Unknown}}
	switch {
	case c.usable():
		o.Exists = true
	case c.place == gone:
		o.Exists = c.Request.Remove // as far as the inventory has yet to let go of it
		o.Health = failed(c.object() + " was deleted")
		return o
	default:
		return o
	}
	if c.Request.Remove {
		o.Exists = c.Recorded
	}
	if c.place == known {
		o.Objects = 1
	}
	switch c.live.Status {
	case api.AddOnError:
		o.Health = failed("Fly says that " + c.object() + " has failed: " + said(c.live.Error) + "; " + c.anew())
		return o
	case api.AddOnReady, "":
	default:
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "Fly is making " + c.object() + " (" + c.live.Status + ")"}
		return o
	}
	if c.wrong != nil {
		o.Health = failed(c.wrong.Error())
		return o
	}
	o.Health = reconcile.Health{Status: reconcile.Ready}
	o.Outputs = reconcile.Outputs{forge.OutputKubeconfig: {Secret: c.way.kubeconfig()}}
	if app := c.way.app(); app != "" {
		o.Outputs[forge.OutputApp] = reconcile.Output{Value: app}
	}
	return o
}

func failed(message string) reconcile.Health {
	return reconcile.Health{Status: reconcile.Failed, Message: message}
}

// anew is what flyctl advises about a cluster that did not come about.
func (c *cluster) anew() string {
	return fmt.Sprintf("nothing in it can be used: delete it by hand (\"fly ext kubernetes destroy %s\"), and have it made again; or ask at beta@fly.io", c.spec.Name)
}

func said(text string) string {
	if text == "" {
		return "it does not say why"
	}
	return text
}

// Print implements fly.View.
func (c *cluster) Print() string {
	h := sha256.New()
	a := c.live
	fmt.Fprintf(h, "%s %s %s %s %s %x %s", c.place, a.ID, a.Status, a.Error, a.PrimaryRegion, sha256.Sum256(a.Kubeconfig.Reveal()), c.way.app())
	return hex.EncodeToString(h.Sum(nil)[:16])
}
