package forge

import "time"

// TableFKS is the table of rules that fits what is rendered to Fly Kubernetes.
const TableFKS = "fks"

// Rules are what is rendered is fitted with before it is compared or applied.
// The zero value is none.
type Rules struct {
	Table string
	Allow []string // ids of rules that only warn; sorted
}

// NamespaceSpec asks for a namespace.
type NamespaceSpec struct {
	Name   string
	Create bool              // false: it must be there already
	Labels map[string]string // set by us when we create it
}

// FormerSpec asks for nothing. It tells who lists what an environment owns of a
// namespace in which the environment stood before.
type FormerSpec struct{ Namespace string }

// ReleaseSpec asks for one Helm release of an embedded chart, or of one of
// the user's.
//
// Outputs: none.
type ReleaseSpec struct {
	Name      string
	Namespace string
	Chart     string         // name of the embedded chart: app, postgres, redis, temporal; empty: Source
	Source    *ChartSource   // the user's own chart
	Values    map[string]any // JSON-shaped: map[string]any, []any, string, bool, float64, int64
	Inputs    []Input
	Rules     Rules
}

// ChartSource is where a chart of the user comes from.
type ChartSource struct {
	Kind     string // path, oci, repository
	Path     string // path: relative to the directory of forge.cue
	URL      string // oci, repository
	Name     string // repository
	Version  string // oci, repository: a version or a constraint
	Digest   string // empty: not locked
	Username SecretRef
	Password SecretRef
}

// Input puts an output of another resource into Values before rendering.
type Input struct {
	Path   []string // where in Values; empty where the field that holds the Input says so
	From   ID
	Output string
}

// ConfigSpec asks for a ConfigMap with files. What stands in files beside
// forge.cue is read by the provider, which looks at them for changes.
//
// Outputs: checksum.
type ConfigSpec struct {
	Namespace string
	Name      string
	Labels    map[string]string
	Files     []ConfigEntry // sorted by Key
}

// ConfigEntry is one file of a ConfigMap: either File or Text is set, unless
// the text is empty.
type ConfigEntry struct {
	Key  string
	File string // relative to the directory of forge.cue
	Text string
}

// ClaimSpec asks for a volume that is no release's, so that no uninstall
// deletes it. It can grow.
type ClaimSpec struct {
	Namespace    string
	Name         string
	Labels       map[string]string
	Size         string // quantity
	StorageClass string // empty: the cluster's default
	Access       string // ReadWriteOnce, ReadWriteOncePod, ReadWriteMany
	Region       string // of Fly Kubernetes; empty: where the cluster is
	Retain       bool   // it is left when nobody asks for it any more
}

// Process is what runs in a container.
type Process struct {
	Image      string   // with tag or digest
	Entrypoint []string // empty: the image's own
	Args       []string // empty: the image's own
	Env        map[string]string
}

// JobSpec asks that a process has run to its end, once for each image (by
// digest), entrypoint and arguments. That it has is recorded with what is
// owned: an object that the cluster has cleaned away did run.
type JobSpec struct {
	Process
	Namespace   string
	Name        string // its objects are called by it and a hash
	Labels      map[string]string
	PullPolicy  string
	PullSecret  string   // name of a Secret; empty: none
	SecretNames []string // their keys become variables
	Files       []MountedFile
	Resources   Resources
	Timeout     time.Duration
	Rules       Rules
	Pod         bool // as a plain Pod: nobody looks after Jobs there
}

// MountedFile is one key of a Secret or a ConfigMap, as a file.
type MountedFile struct {
	Path   string
	Secret string // name
	Config string // name
	Key    string
}

// ImageSpec asks that an image of this machine is in the node of a Minikube.
type ImageSpec struct {
	Profile string // of minikube
	Image   string
}

// IssuerSpec asks for an issuer of cert-manager. A ClusterIssuer may be that
// of several environments: one that is as it is asked for is left alone,
// whoever has made it.
type IssuerSpec struct {
	Kind         string // ClusterIssuer, Issuer
	Name         string
	Namespace    string // of an Issuer; of a ClusterIssuer: where it is recorded
	Create       bool   // false: it must be there already
	Labels       map[string]string
	Email        string // of the ACME account
	Server       string // production, staging
	IngressClass string // that answers challenges
}

// CertificateSpec asks for a certificate in a cluster, valid and renewed. How
// it comes about is said by Mode: forged signs it and keeps it in Secret
// (self-signed), cert-manager does (cert-manager), Google does and keeps it to
// itself (gke-managed), or it is somebody else's business and only looked at,
// as far as that can be done (secret, acm). The Secret has the keys tls.crt and
// tls.key; one that forged signs has ca.crt besides, and ca.key, whose
// authority can sign for these hosts only.
//
// Outputs: checksum, of the certificate.
type CertificateSpec struct {
	Namespace string
	Mode      string // self-signed, cert-manager, gke-managed, secret, acm
	Labels    map[string]string
	Hosts     []string
	Secret    string        // self-signed, cert-manager, secret
	Valid     time.Duration // self-signed
	Issuer    ObjectRef     // cert-manager
	Name      string        // gke-managed, cert-manager: of the object; acm: its ARN
}

// DNSSpec asks for nothing to be made. It says which names have to lead to the
// address that an object of the cluster has; whether they do is told, and
// nothing waits for it.
type DNSSpec struct {
	Namespace string
	Hosts     []string
	From      ObjectRef // Ingress, Service, Gateway
	Local     bool      // the names may be in the hosts file of this machine only
}

// EndpointSpec asks for nothing to be made. It says where the outside finds a
// Service with a load balancer, and that it must answer there: with a status
// below 400, to a GET of Path. It is how a platform without probes tells whether
// an app serves.
//
// Outputs: host, and address: those of the load balancer, separated by spaces.
type EndpointSpec struct {
	Namespace string
	Service   string
	Port      int
	TLS       bool
	Path      string
	Hosts     []string      // that are asked for besides the load balancer's own; told, and waited for by nobody
	Timeout   time.Duration // of one request
	Interval  time.Duration // between two looks at one that answers
	Failures  int           // in a row, before it counts as failed
	Startup   time.Duration // that a rollout has until it must answer; 0: as long as the policy waits
}

func (NamespaceSpec) spec()   {}
func (FormerSpec) spec()      {}
func (EndpointSpec) spec()    {}
func (ReleaseSpec) spec()     {}
func (ConfigSpec) spec()      {}
func (ClaimSpec) spec()       {}
func (JobSpec) spec()         {}
func (ImageSpec) spec()       {}
func (IssuerSpec) spec()      {}
func (CertificateSpec) spec() {}
func (DNSSpec) spec()         {}
