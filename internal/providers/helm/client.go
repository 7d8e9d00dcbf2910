package helm

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"helm.sh/helm/v3/pkg/kube"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/rest"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// client is the kube client the SDK is given for one action: what it creates
// and updates is a server-side apply under forged's field manager. It is cut
// by its context between any two objects, which is the only clean way to
// cancel the SDK.
type client struct {
	ctx context.Context
	h   *handle
	old map[kubernetes.Ref]kubernetes.Entry // of the inventory, before the action

	mu      sync.Mutex
	rest    map[schema.GroupVersion]resource.RESTClient
	entries map[kubernetes.Ref]kubernetes.Entry
	objects map[kubernetes.Ref]object
	deleted map[kubernetes.Ref]bool
	read    map[string][]byte // by path: objects that admit has read; nil: not there
	err     error             // the first of an apply or delete, with its kind
}

var (
	_ kube.Interface                    = (*client)(nil)
	_ kube.InterfaceExt                 = (*client)(nil)
	_ kube.InterfaceThreeWayMerge       = (*client)(nil)
	_ kube.InterfaceDeletionPropagation = (*client)(nil)
)

func (h *handle) client(ctx context.Context) *client {
	c := &client{
		ctx: ctx, h: h,
		old:     map[kubernetes.Ref]kubernetes.Entry{},
		rest:    map[schema.GroupVersion]resource.RESTClient{},
		entries: map[kubernetes.Ref]kubernetes.Entry{},
		objects: map[kubernetes.Ref]object{},
		deleted: map[kubernetes.Ref]bool{},
		read:    map[string][]byte{},
	}
	if rec, ok := h.inventory.Record(h.id); ok {
		for _, e := range rec.Entries {
			c.old[e.Ref] = e
		}
	}
	return c
}

// Build implements kube.Interface without downloading a schema: the API
// server validates what it is sent.
func (c *client) Build(r io.Reader, _ bool) (kube.ResourceList, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	objs, err := parseManifest(string(b))
	if err != nil {
		return nil, err
	}
	list := make(kube.ResourceList, 0, len(objs))
	for _, u := range objs {
		m, err := c.h.cluster.Mapping(c.ctx, u.GroupVersionKind())
		if err != nil {
			return nil, err
		}
		rc, err := c.restClient(m.GroupVersionKind.GroupVersion())
		if err != nil {
			return nil, err
		}
		info := &resource.Info{Client: rc, Mapping: m, Name: u.GetName(), Object: u}
		if m.Scope.Name() == "namespace" {
			if info.Namespace = u.GetNamespace(); info.Namespace == "" {
				info.Namespace = c.h.spec.Namespace
			}
		}
		list = append(list, info)
	}
	return list, nil
}

// restClient is what the SDK reads existing objects with. What admit has read
// is not asked again.
func (c *client) restClient(gv schema.GroupVersion) (resource.RESTClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rc, ok := c.rest[gv]; ok {
		return rc, nil
	}
	cfg := c.h.cluster.REST()
	cfg.APIPath = "/apis"
	if gv.Group == "" {
		cfg.APIPath = "/api"
	}
	cfg.ContentConfig = resource.UnstructuredPlusDefaultContentConfig()
	cfg.GroupVersion = &gv
	next, err := rest.TransportFor(cfg)
	if err != nil {
		return nil, reconcile.Errorf(reconcile.Internal, "make client for "+gv.String(), "%v", err)
	}
	rc, err := rest.RESTClientForConfigAndClient(cfg, &http.Client{Transport: &remembered{c, next}})
	if err != nil {
		return nil, reconcile.Errorf(reconcile.Internal, "make client for "+gv.String(), "%v", err)
	}
	c.rest[gv] = rc
	return rc, nil
}

// fail keeps the first error: the SDK passes texts on, not kinds.
func (c *client) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	return err
}

// first is the first error with a kind, or else what the SDK says.
func (c *client) first(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	return err
}

// Create implements kube.Interface.
func (c *client) Create(list kube.ResourceList) (*kube.Result, error) {
	if err := c.apply(list); err != nil {
		return &kube.Result{}, err
	}
	return &kube.Result{Created: list}, nil
}

// Update implements kube.Interface. What original holds and target does not
// is deleted after everything else has been applied.
func (c *client) Update(original, target kube.ResourceList, _ bool) (*kube.Result, error) {
	if err := c.apply(target); err != nil {
		return &kube.Result{}, err
	}
	gone := original.Difference(target)
	if err := c.remove(gone); err != nil {
		return &kube.Result{Updated: target}, err
	}
	return &kube.Result{Updated: target, Deleted: gone}, nil
}

// UpdateThreeWayMerge implements kube.InterfaceThreeWayMerge: server-side
// apply is the three-way merge.
func (c *client) UpdateThreeWayMerge(original, target kube.ResourceList, force bool) (*kube.Result, error) {
	return c.Update(original, target, force)
}

// afterOthers are the kinds applied when everything they may refer to is
// there.
var afterOthers = []string{
	"Pod", "ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob",
	"HorizontalPodAutoscaler", "Ingress", "APIService",
	"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration",
}

// apply sends a list of objects in two phases, each side by side; the cluster
// bounds how many are in flight.
func (c *client) apply(list kube.ResourceList) error {
	objs, err := c.h.decorateAll(list)
	if err != nil {
		return c.fail(err)
	}
	refs := make([]kubernetes.Ref, len(objs))
	var first, second []object
	for i, o := range objs {
		refs[i] = o.ref
		if slices.Contains(afterOthers, o.ref.GVK.Kind) {
			second = append(second, o)
		} else {
			first = append(first, o)
		}
	}
	if err := c.h.inventory.Begin(c.ctx, c.h.id, refs); err != nil {
		return c.fail(err)
	}
	for _, phase := range [][]object{first, second} {
		g, ctx := errgroup.WithContext(c.ctx)
		for _, o := range phase {
			g.Go(func() error { return c.applyOne(ctx, o) })
		}
		if err := g.Wait(); err != nil {
			return c.fail(err)
		}
	}
	return nil
}

func (c *client) applyOne(ctx context.Context, o object) error {
	if err := ctx.Err(); err != nil {
		return reconcile.Errorf(reconcile.Unavailable, "apply "+o.ref.String(), "%v", context.Cause(ctx))
	}
	if e, ok := c.old[o.ref]; ok && e.Desired == o.hash && e.Baseline.Digest != "" {
		s, err := c.h.cluster.Live(ctx, o.ref)
		if err == nil && s.Exists && !s.Deleting && s.UID == e.Baseline.UID && s.Digest == e.Baseline.Digest {
			c.done(o, e.Baseline)
			return nil
		}
	}
	u, err := o.unstructured()
	if err != nil {
		return reconcile.Errorf(reconcile.Internal, "apply "+o.ref.String(), "%v", err)
	}
	applied, err := c.h.cluster.Apply(ctx, u)
	if err != nil {
		return err
	}
	c.done(o, applied.Baseline)
	return nil
}

func (c *client) done(o object, b kubernetes.Baseline) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[o.ref] = kubernetes.Entry{Ref: o.ref, Desired: o.hash, Baseline: b, Keep: o.keep}
	c.objects[o.ref] = o
}

// Delete implements kube.Interface.
func (c *client) Delete(list kube.ResourceList) (*kube.Result, []error) {
	if err := c.remove(list); err != nil {
		return &kube.Result{}, []error{err}
	}
	return &kube.Result{Deleted: list}, nil
}

// DeleteWithPropagationPolicy implements kube.InterfaceDeletionPropagation.
func (c *client) DeleteWithPropagationPolicy(list kube.ResourceList, _ metav1.DeletionPropagation) (*kube.Result, []error) {
	return c.Delete(list)
}

func (c *client) remove(list kube.ResourceList) error {
	var all []error
	for _, info := range list {
		u, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		ref := kubernetes.RefOf(u)
		if info.Namespaced() {
			ref.Namespace = info.Namespace
		}
		if u.GetAnnotations()[annotationPolicy] == resourcePolicyKeep {
			continue
		}
		if err := c.removeOne(ref); err != nil {
			all = append(all, err)
		}
	}
	if err := errors.Join(all...); err != nil {
		return c.fail(err)
	}
	return nil
}

// removeOne deletes an object of ours: the one the inventory knows by UID, or
// one that carries this release's marks, in the cluster as it is now.
func (c *client) removeOne(ref kubernetes.Ref) error {
	live, err := c.h.cluster.Get(c.ctx, ref)
	if err != nil {
		return err
	}
	if live == nil {
		c.forget(ref)
		return nil
	}
	if live.GetAnnotations()[annotationRelease] != c.h.spec.Name || live.GetAnnotations()[annotationReleaseNS] != c.h.spec.Namespace {
		return nil // somebody else has taken it over
	}
	if live.GetAnnotations()[annotationPolicy] == resourcePolicyKeep {
		return nil
	}
	if e, ok := c.old[ref]; ok {
		switch {
		case e.Baseline.UID == "" && live.GetLabels()[kubernetes.LabelInstance] != c.h.cluster.Instance():
			return nil // announced by us, made by somebody else
		case e.Baseline.UID != "" && e.Baseline.UID != string(live.GetUID()):
			return nil // another object under the same name
		}
	}
	if err := c.h.cluster.Delete(c.ctx, ref, string(live.GetUID())); err != nil {
		return err
	}
	c.forget(ref)
	return nil
}

func (c *client) forget(ref kubernetes.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deleted[ref] = true
}

// IsReachable implements kube.Interface: the requests of the action will tell.
func (c *client) IsReachable() error { return nil }

// errNotUsed answers what the SDK calls only with options forged never sets.
var errNotUsed = errors.New("helm was asked to wait; forged waits itself")

// Wait implements kube.Interface.
func (c *client) Wait(kube.ResourceList, time.Duration) error { return errNotUsed }

// WaitWithJobs implements kube.Interface.
func (c *client) WaitWithJobs(kube.ResourceList, time.Duration) error { return errNotUsed }

// WaitForDelete implements kube.InterfaceExt.
func (c *client) WaitForDelete(kube.ResourceList, time.Duration) error { return errNotUsed }

// WatchUntilReady implements kube.Interface: it is only for hooks, and those
// are refused before anything is created.
func (c *client) WatchUntilReady(kube.ResourceList, time.Duration) error { return errNotUsed }

// WaitAndGetCompletedPodPhase implements kube.Interface: only `helm test`
// calls it.
func (c *client) WaitAndGetCompletedPodPhase(string, time.Duration) (corev1.PodPhase, error) {
	return "", errNotUsed
}
