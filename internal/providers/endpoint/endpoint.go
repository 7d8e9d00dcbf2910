package endpoint

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// Where a spec does not say.
const (
	usualTimeout  = 5 * time.Second
	usualFailures = 3
)

// Options of the provider.
type Options struct {
	Clusters *kubernetes.Clusters
}

// Provider is that of kind "endpoint". While somebody watches it asks by itself,
// and whoever looks is told what is known; nobody waits for an app that is slow
// to answer, but for the first look at it.
type Provider struct {
	place place
	asker asker
	wake  chan struct{} // holds one when something may be due earlier

	mu       sync.Mutex
	known    map[forge.ID]*memory
	watchers int
}

var (
	_ reconcile.Provider = (*Provider)(nil)
	_ reconcile.Follower = (*Provider)(nil)
	_ reconcile.Judge    = (*Provider)(nil)
)

// New makes the provider.
func New(o Options) *Provider { return newProvider(newClusters(o.Clusters), line{}) }

func newProvider(p place, a asker) *Provider {
	return &Provider{place: p, asker: a, wake: make(chan struct{}, 1), known: map[forge.ID]*memory{}}
}

// Observe implements reconcile.Provider. The app is asked when nothing is known
// of it; after that the answer comes from memory.
func (p *Provider) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	id := r.Resource.ID
	spec, ok := r.Resource.Spec.(forge.EndpointSpec)
	if !ok {
		return reconcile.Observed{}, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "observe", Err: fmt.Errorf("its spec is a %T", r.Resource.Spec)}
	}
	if r.Remove {
		p.forget(id)
		return reconcile.Observed{}, nil
	}
	seen, err := p.place.see(ctx, r.Resource)
	if err != nil {
		p.noted(id)
		return reconcile.Observed{}, kubernetes.About(err, id)
	}
	m := p.remember(id, spec, seen, r.Settled)
	if p.begin(id, m, true) {
		p.ask(ctx, m)
	}
	if err := ctx.Err(); err != nil {
		return reconcile.Observed{}, kubernetes.Classify("observe", kubernetes.Ref{}, err)
	}
	p.stir()
	p.mu.Lock()
	defer p.mu.Unlock()
	o := m.observed(time.Now())
	m.told = print(o)
	return o, nil
}

// remember notes what is asked for and what is seen.
func (p *Provider) remember(id forge.ID, spec forge.EndpointSpec, seen sight, settled time.Time) *memory {
	q := question{
		host: seen.host, port: spec.Port, tls: spec.TLS, path: cmp.Or(spec.Path, "/"),
		hosts: slices.Clone(spec.Hosts), timeout: cmp.Or(spec.Timeout, usualTimeout),
	}
	l := limits{interval: max(spec.Interval, shortest), failures: cmp.Or(spec.Failures, usualFailures), startup: spec.Startup}
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.known[id]
	if m == nil {
		m = &memory{service: "Service " + spec.Namespace + "/" + spec.Service}
		p.known[id] = m
	}
	m.see(time.Now(), seen, q, l, settled)
	return m
}

// noted is for a look that shows nothing: somebody wants to know.
func (p *Provider) noted(id forge.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.known[id]; m != nil {
		m.looked = time.Now()
	}
}

func (p *Provider) forget(id forge.ID) {
	p.place.forget(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, id)
}

// begin takes the right to ask, which one has at a time. A look has it when
// nothing is known, and when nobody else would ask.
func (p *Provider) begin(id forge.ID, m *memory, look bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := !m.due.After(time.Now())
	if look {
		due = !m.asked || due && p.watchers == 0
	}
	if !due || p.known[id] != m || m.asking || m.sight.host == "" {
		return false
	}
	m.asking = true
	return true
}

// ask asks once, and takes down what comes. What is cut off by the end of ctx is
// no answer.
func (p *Provider) ask(ctx context.Context, m *memory) {
	p.mu.Lock()
	q, revisions, at := m.question, m.sight.revisions, time.Now()
	due := len(q.hosts) > 0 && !at.Before(m.heard.Add(othersPace))
	p.mu.Unlock()

	v := p.asker.own(ctx, q)
	var others map[string]verdict
	if len(q.hosts) > 0 && (v.encryption || due && v.fine()) {
		others = p.asker.others(ctx, q)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m.asking = false
	if ctx.Err() == nil {
		m.answered(at, time.Now(), q, revisions, v, others)
	}
}

// Judges implements reconcile.Judge: after a rollout it is not ready before the
// app has answered again.
func (p *Provider) Judges() {}

// Plan implements reconcile.Provider. There is never anything to do.
func (p *Provider) Plan(context.Context, reconcile.Request, reconcile.Observed) ([]reconcile.Step, error) {
	return nil, nil
}

// Apply implements reconcile.Provider.
func (p *Provider) Apply(_ context.Context, r reconcile.Request, _ reconcile.Step) (reconcile.Observed, error) {
	return reconcile.Observed{}, &reconcile.Error{Kind: reconcile.Internal, ID: r.Resource.ID, Op: "apply", Err: fmt.Errorf("nothing is made of an endpoint")}
}

// Follows implements reconcile.Follower.
func (p *Provider) Follows(r forge.Resource) bool {
	p.mu.Lock()
	followed := p.watchers > 0 && p.known[r.ID] != nil
	p.mu.Unlock()
	return followed && p.place.follows(r)
}
