package sights

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	kwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// lookTimeout bounds the wait for what a watch shows first.
const lookTimeout = 20 * time.Second

// Causes of events.
const (
	causeHealth = "health" // a status that somebody else writes has changed
	causeSource = "source" // a Secret that somebody else fills has changed
	causeWatch  = "watch"  // a watch broke, or works again
	causeTime   = "time"   // a time has come that was waited for
)

// Sights are the objects of others that resources depend on. Each is watched
// as long as one of them does: a change of it is seen at once, and a steady
// state costs no request.
type Sights struct {
	mu       sync.Mutex
	clusters map[*kubernetes.Cluster]map[sightKey]*sight
	watching map[*watching]struct{}
	alarms   map[forge.ID]time.Time
	now      func() time.Time
}

type watching struct {
	kind   string
	notify func(reconcile.Event)
	wake   chan struct{} // an alarm was set
}

// New makes Sights without any. now is the clock of alarms.
func New(now func() time.Time) *Sights {
	return &Sights{
		clusters: map[*kubernetes.Cluster]map[sightKey]*sight{},
		watching: map[*watching]struct{}{},
		alarms:   map[forge.ID]time.Time{},
		now:      now,
	}
}

// sightKey is one object by name, those with labels, or all in a namespace.
type sightKey struct {
	gvr       schema.GroupVersionResource
	namespace string
	name      string
	labels    string
}

func (k sightKey) String() string {
	s := k.gvr.Resource
	if k.namespace != "" {
		s += " in " + k.namespace
	}
	if k.name != "" {
		s += ", " + k.name
	}
	return s
}

// sight is the store of a reflector. The fields below the context are guarded
// by Sights.mu.
type sight struct {
	all  *Sights
	c    *kubernetes.Cluster
	key  sightKey
	stop context.CancelFunc

	users   map[forge.ID]struct{}
	objects map[types.NamespacedName]*unstructured.Unstructured
	known   bool          // it was listed once
	err     error         // of the last attempt to list or watch; nil while it works
	moved   chan struct{} // closed and replaced at every change of the above
}

// Glance is one look of a resource at what it depends on. What it does not ask
// for until it is done is not watched for it any more.
type Glance struct {
	all  *Sights
	c    *kubernetes.Cluster
	id   forge.ID
	keys map[sightKey]struct{}
}

// Glance begins a look of a resource at what a cluster shows.
func (s *Sights) Glance(c *kubernetes.Cluster, id forge.ID) *Glance {
	return &Glance{all: s, c: c, id: id, keys: map[sightKey]struct{}{}}
}

// Cluster is where it looks.
func (g *Glance) Cluster() *kubernetes.Cluster { return g.c }

// Done ends the watches that were not asked for.
func (g *Glance) Done() {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	for key, sight := range g.all.clusters[g.c] {
		if _, asked := g.keys[key]; asked {
			continue
		}
		if _, uses := sight.users[g.id]; uses {
			if delete(sight.users, g.id); len(sight.users) == 0 {
				sight.end()
			}
		}
	}
}

// One is the object of a name; nil if it is known not to be there.
func (g *Glance) One(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	objects, err := g.look(ctx, sightKey{gvr: gvr, namespace: namespace, name: name})
	if err != nil {
		return nil, err
	}
	for _, obj := range objects {
		return obj, nil
	}
	return nil, nil
}

// Many are the objects in a namespace, or with labels in any.
func (g *Glance) Many(ctx context.Context, gvr schema.GroupVersionResource, namespace, labels string) ([]*unstructured.Unstructured, error) {
	objects, err := g.look(ctx, sightKey{gvr: gvr, namespace: namespace, labels: labels})
	all := make([]*unstructured.Unstructured, 0, len(objects))
	for _, obj := range objects {
		all = append(all, obj)
	}
	return all, err
}

func (g *Glance) look(ctx context.Context, key sightKey) (map[types.NamespacedName]*unstructured.Unstructured, error) {
	op := "look at " + key.String()
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	g.keys[key] = struct{}{}
	sight, err := g.all.follow(g.c, key, g.id)
	if err != nil {
		return nil, err
	}
	for {
		g.all.mu.Lock()
		objects, known, failed, moved := maps.Clone(sight.objects), sight.known, sight.err, sight.moved
		g.all.mu.Unlock()
		switch {
		case failed != nil:
			return nil, failed
		case known:
			return objects, nil
		}
		select {
		case <-moved:
		case <-g.c.Context().Done():
			return nil, reconcile.Errorf(reconcile.Unavailable, op, "the connection to the cluster is closed")
		case <-ctx.Done():
			return nil, kubernetes.Classify(op, kubernetes.Ref{}, ctx.Err())
		}
	}
}

// Forget ends all that is watched for a resource.
func (s *Sights) Forget(id forge.ID) {
	s.mu.Lock()
	clusters := slices.Collect(maps.Keys(s.clusters))
	delete(s.alarms, id)
	s.mu.Unlock()
	for _, c := range clusters {
		s.Glance(c, id).Done()
	}
}

// follow begins a watch, or joins it.
func (s *Sights) follow(c *kubernetes.Cluster, key sightKey, id forge.ID) (*sight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.clusters[c][key]; known != nil {
		known.users[id] = struct{}{}
		return known, nil
	}
	ctx, cancel := context.WithCancel(c.Context())
	began := &sight{
		all: s, c: c, key: key, stop: cancel, users: map[forge.ID]struct{}{id: {}}, moved: make(chan struct{}),
	}
	if !c.Go(func(context.Context) {
		defer began.gone()
		began.run(ctx)
	}) {
		cancel()
		return nil, reconcile.Errorf(reconcile.Unavailable, "look at "+key.String(), "the connection to the cluster is closed")
	}
	if s.clusters[c] == nil {
		s.clusters[c] = map[sightKey]*sight{}
	}
	s.clusters[c][key] = began
	return began, nil
}

// end stops a watch that nobody needs. The caller holds Sights.mu.
func (w *sight) end() {
	w.stop()
	if of := w.all.clusters[w.c]; of[w.key] == w {
		delete(of, w.key)
		if len(of) == 0 {
			delete(w.all.clusters, w.c)
		}
	}
}

// gone forgets a watch whose cluster was closed.
func (w *sight) gone() {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	w.end()
}

// run watches until ctx ends.
func (w *sight) run(ctx context.Context) {
	ctx = klog.NewContext(ctx, logr.Discard()) // what goes wrong is told by whoever needs it
	logger := logr.Discard()
	api := w.c.Dynamic().Resource(w.key.gvr)
	narrow := func(o *metav1.ListOptions) {
		if w.key.name != "" {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, w.key.name).String()
		}
		o.LabelSelector = w.key.labels
	}
	reflector := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			narrow(&o)
			l, err := api.Namespace(w.key.namespace).List(ctx, o)
			w.outcome("list", err)
			return l, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (kwatch.Interface, error) {
			narrow(&o)
			i, err := api.Namespace(w.key.namespace).Watch(ctx, o)
			w.outcome("watch", err)
			return i, err
		},
	}, nil, w, cache.ReflectorOptions{Logger: &logger, Name: w.key.String(), TypeDescription: w.key.gvr.Resource})
	reflector.RunWithContext(ctx)
}

// outcome records how an attempt to list or to watch went.
func (w *sight) outcome(verb string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	classified := kubernetes.Classify(verb+" "+w.key.String(), kubernetes.Ref{}, err)
	var e *reconcile.Error
	if errors.As(classified, &e) && e.Kind == reconcile.Denied && e.Hint != "" {
		e.Hint = fmt.Sprintf("forged needs the verbs list and watch on %s", w.key.gvr.GroupResource())
	}
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	was := w.err
	if w.err = classified; (was == nil) != (err == nil) {
		w.change(causeWatch)
	}
}

// change wakes those who wait and makes those look again who depend on it. The
// caller holds Sights.mu; notify does not block.
func (w *sight) change(cause string) {
	close(w.moved)
	w.moved = make(chan struct{})
	for id := range w.users {
		w.all.tell(reconcile.Event{ID: id, Cause: cause, At: time.Now(), Object: w.key.name, Retry: true})
	}
}

// set puts what the objects are now in place of what they were.
func (w *sight) set(objects map[types.NamespacedName]*unstructured.Unstructured) {
	first := !w.known
	same := maps.EqualFunc(w.objects, objects, func(a, b *unstructured.Unstructured) bool {
		return reflect.DeepEqual(a.Object, b.Object)
	})
	w.objects, w.known = objects, true
	switch {
	case first: // whoever asked is waiting
		close(w.moved)
		w.moved = make(chan struct{})
	case same:
	case w.key.gvr.Resource == "secrets":
		w.change(causeSource)
	default:
		w.change(causeHealth)
	}
}

// tell hands an event to those who watch its kind. The caller holds mu.
func (s *Sights) tell(e reconcile.Event) {
	for w := range s.watching {
		if w.kind == e.ID.Kind {
			w.notify(e)
		}
	}
}
