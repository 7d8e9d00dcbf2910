// Package forge is the model: what a forge.cue says once it has been read,
// validated and completed with defaults, and the resources it compiles to.
// The types are plain, do no I/O and import nothing else of this module, so
// that every other package can speak in them.
package forge

import "time"

// Forge is one app and the environments it is deployed to.
type Forge struct {
	App          App
	Environments []Environment // sorted by Name
}

// App is what every environment runs unless it says otherwise.
type App struct {
	Name      string
	Image     Image
	Port      int
	Args      []string // empty: the image's own
	Env       map[string]string
	Secrets   map[string]SecretRef
	Resources Resources
	Health    Health
}

// Image names a container image by tag or by digest; a digest wins.
type Image struct {
	Repository string
	Tag        string
	Digest     string // "sha256:…"
	PullPolicy string // IfNotPresent, Always, Never
}

// Reference is the image as a container runtime pulls it.
func (i Image) Reference() string {
	if i.Digest != "" {
		return i.Repository + "@" + i.Digest
	}
	return i.Repository + ":" + i.Tag
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
	Domains       []string
	Expose        Expose
	Services      Services
	Scaling       Scaling
	Workers       []Worker // sorted by Name
	NetworkPolicy string   // none, baseline
	Policy        Policy
}

// Platform kinds.
const (
	PlatformMinikube   = "minikube"
	PlatformKubernetes = "kubernetes"
)

// Platform is where an environment runs.
type Platform struct {
	Kind            string
	Context         string // kubeconfig context; never the current one
	Kubeconfig      string // empty: the standard search path
	Namespace       string
	CreateNamespace bool
	StorageClass    string // empty: the cluster's default
}

// Expose kinds.
const (
	ExposeNone         = "none"
	ExposeIngress      = "ingress"
	ExposeLoadBalancer = "loadbalancer"
)

// Expose is how the outside reaches the app.
type Expose struct {
	Kind        string
	ClassName   string // ingress only
	Annotations map[string]string
	TLSSecret   string // ingress only; empty: plain HTTP
}

// Service modes.
const (
	ModeInCluster = "in-cluster"
	ModeOff       = "off"
)

// Services are the environment's backing services.
type Services struct {
	Postgres Postgres
	Redis    Redis
}

// Postgres is the environment's PostgreSQL.
type Postgres struct {
	Mode         string
	Version      string // major version
	Storage      string // quantity
	StorageClass string // empty: the platform's
	Database     string
	Password     SecretRef
}

// Redis is the environment's Redis.
type Redis struct {
	Mode         string
	Version      string
	Persistence  bool
	Storage      string // quantity
	StorageClass string // empty: the platform's
	MaxMemory    string // redis size, e.g. "512mb"
	Eviction     string // maxmemory-policy
	Password     SecretRef
}

// Scaling is the number of replicas. Max > Min asks for an autoscaler.
type Scaling struct {
	Min, Max        int
	CPUTarget       int // percent of the request; 0: not a metric
	MemoryTarget    int // percent of the request; 0: not a metric
	ScaleDownWindow time.Duration
}

// Autoscaled tells whether an autoscaler owns the replica count.
func (s Scaling) Autoscaled() bool { return s.Max > s.Min }

// Worker is a further process of the app, without a port.
type Worker struct {
	Name       string
	Args       []string
	Scaling    Scaling
	Resources  Resources
	Drain      time.Duration // time to finish work after SIGTERM
	HealthExec []string      // empty: no probe
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
	Mode      Mode
	Interval  time.Duration // between full checks without any event
	Timeout   time.Duration // for one resource to become ready
	Prune     bool          // delete owned resources that forge.cue no longer asks for
	MaxDelete int           // objects one cycle may delete before it stops and asks
}
