package helm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"forged.dev/forged/internal/providers/kubernetes"
)

// asked is what a chart asked the cluster while it was rendered, and what it
// was told. As long as the answers stay, the rendering does; a chart that asks
// for nothing is never rendered again for the cluster's sake.
type asked struct {
	Version string          `json:"version,omitempty"` // of Kubernetes; empty: it did not ask
	APIs    map[string]bool `json:"apis,omitempty"`    // is it served?
	AllAPIs string          `json:"allAPIs,omitempty"` // digest of all that is served; empty: it did not ask
	Lookups []lookedUp      `json:"lookups,omitempty"`
}

// lookup is one call of the template function of that name.
type lookup struct {
	GVK       schema.GroupVersionKind `json:"gvk"`
	Namespace string                  `json:"namespace,omitempty"`
	Name      string                  `json:"name,omitempty"` // empty: all
}

func (l lookup) String() string {
	what := l.GVK.Kind
	if l.Name == "" {
		what = "all " + what
	}
	return strings.TrimSuffix(strings.TrimSpace(what+" "+strings.TrimPrefix(l.Namespace+"/"+l.Name, "/")), "/")
}

type lookedUp struct {
	lookup

	Digest string `json:"digest"`
}

// listener is a world that remembers what it was asked.
type listener struct {
	ctx     context.Context
	h       *handle
	version chartutil.KubeVersion
	apis    chartutil.VersionSet
	planned crds // kinds that are made before the release is
	ranges  bool // some template does more with the API versions than ask for one

	asked asked
}

// beyondHas finds templates that do more with the API versions of a cluster
// than ask whether one is among them.
var beyondHas = regexp.MustCompile(`\.APIVersions\b(\s*[^.\s]|\s+\.|\.[^H]|\.H[^a]|\.Ha[^s])`)

// listen opens the cluster to a chart.
func (h *handle) listen(ctx context.Context, ch *chart.Chart, planned crds) (*listener, error) {
	v, apis, err := h.cluster.Discovery(ctx)
	if err != nil {
		return nil, err
	}
	l := &listener{ctx: ctx, h: h, version: kubeVersion(v.GitVersion, v.Major, v.Minor), planned: planned}
	l.apis = append(l.apis, apis...)
	l.apis = append(l.apis, planned.versions()...)
	slices.Sort(l.apis)
	l.apis = slices.Compact(l.apis)
	for _, text := range templates(ch) {
		if beyondHas.MatchString(text) {
			l.ranges = true
		}
	}
	return l, nil
}

func kubeVersion(version, major, minor string) chartutil.KubeVersion {
	return chartutil.KubeVersion{Version: version, Major: major, Minor: minor}
}

// capabilities implements world. Templates reach methods without arguments
// just as fields.
func (l *listener) capabilities() any { return &heardCapabilities{l} }

type heardCapabilities struct{ l *listener }

// KubeVersion is the version of the cluster.
func (c *heardCapabilities) KubeVersion() *chartutil.KubeVersion {
	c.l.asked.Version = c.l.version.Version
	v := c.l.version
	return &v
}

// HelmVersion is the version of Helm, which comes with forged.
func (c *heardCapabilities) HelmVersion() any { return chartutil.DefaultCapabilities.HelmVersion }

// APIVersions are what the cluster serves.
func (c *heardCapabilities) APIVersions() any {
	if c.l.ranges {
		c.l.asked.AllAPIs = digestOf(c.l.apis)
		return c.l.apis
	}
	return heardAPIs{c.l}
}

type heardAPIs struct{ l *listener }

// Has tells whether the cluster serves an API version or a kind of one.
func (a heardAPIs) Has(version string) bool {
	has := a.l.apis.Has(version)
	if a.l.asked.APIs == nil {
		a.l.asked.APIs = map[string]bool{}
	}
	a.l.asked.APIs[version] = has
	return has
}

func digestOf(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:12])
}

// GetClientFor implements engine.ClientProvider.
func (l *listener) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	m, err := l.h.cluster.Mapping(l.ctx, gvk)
	if err != nil {
		if l.planned.mapping(gvk) == nil {
			return nil, false, err
		}
		return &heardResource{l: l, gvk: gvk}, true, nil // there is none yet
	}
	return &heardResource{
		NamespaceableResourceInterface: l.h.cluster.Dynamic().Resource(m.Resource), l: l, gvk: gvk,
	}, m.Scope.Name() == "namespace", nil
}

// heardResource is a client that only reads, and remembers what.
type heardResource struct {
	dynamic.NamespaceableResourceInterface // nil: the kind is not there yet

	l         *listener
	gvk       schema.GroupVersionKind
	namespace string
}

// Namespace implements dynamic.NamespaceableResourceInterface.
func (r *heardResource) Namespace(ns string) dynamic.ResourceInterface {
	in := *r
	in.namespace = ns
	return &in
}

// Get implements dynamic.ResourceInterface.
func (r *heardResource) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	l := lookup{r.gvk, r.namespace, name}
	found, digest, err := r.l.h.lookUp(r.l.ctx, l, r.NamespaceableResourceInterface)
	if err != nil {
		return nil, err
	}
	r.l.heard(l, r.l.h.sealLookup(digest))
	if found == nil {
		return nil, errNotThere
	}
	return &unstructured.Unstructured{Object: found}, nil
}

// List implements dynamic.ResourceInterface.
func (r *heardResource) List(context.Context, metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	l := lookup{GVK: r.gvk, Namespace: r.namespace}
	found, digest, err := r.l.h.lookUp(r.l.ctx, l, r.NamespaceableResourceInterface)
	if err != nil {
		return nil, err
	}
	r.l.heard(l, r.l.h.sealLookup(digest))
	list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": r.gvk.GroupVersion().String(), "kind": r.gvk.Kind + "List"}}
	items, _ := found["items"].([]any)
	for _, i := range items {
		if m, ok := i.(map[string]any); ok {
			list.Items = append(list.Items, unstructured.Unstructured{Object: m})
		}
	}
	return list, nil
}

func (l *listener) heard(what lookup, digest string) {
	if !slices.ContainsFunc(l.asked.Lookups, func(o lookedUp) bool { return o.lookup == what }) {
		l.asked.Lookups = append(l.asked.Lookups, lookedUp{what, digest})
	}
}

// moved says which answer to a chart is another one now; empty: none is. In
// the steady state it costs no request.
func (h *handle) moved(ctx context.Context, a asked) (string, error) {
	if a.Version != "" || len(a.APIs) > 0 || a.AllAPIs != "" {
		v, apis, err := h.cluster.Discovery(ctx)
		if err != nil {
			return "", err
		}
		if a.Version != "" && a.Version != v.GitVersion {
			return fmt.Sprintf("the cluster has Kubernetes %s, it had %s", v.GitVersion, a.Version), nil
		}
		if a.AllAPIs != "" && a.AllAPIs != digestOf(chartutil.VersionSet(apis)) {
			return "the cluster serves other APIs than before", nil
		}
		for _, name := range sortedKeys(a.APIs) {
			if _, has := slices.BinarySearch(apis, name); has != a.APIs[name] {
				return fmt.Sprintf("the chart asks for API %s: it is served %t, it was %t", name, has, a.APIs[name]), nil
			}
		}
	}
	for _, l := range a.Lookups {
		digest, err := h.looked(ctx, l.lookup)
		if err != nil {
			return "", err
		}
		if h.sealLookup(digest) != l.Digest {
			return "what the chart looks up has changed: " + l.String(), nil
		}
	}
	return "", nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// lookUp reads what a chart wants to know. found is nil when there is none.
func (h *handle) lookUp(ctx context.Context, l lookup, client dynamic.NamespaceableResourceInterface) (found map[string]any, digest string, err error) {
	if client == nil {
		return nil, "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var in dynamic.ResourceInterface = client
	if l.Namespace != "" {
		in = client.Namespace(l.Namespace)
	}
	ref := kubernetes.Ref{GVK: l.GVK, Namespace: l.Namespace, Name: l.Name}
	if l.Name == "" {
		list, err := in.List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, "", kubernetes.Classify("look up", ref, err)
		}
		items := make([]any, len(list.Items))
		for i := range list.Items {
			items[i] = list.Items[i].Object
		}
		return map[string]any{"items": items}, contentDigest(items), nil
	}
	obj, err := in.Get(ctx, l.Name, metav1.GetOptions{})
	switch {
	case isNotThere(err):
		return nil, "", nil
	case err != nil:
		return nil, "", kubernetes.Classify("look up", ref, err)
	}
	return obj.Object, contentDigest([]any{obj.Object}), nil
}

// sealLookup is a digest of what was found as it may be written down: it may be
// a Secret.
func (h *handle) sealLookup(digest string) string {
	if digest == "" {
		return "" // nothing was found
	}
	return h.seal.hash([]byte(digest))
}

// contentDigest leaves out what moves with every write.
func contentDigest(objects []any) string {
	out := make([]any, 0, len(objects))
	for _, o := range objects {
		m, ok := o.(map[string]any)
		if !ok {
			continue
		}
		m = cloneMap(m)
		if meta, ok := m["metadata"].(map[string]any); ok {
			for _, k := range []string{"managedFields", "resourceVersion", "generation"} {
				delete(meta, k)
			}
		}
		out = append(out, m)
	}
	return digestOf(out)
}
