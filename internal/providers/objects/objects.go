// Package objects reconciles resources that are sets of plain objects of a
// cluster: no chart, no release, a handful of objects by name. A [Kind] says
// what is wanted; everything else, from drift to removal, is the same for all
// of them. Config files and claims of volumes are such kinds.
package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// Kind is one kind of resource. Name, Namespace, Gone and Want are needed.
type Kind struct {
	Name string // of the resources: forge.KindConfig

	// Namespace is where a resource's inventory is kept; false if the spec is
	// not of this kind.
	Namespace func(forge.Spec) (string, bool)

	// Gone is the spec of a resource that is only to be removed.
	Gone func(namespace string) forge.Spec

	// Want says what is to be there. It is called at every look, so it has to
	// be cheap: no request as long as nothing has changed. An error of kind
	// Waiting is told when the resource is planned; any other means that
	// nothing is known. It is not called when the resource is to be removed.
	Want func(context.Context, *Look) ([]Object, error)

	// Tell adds what only the kind knows to what was observed: outputs, its own
	// notion of health. It is not called for a removal. May be nil.
	Tell func(context.Context, *Look, *reconcile.Observed) error

	// Review looks at a step that is to change an object which is there, live,
	// and may block it. May be nil.
	Review func(ctx context.Context, l *Look, o Object, live *unstructured.Unstructured, step *reconcile.Step) error

	// Stays tells of an object that is not wanted any more whether it is to be
	// let go of instead of deleted, because it is somebody else's business now.
	// May be nil.
	Stays func(*Look, kubernetes.Ref) bool

	// Watch reports, until its context ends, what no watch of a cluster shows.
	// May be nil.
	Watch func(ctx context.Context, notify func(reconcile.Event)) error

	// Data is set when the objects hold what cannot be made again: deleting one
	// destroys data.
	Data bool

	// Forget is called when a resource has been removed. May be nil.
	Forget func(forge.Resource)
}

// Object is one object as it is to be.
type Object struct {
	// Manifest is sent as it is but for our marks, normalised.
	Manifest *unstructured.Unstructured

	// Desired is a hash of what is asked for, from which no secret can be
	// guessed. Empty: it is taken over the manifest, which then holds none.
	Desired string

	Keep   bool // it stays in the cluster when nobody asks for it any more
	Hidden bool // its values are not shown
}

// Ref names the object.
func (o Object) Ref() kubernetes.Ref { return kubernetes.RefOf(o.Manifest) }

// hash is Desired or what stands in for it.
func (o Object) hash() (string, error) {
	if o.Desired != "" {
		return o.Desired, nil
	}
	raw, err := json.Marshal(o.Manifest.Object)
	if err != nil {
		return "", fmt.Errorf("write %s as JSON: %w", o.Ref(), err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16]), nil
}

// Provider reconciles the resources of one Kind.
type Provider struct {
	clusters *kubernetes.Clusters
	kind     Kind

	mu       sync.Mutex
	verdicts map[verdictKey]verdict
	seen     map[forge.ID]*Look // at the last look, for verification
}

var (
	_ reconcile.Provider = (*Provider)(nil)
	_ reconcile.Owner    = (*Provider)(nil)
)

// New makes the provider of a kind.
func New(clusters *kubernetes.Clusters, kind Kind) *Provider {
	p := &Provider{clusters: clusters, kind: kind, verdicts: map[verdictKey]verdict{}, seen: map[forge.ID]*Look{}}
	clusters.VerifyBy(kind.Name, p.verify)
	return p
}

// Watch implements reconcile.Provider.
func (p *Provider) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	if p.kind.Watch == nil {
		return p.clusters.Watch(ctx, p.kind.Name, notify)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var own sync.WaitGroup
	var err error
	own.Go(func() {
		defer cancel()
		err = p.kind.Watch(ctx, notify)
	})
	clusterErr := p.clusters.Watch(ctx, p.kind.Name, notify)
	cancel()
	own.Wait()
	if err == nil {
		err = clusterErr
	}
	return err
}

// Owned implements reconcile.Owner.
func (p *Provider) Owned(ctx context.Context, environment string, wanted []forge.Resource) ([]forge.Resource, error) {
	return p.clusters.Owned(ctx, environment, p.kind.Name, wanted, p.kind.Gone)
}

// Look is what is known of one resource at one moment.
type Look struct {
	Request   reconcile.Request
	Cluster   *kubernetes.Cluster
	Inventory *kubernetes.Inventory
	Namespace string            // of the inventory
	Record    kubernetes.Record // what was applied last
	Recorded  bool
	Drifts    []kubernetes.Drift
	Objects   []Object // wanted, none for a removal

	hashes  map[kubernetes.Ref]string // of Objects
	waiting error                     // for an input of Want
}

// ID is that of the resource.
func (l *Look) ID() forge.ID { return l.Request.Resource.ID }

// Applied is the record of an object; false if it was never applied.
func (l *Look) Applied(ref kubernetes.Ref) (kubernetes.Entry, bool) {
	i := slices.IndexFunc(l.Record.Entries, func(e kubernetes.Entry) bool { return e.Ref == ref })
	if i < 0 || l.Record.Entries[i].Desired == "" {
		return kubernetes.Entry{Ref: ref}, false
	}
	return l.Record.Entries[i], true
}

// Drift is how an object differs from what was applied last; nil if it does
// not.
func (l *Look) Drift(ref kubernetes.Ref) *kubernetes.Drift {
	for i := range l.Drifts {
		if l.Drifts[i].Entry.Ref == ref {
			return &l.Drifts[i]
		}
	}
	return nil
}

// unwanted are the recorded objects that nobody asks for any more: those to be
// deleted, and those to be let go of.
func (l *Look) unwanted() (remove, keep []kubernetes.Entry) {
	for _, e := range l.Record.Entries {
		_, wanted := l.hashes[e.Ref]
		switch {
		case wanted:
		case e.Keep:
			keep = append(keep, e)
		default:
			remove = append(remove, e)
		}
	}
	return remove, keep
}

func (p *Provider) look(ctx context.Context, r reconcile.Request) (*Look, error) {
	id := r.Resource.ID
	namespace, ok := p.kind.Namespace(r.Resource.Spec)
	if !ok {
		return nil, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "observe", Err: fmt.Errorf("its spec is a %T", r.Resource.Spec)}
	}
	if err := p.clusters.Rules(r); err != nil {
		return nil, err
	}
	c, err := p.clusters.Cluster(ctx, r.Resource.Target)
	if err != nil {
		return nil, kubernetes.About(err, id)
	}
	l := &Look{Request: r, Cluster: c, Namespace: namespace, hashes: map[kubernetes.Ref]string{}}
	if l.Inventory, err = c.Inventory(ctx, id.Environment, namespace); err != nil {
		return nil, kubernetes.About(err, id)
	}
	if err := l.refresh(ctx); err != nil {
		return nil, kubernetes.About(err, id)
	}
	if r.Remove {
		return l, nil
	}
	l.Objects, err = p.kind.Want(ctx, l)
	if reconcile.KindOf(err) == reconcile.Waiting {
		l.waiting = err // told when it is planned: what there is can be observed
		return l, nil
	}
	if err != nil {
		return nil, kubernetes.About(err, id)
	}
	for _, o := range l.Objects {
		ref := o.Ref()
		if _, twice := l.hashes[ref]; twice {
			return nil, &reconcile.Error{Kind: reconcile.Internal, ID: id, Object: ref.String(), Op: "observe", Err: fmt.Errorf("it is asked for twice")}
		}
		if l.hashes[ref], err = o.hash(); err != nil {
			return nil, &reconcile.Error{Kind: reconcile.Invalid, ID: id, Object: ref.String(), Op: "observe", Err: err}
		}
	}
	p.mu.Lock()
	p.seen[id] = l
	p.mu.Unlock()
	for i, e := range l.Record.Entries {
		if _, wanted := l.hashes[e.Ref]; !wanted && p.kind.Stays != nil && p.kind.Stays(l, e.Ref) {
			l.Record.Entries[i].Keep = true
		}
	}
	return l, nil
}

// refresh takes what the inventory and the watches know now. In the steady
// state it costs no request.
func (l *Look) refresh(ctx context.Context) (err error) {
	l.Record, l.Recorded = l.Inventory.Record(l.ID())
	l.Drifts, err = l.Inventory.Drifted(ctx, l.ID())
	return err
}

// Observe implements reconcile.Provider.
func (p *Provider) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	l, err := p.look(ctx, r)
	if err != nil {
		return reconcile.Observed{}, err
	}
	return p.observed(ctx, l)
}

func (p *Provider) observed(ctx context.Context, l *Look) (reconcile.Observed, error) {
	o := reconcile.Observed{
		Exists: l.Recorded, Objects: len(l.Record.Entries), Detail: l,
		Outputs: reconcile.Outputs{}, Health: reconcile.Health{Status: reconcile.Ready},
		Notices: l.Record.Notices(),
	}
	for _, want := range l.Objects {
		health, err := l.health(ctx, want.Ref())
		if err != nil {
			return o, kubernetes.About(err, l.ID())
		}
		o.Health = Worse(o.Health, health)
	}
	if l.waiting != nil && !l.Recorded {
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "waits for what it is made of"}
	}
	if p.kind.Tell != nil && !l.Request.Remove {
		if err := p.kind.Tell(ctx, l, &o); err != nil {
			return o, kubernetes.About(err, l.ID())
		}
	}
	return o, nil
}

func (l *Look) health(ctx context.Context, ref kubernetes.Ref) (reconcile.Health, error) {
	missing := reconcile.Health{Status: reconcile.Progressing, Message: ref.String() + " is not there yet"}
	if _, ok := l.Applied(ref); !ok {
		return missing, nil
	}
	if d := l.Drift(ref); d != nil && d.Code == reconcile.ReasonDeleted {
		missing.Message = ref.String() + " was deleted"
		return missing, nil
	}
	state, err := l.Cluster.Live(ctx, ref)
	if err != nil {
		return missing, err
	}
	if !state.Exists {
		// Our label was taken off, so that the watch does not show it.
		return reconcile.Health{Status: reconcile.Unknown, Message: ref.String() + " is out of sight"}, nil
	}
	health := l.Cluster.Health(ctx, l.ID(), ref, state)
	if health.Message != "" {
		health.Message = ref.String() + ": " + health.Message
	}
	return health, nil
}

// Worse is the one of two healths that counts for both together.
func Worse(a, b reconcile.Health) reconcile.Health {
	rank := func(h reconcile.Health) int {
		return slices.Index([]reconcile.HealthStatus{reconcile.Ready, reconcile.Unknown, reconcile.Progressing, reconcile.Failed}, h.Status)
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}
