package fks

import (
	"context"
	"encoding/json"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

const name = "shop-k8s"

// rig is a place on Fly, and forged that work there.
type rig struct {
	*flytest.Forged
	t      *testing.T
	org    string // id
	before string // somebody else's cluster, as it was
}

// newRig makes a place with somebody else's cluster in it.
func newRig(t *testing.T, o flyemulator.Options) *rig {
	t.Helper()
	if o.Orgs == nil {
		o.Orgs = []flyemulator.Org{{Slug: flytest.Org, Beta: true}}
	}
	r := &rig{Forged: flytest.NewForged(t, o), t: t}
	r.Secrets = []string{"kubectl-token", "fm2_"}
	org, err := r.Somebody.Organization(t.Context(), flytest.Org)
	r.Must(err)
	r.org = org.ID
	if org.Beta {
		r.make("theirs")
		r.before = r.theirs(t)
	}
	return r
}

func inBubble(t *testing.T, o flyemulator.Options, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, o)
		test(r)
		r.unharmed(t)
	})
}

// make makes a cluster as somebody else, and waits for it.
func (r *rig) make(name string) api.AddOn {
	r.t.Helper()
	a, err := r.Somebody.CreateAddOn(r.t.Context(), api.CreateAddOn{Type: api.AddOnKubernetes, OrgID: r.org, Name: name, PrimaryRegion: "fra"})
	r.Must(err)
	time.Sleep(time.Minute)
	return a
}

func (r *rig) theirs(t *testing.T) string {
	t.Helper()
	a, err := r.Somebody.AddOn(context.WithoutCancel(t.Context()), "theirs", api.AddOnKubernetes)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal([]any{a, string(a.Kubeconfig.Reveal())})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (r *rig) unharmed(t *testing.T) {
	t.Helper()
	r.Unharmed(t)
	if r.before == "" {
		return
	}
	if now := r.theirs(t); now != r.before {
		t.Errorf("somebody else's cluster was changed:\nwas %s\nis  %s", r.before, now)
	}
	all, err := r.Somebody.AddOns(context.WithoutCancel(t.Context()), flytest.Org, api.AddOnKubernetes)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) > 2 {
		t.Errorf("there are %d clusters", len(all))
	}
}

// fks starts the provider in a process of its own, when the one before has
// ended.
func (r *rig) fks() *Provider {
	p := New(r.Accounts())
	p.connect = nowhere
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

// patient is a provider whose user waits until what was asked for is ready.
type patient struct{ *Provider }

func (p patient) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	for range 5 {
		o, err := p.Provider.Observe(ctx, r)
		if err != nil || o.Health.Status != reconcile.Progressing {
			return o, err
		}
		select {
		case <-time.After(2 * time.Minute): // the listings come round
		case <-ctx.Done():
			return o, nil
		}
	}
	return p.Provider.Observe(ctx, r)
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
	a, err := r.Somebody.AddOn(context.WithoutCancel(r.t.Context()), name, api.AddOnKubernetes)
	r.Must(err)
	return a
}
