package helm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chartutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"forged.dev/forged/internal/providers/helm/render"
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
	Fit     fitting         `json:"fit,omitzero"` // to the cluster, of what came out
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

// listener answers what a chart looks up in a cluster, and remembers it.
type listener struct {
	ctx     context.Context // of the rendering
	h       *handle
	serves  render.Serves
	planned crds // kinds that are made before the release is

	lookups []lookedUp
	err     error // the first, with its kind
}

// listen opens the cluster to a chart.
func (h *handle) listen(ctx context.Context, planned crds) (*listener, error) {
	v, apis, err := h.cluster.Discovery(ctx)
	if err != nil {
		return nil, err
	}
	l := &listener{ctx: ctx, h: h, planned: planned, serves: render.Serves{Version: v.GitVersion, Major: v.Major, Minor: v.Minor}}
	l.serves.APIs = append(slices.Clone(apis), planned.versions()...)
	slices.Sort(l.serves.APIs)
	l.serves.APIs = slices.Compact(l.serves.APIs)
	return l, nil
}

func kubeVersion(version, major, minor string) chartutil.KubeVersion {
	return chartutil.KubeVersion{Version: version, Major: major, Minor: minor}
}

// asked is all that was asked, of what was heard besides.
func (l *listener) asked(heard render.Heard) asked {
	a := asked{APIs: heard.APIs, Lookups: l.lookups}
	if heard.Version {
		a.Version = l.serves.Version
	}
	if heard.All {
		a.AllAPIs = digestOf(l.serves.APIs)
	}
	return a
}

func digestOf(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:12])
}

// Namespaced implements render.Cluster.
func (l *listener) Namespaced(apiVersion, kind string) (bool, error) {
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	m, err := l.h.cluster.Mapping(l.ctx, gvk)
	switch {
	case err == nil:
		return m.Scope.Name() == meta.RESTScopeNameNamespace, nil
	case l.planned.mapping(gvk) != nil:
		return true, nil // there is none yet
	}
	return false, l.fail(err)
}

// Find implements render.Cluster.
func (l *listener) Find(apiVersion, kind, namespace, name string) (map[string]any, error) {
	what := lookup{schema.FromAPIVersionAndKind(apiVersion, kind), namespace, name}
	var client dynamic.NamespaceableResourceInterface // nil: the kind is not there yet
	if m, err := l.h.cluster.Mapping(l.ctx, what.GVK); err == nil {
		client = l.h.cluster.Dynamic().Resource(m.Resource)
	} else if l.planned.mapping(what.GVK) == nil {
		return nil, l.fail(err)
	}
	found, digest, err := l.h.lookUp(l.ctx, what, client)
	if err != nil {
		return nil, l.fail(err)
	}
	if !slices.ContainsFunc(l.lookups, func(o lookedUp) bool { return o.lookup == what }) {
		l.lookups = append(l.lookups, lookedUp{what, l.h.sealLookup(digest)})
	}
	return found, nil
}

func (l *listener) fail(err error) error {
	if l.err == nil {
		l.err = err
	}
	return err
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
		// Of an API that does not answer, what it was before is believed.
		if a.AllAPIs != "" && a.AllAPIs != digestOf(chartutil.VersionSet(apis)) && !h.cluster.Silent("") {
			return "the cluster serves other APIs than before", nil
		}
		for _, name := range slices.Sorted(maps.Keys(a.APIs)) {
			if _, has := slices.BinarySearch(apis, name); has != a.APIs[name] && (has || !h.cluster.Silent(name)) {
				return fmt.Sprintf("the chart asks for API %s: it is served %t, it was %t", name, has, a.APIs[name]), nil
			}
		}
	}
	fit, err := h.fitDigest(ctx)
	if err != nil {
		return "", err
	}
	if fit != a.Fit.Digest {
		return "what it makes is fitted to the cluster in another way than before", nil
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
	case apierrors.IsNotFound(err):
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
		m = render.Copied(m)
		if meta, ok := m["metadata"].(map[string]any); ok {
			for _, k := range []string{"managedFields", "resourceVersion", "generation"} {
				delete(meta, k)
			}
		}
		out = append(out, m)
	}
	return digestOf(out)
}
