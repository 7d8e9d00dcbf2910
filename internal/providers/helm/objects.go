package helm

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"helm.sh/helm/v3/pkg/releaseutil"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// Helm's marks on the objects of a release. They are not in the stored
// manifest: the SDK adds them in memory, and so does decorate.
const (
	labelManagedBy        = "app.kubernetes.io/managed-by"
	annotationRelease     = "meta.helm.sh/release-name"
	annotationReleaseNS   = "meta.helm.sh/release-namespace"
	annotationHook        = "helm.sh/hook"
	annotationPolicy      = "helm.sh/resource-policy"
	managedByHelm         = "Helm"
	resourcePolicyKeep    = "keep"
	maxManifestObjectSize = 1 << 20 // etcd's default request limit is 1.5 MiB
)

// object is one object of a release as it is sent to the API server.
type object struct {
	ref  kubernetes.Ref
	json []byte // decorated and normalised
	keep bool
}

func (o object) unstructured() (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(o.json); err != nil {
		return nil, fmt.Errorf("decode %s: %w", o.ref, err)
	}
	return u, nil
}

// parsed is an object of a manifest.
type parsed struct {
	*unstructured.Unstructured

	source string // the template it came from
}

// parseManifest reads a rendered manifest: strictly, so that a key written
// twice is an error, and flattened, so that a List is its items.
func parseManifest(manifest string) ([]parsed, error) {
	var out []parsed
	docs := releaseutil.SplitManifests(manifest)
	for i := range len(docs) {
		doc := docs[fmt.Sprintf("manifest-%d", i)]
		var m map[string]any
		raw, err := yaml.YAMLToJSONStrict([]byte(doc))
		if err == nil {
			err = json.Unmarshal(raw, &m)
		}
		if err != nil {
			return nil, reconcile.Errorf(reconcile.Invalid, "read rendered "+source(doc), "%v", err)
		}
		if len(m) == 0 {
			continue
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(raw); err != nil {
			return nil, reconcile.Errorf(reconcile.Invalid, "read rendered "+source(doc), "%v", err)
		}
		flat, err := kubernetes.Flatten(u)
		if err != nil {
			return nil, reconcile.Errorf(reconcile.Invalid, "read rendered "+source(doc), "%v", err)
		}
		for _, item := range flat {
			out = append(out, parsed{item, source(doc)})
		}
	}
	return out, nil
}

// source is the template a rendered document came from, as Helm notes it in a
// comment.
func source(doc string) string {
	for line := range strings.Lines(doc) {
		if s, ok := strings.CutPrefix(strings.TrimSpace(line), "# Source: "); ok {
			return s
		}
	}
	return "manifest"
}

// decorate turns an object of the manifest into what is sent: in the
// release's namespace, with Helm's marks and forged's own, normalised for
// server-side apply. Install, upgrade and heal all send exactly this.
func (h *handle) decorate(scope meta.RESTScopeName, in parsed) (object, error) {
	u := in.DeepCopy()
	if err := h.inPlace(scope, u, in.source); err != nil {
		return object{}, err
	}
	invalid := func(err error) error { return h.chartError(in.source, kubernetes.RefOf(u), err) }
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[labelManagedBy] = managedByHelm
	u.SetLabels(labels)
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationRelease] = h.spec.Name
	annotations[annotationReleaseNS] = h.spec.Namespace
	u.SetAnnotations(annotations)
	h.cluster.Stamp(u, h.id)
	if _, err := kubernetes.Normalise(u); err != nil {
		return object{}, invalid(err)
	}
	raw, err := u.MarshalJSON()
	if err != nil {
		return object{}, invalid(err)
	}
	if len(raw) > maxManifestObjectSize {
		return object{}, invalid(fmt.Errorf("it is %d bytes; the API server takes no more than %d", len(raw), maxManifestObjectSize))
	}
	return object{
		ref: kubernetes.RefOf(u), json: raw, keep: u.GetAnnotations()[annotationPolicy] == resourcePolicyKeep,
	}, nil
}

// chartError is a mistake in what a chart makes. Errors that are nobody's
// mistake stay what they are.
func (h *handle) chartError(source string, ref kubernetes.Ref, err error) error {
	var known *reconcile.Error
	if errors.As(err, &known) && known.Kind != reconcile.Invalid {
		return err
	}
	return &reconcile.Error{Kind: reconcile.Invalid, ID: h.id, Object: ref.String(), Op: "read rendered " + source, Err: err}
}

// inPlace puts an object into the release's namespace, and refuses one that
// has no name or belongs into another.
func (h *handle) inPlace(scope meta.RESTScopeName, u *unstructured.Unstructured, source string) error {
	if u.GetName() == "" {
		return h.chartError(source, kubernetes.RefOf(u), fmt.Errorf("it has no name; server-side apply needs one (generateName does not do)"))
	}
	if scope != meta.RESTScopeNameNamespace {
		u.SetNamespace("")
		return nil
	}
	if ns := u.GetNamespace(); ns != "" && ns != h.spec.Namespace {
		return h.chartError(source, kubernetes.RefOf(u), fmt.Errorf("the chart puts it into namespace %s, the environment's is %s", ns, h.spec.Namespace))
	}
	u.SetNamespace(h.spec.Namespace)
	return nil
}

// prepare decorates all objects of a rendering, in the manifest's order, and
// looks at its hooks. Kinds that planned defines need not be there yet.
func (h *handle) prepare(c *client, r *rendering) ([]object, error) {
	planned, err := readCRDs(r.crds)
	if err != nil {
		return nil, err
	}
	c.planned = planned
	objs, err := parseManifest(r.manifest)
	if err != nil {
		return nil, err
	}
	c.among = definedBy(objs)
	for _, hook := range r.hooks {
		inHook, err := parseManifest("---\n# Source: " + hook.Path + "\n" + hook.Manifest)
		if err != nil {
			return nil, err
		}
		for _, o := range inHook {
			m, err := c.mapping(o.GroupVersionKind(), nil)
			if err != nil {
				return nil, h.chartError(o.source, kubernetes.RefOf(o.Unstructured), err)
			}
			if err := h.inPlace(m.Scope.Name(), o.DeepCopy(), o.source); err != nil {
				return nil, err
			}
		}
	}
	out := make([]object, 0, len(objs))
	from := map[kubernetes.Ref]string{}
	for _, p := range objs {
		m, err := c.mapping(p.GroupVersionKind(), nil)
		if err != nil {
			return nil, h.chartError(p.source, kubernetes.RefOf(p.Unstructured), err)
		}
		o, err := h.decorate(m.Scope.Name(), p)
		if err != nil {
			return nil, err
		}
		if other, twice := from[o.ref]; twice {
			return nil, h.chartError(p.source, o.ref, fmt.Errorf("%s makes it as well", other))
		}
		from[o.ref] = p.source
		out = append(out, o)
	}
	return out, nil
}
