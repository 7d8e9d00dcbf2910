package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/reconcile"
)

const (
	kindsPoll        = 2 * time.Second      // between looks whether a kind is back
	unknownFor       = 5 * time.Millisecond // an unknown kind is not asked for again
	establishTimeout = 10 * time.Second     // for the API server to serve a new kind
	establishPoll    = 50 * time.Millisecond
)

// unknownKind is that a cluster does not serve a kind, or not in a version.
type unknownKind struct {
	context string
	gvk     schema.GroupVersionKind
	serves  string // the version in which it does serve it; empty: in none
}

func (e *unknownKind) Error() string {
	if e.serves != "" {
		return fmt.Sprintf("cluster %s serves %s as %s, and not as %s any more", e.context, e.gvk.Kind,
			schema.GroupVersion{Group: e.gvk.Group, Version: e.serves}, e.gvk.GroupVersion())
	}
	return fmt.Sprintf("cluster %s does not know %s", e.context, e.gvk.GroupVersion().WithKind(e.gvk.Kind))
}

// UnknownKind tells whether an error says that a cluster does not serve a kind
// at all: nothing of it exists there, and what is wanted of it is not known
// until somebody defines it.
func UnknownKind(err error) bool {
	if err == nil {
		return false
	}
	var e *unknownKind
	return errors.As(err, &e) && e.serves == ""
}

// UntilDefined says what somebody has to wait for who wants an object of a
// kind that the cluster does not know.
func UntilDefined(gvk schema.GroupVersionKind) string {
	return fmt.Sprintf("unknown until the cluster serves %s: its CustomResourceDefinition is not there", gvk.GroupVersion().WithKind(gvk.Kind))
}

// find maps a kind by discovery. What discovery does not list is asked for by
// name before it is called unknown: an aggregated API that is down, or a part
// of discovery that is late, hides kinds that exist.
func (c *Cluster) find(ctx context.Context, gvk schema.GroupVersionKind) (*meta.RESTMapping, error) {
	if unknown, err := c.stillUnknown(ctx, gvk); err != nil {
		return nil, err
	} else if unknown != nil {
		return nil, unknown
	}
	m, err := c.mapper.RESTMappingWithContext(ctx, gvk.GroupKind(), gvk.Version)
	if !meta.IsNoMatchError(err) {
		return m, err
	}
	for range 2 { // discovery may be read a moment before it lists what is served
		c.ResetDiscovery()
		if m, err = c.mapper.RESTMappingWithContext(ctx, gvk.GroupKind(), gvk.Version); !meta.IsNoMatchError(err) {
			return m, err
		}
		served, err := c.serves(ctx, gvk)
		if err != nil {
			return nil, err
		}
		if !served {
			break
		}
	}
	unknown := &unknownKind{context: c.target.String(), gvk: gvk}
	if m, err := c.mapper.RESTMappingWithContext(ctx, gvk.GroupKind()); err == nil {
		unknown.serves = m.GroupVersionKind.Version
	}
	c.noteUnknown(unknown)
	return nil, unknown
}

type unknownAt struct {
	err *unknownKind
	at  time.Time
}

func (c *Cluster) noteUnknown(e *unknownKind) {
	c.versions.mu.Lock()
	defer c.versions.mu.Unlock()
	if c.versions.unknown == nil {
		c.versions.unknown = map[schema.GroupVersionKind]unknownAt{}
	}
	c.versions.unknown[e.gvk] = unknownAt{e, time.Now()}
}

// stillUnknown repeats what was found out of a kind before, which takes one
// small request where discovery takes large ones, and none for a moment.
func (c *Cluster) stillUnknown(ctx context.Context, gvk schema.GroupVersionKind) (*unknownKind, error) {
	c.versions.mu.Lock()
	known, ok := c.versions.unknown[gvk]
	c.versions.mu.Unlock()
	if !ok || time.Since(known.at) < unknownFor {
		return known.err, nil
	}
	served, err := c.serves(ctx, gvk)
	if err != nil || served {
		return nil, err
	}
	c.noteUnknown(known.err)
	return known.err, nil
}

// serves asks the API server itself whether it serves a kind in a version.
func (c *Cluster) serves(ctx context.Context, gvk schema.GroupVersionKind) (bool, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	path := []string{"apis", gvk.Group, gvk.Version}
	if gvk.Group == "" {
		path = []string{"api", gvk.Version}
	}
	var list metav1.APIResourceList
	err := c.client.Discovery().RESTClient().Get().AbsPath(path...).Do(ctx).Into(&list)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, r := range list.APIResources {
		if r.Kind == gvk.Kind && !strings.Contains(r.Name, "/") {
			return true, nil
		}
	}
	return false, nil
}

// mappingOf is the mapping of a kind for looking at objects: in the version
// asked for, or else in any that is served. An object is the same in all.
func (c *Cluster) mappingOf(ctx context.Context, gvk schema.GroupVersionKind) (*meta.RESTMapping, error) {
	m, err := c.Mapping(ctx, gvk)
	if err == nil {
		return m, nil
	}
	var unknown *unknownKind
	if errors.As(err, &unknown) && unknown.serves != "" {
		gvk.Version = unknown.serves
		return c.Mapping(ctx, gvk)
	}
	return m, err
}

// lostKind looks into a watch that found nothing to watch: if its kind is not
// served any more, or not in this version, the watch ends, and everybody who has
// objects of the kind is told. The API server is asked from then on, now and then, whether it is back.
func (c *Cluster) lostKind(ctx context.Context, w *watch) bool {
	c.ResetDiscovery()
	m, err := c.mappingOf(ctx, w.gvk)
	moved := err == nil && m.Resource != w.key.gvr // it is served in another version
	if !moved && !UnknownKind(err) {
		return false
	}
	c.mu.Lock()
	if w.ended {
		c.mu.Unlock()
		return true
	}
	c.endWatch(w.key, w)
	events := c.eventsOf(w)
	c.mu.Unlock()
	if moved {
		c.clusters.publish(events)
		return true
	}
	c.log.Warn("kind is not served any more; what there was of it is gone", "resource", w.key.gvr.GroupResource().String())
	c.clusters.publish(events)
	c.awaitKind(w.gvk)
	return true
}

// awaitKind has everybody who has objects of a kind look again when the
// cluster serves it.
func (c *Cluster) awaitKind(gvk schema.GroupVersionKind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.awaited[gvk] {
		return
	}
	c.awaited[gvk] = c.start(func(ctx context.Context) {
		ctx = quiet(ctx)
		tick := time.NewTicker(kindsPoll)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			c.mu.Lock()
			ids := c.ownersOf(gvk.GroupKind())
			if len(ids) == 0 {
				delete(c.awaited, gvk)
			}
			c.mu.Unlock()
			if len(ids) == 0 {
				return // nobody wants it any more
			}
			if served, err := c.serves(ctx, gvk); err != nil || !served {
				continue
			}
			c.ResetDiscovery()
			c.mu.Lock()
			delete(c.awaited, gvk)
			c.mu.Unlock()
			events := watchEvents(ids)
			for i := range events {
				events[i].Retry = true
			}
			c.log.Info("kind is served again", "kind", gvk.Kind, "group", gvk.Group)
			c.clusters.publish(events)
			return
		}
	})
}

// defined waits after the apply of a CustomResourceDefinition until objects of
// its kind can be made: what follows it is often one of them.
func (c *Cluster) defined(ctx context.Context, ref Ref, live *unstructured.Unstructured) error {
	if ref.GVK.Group != "apiextensions.k8s.io" || ref.GVK.Kind != "CustomResourceDefinition" {
		return nil
	}
	spec := child(live.Object, "spec")
	group, _ := spec["group"].(string)
	kind, _ := child(spec, "names")["kind"].(string)
	ctx, cancel := context.WithTimeout(ctx, establishTimeout)
	defer cancel()
	tick := time.NewTicker(establishPoll)
	defer tick.Stop()
	for {
		all := true
		for _, v := range items(spec, "versions") {
			name, _ := v["name"].(string)
			if on, _ := v["served"].(bool); !on {
				continue
			}
			ok, err := c.serves(ctx, schema.GroupVersionKind{Group: group, Version: name, Kind: kind})
			if err != nil && ctx.Err() == nil {
				return Classify("wait for", ref, err)
			}
			all = all && ok
		}
		if all {
			c.ResetDiscovery()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return &reconcile.Error{
				Kind: reconcile.Unavailable, Op: "wait for", Object: ref.String(),
				Err:  errors.New("the API server does not serve its kind yet"),
				Hint: "see what its status says: " + c.target.Kubectl() + " get crd " + ref.Name + " -o yaml",
			}
		}
	}
}

// terminating tells the answer to a create while the definition of the kind is
// being deleted. It passes.
func terminating(s metav1.Status) bool {
	return s.Code == http.StatusMethodNotAllowed && strings.Contains(s.Message, "terminating")
}

// Phase says in which order objects are made: those of a lower phase first.
// Deleting goes the other way round.
func Phase(gvk schema.GroupVersionKind) int {
	switch gvk.Kind {
	case "Namespace", "CustomResourceDefinition":
		return 0
	case "StorageClass", "PriorityClass", "IngressClass", "GatewayClass", "RuntimeClass",
		"ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding":
		return 1
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "APIService":
		return 4 // what they lead to has to be there
	}
	switch gvk.Group {
	case "", "apps", "batch", "autoscaling", "policy", "networking.k8s.io":
		return 2
	}
	return 3 // kinds of others may need workloads that serve them
}
