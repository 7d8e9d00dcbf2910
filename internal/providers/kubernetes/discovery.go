package kubernetes

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/klog/v2"

	"forged.dev/forged/internal/reconcile"
)

type versionCache struct {
	mu      sync.Mutex
	version *version.Info
	apis    []string
	unknown map[schema.GroupVersionKind]unknownAt
	found   map[schema.GroupVersionKind]*meta.RESTMapping
	resets  int
}

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
// serves: "v1", "apps/v1", "apps/v1/Deployment". Both are cached.
func (c *Cluster) Discovery(ctx context.Context) (*version.Info, []string, error) {
	ctx = quiet(ctx)
	c.versions.mu.Lock()
	defer c.versions.mu.Unlock()
	if c.versions.version != nil {
		return c.versions.version, c.versions.apis, nil
	}
	info, err := c.discovery.ServerVersionWithContext(ctx)
	if err != nil {
		return nil, nil, Classify("read the server's version", Ref{}, err)
	}
	groups, lists, err := c.discovery.ServerGroupsAndResourcesWithContext(ctx)
	// An aggregated API that is down hides its own kinds only.
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, nil, Classify("discover the server's APIs", Ref{}, err)
	}
	c.versions.version, c.versions.apis = info, apiVersions(groups, lists)
	return c.versions.version, c.versions.apis, nil
}

// quiet keeps client-go from logging what it returns or reports as well.
func quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, logr.Discard()) }

func apiVersions(groups []*metav1.APIGroup, lists []*metav1.APIResourceList) []string {
	var all []string
	for _, g := range groups {
		for _, v := range g.Versions {
			all = append(all, v.GroupVersion)
		}
	}
	for _, l := range lists {
		for _, r := range l.APIResources {
			all = append(all, l.GroupVersion+"/"+r.Kind)
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
	c.versions.version, c.versions.apis, c.versions.unknown, c.versions.found = nil, nil, nil, nil
	c.versions.resets++
	c.versions.mu.Unlock()
}
