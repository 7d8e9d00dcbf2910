package kubernetes

import (
	"cmp"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Ref names one object of a cluster. It is comparable.
type Ref struct {
	GVK       schema.GroupVersionKind
	Namespace string // empty for cluster-scoped objects
	Name      string
}

// RefOf is the Ref of an object as it stands in a manifest.
func RefOf(obj *unstructured.Unstructured) Ref {
	return Ref{GVK: obj.GroupVersionKind(), Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// Same tells whether two Refs name one object, perhaps in two versions of its
// kind.
func (r Ref) Same(o Ref) bool { return r.id() == o.id() }

// id is what an object is known by, whatever version of its kind a manifest
// was written for.
func (r Ref) id() Ref {
	r.GVK.Version = ""
	return r
}

// String is "Deployment shop/app".
func (r Ref) String() string {
	switch {
	case r == Ref{}:
		return ""
	case r.Namespace == "":
		return r.GVK.Kind + " " + r.Name
	default:
		return r.GVK.Kind + " " + r.Namespace + "/" + r.Name
	}
}

// Compare orders Refs by kind, namespace and name.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(
		cmp.Compare(r.GVK.Kind, o.GVK.Kind), cmp.Compare(r.Namespace, o.Namespace), cmp.Compare(r.Name, o.Name),
		cmp.Compare(r.GVK.Group, o.GVK.Group), cmp.Compare(r.GVK.Version, o.GVK.Version),
	)
}

// isSecret tells whether the object's values must not be shown.
func (r Ref) isSecret() bool { return r.GVK.Group == "" && r.GVK.Kind == "Secret" }

// MarshalText makes Refs readable in the inventory and usable as JSON keys.
func (r Ref) MarshalText() ([]byte, error) {
	return []byte(strings.Join([]string{r.GVK.Group, r.GVK.Version, r.GVK.Kind, r.Namespace, r.Name}, "|")), nil
}

// UnmarshalText reads what MarshalText writes.
func (r *Ref) UnmarshalText(b []byte) error {
	p := strings.Split(string(b), "|")
	if len(p) != 5 || p[1] == "" || p[2] == "" || p[4] == "" {
		return fmt.Errorf("object reference %q: want group|version|kind|namespace|name", b)
	}
	*r = Ref{
		GVK:       schema.GroupVersionKind{Group: p[0], Version: p[1], Kind: p[2]},
		Namespace: p[3], Name: p[4],
	}
	return nil
}
