// Package fks says what Fly Kubernetes does not do, and what is done about it:
// a table of rules, and the one function that brings objects into a form that
// Fly Kubernetes can run. It is pure: the same objects always give the same.
//
// Fly Kubernetes is a closed beta. The table says what Fly's documentation said
// when the table got its version; where nothing is said, the rule says so.
package fks

// Version is that of the table: the month whose documentation it tells.
const Version = "2026-08"

// Annotation of an object says by which rules it was changed, as in
// "FKS101,FKS203".
const Annotation = "forged.dev/fks-rules"

// Undocumented stands for a document where there is none: the rule follows
// from what Fly Kubernetes is made of.
const Undocumented = "not documented"

// Action is what is done about something that Fly Kubernetes does not do.
type Action string

// The actions, from the mildest on.
const (
	Note    Action = "note"    // it stays; of no consequence
	Drop    Action = "drop"    // it is taken out
	Rewrite Action = "rewrite" // it is said in another way
	Warn    Action = "warn"    // it stays, and may not do what it says
	Error   Action = "error"   // it cannot be had: the caller refuses
)

// Rule is one row of the table.
type Rule struct {
	ID   string // FKS101; never given to another rule
	Name string
	// Kinds that it is about, with their groups: Deployment.apps. *.example.com
	// is every kind of that group. Empty: all.
	Kinds []string
	// Path of what it is about, seen from an object: "spec.type". Empty: the
	// object as a whole. It may begin with {pod}, the spec of pods, {container},
	// each of their containers, or {claim}, the spec of a claim for a volume,
	// wherever it stands. (a|b) is either, [*] each item of a list, and
	// ["example.com/*"] each key that begins so.
	Path    string
	When    When
	Action  Action
	Message string // one sentence
	Hint    string // what to do; may be empty
	Doc     string // where it is said in public, or Undocumented
	Unless  Capability

	// Harmless is what takes nothing from anybody: it is shown to who looks at
	// what is rendered, and no notice is given of it.
	Harmless bool

	// holds says what When cannot; change does what Drop does not by itself, and
	// all that Rewrite does, and says what stands there then.
	holds  func(*fitting, match) bool
	change func(*fitting, match) string
}

// When says which values at its path a rule is about. The zero value: all that
// are there and not empty.
type When struct {
	OneOf  []string // it is one of these
	NoneOf []string // it is none of these
	More   int      // it has more items than this
	Over   string   // it is a larger quantity than this
	Absent bool     // or it is not there
	Words  string   // what else has to hold, for people; the rule's code decides
}

// Capability is what a cluster has that makes a rule void.
type Capability struct {
	APIGroup     string // it serves the group
	IngressClass bool   // it has the class of the Ingress, or any if that names none
	StorageClass bool   // it has the class that stands at the path
}

// Capabilities are what is known of a cluster. Zero: nothing is known, and the
// table holds as it is.
type Capabilities struct {
	APIGroups      []string
	StorageClasses []string
	IngressClasses []string
}

// Options are how to fit.
type Options struct {
	// Allow are ids of rules that something may break: it stays as it is, and
	// is warned about.
	Allow        []string
	Capabilities Capabilities
	Namespace    string // of objects that do not say theirs; may be empty
}

// Finding is one thing that a rule has to say of an object.
type Finding struct {
	Rule    string // id
	Action  Action
	Object  string // "Deployment shop/app"
	Path    string // "spec.template.spec.containers[0].livenessProbe", as in what was given; empty: all of it
	Message string
	Hint    string
	Doc     string

	Harmless bool // as the rule is
	// From and To are the value before and after, as short YAML; To is empty for
	// what is dropped. Both are empty where nothing changes, and values of
	// variables are never in them.
	From, To string
}
