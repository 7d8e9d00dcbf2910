package fks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// entryCluster is the kind of the one entry in the inventory.
const entryCluster = "kubernetes"

// dataMade is the key of the record of a cluster that says that forged made it:
// it may be destroyed.
const dataMade = "made"

// cluster is what was found of a cluster, and for whom.
type cluster struct {
	fly.AddOn
	spec  forge.FlyClusterSpec
	way   *way
	place fly.AddOnPlace
	kept  string // what keeps it from being destroyed
	beta  bool   // the organization may have clusters; known where one is to be made
	wrong error
}

func (p *Provider) look(ctx context.Context, l fly.Look) (fly.View, error) {
	spec, ok := l.Request.Resource.Spec.(forge.FlyClusterSpec)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "observe", "its spec is a %T", l.Request.Resource.Spec)
	}
	c := &cluster{spec: spec, way: p.wayOf(l), AddOn: fly.AddOn{
		Look: l, Section: fly.SectionClusters, Type: api.AddOnKubernetes, Entry: entryCluster, Name: spec.Name,
		Object: "cluster " + spec.Name, All: "the clusters",
		Taken: "another organization may have a cluster of this name: write another platform.cluster",
	}}
	all, err := c.Find(ctx)
	if err != nil {
		return nil, err
	}
	c.place = c.Standing(spec.Create, c.Claims()) // nothing in a cluster says whose it is
	if c.place == fly.AddOnAbsent && spec.Create && !l.Request.Remove {
		if c.beta, err = c.inBeta(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.tell(ctx, len(all)); err != nil {
		return nil, err
	}
	if l.Request.Remove && c.destroys() {
		c.kept = c.inhabited(ctx, p.occupants)
	}
	return c, nil
}

// inBeta tells whether the organization may have clusters. Nothing tells when
// that changes, so it is not remembered for long.
func (c *cluster) inBeta(ctx context.Context) (bool, error) {
	org, err := fly.Read(ctx, c.Org, fly.Topic{App: "beta", Section: fly.SectionClusters}, func(ctx context.Context) (api.Org, error) {
		return c.Org.Client().Organization(ctx, c.Org.Slug())
	})
	return org.Beta, fly.Classify("read", "organization "+c.Org.Slug(), err)
}

// usable tells that forged looks after the cluster, or may use it.
func (c *cluster) usable() bool {
	return c.place == fly.AddOnKnown || c.place == fly.AddOnUsed || c.place == fly.AddOnBegun
}

// tell has the way into the cluster known, or that there is none any more.
func (c *cluster) tell(ctx context.Context, clusters int) error {
	if !c.usable() || c.Live.Status != api.AddOnReady && c.Live.Status != "" {
		c.way.close(c.Request.Remove && (c.place == fly.AddOnGone || !c.There), c.failure())
		return nil
	}
	c.wrong = c.way.open(c.spec, c.Account, c.Live)
	switch {
	case c.wrong != nil || c.Request.Remove || c.way.app() != "":
	case clusters == 1:
		return c.onlyApp(ctx)
	default:
		c.way.lookInside(ctx)
	}
	return nil //nolint:nilerr // what is wrong with the way in is the cluster's health
}

// Observed implements fly.View.
func (c *cluster) Observed() reconcile.Observed {
	o := reconcile.Observed{Health: reconcile.Health{Status: reconcile.Unknown}}
	switch {
	case c.usable():
		o.Exists = true
	case c.place == fly.AddOnGone:
		o.Exists = c.Request.Remove // as far as the inventory has yet to let go of it
		o.Health = failed(c.Object + " was deleted")
		return o
	default:
		return o
	}
	if c.Request.Remove {
		o.Exists = c.Recorded
	}
	if c.place == fly.AddOnKnown {
		o.Objects = 1
	}
	switch c.Live.Status {
	case api.AddOnError:
		o.Health = failed(c.failure().Error())
		return o
	case api.AddOnReady, "":
	default:
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "Fly is making " + c.Object + " (" + c.Live.Status + ")"}
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

// failure is why nothing can be done in a cluster that did not come about; nil: it
// did, or is about to.
func (c *cluster) failure() error {
	if !c.usable() || c.Live.Status != api.AddOnError {
		return nil
	}
	return errors.New("Fly says that " + c.Object + " has failed: " + said(c.Live.Error) + "; " + c.anew())
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
	a := c.Live
	fmt.Fprintf(h, "%s %s %s %s %s %x %s", c.place, a.ID, a.Status, a.Error, a.PrimaryRegion, sha256.Sum256(a.Kubeconfig.Reveal()), c.way.app())
	return hex.EncodeToString(h.Sum(nil)[:16])
}
