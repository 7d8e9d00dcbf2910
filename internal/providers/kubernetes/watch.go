package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	kwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"forged.dev/forged/internal/reconcile"
)

// lagTimeout bounds the wait for a watch to show a write of our own. The event
// usually is there before the response.
const lagTimeout = 5 * time.Second

// State is what a watch knows of an object. Only this is kept in memory.
type State struct {
	Exists          bool
	Deleting        bool // deletion has begun; finalizers hold it
	UID             string
	ResourceVersion string
	Digest          string
	Lens            Lens   // through which the digest was taken
	Owner           string // the resource that it says it belongs to
	Health          reconcile.Health
	Completed       bool      // a Job or a Pod has come to its end, and well
	Strange         string    // of a Secret: keys that others have put into it, and who
	SeenAt          time.Time // when the watch brought it

	// Writers hold which fields, of an object that differs from what was applied
	// last; nil where that is not known.
	Writers []metav1.ManagedFieldsEntry
}

// watchKey tells watches apart: all objects of ours of one resource, or those
// in one namespace where more may not be watched, or, for namespaces, the one of
// that name. Whether a namespace is there matters also when it is not ours and
// bears no label.
type watchKey struct {
	gvr       schema.GroupVersionResource
	namespace string
	name      string
}

// watch keeps the states of what one watch of the API server shows. It is the
// store of a reflector, which calls it from one goroutine. The fields below
// are guarded by Cluster.mu.
type watch struct {
	c    *Cluster
	key  watchKey
	gvk  schema.GroupVersionKind
	wide bool // its objects are in namespaces, and it shows those in all
	full bool // full objects, for their health; otherwise metadata only

	states map[types.NamespacedName]State
	rv     string // up to which it has seen everything
	synced bool
	err    error         // of the last attempt to list or watch; nil while it works
	moved  chan struct{} // closed and replaced at every change of the above

	used   bool          // it was asked for since the last sweep
	ended  bool          // it is no watch of the cluster's any more
	ending chan struct{} // closed then
}

// endWatch gives up a watch; the next use begins another. The caller holds
// c.mu.
func (c *Cluster) endWatch(key watchKey, w *watch) {
	delete(c.watches, key)
	if c.wide[w.gvk] == w {
		delete(c.wide, w.gvk)
	}
	w.ended = true
	close(w.ending)
	w.advance()
}

// shows tells whether an object is seen by the watch.
func (w *watch) shows(ref Ref) bool {
	return w.gvk.GroupKind() == ref.GVK.GroupKind() && (w.key.name == "" || w.key.name == ref.Name) && (w.key.namespace == "" || w.key.namespace == ref.Namespace)
}

// watchFor returns the watch that shows all objects of a kind, or a namespace,
// and starts it at first use.
func (c *Cluster) watchFor(ctx context.Context, gvk schema.GroupVersionKind, name string) (*watch, error) {
	return c.watchOf(ctx, Ref{GVK: gvk, Name: name})
}

// watchOf returns the watch an object is seen by and starts it at first use.
func (c *Cluster) watchOf(ctx context.Context, ref Ref) (*watch, error) {
	gvk := ref.GVK
	c.mu.Lock()
	w := c.wide[gvk]
	known := w != nil && !c.confined[w.key.gvr]
	if known {
		w.used = true
	}
	c.mu.Unlock()
	if known {
		return w, nil
	}
	mapping, err := c.mappingOf(ctx, gvk)
	if err != nil {
		return nil, err
	}
	key := watchKey{gvr: mapping.Resource}
	if isNamespace(gvk) {
		key.name = ref.Name
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.confined[key.gvr] {
		key.namespace = ref.Namespace
	}
	if w := c.watches[key]; w != nil {
		w.used = true
		return w, nil
	}
	w = &watch{
		c: c, key: key, gvk: gvk, used: true, full: hasHealth(gvk.GroupKind()) || c.unowned[gvk.GroupKind()] != nil,
		wide:   mapping.Scope.Name() == meta.RESTScopeNameNamespace && key.namespace == "",
		states: map[types.NamespacedName]State{},
		moved:  make(chan struct{}),
		ending: make(chan struct{}),
	}
	if !c.start(w.run) {
		return nil, reconcile.Errorf(reconcile.Unavailable, "watch "+mapping.Resource.Resource, "shutting down")
	}
	c.watches[key] = w
	if w.wide {
		c.wide[gvk] = w
	}
	return w, nil
}

// glance is Live while nothing is to be waited for, as it is nearly always.
func (c *Cluster) glance(ref Ref) (State, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.wide[ref.GVK]
	if w == nil || !w.synced || w.err != nil || w.ended || c.strayed() != nil {
		return State{}, false
	}
	if own := c.own[ref.id()]; own != nil && olderThan(w.rv, own.baseline.ResourceVersion) {
		return State{}, false
	}
	w.used = true
	return w.states[ref.key()], true
}

// mostWatches is how often a watch is begun for one question.
const mostWatches = 4

func isNamespace(gvk schema.GroupVersionKind) bool { return gvk.Group == "" && gvk.Kind == "Namespace" }

// Live is the state of an object as its watch shows it. The first use for a
// resource starts the watch and waits until it is complete; later uses cost no
// request. Writes by Apply are seen. An error means that nothing is known.
func (c *Cluster) Live(ctx context.Context, ref Ref) (State, error) {
	if state, ok := c.glance(ref); ok {
		return state, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	w, err := c.watchOf(ctx, ref)
	var lag <-chan time.Time
	for begun := 1; ; {
		if UnknownKind(err) {
			return State{}, nil // it went with its kind
		}
		if err == nil {
			err = c.strayed()
		}
		if err != nil {
			return State{}, about(err, ref)
		}
		c.mu.Lock()
		if w.ended {
			failed := w.err
			c.mu.Unlock()
			if begun++; begun > mostWatches {
				return State{}, about(cmp.Or(failed, error(reconcile.Errorf(reconcile.Unavailable, "watch", "it ends as often as it is begun"))), ref)
			}
			w, err = c.watchOf(ctx, ref)
			continue
		}
		state, moved := w.states[ref.key()], w.moved
		synced, failed, seen := w.synced, w.err, w.rv
		mine := ""
		if own := c.own[ref.id()]; own != nil {
			mine = own.baseline.ResourceVersion
		}
		c.mu.Unlock()

		switch {
		case failed != nil:
			return State{}, about(failed, ref)
		case synced && !olderThan(seen, mine):
			return state, nil
		case synced && lag == nil:
			timer := time.NewTimer(lagTimeout)
			defer timer.Stop()
			lag = timer.C
		}
		select {
		case <-moved:
		case <-lag:
			return State{}, about(reconcile.Errorf(reconcile.Unavailable, "watch",
				"the watch is %s behind our own write", lagTimeout), ref)
		case <-c.ctx.Done():
			return State{}, about(reconcile.Errorf(reconcile.Unavailable, "watch", "the connection to the cluster is closed"), ref)
		case <-ctx.Done():
			return State{}, Classify("watch", ref, ctx.Err())
		}
	}
}

func (r Ref) key() types.NamespacedName {
	return types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
}

// olderThan tells whether resource version a comes before b. What cannot be
// compared is not older: a needless look is better than none.
func olderThan(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}

// run watches until ctx ends.
func (w *watch) run(ctx context.Context) {
	// What client-go would log as it goes is told by fail, once a change.
	ctx, cancel := context.WithCancel(quiet(ctx))
	defer cancel()
	var own sync.WaitGroup
	defer own.Wait()
	own.Go(func() {
		select {
		case <-w.ending:
			cancel()
		case <-ctx.Done():
		}
	})
	logger := logr.Discard()
	reflector := cache.NewReflectorWithOptions(w.listWatch(), nil, w, cache.ReflectorOptions{
		Logger: &logger, Name: w.key.gvr.String(), TypeDescription: w.gvk.Kind,
	})
	reflector.RunWithContext(ctx)
	cancel()
}

func (w *watch) listWatch() cache.ListerWatcher {
	list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		if w.full {
			return w.c.dynamic.Resource(w.key.gvr).Namespace(w.key.namespace).List(ctx, o)
		}
		return w.c.metadata.Resource(w.key.gvr).Namespace(w.key.namespace).List(ctx, o)
	}
	watch := func(ctx context.Context, o metav1.ListOptions) (kwatch.Interface, error) {
		if w.full {
			return w.c.dynamic.Resource(w.key.gvr).Namespace(w.key.namespace).Watch(ctx, o)
		}
		return w.c.metadata.Resource(w.key.gvr).Namespace(w.key.namespace).Watch(ctx, o)
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			w.narrow(&o)
			l, err := list(ctx, o)
			w.outcome("list", err)
			return l, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (kwatch.Interface, error) {
			w.narrow(&o)
			var last error
			i, err := watch(withAttempts(ctx, func(err error) {
				if last = err; err != nil {
					w.outcome("watch", err)
				}
			}), o)
			if err == nil && last != nil {
				i.Stop()
				i, err = nil, last
			}
			if o.SendInitialEvents == nil || !apierrors.IsInvalid(err) {
				w.outcome("watch", err)
			} // otherwise it lists, as older servers want it
			return i, err
		},
	}
}

// outcome records how an attempt to list or to watch went. Whatever hangs on
// the watch is looked at again when it breaks, so that nothing is called ready
// that nobody sees, and when it works once more.
func (w *watch) outcome(verb string, err error) {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return // it lists anew at once
	}
	if errors.Is(err, context.Canceled) || apierrors.IsNotFound(err) && w.c.lostKind(quiet(w.c.ctx), w) {
		return
	}
	if request := (*url.Error)(nil); errors.As(err, &request) {
		// The query differs from one attempt to the next; the mistake does not.
		path, _, _ := strings.Cut(request.URL, "?")
		err = &url.Error{Op: request.Op, URL: path, Err: request.Err}
	}
	resource := w.key.gvr.GroupResource().String()
	c := w.c
	c.mu.Lock()
	if w.wide && apierrors.IsForbidden(err) && !w.ended {
		// Who may not look everywhere may look where they work.
		c.confined[w.key.gvr] = true
		events := c.eventsOf(w)
		for i := range events {
			events[i].Retry = true
		}
		c.endWatch(w.key, w)
		c.mu.Unlock()
		c.log.Debug("not watched in all namespaces, which is not allowed, but in each by itself", "resource", resource)
		c.clusters.publish(events)
		return
	}
	was := w.err
	w.err = nil
	var events []reconcile.Event
	switch {
	case err != nil:
		where, which := " in all namespaces", ", cluster-wide"
		if w.key.namespace != "" {
			where = " in namespace " + w.key.namespace
			which = where
		}
		classified := Classify(verb+" "+resource+where, Ref{}, err)
		var e *reconcile.Error
		if errors.As(classified, &e) && e.Kind == reconcile.Denied && e.Hint != "" {
			e.Hint = fmt.Sprintf("forged needs the verbs list and watch on %s%s", resource, which)
		}
		w.err = classified
	}
	if (was == nil) != (err == nil) && w.synced {
		events = c.eventsOf(w)
		for i := range events {
			events[i].Retry = err == nil
		}
	}
	if (was == nil) != (err == nil) {
		w.advance()
	}
	c.mu.Unlock()
	switch {
	case err != nil && was == nil:
		c.log.Warn("watch lost", "resource", resource, "error", err)
	case err == nil && was != nil:
		c.log.Info("watch restored", "resource", resource)
	}
	c.clusters.publish(events)
}
