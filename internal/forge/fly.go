package forge

import "time"

// FlyAccount is who asks Fly, and where what is owned there is written down.
type FlyAccount struct {
	Org       string // slug
	Token     SecretRef
	Inventory string // Fly app that keeps the inventory and the lease of the environment; it is forged's own
}

// OnFly is a spec of what lives in an organization on Fly.
type OnFly interface {
	Spec
	OnFly() FlyAccount
}

// FlyAppSpec asks for an app of Fly.
type FlyAppSpec struct {
	Account FlyAccount
	Name    string
	Network string // empty: the organization's own
}

// FlyIPsSpec asks for the public addresses of an app.
//
// Outputs: none that another resource takes; status shows them.
type FlyIPsSpec struct {
	Account FlyAccount
	App     string
	V4      string // shared, dedicated, none
	V6      bool
}

// FlySecretsSpec asks for the secrets of the apps of an environment, together:
// a value made here that two apps share must be written to both at once,
// because Fly never shows it again.
//
// Outputs: the version of the secrets of each app.
type FlySecretsSpec struct {
	Account FlyAccount
	Apps    []SecretObject // sorted by Name
}

// FlyVolumeSpec asks for the volumes of one group of machines: one for each.
// A volume is never deleted without permission.
type FlyVolumeSpec struct {
	Account FlyAccount
	App     string
	Name    string // letters, digits and "_"
	Region  string
	Count   int
	SizeGB  int
	Guest   Guest // of the machines, so that they fit beside it
}

// FlyMachinesSpec asks for the machines of one group in one region.
type FlyMachinesSpec struct {
	Process
	Account FlyAccount
	App     string
	Group   string
	Region  string
	Primary string // region of the environment's databases; empty: it does not matter
	Count   int
	Guest   Guest

	Service  *FlyService // nil: the proxy does not know it
	Check    *FlyCheck   // nil: nobody asks how it is
	Files    []FlyFile
	Volume   string // name; empty: none
	Mount    string
	Strategy string        // rolling, bluegreen, canary, immediate
	Drain    time.Duration // between the signal to stop and the end
	Restart  string        // always, on-failure

	Secrets Input // version of the app's secrets that they must have seen
}

// FlyService is how Fly's proxy reaches the machines.
type FlyService struct {
	Port         int // inside
	ForceHTTPS   bool
	Idle         string // keep, stop, suspend
	MinRunning   int
	SoftLimit    int // requests at a time before another machine is woken; 0: Fly's
	PublicOnPort []int
}

// FlyCheck is how Fly asks a machine how it is.
type FlyCheck struct {
	Type     string // http, tcp
	Port     int
	Path     string // http
	Grace    time.Duration
	Interval time.Duration
	Timeout  time.Duration
}

// FlyFile is a file in a machine: the value of a secret, or what stands in a
// file beside forge.cue, or a text.
type FlyFile struct {
	Path   string
	Secret string // name of a secret of the app, in base64
	File   string // relative to the directory of forge.cue
	Text   string
}

// FlyJobSpec asks that a machine has run to its end, once for each image (by
// digest), entrypoint and arguments.
type FlyJobSpec struct {
	Process
	Account FlyAccount
	App     string
	Name    string
	Region  string
	Guest   Guest
	Files   []FlyFile
	Timeout time.Duration
	Secrets Input // as in FlyMachinesSpec
}

// FlyCertificateSpec asks for the certificate of one host name: one that Fly
// gets and renews, or the user's own.
//
// Outputs: none that another resource takes; status shows the DNS records.
type FlyCertificateSpec struct {
	Account  FlyAccount
	App      string // empty: AppFrom
	AppFrom  Input  // of a cluster on Fly
	Hostname string
	Chain    SecretRef // PEM, the host's certificate first; zero: Fly gets one
	Key      SecretRef // PEM
}

// FlyPostgresSpec asks for a cluster of Fly Managed Postgres, with the
// database and the role of the app, and of whoever else lives there.
//
// Outputs: host, pooler-host, port, database, user, password, and the
// password of each further user.
type FlyPostgresSpec struct {
	Account   FlyAccount
	Name      string
	Create    bool // false: it must be there already
	Plan      string
	Region    string
	StorageGB int
	Version   string
	PoolMode  string // session, transaction
	PostGIS   bool
	Database  string // of the app
	User      string // of the app

	Extensions []string // of the app's database, sorted
	Further    []FlyPostgresUser
	AttachTo   string // Fly app that the console shows it at; empty: none
}

// FlyPostgresUser is a further user, with databases of its own.
type FlyPostgresUser struct {
	Name      string
	Databases []string
}

// FlyPostgresAppSpec asks for a database and a role in a PostgreSQL that runs
// as an app of Fly's postgres-flex, and for that app if it is to be made.
//
// Outputs: as of FlyPostgresSpec, without pooler-host.
type FlyPostgresAppSpec struct {
	Account   FlyAccount
	App       string
	Create    bool   // false: it must be there already
	Network   string // this and what follows: only of one that is made
	Region    string
	Version   string
	Machines  int // 1, or 3 that stand in for each other
	StorageGB int
	Guest     Guest

	Database string
	User     string
	Further  []FlyPostgresUser
}

// UpstashRedisSpec asks for a database of Upstash for Redis, through Fly.
//
// Outputs: url.
type UpstashRedisSpec struct {
	Account     FlyAccount
	Name        string
	Create      bool // false: it must be there already
	Plan        string
	Region      string
	ReadRegions []string
	Evict       bool
	ProdPack    *bool // nil: left as it is
}

// FlyClusterSpec asks for a cluster of Fly Kubernetes.
//
// Outputs: kubeconfig, app.
type FlyClusterSpec struct {
	Account FlyAccount
	Name    string
	Region  string
	Create  bool // false: it must be there already

	// The way in that the user gives; empty: the one that Fly gives out.
	Kubeconfig string
	Context    string
}

func (FlyAppSpec) spec()         {}
func (FlyIPsSpec) spec()         {}
func (FlySecretsSpec) spec()     {}
func (FlyVolumeSpec) spec()      {}
func (FlyMachinesSpec) spec()    {}
func (FlyJobSpec) spec()         {}
func (FlyCertificateSpec) spec() {}
func (FlyPostgresSpec) spec()    {}
func (FlyPostgresAppSpec) spec() {}
func (UpstashRedisSpec) spec()   {}
func (FlyClusterSpec) spec()     {}

// OnFly implements [OnFly].
func (s FlyAppSpec) OnFly() FlyAccount { return s.Account }

// OnFly implements [OnFly].
func (s FlyIPsSpec) OnFly() FlyAccount { return s.Account }

// OnFly implements [OnFly].
func (s FlySecretsSpec) OnFly() FlyAccount { return s.Account }

// OnFly implements [OnFly].
func (s FlyVolumeSpec) OnFly() FlyAccount { return s.Account }

// OnFly implements [OnFly].
func (s FlyMachinesSpec) OnFly() FlyAccount { return s.Account }

// OnFly implements [OnFly].
func (s FlyJobSpec) OnFly() FlyAccount { return s.Account }

// OnFly implements [OnFly].
func (s FlyCertificateSpec) OnFly() FlyAccount { return s.Account }

// OnFly implements [OnFly].
func (s FlyPostgresSpec) OnFly() FlyAccount { return s.Account }

// OnFly implements [OnFly].
func (s FlyPostgresAppSpec) OnFly() FlyAccount { return s.Account }

// OnFly implements [OnFly].
func (s UpstashRedisSpec) OnFly() FlyAccount { return s.Account }

// OnFly implements [OnFly].
func (s FlyClusterSpec) OnFly() FlyAccount { return s.Account }
