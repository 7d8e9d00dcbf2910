package kubernetes

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Options say who is speaking, and who wants to know about it.
type Options struct {
	// Instance is the id of this forged: the value of the label
	// forged.dev/instance and a part of the field manager's name.
	Instance string
	Logger   *slog.Logger // nil: discard

	// OnRequest is told about every HTTP request; it must not block. verb is
	// one of GET LIST WATCH CREATE UPDATE PATCH APPLY DELETE DRYRUN; code 0
	// means that no answer came.
	OnRequest func(target forge.Target, verb string, code int)

	// Ways leads into clusters that are resources themselves; nil where there are
	// none.
	Ways Ways

	// OnVerified is told about objects that were checked against the server
	// itself, and how many of them had changed without having been noticed; it
	// must not block.
	OnVerified func(target forge.Target, objects, surprises int)
}

// Ways knows how clusters that are resources themselves are reached.
type Ways interface {
	// Way is a configuration for clients, in which credentials renew themselves.
	// An error of kind Waiting means that the resource is not known yet. It is
	// asked for often, and answered from memory.
	Way(ctx context.Context, cluster forge.ID) (*rest.Config, error)
}

// Clusters are the clusters of all environments, each connected at first use.
type Clusters struct {
	opts Options
	wrap func(http.RoundTripper) http.RoundTripper // nil but in tests

	podGrace time.Duration // before a trouble of pods counts as failed

	clock clock

	ctx   context.Context // ends with Close: lifetime of all that runs in the background
	close context.CancelFunc

	mu          sync.Mutex
	slots       map[forge.Target]*slot
	subscribers map[*subscriber]struct{}
	verifiers   map[string]Verifier // by kind of resource
	homes       map[string][]Left   // by environment: where its resources were wanted before
	away        map[forge.Target]unreached

	rulesMu sync.RWMutex
	rules   map[string]*fieldRules // by environment
}

// slot is the place of one cluster. Its turn is a lock that can be waited for
// with a context, so that a target that does not answer holds up nobody else.
type slot struct {
	turn    chan struct{}
	cluster *Cluster   // nil until connected
	uid     string     // of the cluster met first, kept over reconnections
	blind   []forge.ID // resources that were watched over by a connection given up since
}

type subscriber struct {
	kind   string
	notify func(reconcile.Event)
}

// NewClusters makes an empty set of clusters. Close it.
func NewClusters(o Options) *Clusters {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnRequest == nil {
		o.OnRequest = func(forge.Target, string, int) {}
	}
	if o.OnVerified == nil {
		o.OnVerified = func(forge.Target, int, int) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Clusters{
		opts: o, ctx: ctx, close: cancel, clock: realClock{}, podGrace: podGrace,
		slots:       map[forge.Target]*slot{},
		subscribers: map[*subscriber]struct{}{},
		homes:       map[string][]Left{},
		away:        map[forge.Target]unreached{},
		verifiers:   map[string]Verifier{},
		rules:       map[string]*fieldRules{},
	}
}

// Cluster returns the cluster behind target and connects to it at first use.
// A failure is an *reconcile.Error and is tried again at the next call; it
// never holds up other targets.
func (cs *Clusters) Cluster(ctx context.Context, target forge.Target) (*Cluster, error) {
	cs.mu.Lock()
	s := cs.slots[target]
	if s == nil {
		s = &slot{turn: make(chan struct{}, 1)}
		cs.slots[target] = s
	}
	cs.mu.Unlock()

	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, Classify("connect to "+target.String(), Ref{}, ctx.Err())
	case <-cs.ctx.Done():
		return nil, reconcile.Errorf(reconcile.Unavailable, "connect to "+target.String(), "shutting down")
	}
	if cs.ctx.Err() != nil {
		return nil, reconcile.Errorf(reconcile.Unavailable, "connect to "+target.String(), "shutting down")
	}
	if s.cluster != nil {
		if !s.cluster.outdated() {
			return s.cluster, nil
		}
		// The kubeconfig leads elsewhere now, or with other credentials.
		s.blind = append(s.blind, s.cluster.owners()...)
		s.cluster.stop()
		s.cluster = nil
	}
	c, err := connect(ctx, cs, target, s.uid)
	if err != nil {
		return nil, err
	}
	s.cluster, s.uid = c, c.uid
	// The watches have ended with the old connection. A look at what they
	// served begins them anew.
	cs.publish(watchEvents(s.blind))
	s.blind = nil
	return c, nil
}

// Follows tells whether target is connected, to the cluster it should be and
// without trouble: then its watches stand, and tell of every change. It waits
// for nothing and costs no request.
func (cs *Clusters) Follows(target forge.Target) bool { return cs.followed(target) != nil }

// followed is the cluster behind a target that is followed; nil: it is not.
func (cs *Clusters) followed(target forge.Target) *Cluster {
	cs.mu.Lock()
	s := cs.slots[target]
	cs.mu.Unlock()
	if s == nil {
		return nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	default:
		return nil // it is being connected
	}
	if s.cluster == nil || s.cluster.strayed() != nil || s.cluster.trouble.Load() {
		return nil
	}
	return s.cluster
}

// Watch reports events of resources of one kind, of all clusters, until ctx
// ends. notify must not block.
func (cs *Clusters) Watch(ctx context.Context, kind string, notify func(reconcile.Event)) error {
	s := &subscriber{kind: kind, notify: notify}
	cs.mu.Lock()
	cs.subscribers[s] = struct{}{}
	cs.mu.Unlock()
	defer func() {
		cs.mu.Lock()
		delete(cs.subscribers, s)
		cs.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
	case <-cs.ctx.Done():
	}
	return nil
}

// publish hands events to those who watch their kind. It is called without
// any lock of a cluster held.
func (cs *Clusters) publish(events []reconcile.Event) {
	for _, e := range events {
		cs.mu.Lock()
		var to []func(reconcile.Event)
		for s := range cs.subscribers {
			if s.kind == e.ID.Kind {
				to = append(to, s.notify)
			}
		}
		cs.mu.Unlock()
		for _, notify := range to {
			notify(e)
		}
	}
}

// Close writes what is still to be written, ends all watches and waits for
// them.
func (cs *Clusters) Close() {
	cs.close()
	cs.mu.Lock()
	slots := make([]*slot, 0, len(cs.slots))
	for _, s := range cs.slots {
		slots = append(slots, s)
	}
	cs.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range slots {
		wg.Go(func() {
			s.turn <- struct{}{} // a connection being made ends with cs.ctx
			defer func() { <-s.turn }()
			if s.cluster != nil {
				s.cluster.stop()
				s.cluster = nil
			}
		})
	}
	wg.Wait()
}
