package kubernetes

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/klog/v2"

	"forged.dev/forged/internal/reconcile"
)

// listAgain is how long a list of the APIs holds in which some are missing.
const listAgain = 15 * time.Second

type versionCache struct {
	mu      sync.Mutex
	version *version.Info
	apis    []string
	read    time.Time
	silent  map[string]bool     // group versions that are served and did not say of what
	kinds   map[string][]string // by group version, as it was said last; kept when all else is forgotten
	unknown map[schema.GroupVersionKind]unknownAt
	found   map[schema.GroupVersionKind]*meta.RESTMapping
	classes *Classes
	resets  int
}

// Classes are the names of those that a cluster has, sorted.
type Classes struct{ Storage, Ingress []string }

// Mapping finds the resource of a kind. Discovery is cached; a kind that is
// not in the cache makes it be read again once, then the error is Invalid.
func (c *Cluster) Mapping(ctx context.Context, gvk schema.GroupVersionKind) (*meta.RESTMapping, error) {
	// Each look at each object passes here, and the mapper takes a hundred times
	// as long as a map.
	c.versions.mu.Lock()
	m, resets := c.versions.found[gvk], c.versions.resets
	c.versions.mu.Unlock()
	if m != nil {
		return m, nil
	}
	op := "find kind " + gvk.Kind
	m, err := c.find(quiet(ctx), gvk)
	switch unknown := (*unknownKind)(nil); {
	case errors.As(err, &unknown):
		hint := "install its CustomResourceDefinition, or a newer Kubernetes"
		if unknown.serves != "" {
			hint = "have the manifest ask for the version that is served"
		}
		return nil, &reconcile.Error{Kind: reconcile.Invalid, Op: op, Err: unknown, Hint: hint}
	case err != nil:
		return nil, Classify(op, Ref{}, err)
	}
	c.versions.mu.Lock()
	defer c.versions.mu.Unlock()
	if c.versions.resets == resets { // otherwise it may be from before
		if c.versions.found == nil {
			c.versions.found = map[schema.GroupVersionKind]*meta.RESTMapping{}
		}
		c.versions.found[gvk] = m
	}
	return m, nil
}

// Discovery returns the server's version and the API versions and kinds it
// serves: "v1", "apps/v1", "apps/v1/Deployment". Both are cached. Of an aggregated
// API that is down they are the kinds that it had before: see Silent.
func (c *Cluster) Discovery(ctx context.Context) (*version.Info, []string, error) {
	v := &c.versions
	v.mu.Lock()
	info, apis, resets := v.version, v.apis, v.resets
	late := len(v.silent) > 0 && time.Since(v.read) > listAgain
	v.mu.Unlock()
	if info != nil && !late {
		return info, apis, nil
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	// Without the lock: an API server that is slow holds up nobody else.
	if late {
		c.discovery.InvalidateWithContext(ctx)
	}
	info, err := c.discovery.ServerVersionWithContext(ctx)
	if err != nil {
		return nil, nil, Classify("read the server's version", Ref{}, err)
	}
	groups, lists, err := c.discovery.ServerGroupsAndResourcesWithContext(ctx)
	failed, partly := discovery.GroupDiscoveryFailedErrorGroups(err)
	if err != nil && !partly {
		return nil, nil, Classify("discover the server's APIs", Ref{}, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	kinds := kindsOf(lists)
	silent := map[string]bool{}
	for gv := range failed {
		if silent[gv.String()] = true; kinds[gv.String()] == nil {
			kinds[gv.String()] = v.kinds[gv.String()]
		}
	}
	apis = apiVersions(groups, kinds)
	if v.resets == resets { // otherwise it may be from before
		v.version, v.apis, v.read, v.silent = info, apis, time.Now(), silent
	}
	v.kinds = kinds
	return info, apis, nil
}

// Silent tells of an API version, or of a kind of one, that whatever serves it
// does not answer: that it is not among the APIs of Discovery says nothing. Empty:
// of any.
func (c *Cluster) Silent(api string) bool {
	c.versions.mu.Lock()
	defer c.versions.mu.Unlock()
	for gv := range c.versions.silent {
		if api == "" || api == gv || strings.HasPrefix(api, gv+"/") {
			return true
		}
	}
	return false
}

// Classes returns the classes of storage and of Ingresses that the cluster has.
// They are read once for each connection, and again when discovery is. Of what we
// may not list there is none.
func (c *Cluster) Classes(ctx context.Context) (Classes, error) {
	v := &c.versions
	v.mu.Lock()
	known, resets := v.classes, v.resets
	v.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	storage, err := c.names(ctx, storagev1.SchemeGroupVersion.WithResource("storageclasses"))
	if err != nil {
		return Classes{}, err
	}
	ingress, err := c.names(ctx, networkingv1.SchemeGroupVersion.WithResource("ingressclasses"))
	if err != nil {
		return Classes{}, err
	}
	read := Classes{Storage: storage, Ingress: ingress}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.resets == resets { // otherwise it may be from before
		v.classes = &read
	}
	return read, nil
}

func (c *Cluster) names(ctx context.Context, resource schema.GroupVersionResource) ([]string, error) {
	list, err := c.metadata.Resource(resource).List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, Classify("list "+resource.Resource, Ref{}, err)
	}
	names := make([]string, 0, len(list.Items))
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	slices.Sort(names)
	return names, nil
}

// quiet keeps client-go from logging what it returns or reports as well.
func quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, logr.Discard()) }

func kindsOf(lists []*metav1.APIResourceList) map[string][]string {
	kinds := make(map[string][]string, len(lists))
	for _, l := range lists {
		for _, r := range l.APIResources {
			kinds[l.GroupVersion] = append(kinds[l.GroupVersion], r.Kind)
		}
	}
	return kinds
}

func apiVersions(groups []*metav1.APIGroup, kinds map[string][]string) []string {
	var all []string
	for _, g := range groups {
		for _, v := range g.Versions {
			all = append(all, v.GroupVersion)
		}
	}
	for gv, names := range kinds {
		for _, kind := range names {
			all = append(all, gv+"/"+kind)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// ResetDiscovery forgets what the server serves, for instance after a
// CustomResourceDefinition was made.
func (c *Cluster) ResetDiscovery() {
	c.mapper.Reset() // and with it the cache behind
	c.versions.mu.Lock()
	c.versions.version, c.versions.apis, c.versions.silent, c.versions.unknown, c.versions.found = nil, nil, nil, nil, nil
	c.versions.classes = nil
	c.versions.resets++
	c.versions.mu.Unlock()
}
