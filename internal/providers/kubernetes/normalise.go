package kubernetes

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/reconcile"
)

// annotationLastApplied is where kubectl keeps a second copy of the object,
// Secrets included.
const annotationLastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Normalise brings a manifest, in place, to the form in which server-side
// apply does what its author meant. This is the only place where manifests
// are changed before they are sent. Warnings tell what was dropped or merged;
// an error is of kind Invalid and means that the manifest is wrong.
func Normalise(obj *unstructured.Unstructured) (warnings []string, err error) {
	n := &normaliser{obj: obj, gk: obj.GroupVersionKind().GroupKind()}
	n.object()
	if n.err != nil {
		return n.warnings, &reconcile.Error{
			Kind: reconcile.Invalid, Op: "read manifest of", Object: RefOf(obj).String(), Err: n.err, Hint: n.hint,
		}
	}
	return n.warnings, nil
}

type normaliser struct {
	obj      *unstructured.Unstructured
	gk       schema.GroupKind
	warnings []string
	err      error
	hint     string
}

func (n *normaliser) warn(format string, args ...any) {
	n.warnings = append(n.warnings, RefOf(n.obj).String()+": "+fmt.Sprintf(format, args...))
}

// fail keeps the first error.
func (n *normaliser) fail(hint, format string, args ...any) {
	if n.err == nil {
		n.err, n.hint = fmt.Errorf(format, args...), hint
	}
}

func (n *normaliser) object() {
	o := n.obj.Object
	if n.obj.GetKind() == "" || n.obj.GetAPIVersion() == "" {
		n.fail("", "it has no kind or no apiVersion")
		return
	}
	if n.obj.IsList() {
		n.fail("", "it is a list: its items are applied one by one")
		return
	}
	n.metadata()
	if clean, ok := withoutNulls(o).(map[string]any); ok {
		n.obj.Object = clean
		o = clean
	}
	if builtIn(n.gk.Group) {
		delete(o, "status")
	}
	n.textMap("metadata", "labels")
	n.textMap("metadata", "annotations")
	switch n.gk {
	case schema.GroupKind{Kind: "Secret"}:
		n.secret()
	case schema.GroupKind{Kind: "ConfigMap"}:
		n.textMap("data")
		n.textMap("binaryData")
	case schema.GroupKind{Kind: "Service"}:
		n.textMap("spec", "selector")
		n.ports(items(o, "spec", "ports"))
	case schema.GroupKind{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"},
		schema.GroupKind{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:
		for _, hook := range items(o, "webhooks") {
			emptyBundle(child(hook, "clientConfig"))
		}
	case schema.GroupKind{Group: "apiregistration.k8s.io", Kind: "APIService"}:
		emptyBundle(child(o, "spec"))
	case schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}:
		n.crd(child(o, "spec"))
	}
	if spec := n.podSpec(); spec != nil {
		n.pod(spec)
	}
}

func (n *normaliser) metadata() {
	meta := child(n.obj.Object, "metadata")
	if meta == nil {
		n.fail("", "it has no metadata")
		return
	}
	if name, _ := meta["name"].(string); name == "" {
		if meta["generateName"] != nil {
			n.fail("give it a fixed name", "it has generateName and no name: each apply would make another object")
		} else {
			n.fail("", "it has no name")
		}
		return
	}
	for _, field := range []string{"managedFields", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink", "generateName"} {
		delete(meta, field)
	}
	for _, field := range []string{"uid", "resourceVersion"} {
		if meta[field] != nil {
			n.warn("metadata.%s is left out: it belongs to one object, not to a manifest", field)
		}
		delete(meta, field)
	}
	if annotations := child(meta, "annotations"); annotations[annotationLastApplied] != nil {
		n.warn("annotation %s is left out", annotationLastApplied)
		delete(annotations, annotationLastApplied)
	}
}

// builtIn tells Kubernetes' own groups, whose status is a subresource always.
func builtIn(group string) bool {
	return !strings.Contains(group, ".") || strings.HasSuffix(group, ".k8s.io")
}

// withoutNulls drops nulls from maps, since applying one means to own the
// field, and makes all integers int64, which is what deep copies want.
func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if value == nil {
				delete(v, key)
			} else {
				v[key] = withoutNulls(value)
			}
		}
		return v
	case []any:
		v = slices.DeleteFunc(v, func(item any) bool { return item == nil })
		for i := range v {
			v[i] = withoutNulls(v[i])
		}
		return v
	case int:
		return int64(v)
	case int32:
		return int64(v)
	case float32:
		return float64(v)
	default:
		return v
	}
}

const quote = "quote the value: YAML takes words like yes, on and y for booleans, and bare digits for numbers"

// textMap makes sure that a map holds text only.
func (n *normaliser) textMap(path ...string) {
	parent := n.obj.Object
	for _, p := range path[:len(path)-1] {
		parent = child(parent, p)
	}
	for _, key := range sortedKeys(child(parent, path[len(path)-1])) {
		if value := child(parent, path[len(path)-1])[key]; !isText(value) {
			n.fail(quote, "%s.%s is a %s, and must be a string", strings.Join(path, "."), key, typeName(value))
		}
	}
}

// secret turns stringData into data. Sent as stringData, edits by hand would
// go unseen and removed keys would stay.
func (n *normaliser) secret() {
	o := n.obj.Object
	n.textMap("data")
	plain := child(o, "stringData")
	delete(o, "stringData")
	if len(plain) == 0 {
		return
	}
	data := child(o, "data")
	if data == nil {
		data = map[string]any{}
		o["data"] = data
	}
	for _, key := range sortedKeys(plain) {
		text, ok := plain[key].(string)
		if !ok {
			n.fail(quote, "stringData.%s is a %s, and must be a string", key, typeName(plain[key]))
			continue
		}
		data[key] = base64.StdEncoding.EncodeToString([]byte(text))
	}
}

func (n *normaliser) crd(spec map[string]any) {
	if spec == nil {
		return
	}
	if preserve, _ := spec["preserveUnknownFields"].(bool); preserve {
		n.fail("set x-kubernetes-preserve-unknown-fields in the schema instead", "spec.preserveUnknownFields is true, which apiextensions.k8s.io/v1 does not take")
	}
	delete(spec, "preserveUnknownFields")
	emptyBundle(child(child(child(spec, "conversion"), "webhook"), "clientConfig"))
}

// emptyBundle drops a caBundle that is to be filled by somebody else: owning
// it as empty would make the injection look like drift.
func emptyBundle(config map[string]any) {
	if bundle, ok := config["caBundle"].(string); ok {
		raw, err := base64.StdEncoding.DecodeString(bundle)
		if err == nil && strings.TrimSpace(string(raw)) == "" {
			delete(config, "caBundle")
		}
	}
}

// podSpec finds the pod spec of kinds that have one.
func (n *normaliser) podSpec() map[string]any {
	o := n.obj.Object
	spec := child(o, "spec")
	switch n.gk {
	case schema.GroupKind{Kind: "Pod"}:
		return spec
	case schema.GroupKind{Kind: "ReplicationController"},
		schema.GroupKind{Group: "apps", Kind: "Deployment"},
		schema.GroupKind{Group: "apps", Kind: "StatefulSet"},
		schema.GroupKind{Group: "apps", Kind: "DaemonSet"},
		schema.GroupKind{Group: "apps", Kind: "ReplicaSet"},
		schema.GroupKind{Group: "batch", Kind: "Job"}:
	case schema.GroupKind{Group: "batch", Kind: "CronJob"}:
		delete(child(child(spec, "jobTemplate"), "metadata"), "creationTimestamp")
		spec = child(child(spec, "jobTemplate"), "spec")
	default:
		return nil
	}
	template := child(spec, "template")
	delete(child(template, "metadata"), "creationTimestamp")
	return child(template, "spec")
}

// pod puts right the lists of a pod spec that the API server merges by key.
func (n *normaliser) pod(spec map[string]any) {
	n.dedupe(spec, "imagePullSecrets", false, "name")
	n.dedupe(spec, "hostAliases", false, "ip")
	for _, list := range []string{"initContainers", "containers", "ephemeralContainers"} {
		for _, container := range items(spec, list) {
			n.ports(items(container, "ports"))
			n.dedupe(container, "ports", false, "containerPort", "protocol")
			// At run time the last one counts, so that is the one to keep.
			n.dedupe(container, "env", true, "name")
			name, _ := container["name"].(string)
			for _, env := range items(container, "env") {
				if value, ok := env["value"]; ok && !isText(value) {
					n.fail(quote, "%s %s: env %v is a %s, and must be a string", list, name, env["name"], typeName(value))
				}
			}
			mounted := map[any]bool{}
			for _, mount := range items(container, "volumeMounts") {
				path := mount["mountPath"]
				if mounted[path] {
					n.fail("", "%s %s: two volumes are mounted at %v", list, name, path)
				}
				mounted[path] = true
			}
		}
	}
}

// ports sets the protocol, which is a part of the key and has a default that
// older servers do not fill in before they merge.
func (n *normaliser) ports(ports []map[string]any) {
	for _, p := range ports {
		if p["protocol"] == nil || p["protocol"] == "" {
			p["protocol"] = "TCP"
		}
	}
}

// dedupe keeps one item of those with equal keys, as a plain create would.
func (n *normaliser) dedupe(parent map[string]any, field string, last bool, keys ...string) {
	list, ok := parent[field].([]any)
	if !ok {
		return
	}
	count := map[string]int{}
	keyOf := func(item any) string {
		m, _ := item.(map[string]any)
		var b strings.Builder
		for _, k := range keys {
			fmt.Fprintf(&b, "%v ", m[k])
		}
		return strings.TrimSpace(b.String())
	}
	for _, item := range list {
		count[keyOf(item)]++
	}
	if len(count) == len(list) {
		return
	}
	seen := map[string]int{}
	kept := make([]any, 0, len(count))
	for _, item := range list {
		key := keyOf(item)
		seen[key]++
		if last && seen[key] == count[key] || !last && seen[key] == 1 {
			kept = append(kept, item)
		}
	}
	which := "first"
	if last {
		which = "last"
	}
	for _, key := range sortedKeys(count) {
		if count[key] > 1 {
			n.warn("%s lists %q %d times; the %s is kept", field, key, count[key], which)
		}
	}
	parent[field] = kept
}

func child(m map[string]any, key string) map[string]any {
	c, _ := m[key].(map[string]any)
	return c
}

// items are the maps of a list.
func items(m map[string]any, path ...string) []map[string]any {
	for _, p := range path[:len(path)-1] {
		m = child(m, p)
	}
	list, _ := m[path[len(path)-1]].([]any)
	var maps []map[string]any
	for _, item := range list {
		if item, ok := item.(map[string]any); ok {
			maps = append(maps, item)
		}
	}
	return maps
}

func isText(v any) bool { _, ok := v.(string); return ok }

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case int64, float64:
		return "number"
	case []any:
		return "list"
	case map[string]any:
		return "map"
	default:
		return fmt.Sprintf("%T", v)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
