package kubernetes

import (
	"fmt"
	"time"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"forged.dev/forged/internal/reconcile"
)

// advance wakes those who wait. The caller holds c.mu.
func (w *watch) advance() {
	close(w.moved)
	w.moved = make(chan struct{})
}

// seen is an object reduced to what is kept. It has just enough of an object
// for a reflector's own store.
type seen struct {
	key   types.NamespacedName
	state State
}

// GetObjectMeta implements metav1.ObjectMetaAccessor.
func (s *seen) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{
		Namespace: s.key.Namespace, Name: s.key.Name,
		UID: types.UID(s.state.UID), ResourceVersion: s.state.ResourceVersion,
	}
}

// reduce keeps of an object what State has.
func (w *watch) reduce(obj any) (any, error) {
	switch o := obj.(type) {
	case *seen:
		return o, nil
	case cache.DeletedFinalStateUnknown:
		return w.reduce(o.Obj)
	case metav1.Object:
		key := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
		s := stateOf(o, w.c.manager, w.c.lens(w.ref(key)))
		s.SeenAt = time.Now()
		if w.ref(key).isSecret() {
			s.Strange = strangeKeys(o.GetManagedFields(), w.c.manager)
		}
		if u, ok := obj.(*unstructured.Unstructured); ok {
			s.Health = HealthOf(u)
			s.Completed = completed(u, s.Health)
		}
		w.c.mu.Lock()
		w.c.keepWriters(w.ref(key), &s, o)
		w.c.mu.Unlock()
		return &seen{key, s}, nil
	default:
		return nil, fmt.Errorf("watch of %s: unexpected %T", w.key.gvr.Resource, obj)
	}
}

// stateOf is what an object's metadata tells. Its health is that of a kind
// without any.
func stateOf(obj metav1.Object, manager string, lens Lens) State {
	b := baselineOf(obj, manager, lens)
	s := State{
		Exists: true, Deleting: obj.GetDeletionTimestamp() != nil,
		UID: b.UID, ResourceVersion: b.ResourceVersion, Digest: b.Digest, Lens: b.Lens,
		Owner:  unique.Make(obj.GetAnnotations()[AnnotationOwner]).Value(), // many objects have one owner
		Health: reconcile.Health{Status: reconcile.Ready},
	}
	if s.Deleting {
		s.Health = reconcile.Health{Status: reconcile.Progressing, Message: deletion(obj)}
	}
	return s
}

// Transformer implements cache.TransformingStore: objects are reduced before a
// reflector collects them.
func (w *watch) Transformer() cache.TransformFunc { return w.reduce }

// Add implements cache.ReflectorStore.
func (w *watch) Add(obj any) error { return w.put(obj) }

// Update implements cache.ReflectorStore.
func (w *watch) Update(obj any) error { return w.put(obj) }

func (w *watch) put(obj any) error {
	r, err := w.reduce(obj)
	if err != nil {
		return err
	}
	s := r.(*seen)
	c := w.c
	c.mu.Lock()
	old := w.states[s.key]
	w.states[s.key] = s.state
	c.complete(w.ref(s.key), s.state)
	w.reached(s.state.ResourceVersion)
	events := c.judge(w.ref(s.key), old, s.state)
	c.mu.Unlock()
	c.clusters.publish(events)
	return nil
}

// Delete implements cache.ReflectorStore. The object has left the selection;
// it may still live without our label.
func (w *watch) Delete(obj any) error {
	r, err := w.reduce(obj)
	if err != nil {
		return err
	}
	s := r.(*seen)
	c := w.c
	c.mu.Lock()
	old := w.states[s.key]
	delete(w.states, s.key)
	w.reached(s.state.ResourceVersion)
	events := c.judge(w.ref(s.key), old, State{ResourceVersion: s.state.ResourceVersion, SeenAt: s.state.SeenAt})
	c.mu.Unlock()
	c.clusters.publish(events)
	return nil
}

// Replace implements cache.ReflectorStore: this is all there is, as of rv.
func (w *watch) Replace(list []any, rv string) error {
	states := make(map[types.NamespacedName]State, len(list))
	for _, obj := range list {
		r, err := w.reduce(obj)
		if err != nil {
			return err
		}
		s := r.(*seen)
		states[s.key] = s.state
	}
	now := time.Now()
	c := w.c
	c.mu.Lock()
	mistaken := w.mistaken(states, rv)
	c.mu.Unlock()
	if mistaken {
		if err := c.identify(c.ctx); err != nil {
			return err // it lists again
		}
	}
	c.mu.Lock()
	old := w.states
	if olderThan(rv, w.rv) {
		// The cluster was put back to an earlier time. Nothing that was noted
		// of the order of writes holds any more.
		c.log.Warn("resource versions went backwards: was etcd restored from a backup?", "resource", w.key.gvr.GroupResource().String())
		c.forgetOrder(w.gvk.GroupKind())
		c.suspect()
	}
	w.states, w.rv, w.synced = states, rv, true
	w.advance()
	var events []reconcile.Event
	for key, state := range states {
		c.complete(w.ref(key), state)
		events = append(events, c.judge(w.ref(key), old[key], state)...)
	}
	for key, state := range old {
		if _, ok := states[key]; !ok {
			events = append(events, c.judge(w.ref(key), state, State{ResourceVersion: rv, SeenAt: now})...)
		}
	}
	c.mu.Unlock()
	c.clusters.publish(events)
	return nil
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (w *watch) Resync() error { return nil }

// Bookmark implements cache.ReflectorBookmarkStore.
func (w *watch) Bookmark(rv string) error {
	w.c.mu.Lock()
	w.reached(rv)
	w.c.mu.Unlock()
	return nil
}

// reached notes that all up to rv has been seen. The caller holds c.mu.
func (w *watch) reached(rv string) {
	if !olderThan(rv, w.rv) {
		w.rv = rv
	}
	w.advance()
}

func (w *watch) ref(key types.NamespacedName) Ref {
	return Ref{GVK: w.gvk, Namespace: key.Namespace, Name: key.Name}
}
