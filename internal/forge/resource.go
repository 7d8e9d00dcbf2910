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

	// On a cluster.
	KindConfig      = "config"
	KindClaim       = "claim"
	KindJob         = "job"
	KindIssuer      = "issuer"
	KindCertificate = "certificate"
	KindDNS         = "dns"
	KindImage       = "image"
	KindProbe       = "probe"
	KindEndpoint    = "endpoint"

	// Anywhere.
	KindCheck = "check"
	KindRoles = "roles"

	// On Fly.
	KindFlyApp         = "fly-app"
	KindFlyIPs         = "fly-ips"
	KindFlySecrets     = "fly-secrets"
	KindFlyVolume      = "fly-volume"
	KindFlyMachines    = "fly-machines"
	KindFlyJob         = "fly-job"
	KindFlyCertificate = "fly-certificate"
	KindFlyPostgres    = "fly-postgres"
	KindFlyPostgresApp = "fly-postgres-app"
	KindUpstashRedis   = "upstash-redis"
	KindFlyCluster     = "fly-cluster"

	// On this machine.
	KindComposeSecrets = "compose-secrets"
	KindComposeProject = "compose-project"
)

// Names of outputs. The checksum of one Secret is "checksum/" and its name,
// the version of the secrets of one Fly app "version/" and its name, the
// password of a further role "password/" and its name.
const (
	OutputURL        = "url"
	OutputHost       = "host"
	OutputPoolerHost = "pooler-host"
	OutputPort       = "port"
	OutputUser       = "user"
	OutputPassword   = "password"
	OutputDatabase   = "database"
	OutputKubeconfig = "kubeconfig" // secret
	OutputApp        = "app"        // of a cluster on Fly: the Fly app that its Services are in
	OutputAddress    = "address"
	OutputChecksum   = "checksum"
)

// ID names a resource: environment/kind/name.
type ID struct{ Environment, Kind, Name string }

func (id ID) String() string { return id.Environment + "/" + id.Kind + "/" + id.Name }

// MarshalText makes IDs readable as JSON strings and map keys.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *ID) UnmarshalText(b []byte) error {
	if *id = (ID{}); string(b) == id.String() {
		return nil // of nothing, as in an Input that is not set
	}
	p := strings.SplitN(string(b), "/", 3)
	if len(p) != 3 || p[0] == "" || p[1] == "" || p[2] == "" {
		return fmt.Errorf("resource id %q: want environment/kind/name", b)
	}
	*id = ID{p[0], p[1], p[2]}
	return nil
}

// Compare orders IDs by environment, kind and name.
func (id ID) Compare(other ID) int { return strings.Compare(id.String(), other.String()) }

// aside separates the name of a resource from the place where it was left:
// "app@@old-namespace", "app@@old-namespace@old-cluster". No name holds it.
const aside = "@@"

// LeftIn is the id of what was left in another place when the environment moved:
// under its old name something else is wanted now. cluster is empty where that is
// the one in which the environment still is.
func (id ID) LeftIn(namespace, cluster string) ID {
	id.Name += aside + namespace
	if cluster != "" {
		id.Name += "@" + cluster
	}
	return id
}

// Home is the id that a resource has, or had, in the place where it is. The place
// is told, and ok is true, for what was left somewhere when its environment moved;
// cluster is empty where that is the one in which the environment still is.
func (id ID) Home() (home ID, namespace, cluster string, ok bool) {
	var place string
	id.Name, place, ok = strings.Cut(id.Name, aside)
	namespace, cluster, _ = strings.Cut(place, "@")
	return id, namespace, cluster, ok
}

// Target is where a resource lives: a cluster, or an organization on Fly. It
// is comparable: one client and one set of watches is kept for each.
type Target struct {
	Kubeconfig, Context string
	Impersonate         string // user to act as; empty: whom the kubeconfig names

	// Cluster is the resource whose output [OutputKubeconfig] is the way into
	// the cluster; it is among the needs of everything that lives there.
	Cluster ID

	Org string // slug; of what lives on Fly itself
}

func (t Target) String() string {
	switch {
	case t.Context != "":
		return t.Context
	case t.Cluster != ID{}:
		return t.Cluster.Name
	default:
		return t.Org
	}
}

// InCluster tells a target that is a Kubernetes cluster.
func (t Target) InCluster() bool { return t.Context != "" || t.Cluster != ID{} }

// The name of a cluster of Fly Kubernetes stands after the command that writes its
// kubeconfig, and before the ending of the file that is written.
const (
	SaveKubeconfig  = "fly ext kubernetes save-kubeconfig "
	SavedKubeconfig = ".kubeconfig.yml"
)

// Kubectl is how a person speaks to the cluster, and to no other. Of one of Fly
// Kubernetes it names the file that SaveKubeconfig writes.
func (t Target) Kubectl() string {
	if t.Context == "" && t.Cluster != (ID{}) {
		return "kubectl --kubeconfig " + t.Cluster.Name + SavedKubeconfig
	}
	return "kubectl --context " + t.Context
}

// Resource is the smallest thing the engine reconciles.
type Resource struct {
	ID     ID
	Target Target
	Needs  []ID // must be ready first; their outputs may be inputs here

	// After are rolled out first. Unlike one of Needs, what is out of reach
	// there does not stop a heal here: it orders the regions of an environment.
	After []ID

	Spec Spec

	// Unread is true in a list of what is owned for a place that could not be
	// read: there may be more in it than is listed.
	Unread bool
}

// Spec is what a resource asks for. The provider registered for the
// resource's kind knows the type behind it.
type Spec interface{ spec() }
