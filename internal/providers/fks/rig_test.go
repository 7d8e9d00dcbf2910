package fks

import (
	"context"
	"net"
	"testing"
	"testing/synctest"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

const name = "shop-k8s"

// rig is a place on Fly, and forged that work there.
type rig struct {
	*flytest.AddOns
	t         *testing.T
	occupants []string // of every cluster
}

// newRig makes a place with somebody else's cluster in it.
func newRig(t *testing.T, o flyemulator.Options) *rig {
	t.Helper()
	if o.Orgs == nil {
		o.Orgs = []flyemulator.Org{{Slug: flytest.Org, Beta: true}}
	}
	r := &rig{t: t, AddOns: flytest.NewAddOns(t, o, api.CreateAddOn{Type: api.AddOnKubernetes, PrimaryRegion: "fra"})}
	r.Secrets = []string{"kubectl-token", "fm2_"}
	if o.Orgs[0].Beta {
		r.MakeTheirs()
	}
	return r
}

func inBubble(t *testing.T, o flyemulator.Options, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, o)
		test(r)
		r.Unharmed(t)
	})
}

// fks starts the provider in a process of its own, when the one before has
// ended.
func (r *rig) fks() *Provider {
	p := New(r.Accounts())
	p.connect = nowhere
	p.occupants = func(context.Context, *way) ([]string, error) { return r.occupants, nil }
	return p
}

// nowhere is a machine outside of the private network.
func nowhere(_ context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
}

var clusterID = forge.ID{Environment: flytest.Environment, Kind: forge.KindFlyCluster, Name: name}

func (r *rig) request(change ...func(*forge.FlyClusterSpec)) reconcile.Request {
	spec := forge.FlyClusterSpec{Account: r.Account(), Name: name, Create: true, Region: "fra"}
	for _, f := range change {
		f(&spec)
	}
	return reconcile.Request{Resource: forge.Resource{ID: clusterID, Target: forge.Target{Org: flytest.Org}, Spec: spec}}
}

// live is the cluster as somebody else sees it.
func (r *rig) live() api.AddOn {
	r.t.Helper()
	return r.Seen(name)
}
