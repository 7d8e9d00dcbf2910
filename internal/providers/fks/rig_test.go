package fks

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

const name = "shop-k8s"

// rig is a place on Fly, and forged that work there.
type rig struct {
	*flytest.Place
	t       *testing.T
	org     string // id
	before  string // somebody else's cluster, as it was
	process *fly.Accounts
}

// newRig makes a place with somebody else's cluster in it.
func newRig(t *testing.T, o flyemulator.Options) *rig {
	t.Helper()
	if o.Orgs == nil {
		o.Orgs = []flyemulator.Org{{Slug: flytest.Org, Beta: true}}
	}
	r := &rig{Place: flytest.New(t, o), t: t}
	org, err := r.Somebody.Organization(t.Context(), flytest.Org)
	r.must(err)
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

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// make makes a cluster as somebody else, and waits for it.
func (r *rig) make(name string) api.AddOn {
	r.t.Helper()
	a, err := r.Somebody.CreateAddOn(r.t.Context(), api.CreateAddOn{Type: api.AddOnKubernetes, OrgID: r.org, Name: name, PrimaryRegion: "fra"})
	r.must(err)
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
	if r.process != nil {
		r.process.Close()
		time.Sleep(5 * time.Second) // a process takes a moment to begin
	}
	r.process = fly.NewAccounts(fly.Options{
		Instance: flytest.Instance, Resolver: r.Resolver(), Endpoints: flytest.Endpoints(), HTTP: r.HTTP(), Logger: r.Logger(),
	})
	r.t.Cleanup(r.process.Close)
	p := New(r.process)
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
	r.must(err)
	return a
}

// plan is what a provider would do.
func (r *rig) plan(p reconcile.Provider, q reconcile.Request) (reconcile.Observed, []reconcile.Step) {
	r.t.Helper()
	o, err := p.Observe(r.t.Context(), q)
	r.must(err)
	steps, err := p.Plan(r.t.Context(), q, o)
	r.must(err)
	b, err := json.Marshal(steps)
	r.must(err)
	r.silent(string(b), fmt.Sprint(steps), fmt.Sprintf("%+v %+v", o.Health, o.Outputs))
	return o, steps
}

// blocked is the only step that is planned: it is not done.
func (r *rig) blocked(p reconcile.Provider, q reconcile.Request, want string) reconcile.Step {
	r.t.Helper()
	_, steps := r.plan(p, q)
	if len(steps) != 1 || steps[0].Blocked == "" || !strings.Contains(steps[0].Blocked, want) {
		r.t.Fatalf("planned %v, want one that is blocked: %s", steps, want)
	}
	if _, err := p.Apply(r.t.Context(), q, steps[0]); reconcile.KindOf(err) != reconcile.Invalid {
		r.t.Errorf("a blocked step was applied: %v", err)
	}
	return steps[0]
}

// round is a cycle: the first error ends it.
func (r *rig) round(p reconcile.Provider, q reconcile.Request) (done int, err error) {
	o, err := p.Observe(r.t.Context(), q)
	if err != nil {
		return 0, err
	}
	steps, err := p.Plan(r.t.Context(), q, o)
	if err != nil {
		return 0, err
	}
	for _, s := range steps {
		if s.Blocked != "" {
			continue
		}
		if _, err := p.Apply(r.t.Context(), q, s); err != nil {
			r.silent(err.Error())
			return done, err
		}
		done++
	}
	return done, nil
}

// converge goes on until nothing is to be done and all is ready.
func (r *rig) converge(p reconcile.Provider, q reconcile.Request) reconcile.Observed {
	r.t.Helper()
	var last error
	for range 40 {
		done, err := r.round(p, q)
		if last = err; err == nil && done == 0 {
			if o, _ := r.plan(p, q); o.Health.Status == reconcile.Ready {
				return o
			}
		}
		time.Sleep(45 * time.Second)
	}
	o, steps := r.plan(p, q)
	r.t.Fatalf("there is no end to it: %v %+v %v", steps, o.Health, last)
	return o
}

func (r *rig) silent(texts ...string) {
	r.t.Helper()
	for _, text := range texts {
		for _, s := range []string{flyemulator.DefaultToken, "kubectl-token", "fm2_"} {
			if strings.Contains(text, s) {
				r.t.Errorf("a secret is in: %s", text)
			}
		}
	}
}
