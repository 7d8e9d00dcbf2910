package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	kwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"forged.dev/forged/internal/reconcile"
)

// scalers knows which workloads an autoscaler sets the replicas of, its own
// or somebody else's: one watch of all autoscalers of the cluster, or of those
// of a namespace where more may not be watched, of which nothing but the target
// is kept. The fields below mu are guarded by
// Cluster.mu.
type scalers struct {
	c         *Cluster
	namespace string // empty: all
	stop      context.CancelFunc

	targets map[types.NamespacedName]scaleTarget // by autoscaler
	count   map[scaleTarget]int
	synced  bool
	err     error
	moved   chan struct{}
}

type scaleTarget struct{ group, kind, namespace, name string }

var autoscalers = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}

// scaled tells whether an autoscaler targets an object. The first use starts
// the watch. Where autoscalers may not be read, none is known.
func (c *Cluster) scaled(ctx context.Context, ref Ref) (bool, error) {
	s, err := c.scalersFor(ref.Namespace)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	target := scaleTarget{ref.GVK.Group, ref.GVK.Kind, ref.Namespace, ref.Name}
	for {
		c.mu.Lock()
		count, synced, err, moved := s.count[target], s.synced, s.err, s.moved
		c.mu.Unlock()
		switch {
		case synced:
			return count > 0, nil
		case reconcile.KindOf(err) == reconcile.Denied && s.namespace == "" && ref.Namespace != "":
			c.mu.Lock()
			c.confined[autoscalers] = true
			s.stop()
			c.mu.Unlock()
			if s, err = c.scalersFor(ref.Namespace); err != nil {
				return false, err
			}
			continue
		case reconcile.KindOf(err) == reconcile.Denied:
			return false, nil
		case err != nil:
			return false, about(err, ref)
		}
		select {
		case <-moved:
		case <-c.ctx.Done():
			return false, about(reconcile.Errorf(reconcile.Unavailable, "watch autoscalers", "the connection to the cluster is closed"), ref)
		case <-ctx.Done():
			return false, Classify("watch autoscalers", ref, ctx.Err())
		}
	}
}

// scalersFor are those that know of a namespace.
func (c *Cluster) scalersFor(namespace string) (*scalers, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.confined[autoscalers] {
		namespace = ""
	}
	if s := c.scalers[namespace]; s != nil {
		return s, nil
	}
	ctx, stop := context.WithCancel(c.ctx)
	s := &scalers{
		c: c, namespace: namespace, stop: stop, targets: map[types.NamespacedName]scaleTarget{},
		count: map[scaleTarget]int{}, moved: make(chan struct{}),
	}
	if !c.start(func(context.Context) { s.run(ctx) }) {
		stop()
		return nil, reconcile.Errorf(reconcile.Unavailable, "watch autoscalers", "shutting down")
	}
	c.scalers[namespace] = s
	return s, nil
}

func (s *scalers) run(ctx context.Context) {
	defer s.stop()
	ctx = quiet(ctx)
	logger := logr.Discard()
	client := s.c.dynamic.Resource(autoscalers).Namespace(s.namespace)
	cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			l, err := client.List(ctx, o)
			s.outcome(err)
			return l, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (kwatch.Interface, error) {
			return client.Watch(ctx, o)
		},
	}, nil, s, cache.ReflectorOptions{Logger: &logger, Name: autoscalers.String(), TypeDescription: "HorizontalPodAutoscaler"}).RunWithContext(ctx)
}

// outcome notes whether autoscalers can be read. Once they were, what is known
// of them stands until more is known.
func (s *scalers) outcome(err error) {
	if err != nil && (s.c.ctx.Err() != nil || errors.Is(err, context.Canceled)) {
		return
	}
	if err != nil {
		where, which := " in all namespaces", ", cluster-wide"
		if s.namespace != "" {
			where = " in namespace " + s.namespace
			which = where
		}
		err = Classify("list autoscalers"+where, Ref{}, err)
		var e *reconcile.Error
		if errors.As(err, &e) && e.Kind == reconcile.Denied {
			e.Hint = "forged needs the verbs list and watch on horizontalpodautoscalers.autoscaling" + which
		}
	}
	s.c.mu.Lock()
	was := s.err
	s.err = err
	s.advance()
	s.c.mu.Unlock()
	if err != nil && was == nil && (s.namespace != "" || reconcile.KindOf(err) != reconcile.Denied) {
		s.c.log.Warn("autoscalers cannot be watched", "error", err)
	}
}

func (s *scalers) advance() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// scaler is an autoscaler reduced to what is kept of it.
type scaler struct {
	metav1.ObjectMeta
	target scaleTarget
}

// GetObjectMeta implements metav1.ObjectMetaAccessor.
func (s *scaler) GetObjectMeta() metav1.Object { return &s.ObjectMeta }

// Transformer implements cache.TransformingStore.
func (s *scalers) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		switch o := obj.(type) {
		case *scaler:
			return o, nil
		case cache.DeletedFinalStateUnknown:
			return s.Transformer()(o.Obj)
		case *unstructured.Unstructured:
			ref := child(child(o.Object, "spec"), "scaleTargetRef")
			version, _ := ref["apiVersion"].(string)
			kind, _ := ref["kind"].(string)
			name, _ := ref["name"].(string)
			gv, err := schema.ParseGroupVersion(version)
			if err != nil {
				gv = schema.GroupVersion{} // targets nothing
			}
			return &scaler{
				ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName(), ResourceVersion: o.GetResourceVersion(), UID: o.GetUID()},
				target:     scaleTarget{gv.Group, kind, o.GetNamespace(), name},
			}, nil
		default:
			return nil, fmt.Errorf("watch of autoscalers: unexpected %T", obj)
		}
	}
}

// Add implements cache.ReflectorStore.
func (s *scalers) Add(obj any) error { return s.change(obj, true) }

// Update implements cache.ReflectorStore.
func (s *scalers) Update(obj any) error { return s.change(obj, true) }

// Delete implements cache.ReflectorStore.
func (s *scalers) Delete(obj any) error { return s.change(obj, false) }

func (s *scalers) change(obj any, there bool) error {
	obj, err := s.Transformer()(obj)
	if err != nil {
		return err
	}
	one := obj.(*scaler)
	key := types.NamespacedName{Namespace: one.Namespace, Name: one.Name}
	c := s.c
	c.mu.Lock()
	events := s.set(key, one.target, there)
	c.mu.Unlock()
	c.clusters.publish(events)
	return nil
}

// set notes the target of an autoscaler, and has the resources looked at that
// it matters to. The caller holds c.mu.
func (s *scalers) set(key types.NamespacedName, target scaleTarget, there bool) (events []reconcile.Event) {
	old, had := s.targets[key]
	if had && there && old == target || !had && !there {
		return nil
	}
	if had {
		delete(s.targets, key)
		if s.count[old]--; s.count[old] == 0 {
			delete(s.count, old)
			events = append(events, s.look(old)...)
		}
	}
	if there {
		s.targets[key] = target
		if s.count[target]++; s.count[target] == 1 {
			events = append(events, s.look(target)...)
		}
	}
	return events
}

func (s *scalers) look(target scaleTarget) (events []reconcile.Event) {
	if !s.synced {
		return nil // whoever asks waits for that
	}
	for ref, t := range s.c.index {
		if (scaleTarget{ref.GVK.Group, ref.GVK.Kind, ref.Namespace, ref.Name}) == target {
			events = append(events, reconcile.Event{ID: t.id, Cause: causeLive, At: time.Now(), Object: ref.String()})
		}
	}
	return events
}

// Replace implements cache.ReflectorStore.
func (s *scalers) Replace(list []any, _ string) error {
	there := make(map[types.NamespacedName]scaleTarget, len(list))
	for _, obj := range list {
		obj, err := s.Transformer()(obj)
		if err != nil {
			return err
		}
		one := obj.(*scaler)
		there[types.NamespacedName{Namespace: one.Namespace, Name: one.Name}] = one.target
	}
	c := s.c
	c.mu.Lock()
	var events []reconcile.Event
	for key, target := range s.targets {
		if _, ok := there[key]; !ok {
			events = append(events, s.set(key, target, false)...)
		}
	}
	for key, target := range there {
		events = append(events, s.set(key, target, true)...)
	}
	s.synced, s.err = true, nil
	s.advance()
	c.mu.Unlock()
	c.clusters.publish(events)
	return nil
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (s *scalers) Resync() error { return nil }
