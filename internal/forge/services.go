package forge

import "time"

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

// Where a service of somebody else is asked from.
const (
	CheckFromDaemon  = "daemon"  // the machine that forged runs on
	CheckFromCluster = "cluster" // a Job beside the app
)

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
	PoolMode  string // session, transaction
	PostGIS   bool
	Pooler    bool // give the app the URL of the pooler

	Extensions []string // of the app's database

	// fly-unmanaged; Create, Region and StorageGB as above
	AppName string
	Standby bool // three machines, of which one takes over
	Guest   Guest

	// external
	URL         SecretRef
	CABundle    SecretRef // zero: the system's
	SSLMode     string    // verify-full, verify-ca, require
	ManageRoles bool
	Admin       SecretRef // URL that may make roles
	Check       string    // where it is asked from: daemon, cluster
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
	Evict       bool  // drop keys when the memory is full
	ProdPack    *bool // nil: left as it is

	// external
	URL      SecretRef
	CABundle SecretRef // zero: the system's
	Check    string    // where it is asked from: daemon, cluster
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
	Check      string    // external: where it is asked from: daemon, cluster
}
