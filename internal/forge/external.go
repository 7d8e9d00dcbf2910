package forge

// CheckSpec asks that a service of somebody else answers and lets the app in.
// It changes nothing.
type CheckSpec struct {
	Namespace string // of references to Secrets that name none; empty outside of a cluster
	Service   string // postgres, redis, temporal
	CABundle  SecretRef

	URL     SecretRef // postgres, redis
	SSLMode string    // postgres

	Address           string // temporal
	TemporalNamespace string
	TLS               bool
	APIKey            SecretRef
	ClientCert        SecretRef
	ClientKey         SecretRef
}

// ProbeSpec asks the same as a CheckSpec from inside of a cluster, where the app
// is. What it takes to log in is in a Secret, under the keys below.
type ProbeSpec struct {
	Namespace  string
	Name       string // of what asks, before what tells one question from another
	Labels     map[string]string
	Service    string // postgres, redis, temporal
	Secret     string // empty: it takes nothing
	PullSecret string

	SSLMode string // postgres

	Address           string // temporal
	TemporalNamespace string
	TLS               bool
}

// Keys of the Secret of a ProbeSpec. One that is not asked for is not there.
const (
	ProbeURL        = "url"
	ProbeCABundle   = "ca.crt"
	ProbeAPIKey     = "api-key"
	ProbeClientCert = "client.crt"
	ProbeClientKey  = "client.key"
)

// RolesSpec asks for roles in somebody else's PostgreSQL, with the rights on
// their databases that an app needs, which include making tables. Databases
// that are missing are made.
type RolesSpec struct {
	Namespace string // of references to Secrets that name none; empty outside of a cluster
	Admin     SecretRef
	CABundle  SecretRef
	SSLMode   string
	Roles     []Role
}

// Role is one role: the one that URL names, or one by its name.
type Role struct {
	URL SecretRef // with user, password and database

	Name      string
	Password  SecretPart // From is the resource that has made it
	Databases []string
}

func (CheckSpec) spec() {}
func (ProbeSpec) spec() {}
func (RolesSpec) spec() {}
