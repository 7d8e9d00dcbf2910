package helm

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	ctx     context.Context
	h       *handle
	old     map[kubernetes.Ref]kubernetes.Entry // of the inventory, before the action
	cut     bool                                // the action before this one was not seen to end
	planned crds                                // that are there, or will be before the action
	among   crds                                // that the action makes, before the objects of their kinds
	wanted  map[kubernetes.Ref]object           // what is to be there after it; nil: nothing
	replace map[kubernetes.Ref]string           // uids of objects to be made anew
	spare   bool                                // what holds data is left as it is

	mu      sync.Mutex
	rest    map[schema.GroupVersion]resource.RESTClient
	entries map[kubernetes.Ref]kubernetes.Entry
	deleted map[kubernetes.Ref]bool
	err     error // the first of an apply or delete, with its kind
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
		deleted: map[kubernetes.Ref]bool{},
	}
	if rec, ok := h.inventory.Record(h.id); ok {
		c.cut = rec.Pending
		for _, e := range rec.Entries {
			c.old[e.Ref] = e
		}
	}
	return c
}

// mapping finds the resource of a kind: in the cluster, or else in a
// definition that comes before the objects.
func (c *client) mapping(gvk schema.GroupVersionKind, also crds) (*meta.RESTMapping, error) {
	m, err := c.h.cluster.Mapping(c.ctx, gvk)
	if kubernetes.UnknownKind(err) {
		for _, defined := range []crds{c.planned, c.among, also} {
			if m := defined.mapping(gvk); m != nil {
				return m, nil
			}
		}
	}
	return m, err
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
	also := definedBy(objs)
	list := make(kube.ResourceList, 0, len(objs))
	for _, u := range objs {
		m, err := c.mapping(u.GroupVersionKind(), also)
		if reconcile.KindOf(err) == reconcile.Invalid && !c.wants(u) {
			continue // of an older manifest: it went with its kind
		}
		if err != nil {
			return nil, err
		}
		rc, err := c.restClient(m.GroupVersionKind.GroupVersion())
		if err != nil {
			return nil, err
		}
		info := &resource.Info{Client: rc, Mapping: m, Name: u.GetName(), Object: u.Unstructured, Source: u.source}
		if m.Scope.Name() == meta.RESTScopeNameNamespace {
			if info.Namespace = u.GetNamespace(); info.Namespace == "" {
				info.Namespace = c.h.spec.Namespace
			}
		}
		list = append(list, info)
	}
	return list, nil
}

// wants tells whether an object is to be there after the action.
func (c *client) wants(u parsed) bool {
	if _, hook := u.GetAnnotations()[release.HookAnnotation]; hook {
		return true
	}
	for ref := range c.wanted {
		if ref.GVK == u.GroupVersionKind() && ref.Name == u.GetName() {
			return true
		}
	}
	return false
}

// restClient is what the SDK would read existing objects with. Whether they
// may be written has been decided before the action, so there is nothing to
// see: every object is new to the SDK.
func (c *client) restClient(gv schema.GroupVersion) (resource.RESTClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rc, ok := c.rest[gv]; ok {
		return rc, nil
	}
	cfg := &rest.Config{
		Host: "nowhere.invalid", APIPath: "/apis", Transport: nowhere{},
		ContentConfig: resource.UnstructuredPlusDefaultContentConfig(),
	}
	cfg.GroupVersion = &gv
	rc, err := rest.RESTClientFor(cfg)
	if err != nil {
		return nil, reconcile.Errorf(reconcile.Internal, "make client for "+gv.String(), "%v", err)
	}
	c.rest[gv] = rc
	return rc, nil
}

// nowhere is a server that has nothing.
type nowhere struct{}

// RoundTrip implements http.RoundTripper.
func (nowhere) RoundTrip(req *http.Request) (*http.Response, error) {
	const body = `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"NotFound","code":404}`
	return &http.Response{
		Status: http.StatusText(http.StatusNotFound), StatusCode: http.StatusNotFound, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), Request: req,
	}, nil
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
	if isHook(list) {
		if err := c.createHooks(list); err != nil {
			return &kube.Result{}, c.fail(err)
		}
		return &kube.Result{Created: list}, nil
	}
	if err := c.apply(); err != nil {
		return &kube.Result{}, err
	}
	return &kube.Result{Created: list}, nil
}

// Update implements kube.Interface. What original holds and target does not
// is deleted after everything else has been applied.
func (c *client) Update(original, target kube.ResourceList, _ bool) (*kube.Result, error) {
	if err := c.apply(); err != nil {
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

// workloads are the kinds applied when everything is there that they may refer
// to.
var workloads = []string{
	"Pod", "ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob",
	"HorizontalPodAutoscaler", "Ingress",
}

// phaseOf says when an object is applied, within an action: definitions, then
// what others refer to, then what refers to it, then what could stop all of it.
func phaseOf(ref kubernetes.Ref) int {
	switch phase := kubernetes.Phase(ref.GVK); {
	case phase == 0, phase == 4:
		return min(phase, 3)
	case phase == 3, slices.Contains(workloads, ref.GVK.Kind):
		return 2
	}
	return 1
}

// apply sends all that is wanted, phase after phase, each side by side; the
// cluster bounds how many are in flight.
func (c *client) apply() error {
	var phases [4][]object
	for _, o := range c.wanted {
		phases[phaseOf(o.ref)] = append(phases[phaseOf(o.ref)], o)
	}
	for _, phase := range phases {
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
	if e, ok := c.old[o.ref]; ok && c.h.sealed(e, o) && e.Baseline.Digest != "" {
		s, err := c.h.cluster.Live(ctx, o.ref)
		same := err == nil && s.Exists && !s.Deleting && s.UID == e.Baseline.UID && s.Digest == e.Baseline.Digest
		// An action that was cut may have written the same fields within the
		// same second, which is all that a digest tells apart.
		if same && (!c.cut || s.ResourceVersion == e.Baseline.ResourceVersion) {
			c.done(o, e.Baseline)
			return nil
		}
		if err == nil && e.Baseline.Vanished(s) {
			c.done(o, e.Baseline) // it has run; made again it would run again
			return nil
		}
	}
	u, err := o.unstructured()
	if err != nil {
		return reconcile.Errorf(reconcile.Internal, "apply "+o.ref.String(), "%v", err)
	}
	if uid := c.replace[o.ref]; uid != "" {
		if err := c.makeRoom(ctx, o.ref, uid); err != nil {
			return err
		}
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
	c.entries[o.ref] = kubernetes.Entry{Ref: o.ref, Desired: c.h.seal.hash(o.json), Baseline: b, Keep: o.keep}
}

// Delete implements kube.Interface.
func (c *client) Delete(list kube.ResourceList) (*kube.Result, []error) {
	if isHook(list) {
		if err := c.deleteHooks(list); err != nil {
			return &kube.Result{}, []error{c.fail(err)}
		}
		return &kube.Result{Deleted: list}, nil
	}
	if err := c.remove(list); err != nil {
		return &kube.Result{}, []error{err}
	}
	return &kube.Result{Deleted: list}, nil
}

// DeleteWithPropagationPolicy implements kube.InterfaceDeletionPropagation.
func (c *client) DeleteWithPropagationPolicy(list kube.ResourceList, _ metav1.DeletionPropagation) (*kube.Result, []error) {
	return c.Delete(list)
}

// IsReachable implements kube.Interface: the requests of the action will tell.
func (c *client) IsReachable() error { return nil }

// errNotUsed answers what the SDK calls only with options forged never sets.
var errNotUsed = errors.New("helm was asked to wait; forged waits itself")

// Wait implements kube.Interface.
func (c *client) Wait(kube.ResourceList, time.Duration) error { return errNotUsed }

// WaitWithJobs implements kube.Interface.
func (c *client) WaitWithJobs(kube.ResourceList, time.Duration) error { return errNotUsed }

// WaitForDelete implements kube.InterfaceExt: deleteHooks has waited.
func (c *client) WaitForDelete(kube.ResourceList, time.Duration) error { return nil }

// WaitAndGetCompletedPodPhase implements kube.Interface: only `helm test`
// calls it.
func (c *client) WaitAndGetCompletedPodPhase(string, time.Duration) (corev1.PodPhase, error) {
	return "", errNotUsed
}
