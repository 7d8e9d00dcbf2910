package forge

import (
	"fmt"
	"strings"
)

// Resource kinds.
const (
	KindNamespace = "namespace"
	KindSecrets   = "secrets"
	KindRelease   = "release"
)

// ID names a resource: environment/kind/name.
type ID struct{ Environment, Kind, Name string }

func (id ID) String() string { return id.Environment + "/" + id.Kind + "/" + id.Name }

// ParseID reads what String prints.
func ParseID(s string) (ID, error) {
	p := strings.SplitN(s, "/", 3)
	if len(p) != 3 || p[0] == "" || p[1] == "" || p[2] == "" {
		return ID{}, fmt.Errorf("resource id %q: want environment/kind/name", s)
	}
	return ID{p[0], p[1], p[2]}, nil
}

// MarshalText makes IDs readable as JSON strings and map keys.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*id = v
	}
	return err
}

// Compare orders IDs by environment, kind and name.
func (id ID) Compare(other ID) int { return strings.Compare(id.String(), other.String()) }

// Target is the cluster a resource lives in. It is comparable: one client and
// one set of watches is kept for each.
type Target struct{ Kubeconfig, Context string }

func (t Target) String() string { return t.Context }

// Resource is the smallest thing the engine reconciles.
type Resource struct {
	ID     ID
	Target Target
	Needs  []ID // must be ready first; their outputs may be inputs here
	Spec   Spec
}

// Spec is what a resource asks for. The provider registered for the
// resource's kind knows the type behind it.
type Spec interface{ spec() }

// NamespaceSpec asks for a namespace.
type NamespaceSpec struct {
	Name   string
	Create bool              // false: it must be there already
	Labels map[string]string // set by us when we create it
}

// SecretsSpec asks for the Secrets of one namespace. They are applied as
// plain objects and never pass through a chart, so that no value is stored in
// a release record.
type SecretsSpec struct {
	Namespace string
	Secrets   []SecretObject // sorted by Name
}

// SecretObject is one Secret.
type SecretObject struct {
	Name    string
	Labels  map[string]string
	Entries []SecretEntry // sorted by Key
}

// SecretEntry is one key of a Secret: either a reference or a text joined
// from literals and other entries.
type SecretEntry struct {
	Key  string
	Ref  *SecretRef
	Join []SecretPart
}

// SecretPart is a literal, or the value of another entry of the same
// SecretsSpec that is itself a reference.
type SecretPart struct {
	Literal string
	Secret  string // name of the SecretObject
	Key     string

	// URLEscape asks for the value with every byte percent-encoded that RFC
	// 3986 does not call unreserved (letters, digits, "-._~"), so that a
	// password chosen by a person cannot change the shape of a URL.
	URLEscape bool
}

// ReleaseSpec asks for one Helm release of an embedded chart.
type ReleaseSpec struct {
	Name      string
	Namespace string
	Chart     string         // name of the embedded chart: app, postgres, redis
	Values    map[string]any // JSON-shaped: map[string]any, []any, string, bool, float64, int64
	Inputs    []Input
}

// Input puts an output of another resource into Values before rendering.
type Input struct {
	Path   []string // where in Values
	From   ID
	Output string
}

func (NamespaceSpec) spec() {}
func (SecretsSpec) spec()   {}
func (ReleaseSpec) spec()   {}
