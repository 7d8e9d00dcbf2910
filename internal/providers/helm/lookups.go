package helm

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// lookupKey is something that charts look up in a cluster.
type lookupKey struct {
	target forge.Target
	lookup lookup
}

// lookupWatch follows the metadata of what a chart has looked up, so that a
// steady state costs no request. What it holds is read only when that moves. It
// ends when no release looks that up any more.
type lookupWatch struct {
	cluster  *kubernetes.Cluster
	stop     context.CancelFunc
	lookup   lookup
	informer cache.SharedIndexInformer
	failed   atomic.Pointer[error]

	mu     sync.Mutex
	at     string // of the metadata, when it was read last; empty: never
	digest string // what was read then

	users map[releaseKey]struct{} // guarded by the mutex of the provider
}

// looked is the digest of what a chart would be told now.
func (h *handle) looked(ctx context.Context, l lookup) (string, error) {
	m, err := h.cluster.Mapping(ctx, l.GVK)
	if kubernetes.UnknownKind(err) {
		return "", nil // its kind has gone, and all of it
	}
	if err != nil {
		return "", err
	}
	w := h.p.lookupWatch(h, l, m.Resource)
	if err := w.up(ctx); err != nil {
		return "", err
	}
	at := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == at {
		return w.digest, nil
	}
	_, digest, err := h.lookUp(ctx, l, h.cluster.Dynamic().Resource(m.Resource))
	if err != nil {
		return "", err
	}
	w.at, w.digest = at, digest
	return digest, nil
}

// lookupWatch finds or starts the watch of a lookup.
func (p *Provider) lookupWatch(h *handle, l lookup, gvr schema.GroupVersionResource) *lookupWatch {
	key := lookupKey{h.req.Resource.Target, l}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.lookups[key]
	if w == nil || w.cluster != h.cluster {
		ctx, cancel := context.WithCancel(h.cluster.Context())
		w = &lookupWatch{cluster: h.cluster, lookup: l, stop: cancel, users: map[releaseKey]struct{}{}}
		w.informer = metadatainformer.NewFilteredMetadataInformer(h.cluster.Metadata(), gvr, l.Namespace, 0, cache.Indexers{},
			func(o *metav1.ListOptions) {
				if l.Name != "" {
					o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, l.Name).String()
				}
			}).Informer()
		// None of these fails before the informer is started.
		_ = w.informer.SetTransform(onlyIdentity)
		tell := func() { p.lookupMoved(w) }
		_, _ = w.informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
			AddFunc: func(_ any, initial bool) {
				if !initial {
					tell()
				}
			},
			UpdateFunc: func(any, any) { tell() },
			DeleteFunc: func(any) { tell() },
		})
		_ = w.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			err = kubernetes.Classify("watch "+l.String()+", which a chart looks up,", kubernetes.Ref{}, err)
			w.failed.Store(&err)
		})
		p.lookups[key] = w
		h.cluster.Go(func(context.Context) {
			defer cancel()
			w.informer.RunWithContext(ctx)
		})
	}
	w.users[h.key()] = struct{}{}
	return w
}

// looksUp says what the chart of a release looks up, and all that it does: what
// it has looked up before, and nobody else does, is watched no longer.
func (h *handle) looksUp(all []lookedUp) {
	p := h.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, w := range p.lookups {
		_, uses := w.users[h.key()]
		if !uses || slices.ContainsFunc(all, func(l lookedUp) bool { return l.lookup == key.lookup }) {
			continue
		}
		if delete(w.users, h.key()); len(w.users) == 0 {
			delete(p.lookups, key)
			w.stop()
		}
	}
}

// onlyIdentity keeps of an object what tells one version from another.
func onlyIdentity(obj any) (any, error) {
	m, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return obj, nil
	}
	return &metav1.PartialObjectMetadata{TypeMeta: m.TypeMeta, ObjectMeta: metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
	}}, nil
}

// lookupMoved has the releases looked at whose charts looked something up.
func (p *Provider) lookupMoved(w *lookupWatch) {
	p.mu.Lock()
	var events []reconcile.Event
	for key := range w.users {
		if id, ours := p.ids[key]; ours {
			events = append(events, reconcile.Event{ID: id, Cause: "lookup", At: time.Now(), Object: w.lookup.String()})
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

// up waits until the watch is complete.
func (w *lookupWatch) up(ctx context.Context) error {
	return untilSynced(ctx, w.cluster, w.informer, &w.failed, "watch "+w.lookup.String())
}

// now is the state of the metadata.
func (w *lookupWatch) now() string {
	var all []string
	for _, o := range w.informer.GetStore().List() {
		if m, ok := o.(*metav1.PartialObjectMetadata); ok {
			all = append(all, m.Namespace+"/"+m.Name+"/"+string(m.UID)+"/"+m.ResourceVersion)
		}
	}
	slices.Sort(all)
	return "at " + strings.Join(all, " ")
}

// untilSynced waits until an informer is complete. A watch that is refused is
// an error at once, not a wait.
func untilSynced(ctx context.Context, c *kubernetes.Cluster, inf cache.SharedIndexInformer, refused *atomic.Pointer[error], op string) error {
	if inf.HasSynced() {
		return nil
	}
	err := wait.PollUntilContextCancel(ctx, syncPoll, true, func(context.Context) (bool, error) {
		if inf.HasSynced() {
			return true, nil
		}
		if failed := refused.Swap(nil); failed != nil {
			return false, *failed
		}
		return false, c.Context().Err()
	})
	if err == nil || reconcile.KindOf(err) != reconcile.Internal {
		return err
	}
	return reconcile.Errorf(reconcile.Unavailable, op, "%v", err)
}
