package helm

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm/render"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// maxHistory is how many revisions of a release are kept, as many as the helm
// command keeps by default.
const maxHistory = 10

// Options configure a Provider.
type Options struct {
	Clusters *kubernetes.Clusters
	Embedded func(name string) ([]charts.File, error) // nil: the embedded charts
	Charts   Charts                                   // nil: there are none but the embedded ones
	// Secret reads what a registry or a repository of charts wants to know.
	Secret func(context.Context, forge.SecretRef) (secret.Value, error)
	// Apart renders the charts of others; nil: they are rendered here, where
	// nothing bounds them.
	Apart *render.Child
	// Fitter brings what is rendered into the form that a table of rules asks
	// for. It is called for releases that name one, and nil where there are none.
	Fitter kubernetes.Fitter
	Logger *slog.Logger
}

// Provider reconciles resources of kind release.
type Provider struct {
	clusters *kubernetes.Clusters
	log      *slog.Logger
	charts   chartStore
	fitter   kubernetes.Fitter
	secret   func(context.Context, forge.SecretRef) (secret.Value, error)
	dead     time.Duration // see deadAfter
	invented *seal

	mu       sync.Mutex
	stores   map[storeKey]*store
	releases map[releaseKey]*unit
	ids      map[releaseKey]forge.ID // of the resource that asked for a release last
	lookups  map[lookupKey]*lookupWatch
	sourced  map[releaseKey]struct{} // of charts of the user
	handles  map[forge.ID]*handle    // as they were opened last, for verification
	notify   func(reconcile.Event)
}

type releaseKey struct {
	target          forge.Target
	namespace, name string
}

// unit is what the provider remembers of one release. Everything in it can
// be read again from the cluster.
type unit struct {
	acting sync.Mutex    // one action at a time
	dead   time.Duration // see deadAfter; tests are in a hurry

	mu       sync.Mutex
	objects  map[kubernetes.Ref]object // of revision
	revision int
	verdicts map[kubernetes.Ref]verdict
	wrote    revision // by the last action here, until the watch has shown it
	unready  sighting // of our revision, as long as it is not ready
	foreign  sighting // of somebody else's record that is not terminal
	notices  []reconcile.Notice
	noted    noted

	// Guarded by the mutex of the provider:
	owned forge.ID // whose owner is known
	owner string
	seal  *seal // that was needed last
}

var (
	_ reconcile.Provider = (*Provider)(nil)
	_ reconcile.Owner    = (*Provider)(nil)
)

// New makes a Provider.
func New(o Options) *Provider {
	files := o.Embedded
	if files == nil {
		files = charts.Files
	}
	p := &Provider{
		clusters: o.Clusters,
		log:      o.Logger,
		dead:     deadAfter,
		invented: inventedSeal(),
		secret:   o.Secret,
		fitter:   o.Fitter,
		charts:   chartStore{embedded: files, others: o.Charts, loaded: map[string]loadedChart{}, apart: o.Apart, beyond: map[string]beyondBounds{}},
		stores:   map[storeKey]*store{},
		releases: map[releaseKey]*unit{},
		ids:      map[releaseKey]forge.ID{},
		lookups:  map[lookupKey]*lookupWatch{},
		sourced:  map[releaseKey]struct{}{},
		handles:  map[forge.ID]*handle{},
	}
	if o.Clusters != nil {
		o.Clusters.VerifyBy(forge.KindRelease, p.verify)
	}
	return p
}

// Watch implements reconcile.Provider: it reports changes of the releases'
// objects, of Helm's own records, of what charts look up and of the charts of
// the user.
func (p *Provider) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	p.mu.Lock()
	p.notify = notify
	p.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	if p.charts.others != nil {
		g.Go(func() error { return p.charts.others.Watch(ctx, p.chartsChanged) })
	}
	g.Go(func() error { return p.clusters.Watch(ctx, forge.KindRelease, notify) })
	return g.Wait()
}

// chartsChanged has all releases of charts of the user looked at.
func (p *Provider) chartsChanged() {
	p.mu.Lock()
	var events []reconcile.Event
	for key := range p.sourced {
		if id, ours := p.ids[key]; ours {
			events = append(events, reconcile.Event{ID: id, Cause: "chart", At: time.Now()})
		}
	}
	notify := p.notify
	p.mu.Unlock()
	for _, e := range events {
		if notify != nil {
			notify(e)
		}
	}
}

// storageChanged is called by a store for each record that appears or changes.
func (p *Provider) storageChanged(t forge.Target, namespace, name string) {
	p.mu.Lock()
	id, ours := p.ids[releaseKey{t, namespace, name}]
	notify := p.notify
	p.mu.Unlock()
	if ours && notify != nil {
		notify(reconcile.Event{ID: id, Cause: "storage", At: time.Now(), Object: "release " + namespace + "/" + name})
	}
}

// handle is one release with everything an operation on it needs.
type handle struct {
	*unit
	p         *Provider
	id        forge.ID
	release   identity
	req       reconcile.Request
	spec      forge.ReleaseSpec
	cluster   *kubernetes.Cluster
	inventory *kubernetes.Inventory
	store     *store
	seal      *seal // of its hashes; nil: the key is not known yet
}

func (p *Provider) open(ctx context.Context, req reconcile.Request) (*handle, error) {
	res := req.Resource
	spec, ok := res.Spec.(forge.ReleaseSpec)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "open release", "%s has a %T", res.ID, res.Spec)
	}
	if err := p.clusters.Rules(req); err != nil {
		return nil, err
	}
	c, err := p.clusters.Cluster(ctx, res.Target)
	if err != nil {
		return nil, err
	}
	inv, err := c.Inventory(ctx, res.ID.Environment, spec.Namespace)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	where := storeKey{res.Target, spec.Namespace}
	st := p.stores[where]
	if st == nil || st.cluster != c {
		st = newStore(c, spec.Namespace, func(ns, name string) { p.storageChanged(res.Target, ns, name) })
		p.stores[where] = st
	}
	key := releaseKey{res.Target, spec.Namespace, spec.Name}
	r := p.releases[key]
	if r == nil {
		r = &unit{dead: p.dead, verdicts: map[kubernetes.Ref]verdict{}}
		p.releases[key] = r
	}
	p.ids[key] = res.ID
	if r.owned != res.ID {
		r.owned, r.owner = res.ID, ownerOf(c.Instance(), kubernetes.HomeID(res.ID))
	}
	owner, sealing := r.owner, r.sealOf(req)
	if spec.Source != nil {
		p.sourced[key] = struct{}{}
	} else {
		delete(p.sourced, key)
	}
	p.mu.Unlock()
	h := &handle{
		unit: r, p: p, id: res.ID, release: identity{spec.Namespace, spec.Name, owner},
		req: req, spec: spec, cluster: c, inventory: inv, store: st, seal: sealing,
	}
	if err := h.unfitted(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.handles[res.ID] = h
	p.mu.Unlock()
	return h, nil
}
