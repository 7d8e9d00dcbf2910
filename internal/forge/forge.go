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
	Rotation int    // another number asks for another value
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
	Region       string // fks; empty: the cluster's
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
	Interval    time.Duration // between rounds of checks without any event
	Timeout     time.Duration // for one resource to become ready
	Prune       bool          // delete owned resources that forge.cue no longer asks for
	MaxDelete   int           // objects one cycle may delete before it stops and asks
	Pin         string        // what images are pinned by: tag, digest
	DestroyData string        // never, with-token
	Recreate    string        // what an immutable field may cost: never, stateless, any
	Rollback    bool          // go back when a rollout fails
	Windows     []Window      // when changes may be made; none: always
	Ignore      []FieldRule   // fields that somebody else owns
	Strict      []FieldRule   // fields that nobody else may add to
	Adopt       string        // what becomes of objects that forged did not make: must-match, if-unowned, force
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

// What becomes of an object that is there already and that forged did not make.
const (
	AdoptMustMatch = "must-match" // it is refused
	AdoptIfUnowned = "if-unowned" // it is taken over if it bears no tool's mark
	AdoptForce     = "force"      // it is taken over from any tool but another forged
)

// FieldRule names fields of objects.
type FieldRule struct {
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
