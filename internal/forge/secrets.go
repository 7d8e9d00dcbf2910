package forge

// SecretsSpec asks for the Secrets of one namespace. They are applied as
// plain objects and never pass through a chart, so that no value is stored in
// a release record.
//
// Outputs: the checksum of each Secret; as "value/", its name, "/" and a key
// the value itself, which is secret.
type SecretsSpec struct {
	Namespace string
	Secrets   []SecretObject // sorted by Name
}

// SecretObject is one Secret; on Fly the secrets of the app of that name.
type SecretObject struct {
	Name    string
	Type    string // of the Secret; empty: Opaque
	Labels  map[string]string
	Entries []SecretEntry // sorted by Key
}

// SecretEntry is one key of a Secret: either a reference or a text joined
// from literals and other values.
type SecretEntry struct {
	Key       string
	Ref       *SecretRef
	Join      []SecretPart
	MultiLine bool // it is read as a file and may have more than one line

	// Field is where forge.cue says how a generated value is made, for people:
	// environments.prod.services.postgres.password.
	Field string
}

// SecretPart is a literal, or a value from elsewhere: exactly one of Literal,
// Secret with Key, Ref, and From with Output is set.
type SecretPart struct {
	Literal string

	// Another entry of the same spec that is itself a reference.
	Secret string // name of the SecretObject
	Key    string

	// A reference whose value is not kept anywhere by itself.
	Ref *SecretRef

	// An output of another resource.
	From   ID
	Output string

	// Field takes only this part of the value, which is a URL, with its own
	// escaping undone: user, password, host (in brackets if it is an IPv6
	// address), port (of the scheme, if the URL has none) or path (without the
	// first slash). Empty: the whole value.
	Field string

	// URLEscape asks for the value with every byte percent-encoded that RFC
	// 3986 does not call unreserved (letters, digits, "-._~"), so that a
	// password chosen by a person cannot change the shape of a URL.
	URLEscape bool
}

func (SecretsSpec) spec() {}
