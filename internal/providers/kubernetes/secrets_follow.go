package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	kwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/entries"
)

// followed is a Secret of somebody else that forge.cue refers to. It is watched
// by name, so that a change of it is seen at once and a steady state costs no
// request. It is the store of a reflector. The fields below the context are
// guarded by Cluster.mu.
type followed struct {
	c    *Cluster
	ref  Ref
	stop context.CancelFunc

	users  map[forge.ID]struct{}
	exists bool
	values map[string]secret.Value
	known  bool          // it was listed once
	synced bool          // what is above is what it is now; not after an error, until it is listed again
	err    error         // of the last attempt to list or watch; nil while it works
	moved  chan struct{} // closed and replaced at every change of the above
}

// Follows implements reconcile.Follower. Files, commands and vaults tell nobody
// that what they hold has changed: they are asked in every round.
func (p *Secrets) Follows(r forge.Resource) bool {
	spec, ok := r.Spec.(forge.SecretsSpec)
	return ok && !entries.Silent(spec.Secrets) && p.clusters.Follows(r.Target)
}

// followedRefs are the Secrets that a resource refers to.
func followedRefs(spec forge.SecretsSpec) []Ref {
	var refs []Ref
	add := func(ref *forge.SecretRef) {
		if ref != nil && ref.Kubernetes != nil {
			refs = append(refs, sourceRef(*ref.Kubernetes, spec.Namespace))
		}
	}
	for _, o := range spec.Secrets {
		for _, e := range o.Entries {
			add(e.Ref)
			for _, part := range e.Join {
				add(part.Ref)
			}
		}
	}
	return refs
}

func sourceRef(k forge.KubernetesRef, namespace string) Ref {
	return secretRef(cmp.Or(k.Namespace, namespace), k.Name)
}

// follow makes these the Secrets that a resource refers to, and no others.
func (c *Cluster) follow(id forge.ID, refs []Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ref, f := range c.followed {
		if _, uses := f.users[id]; uses && !slices.Contains(refs, ref) {
			if delete(f.users, id); len(f.users) == 0 {
				f.stop()
				delete(c.followed, ref)
			}
		}
	}
	for _, ref := range refs {
		f := c.followed[ref]
		if f == nil {
			ctx, cancel := context.WithCancel(c.ctx)
			f = &followed{c: c, ref: ref, stop: cancel, users: map[forge.ID]struct{}{}, moved: make(chan struct{})}
			if !c.start(func(context.Context) { f.run(ctx) }) {
				cancel()
				return // the cluster is closed
			}
			c.followed[ref] = f
		}
		f.users[id] = struct{}{}
	}
}

// Kubernetes implements [entries.Places] with a Secret of somebody else. That it
// is not there is known from a complete list, and is another error than not to
// know.
func (l *resolving) Kubernetes(ctx context.Context, slot slotKey, k forge.KubernetesRef, multiLine bool) (secret.Value, error) {
	ref := sourceRef(k, l.namespace)
	values, exists, err := l.c.source(ctx, ref)
	if err != nil {
		return secret.Value{}, err
	}
	v, err := pick(ref, k.Key, values, exists, multiLine)
	if err != nil {
		return v, l.Invalid(slot, err)
	}
	return v, nil
}

// pick takes one key out of what a Secret holds.
func pick(ref Ref, key string, values map[string]secret.Value, exists, multiLine bool) (secret.Value, error) {
	if !exists {
		return secret.Value{}, fmt.Errorf("%s does not exist", ref)
	}
	raw, ok := values[key]
	if !ok {
		has := "it is empty"
		if len(values) > 0 {
			has = "it has " + strings.Join(slices.Sorted(maps.Keys(values)), ", ")
		}
		return raw, fmt.Errorf("%s has no key %s; %s", ref, key, has)
	}
	v, err := secret.Clean(raw.Reveal())
	if err == nil && !multiLine {
		err = secret.OneLine(v)
	}
	if err != nil {
		return secret.Value{}, fmt.Errorf("key %s of %s %w", key, ref, err)
	}
	return v, nil
}

// CheckSource looks once whether a Secret that forge.cue refers to is there and
// has a value that can be used. Unread tells whether its error means that nothing
// is known; any other says what is wrong with the Secret.
func (cs *Clusters) CheckSource(ctx context.Context, target forge.Target, namespace string, k forge.KubernetesRef, multiLine bool) error {
	c, err := cs.Cluster(ctx, target)
	if err != nil {
		return err
	}
	ref := sourceRef(k, namespace)
	ctx, cancel := bound(ctx)
	defer cancel()
	live, err := c.client.CoreV1().Secrets(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	exists := !apierrors.IsNotFound(err)
	if err != nil && exists {
		return Classify("get", ref, err)
	}
	_, err = pick(ref, k.Key, valuesOf(live), exists, multiLine)
	return err
}

// Unread tells of an error that the cluster could not be asked.
func Unread(err error) bool {
	var e *reconcile.Error
	return errors.As(err, &e)
}

// valuesOf is what a Secret holds.
func valuesOf(s *corev1.Secret) map[string]secret.Value {
	values := map[string]secret.Value{}
	if s != nil {
		for key, raw := range s.Data {
			values[key] = secret.New(raw)
		}
	}
	return values
}

// source is what a followed Secret holds. It waits until that is known.
func (c *Cluster) source(ctx context.Context, ref Ref) (values map[string]secret.Value, exists bool, err error) {
	const op = "read the source of a secret"
	ctx, cancel := bound(ctx)
	defer cancel()
	for {
		c.mu.Lock()
		f := c.followed[ref]
		if f == nil {
			c.mu.Unlock()
			return nil, false, about(reconcile.Errorf(reconcile.Unavailable, op, "the connection to the cluster is closed"), ref)
		}
		values, exists, err = f.values, f.exists, f.err
		synced, moved := f.synced, f.moved
		c.mu.Unlock()
		switch {
		case err != nil:
			return nil, false, err
		case synced:
			return values, exists, nil
		}
		select {
		case <-moved:
		case <-c.ctx.Done():
			return nil, false, about(reconcile.Errorf(reconcile.Unavailable, op, "the connection to the cluster is closed"), ref)
		case <-ctx.Done():
			return nil, false, Classify(op, ref, ctx.Err())
		}
	}
}

// run watches until ctx ends.
func (f *followed) run(ctx context.Context) {
	ctx = quiet(ctx)
	logger := logr.Discard()
	api := f.c.client.CoreV1().Secrets(f.ref.Namespace)
	narrow := func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, f.ref.Name).String()
	}
	reflector := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			narrow(&o)
			l, err := api.List(ctx, o)
			f.outcome("list", err)
			return l, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (kwatch.Interface, error) {
			narrow(&o)
			// After an error the reflector would go on where it was, and what has
			// happened in between would come after the news that all is well.
			// A watch that begins with a list is one.
			again := func() bool { return (o.SendInitialEvents == nil || !*o.SendInitialEvents) && !f.isSynced() }
			if again() {
				return nil, errListAgain
			}
			var last error
			i, err := api.Watch(withAttempts(ctx, func(err error) {
				if last = err; err != nil {
					f.outcome("watch", err)
				}
			}), o)
			if err == nil && last != nil {
				i.Stop()
				i, err = nil, last
			}
			if err == nil && again() {
				i.Stop()
				return nil, errListAgain
			}
			f.outcome("watch", err)
			return i, err
		},
	}, nil, f, cache.ReflectorOptions{Logger: &logger, Name: f.ref.String(), TypeDescription: "Secret"})
	reflector.RunWithContext(ctx)
}

// errListAgain has the reflector begin anew.
var errListAgain = apierrors.NewResourceExpired("the watch was lost")

func (f *followed) isSynced() bool {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.synced
}

// outcome records how an attempt to list or to watch went.
func (f *followed) outcome(verb string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	classified := Classify(verb, f.ref, err)
	var e *reconcile.Error
	if errors.As(classified, &e) && e.Kind == reconcile.Denied && e.Hint != "" {
		e.Hint = "forged needs the verbs list and watch on this Secret, since forge.cue refers to it"
	}
	f.c.mu.Lock()
	was := f.err
	f.err, f.synced = classified, f.synced && err == nil
	var events []reconcile.Event
	if (was == nil) != (err == nil) {
		events = f.changed(causeWatch)
		for i := range events {
			events[i].Retry = err == nil
		}
	}
	f.c.mu.Unlock()
	switch {
	case err != nil && was == nil:
		f.c.log.Warn("watch lost", "object", f.ref.String(), "error", classified)
	case err == nil && was != nil:
		f.c.log.Info("watch restored", "object", f.ref.String())
	}
	f.c.clusters.publish(events)
}

// changed wakes those who wait and makes those look again who refer to it. The
// caller holds c.mu.
func (f *followed) changed(cause string) []reconcile.Event {
	close(f.moved)
	f.moved = make(chan struct{})
	var events []reconcile.Event
	for id := range f.users {
		events = append(events, reconcile.Event{ID: id, Cause: cause, At: time.Now(), Object: f.ref.String(), Retry: true})
	}
	return events
}

// set notes what the Secret is now; nil: it is not there.
func (f *followed) set(s *corev1.Secret) {
	values := valuesOf(s)
	f.c.mu.Lock()
	first, awaited := !f.known, !f.synced
	same := f.exists == (s != nil) && maps.EqualFunc(f.values, values, func(a, b secret.Value) bool {
		return string(a.Reveal()) == string(b.Reveal())
	})
	f.values, f.exists, f.known, f.synced = values, s != nil, true, true
	var events []reconcile.Event
	if awaited || !same {
		if events = f.changed(causeSource); first || same {
			events = nil // whoever asked is waiting, or has lost nothing
		}
	}
	f.c.mu.Unlock()
	f.c.clusters.publish(events)
}

// Add implements cache.ReflectorStore.
func (f *followed) Add(obj any) error { return f.Update(obj) }

// Update implements cache.ReflectorStore.
func (f *followed) Update(obj any) error {
	s, ok := obj.(*corev1.Secret)
	if !ok {
		return fmt.Errorf("watch of %s: unexpected %T", f.ref, obj)
	}
	f.set(s)
	return nil
}

// Delete implements cache.ReflectorStore.
func (f *followed) Delete(any) error {
	f.set(nil)
	return nil
}

// Replace implements cache.ReflectorStore: this is all there is.
func (f *followed) Replace(list []any, _ string) error {
	if len(list) == 0 {
		f.set(nil)
		return nil
	}
	return f.Update(list[0])
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (f *followed) Resync() error { return nil }
