package render

import (
	"context"
	"regexp"
	"slices"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// hearing takes down what a chart asks the cluster about itself.
type hearing struct {
	serves *Serves
	ranges bool // some template does more with the API versions than ask for one
	heard  Heard
}

// beyondHas finds templates that do more with the API versions of a cluster
// than ask whether one is among them.
var beyondHas = regexp.MustCompile(`\.APIVersions\b(\s*[^.\s]|\s+\.|\.[^H]|\.H[^a]|\.Ha[^s])`)

func ranges(ch *chart.Chart) bool {
	return slices.ContainsFunc(ch.Templates, func(t *chart.File) bool { return beyondHas.Match(t.Data) }) ||
		slices.ContainsFunc(ch.Dependencies(), ranges)
}

// elsewhere is a reference of a schema to another file or machine.
var elsewhere = regexp.MustCompile(`"\$ref"\s*:\s*"[a-z]+:`)

// leadsAway tells whether the schemas of a chart's values cannot be judged by
// what is in it: they are judged at the rollout then.
func leadsAway(ch *chart.Chart) bool {
	return elsewhere.Match(ch.Schema) || slices.ContainsFunc(ch.Dependencies(), leadsAway)
}

// heardCapabilities stand in the place of chartutil.Capabilities. Templates
// reach methods without arguments just as fields.
type heardCapabilities struct{ h *hearing }

// KubeVersion is the version of the cluster.
func (c *heardCapabilities) KubeVersion() *chartutil.KubeVersion {
	c.h.heard.Version = true
	s := c.h.serves
	return &chartutil.KubeVersion{Version: s.Version, Major: s.Major, Minor: s.Minor}
}

// HelmVersion is the version of Helm, which comes with forged.
func (c *heardCapabilities) HelmVersion() any { return chartutil.DefaultCapabilities.HelmVersion }

// APIVersions are what the cluster serves.
func (c *heardCapabilities) APIVersions() any {
	if c.h.ranges {
		c.h.heard.All = true
		return chartutil.VersionSet(c.h.serves.APIs)
	}
	return heardAPIs{c.h}
}

type heardAPIs struct{ h *hearing }

// Has tells whether the cluster serves an API version or a kind of one.
func (a heardAPIs) Has(version string) bool {
	has := slices.Contains(a.h.serves.APIs, version)
	if a.h.heard.APIs == nil {
		a.h.heard.APIs = map[string]bool{}
	}
	a.h.heard.APIs[version] = has
	return has
}

// clients are what the SDK looks things up with.
type clients struct{ cluster Cluster }

// GetClientFor implements engine.ClientProvider.
func (c clients) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	namespaced, err := c.cluster.Namespaced(apiVersion, kind)
	if err != nil {
		return nil, false, err
	}
	return &resource{cluster: c.cluster, apiVersion: apiVersion, kind: kind}, namespaced, nil
}

// resource is a client that only reads.
type resource struct {
	dynamic.NamespaceableResourceInterface // nil: nobody calls the rest of it

	cluster                     Cluster
	apiVersion, kind, namespace string
}

// Namespace implements dynamic.NamespaceableResourceInterface.
func (r *resource) Namespace(ns string) dynamic.ResourceInterface {
	in := *r
	in.namespace = ns
	return &in
}

// Get implements dynamic.ResourceInterface.
func (r *resource) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	found, err := r.cluster.Find(r.apiVersion, r.kind, r.namespace, name)
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return nil, apierrors.NewNotFound(schema.GroupResource{}, name)
	}
	return &unstructured.Unstructured{Object: found}, nil
}

// List implements dynamic.ResourceInterface.
func (r *resource) List(context.Context, metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	found, err := r.cluster.Find(r.apiVersion, r.kind, r.namespace, "")
	if err != nil {
		return nil, err
	}
	list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": r.apiVersion, "kind": r.kind + "List"}}
	items, _ := found["items"].([]any)
	for _, i := range items {
		if m, ok := i.(map[string]any); ok {
			list.Items = append(list.Items, unstructured.Unstructured{Object: m})
		}
	}
	return list, nil
}
