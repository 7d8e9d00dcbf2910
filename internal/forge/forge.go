// Package forge is the model: what a forge.cue says once it has been read,
// validated and completed with defaults, and the resources it compiles to.
// The types are plain, do no I/O and import nothing else of this module, so
// that every other package can speak in them.
//
// What a platform does not have is the zero value there: an environment on
// Fly Machines has no namespace, one in Compose no network policy.
package forge

import (
	"reflect"
	"time"
)

// Forge is one app and the environments it is deployed to.
type Forge struct {
	App           App
	Environments  []Environment  // sorted by Name
	Notifications []Notification // sorted by Name
}

// App is what every environment runs unless it says otherwise.
type App struct {
	Name        string
	Image       Image
	Port        int
	Args        []string // empty: the image's own
	Env         map[string]string
	Secrets     map[string]SecretRef
	ConfigFiles []ConfigFile // sorted by Path
	Resources   Resources
	Health      Health
	Migrate     Migrate

	// Of an environment only.
	Needs []string // what must be ready first: postgres, redis, temporal, or the name of a chart
	Chart *Chart   // the user's own, instead of ours
}

// Image names a container image by tag or by digest; a digest wins.
type Image struct {
	Repository string
	Tag        string
	Digest     string    // "sha256:…"
	PullPolicy string    // IfNotPresent, Always, Never
	PullSecret SecretRef // a Docker config in JSON; zero: none
}

// Reference is the image as a container runtime pulls it.
func (i Image) Reference() string {
	if i.Digest != "" {
		return i.Repository + "@" + i.Digest
	}
	return i.Repository + ":" + i.Tag
}

// ConfigFile is a file that the containers of the app see. Exactly one of
// File and Text is set, unless the text is empty.
type ConfigFile struct {
	Path string // absolute, in the container
	File string // where the text is, relative to the directory of forge.cue
	Text string
}

// Resources are Kubernetes quantities ("250m", "256Mi"). An empty CPULimit
// means no limit.
type Resources struct {
	CPU         string
	Memory      string
	CPULimit    string
	MemoryLimit string
}

// Health says how the app shows that it lives and that it can serve.
type Health struct {
	Live     string // HTTP path
	Ready    string // HTTP path
	Startup  time.Duration
	Interval time.Duration
	Timeout  time.Duration
	Failures int
}

// When a migration runs.
const (
	MigrateNever        = "never"
	MigrateBeforeDeploy = "before-deploy" // once for each image, before anything of it starts
)

// Migrate is the job that brings the database to what the app expects.
type Migrate struct {
	Run     string
	Args    []string
	Timeout time.Duration
}

// SecretRef says where a secret's value is found; exactly one field is set,
// or none where a secret is optional. A value itself has no place in the
// model.
type SecretRef struct {
	Env        string         // name of a variable of the process
	File       string         // path, relative to the directory of forge.cue
	SOPS       *SOPSRef       // one value of a file that SOPS encrypted
	Kubernetes *KubernetesRef // one key of a Secret in the environment's cluster
	OP         string         // op://VAULT/ITEM/FIELD of 1Password
	Exec       []string       // command whose output it is, without a shell
	Generate   *Generate      // made once and kept where the workload lives
}

// IsZero tells whether the reference names no source at all.
func (r SecretRef) IsZero() bool {
	return r.Env == "" && r.File == "" && r.SOPS == nil && r.Kubernetes == nil && r.OP == "" && len(r.Exec) == 0 && r.Generate == nil
}

// SOPSRef names one value in an encrypted file.
type SOPSRef struct {
	File string // relative to the directory of forge.cue
	Key  string // names of the keys down to the value, with dots between them
}

// KubernetesRef names one key of a Secret.
type KubernetesRef struct {
	Name      string
	Key       string
	Namespace string // empty: the environment's own
}

// Generate describes a value that is made once.
type Generate struct {
	Alphabet string // alnum, base64url, hex
	Length   int    // characters
}

// Environment is one deployment of the app on one platform. App is already
// the environment's own: the overlay of forge.cue has been laid over the
// shared app.
type Environment struct {
	Name          string
	Platform      Platform
	App           App
	Regions       []Region // sorted by Name; none: the one place that Platform names
	Domains       []string
	Expose        Expose
	Services      Services
	Scaling       Scaling
	Workers       []Worker     // sorted by Name
	Volumes       []Volume     // sorted by Name
	Charts        []NamedChart // sorted by Name
	NetworkPolicy string       // none, baseline, strict
	Policy        Policy
}

// Platform kinds.
const (
	PlatformCompose    = "compose"    // Docker Compose on this machine
	PlatformMinikube   = "minikube"   // a cluster on one's own machine
	PlatformKubernetes = "kubernetes" // any other cluster
	PlatformFKS        = "fks"        // Fly Kubernetes
	PlatformFly        = "fly"        // Fly Machines
)

// Distributions of Kubernetes.
const (
	DistributionGeneric = "generic"
	DistributionEKS     = "eks"
	DistributionGKE     = "gke"
	DistributionAKS     = "aks"
)

// Platform is where an environment runs.
type Platform struct {
	Kind string

	// Kubernetes in all its kinds.
	Distribution    string // of kind kubernetes
	Context         string // kubeconfig context; never the current one
	Kubeconfig      string // empty: the standard search path; on FKS: the cluster's own
	Namespace       string
	CreateNamespace bool
	StorageClass    string   // empty: the cluster's default
	PodCIDRs        []string // empty: not known
	LoadImages      bool     // minikube: load the image into the node

	// Fly in both kinds.
	Org         string // slug
	Token       SecretRef
	Cluster     string // fks: name of the cluster
	Create      bool   // fks: make the cluster when it is missing
	Region      string // fks: of the cluster
	AcceptsBeta bool   // fks: somebody has typed that it is a closed beta
	AppName     string // fly
	Network     string // fly; empty: the organization's own
	Guest       Guest  // fly
	Deployment  string // fly: strategy: rolling, bluegreen, canary, immediate

	// Compose.
	Project string
	DataDir string // absolute, or as seen from the working directory
	Bind    string // address that published ports listen on
}

// OnKubernetes tells whether the platform is a Kubernetes cluster.
func (p Platform) OnKubernetes() bool {
	return p.Kind == PlatformMinikube || p.Kind == PlatformKubernetes || p.Kind == PlatformFKS
}

// Guest is the size of a Fly Machine.
type Guest struct {
	CPUKind  string // shared, performance
	CPUs     int
	MemoryMB int // mebibytes, as Fly counts
}

// Region is one more place of an environment: a Fly region, or a cluster. What
// it does not say is as in the environment.
type Region struct {
	Name string

	// Kubernetes.
	Context    string
	Kubeconfig string
	Namespace  string
	Domains    []string // nil: the environment's
	TLS        *TLS     // nil: the environment's
	Scaling    *Scaling // nil: the environment's

	// Fly.
	Machines int
	Primary  bool
}

// Expose kinds.
const (
	ExposeNone         = "none"
	ExposePort         = "port"         // a port of this machine
	ExposeIngress      = "ingress"      // an Ingress
	ExposeGateway      = "gateway"      // an HTTPRoute of the Gateway API
	ExposeLoadBalancer = "loadbalancer" // a Service of its own
	ExposeFly          = "fly"          // Fly's proxy
)

// Expose is how the outside reaches the app.
type Expose struct {
	Kind         string
	Port         int               // port
	ClassName    string            // ingress
	Annotations  map[string]string // ingress, gateway, loadbalancer
	RedirectHTTP bool              // ingress, fly: send plain HTTP to HTTPS
	Gateway      ObjectRef         // gateway
	TLS          TLS
	PublicIPv4   string // fly: shared, dedicated, none
	PublicIPv6   bool   // fly
}

// ObjectRef names an object of Kubernetes.
type ObjectRef struct {
	Kind      string
	Name      string
	Namespace string // empty: the environment's
}

// Who provides the certificate.
const (
	TLSNone        = "none"
	TLSSelfSigned  = "self-signed"
	TLSCertManager = "cert-manager"
	TLSSecret      = "secret"
	TLSACM         = "acm"
	TLSGKEManaged  = "gke-managed"
	TLSFly         = "fly"
)

// TLS is the encryption between the outside and where the app is exposed.
type TLS struct {
	Mode        string
	Secret      string        // secret, cert-manager, self-signed: Secret with the certificate
	Valid       time.Duration // self-signed: how long a certificate is
	Issuer      Issuer        // cert-manager
	ARN         string        // acm
	Certificate string        // gke-managed: name of the ManagedCertificate
	StaticIP    string        // gke-managed: name of the reserved address; empty: any
}

// Issuer is who cert-manager asks. One that is not created must be there.
type Issuer struct {
	Kind   string // ClusterIssuer, Issuer
	Name   string
	Create bool
	Email  string // of the ACME account
	Server string // production, staging
}

// Service modes: who runs a backing service.
const (
	ModeInCluster    = "in-cluster"    // forged, beside the app
	ModeExternal     = "external"      // somebody else; forged checks that it answers
	ModeFlyManaged   = "fly-managed"   // Fly Managed Postgres
	ModeFlyUnmanaged = "fly-unmanaged" // an app of Fly's postgres-flex
	ModeFlyApp       = "fly-app"       // forged, as a Fly app of its own
	ModeUpstash      = "upstash"       // Upstash for Redis, through Fly
	ModeCloud        = "cloud"         // Temporal Cloud
	ModeOff          = "off"           // nobody
)

// Services are the environment's backing services.
type Services struct {
	Postgres Postgres
	Redis    Redis
	Temporal Temporal
}

// Postgres is the environment's PostgreSQL.
type Postgres struct {
	Mode     string
	Version  string // major version
	Database string

	// in-cluster
	Storage      string // quantity
	StorageClass string // empty: the platform's
	Password     SecretRef
	TLS          bool
	Backup       Backup

	// fly-managed
	Cluster   string // name
	Create    bool   // buy it when it is missing
	Plan      string
	Region    string
	StorageGB int
	PostGIS   bool
	Pooler    bool // give the app the URL of the pooler

	// fly-unmanaged
	AppName string

	// external
	URL         SecretRef
	CABundle    SecretRef // zero: the system's
	SSLMode     string    // verify-full, verify-ca, require
	ManageRoles bool
	Admin       SecretRef // URL that may make roles
}

// Backup is a dump by schedule.
type Backup struct {
	Enabled  bool
	Schedule string // five fields of cron, in UTC
	KeepDays int
}

// Redis is the environment's Redis.
type Redis struct {
	Mode string

	// in-cluster, fly-app
	Version      string
	Persistence  bool
	Storage      string // quantity
	StorageClass string // empty: the platform's
	StorageGB    int    // fly-app
	MaxMemory    string // redis size, e.g. "512mb"
	Eviction     string // maxmemory-policy
	Password     SecretRef

	// upstash
	Name        string
	Create      bool // buy it when it is missing
	Plan        string
	Region      string
	ReadRegions []string
	Evict       bool // drop keys when the memory is full

	// external
	URL      SecretRef
	CABundle SecretRef // zero: the system's
}

// Temporal is the environment's Temporal.
type Temporal struct {
	Mode      string
	Namespace string

	// in-cluster, fly-app
	Version       string
	HistoryShards int // fixed with the first start
	Retention     time.Duration
	Password      SecretRef // of its role in PostgreSQL
	Web           bool      // its page
	WebPublic     bool      // fly-app: reachable from everywhere; it asks for no login

	// cloud, external
	Address    string // host:port
	APIKey     SecretRef
	ClientCert SecretRef
	ClientKey  SecretRef
	TLS        bool
	CABundle   SecretRef // zero: the system's
}

// Scaling is the number of replicas. Max > Min asks for an autoscaler.
type Scaling struct {
	Min, Max        int
	CPUTarget       int // percent of the request; 0: not a metric
	MemoryTarget    int // percent of the request; 0: not a metric
	ScaleDownWindow time.Duration

	Idle       string // fly: what happens to a machine without requests: keep, stop, suspend
	MinRunning int    // fly: machines of the primary region that stay awake
}

// Autoscaled tells whether an autoscaler owns the replica count.
func (s Scaling) Autoscaled() bool { return s.Max > s.Min }

// Worker is a further process of the app, without a port.
type Worker struct {
	Name       string
	Args       []string
	Scaling    Scaling
	Resources  Resources
	Guest      Guest         // fly
	Drain      time.Duration // time to finish work after SIGTERM
	HealthExec []string      // empty: no probe
}

// Volume is a disk of the app.
type Volume struct {
	Name         string
	Mount        string // absolute path in the container
	Size         string // quantity; on Fly whole gibibytes
	StorageClass string // empty: the platform's
	Access       string // ReadWriteOnce, ReadWriteOncePod, ReadWriteMany
	Retain       bool   // it outlives the environment
}

// Where a chart comes from.
const (
	ChartPath       = "path"
	ChartOCI        = "oci"
	ChartRepository = "repository"
)

// Chart is a Helm chart of the user.
type Chart struct {
	Kind     string // where it comes from
	Path     string // path: absolute, or as seen from the working directory
	URL      string // oci, repository
	Name     string // repository
	Version  string // oci, repository: a version or a constraint
	Digest   string // oci, repository: "sha256:…"; empty: not locked
	Username SecretRef
	Password SecretRef
	Values   map[string]any
}

// NamedChart is a chart that runs beside the app.
type NamedChart struct {
	Name string
	Chart
	Needs []string // app, postgres, redis, temporal, or the name of another chart
}

// Mode is what forged may do in an environment.
type Mode string

// Modes, from the least to the most.
const (
	ModePaused  Mode = "paused"  // do not even look
	ModeObserve Mode = "observe" // see and report
	ModeHeal    Mode = "heal"    // put live back to the last applied desired state
	ModeApply   Mode = "apply"   // heal, and roll out new config
)

// Policy bounds what forged does in an environment.
type Policy struct {
	Mode        Mode
	Interval    time.Duration // between full checks without any event
	Timeout     time.Duration // for one resource to become ready
	Prune       bool          // delete owned resources that forge.cue no longer asks for
	MaxDelete   int           // objects one cycle may delete before it stops and asks
	Pin         string        // what images are pinned by: tag, digest
	DestroyData string        // never, with-token
	Recreate    string        // what an immutable field may cost: never, stateless, any
	Rollback    bool          // go back when a rollout fails
	Windows     []Window      // when changes may be made; none: always
	Ignore      []IgnoreRule
}

// Equal tells whether two policies are the same.
func (p Policy) Equal(o Policy) bool { return reflect.DeepEqual(p, o) }

// Window is a time of the week in which changes may be made. One whose To is
// not after its From ends on the next day.
type Window struct {
	Days     []time.Weekday // none: every day
	From, To time.Duration  // since midnight
	Zone     string         // IANA time zone
}

// IgnoreRule names fields that somebody else owns.
type IgnoreRule struct {
	Kind   string
	Name   string // empty: all of the kind
	Fields []string
}

// Notification tells somebody what happens.
type Notification struct {
	Name         string
	Kind         string // slack, teams, webhook
	URL          SecretRef
	On           []string // events; none: those that need a person
	Environments []string // none: all
}
