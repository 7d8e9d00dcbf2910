package helm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/releaseutil"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
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
	hash string // of json
	keep bool
}

func (o object) unstructured() (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(o.json); err != nil {
		return nil, fmt.Errorf("decode %s: %w", o.ref, err)
	}
	return u, nil
}

// parseManifest reads a rendered manifest: strictly, so that a key written
// twice is an error, and flattened, so that a List is its items.
func parseManifest(manifest string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
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
		if !u.IsList() {
			out = append(out, u)
			continue
		}
		err = u.EachListItem(func(o runtime.Object) error {
			item, ok := o.(*unstructured.Unstructured)
			if !ok {
				return fmt.Errorf("list item is a %T", o)
			}
			out = append(out, item)
			return nil
		})
		if err != nil {
			return nil, reconcile.Errorf(reconcile.Invalid, "read rendered "+source(doc), "%v", err)
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
func (h *handle) decorate(mapping *meta.RESTMapping, in *unstructured.Unstructured) (object, error) {
	u := in.DeepCopy()
	ref := kubernetes.RefOf(u)
	invalid := func(format string, args ...any) error {
		return &reconcile.Error{Kind: reconcile.Invalid, ID: h.id, Object: ref.String(), Op: "prepare", Err: fmt.Errorf(format, args...)}
	}
	if u.GetName() == "" {
		return object{}, invalid("it has no name; server-side apply needs one (generateName does not do)")
	}
	if _, ok := u.GetAnnotations()[annotationHook]; ok {
		return object{}, invalid("it is a Helm hook; this build runs no hooks")
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if ns := u.GetNamespace(); ns != "" && ns != h.spec.Namespace {
			return object{}, invalid("the chart puts it into namespace %s, the environment's is %s", ns, h.spec.Namespace)
		}
		u.SetNamespace(h.spec.Namespace)
	}
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
		return object{}, invalid("%w", err)
	}
	raw, err := u.MarshalJSON()
	if err != nil {
		return object{}, invalid("%w", err)
	}
	if len(raw) > maxManifestObjectSize {
		return object{}, invalid("it is %d bytes; the API server takes no more than %d", len(raw), maxManifestObjectSize)
	}
	sum := sha256.Sum256(raw)
	return object{
		ref: kubernetes.RefOf(u), json: raw, hash: hex.EncodeToString(sum[:16]),
		keep: u.GetAnnotations()[annotationPolicy] == resourcePolicyKeep,
	}, nil
}

// prepare decorates all objects of a manifest, in the manifest's order.
func (h *handle) prepare(c *client, manifest string) ([]object, error) {
	infos, err := c.Build(strings.NewReader(manifest), false)
	if err != nil {
		return nil, err
	}
	return h.decorateAll(infos)
}

func (h *handle) decorateAll(infos kube.ResourceList) ([]object, error) {
	out := make([]object, 0, len(infos))
	for _, info := range infos {
		u, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			return nil, reconcile.Errorf(reconcile.Internal, "prepare", "%s is a %T", info.Name, info.Object)
		}
		o, err := h.decorate(info.Mapping, u)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}
