package schema

type wire struct {
	app           *wireApp // nil: it has diagnostics
	envs          []wireEnv
	notifications map[string]wireNotification
}

type wireNotification struct {
	Kind         string     `json:"kind"`
	URL          wireSecret `json:"url"`
	On           []string   `json:"on"`
	Environments []string   `json:"environments"`
}

type wireApp struct {
	Name  string `json:"name"`
	Image struct {
		Repository string      `json:"repository"`
		Tag        string      `json:"tag"`
		Digest     string      `json:"digest"`
		PullPolicy string      `json:"pullPolicy"`
		PullSecret *wireSecret `json:"pullSecret"`
	} `json:"image"`
	Port        int                       `json:"port"`
	Args        []string                  `json:"args"`
	Env         map[string]string         `json:"env"`
	Secrets     map[string]wireSecret     `json:"secrets"`
	ConfigFiles map[string]wireConfigFile `json:"configFiles"`
	Resources   wireResources             `json:"resources"`
	Health      struct {
		Live     string `json:"live"`
		Ready    string `json:"ready"`
		Startup  string `json:"startup"`
		Interval string `json:"interval"`
		Timeout  string `json:"timeout"`
		Failures int    `json:"failures"`
	} `json:"health"`
	Migrate struct {
		Run     string   `json:"run"`
		Args    []string `json:"args"`
		Timeout string   `json:"timeout"`
	} `json:"migrate"`
}

type wireConfigFile struct {
	File string  `json:"file"`
	Text *string `json:"text"`
}

type wireSecret struct {
	Env  string `json:"env"`
	File string `json:"file"`
	SOPS *struct {
		File string `json:"file"`
		Key  string `json:"key"`
	} `json:"sops"`
	Kubernetes *struct {
		Name      string `json:"name"`
		Key       string `json:"key"`
		Namespace string `json:"namespace"`
	} `json:"kubernetes"`
	OP       string   `json:"op"`
	Exec     []string `json:"exec"`
	Generate *struct {
		Alphabet string `json:"alphabet"`
		Length   int    `json:"length"`
		Rotation int    `json:"rotation"`
	} `json:"generate"`
}

type wireResources struct {
	CPU         string `json:"cpu"`
	Memory      string `json:"memory"`
	CPULimit    string `json:"cpuLimit"`
	MemoryLimit string `json:"memoryLimit"`
}

type wireGuest struct {
	CPUKind  string `json:"cpuKind"`
	CPUs     int    `json:"cpus"`
	MemoryMB int    `json:"memoryMB"`
}

type wireScaling struct {
	Min             *int   `json:"min"`
	Max             *int   `json:"max"`
	CPUTarget       int    `json:"cpuTarget"`
	MemoryTarget    int    `json:"memoryTarget"`
	ScaleDownWindow string `json:"scaleDownWindow"`
	Idle            string `json:"idle"`
	MinRunning      int    `json:"minRunning"`
}

type wireChart struct {
	Kind     string         `json:"kind"`
	Path     string         `json:"path"`
	URL      string         `json:"url"`
	Name     string         `json:"name"`
	Version  string         `json:"version"`
	Digest   string         `json:"digest"`
	Username *wireSecret    `json:"username"`
	Password *wireSecret    `json:"password"`
	Values   map[string]any `json:"values"`
}

type wireNamedChart struct {
	wireChart
	Needs []string `json:"needs"`
}

type wireWorker struct {
	Args      []string      `json:"args"`
	Scaling   wireScaling   `json:"scaling"`
	Resources wireResources `json:"resources"`
	Guest     wireGuest     `json:"guest"`
	Drain     string        `json:"drain"`
	Health    struct {
		Exec []string `json:"exec"`
	} `json:"health"`
}

type wireVolume struct {
	Mount        string `json:"mount"`
	Size         string `json:"size"`
	StorageClass string `json:"storageClass"`
	Access       string `json:"access"`
	Retain       bool   `json:"retain"`
	Region       string `json:"region"`
}

type wirePlatform struct {
	Kind            string      `json:"kind"`
	Distribution    string      `json:"distribution"`
	Context         string      `json:"context"`
	Kubeconfig      string      `json:"kubeconfig"`
	Namespace       string      `json:"namespace"`
	CreateNamespace bool        `json:"createNamespace"`
	StorageClass    string      `json:"storageClass"`
	Impersonate     string      `json:"impersonate"`
	PodCIDRs        []string    `json:"podCIDRs"`
	LoadImages      bool        `json:"loadImages"`
	MovedFrom       *wireFormer `json:"movedFrom"`
	Org             string      `json:"org"`
	Token           *wireSecret `json:"token"`
	Inventory       string      `json:"inventory"`
	Cluster         string      `json:"cluster"`
	Create          bool        `json:"create"`
	Region          string      `json:"region"`
	AcceptsBeta     bool        `json:"acknowledgeClosedBeta"`
	StatefulSets    bool        `json:"statefulSets"`
	Allow           []string    `json:"allowUnsupported"`
	AppName         string      `json:"appName"`
	Network         string      `json:"network"`
	Guest           wireGuest   `json:"guest"`
	Strategy        string      `json:"strategy"`
	Project         string      `json:"project"`
	DataDir         string      `json:"dataDir"`
	Bind            string      `json:"bind"`
}

type wireFormer struct {
	Context     string `json:"context"`
	Kubeconfig  string `json:"kubeconfig"`
	Namespace   string `json:"namespace"`
	Impersonate string `json:"impersonate"`
}

type wireRegion struct {
	Context    string      `json:"context"`
	Kubeconfig string      `json:"kubeconfig"`
	Namespace  string      `json:"namespace"`
	Domains    []string    `json:"domains"`
	ARN        string      `json:"arn"`
	Scaling    wireScaling `json:"scaling"`
	Machines   int         `json:"machines"`
	Primary    bool        `json:"primary"`
}

type wireExpose struct {
	Kind         string            `json:"kind"`
	Port         int               `json:"port"`
	ClassName    string            `json:"className"`
	RedirectHTTP *bool             `json:"redirectHTTP"`
	Annotations  map[string]string `json:"annotations"`
	Gateway      struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"gateway"`
	PublicIPv4   string                     `json:"publicIPv4"`
	PublicIPv6   bool                       `json:"publicIPv6"`
	Certificates map[string]wireCertificate `json:"certificates"`
	Concurrency  struct {
		Kind string `json:"kind"`
		Soft int    `json:"soft"`
		Hard int    `json:"hard"`
	} `json:"concurrency"`
	TLS wireTLS `json:"tls"`
}

type wireCertificate struct {
	Chain *wireSecret `json:"chain"`
	Key   *wireSecret `json:"key"`
}

type wireTLS struct {
	Mode        string   `json:"mode"`
	Name        string   `json:"name"`
	SecretName  string   `json:"secretName"`
	Validity    string   `json:"validity"`
	ARN         string   `json:"arn"`
	Certificate string   `json:"certificate"`
	StaticIP    string   `json:"staticIP"`
	ALPN        []string `json:"alpn"`
	Versions    []string `json:"versions"`
	SelfSigned  bool     `json:"selfSigned"`
	Issuer      struct {
		Kind   string `json:"kind"`
		Name   string `json:"name"`
		Create *struct {
			Email  string `json:"email"`
			Server string `json:"server"`
		} `json:"create"`
	} `json:"issuer"`
}

type wirePostgres struct {
	Mode         string      `json:"mode"`
	Version      string      `json:"version"`
	Storage      string      `json:"storage"`
	StorageClass string      `json:"storageClass"`
	Database     string      `json:"database"`
	Password     *wireSecret `json:"password"`
	TLS          bool        `json:"tls"`
	Backup       struct {
		Enabled  bool   `json:"enabled"`
		Schedule string `json:"schedule"`
		KeepDays int    `json:"keepDays"`
	} `json:"backup"`
	Cluster     string      `json:"cluster"`
	Create      bool        `json:"create"`
	Plan        string      `json:"plan"`
	Region      string      `json:"region"`
	StorageGB   int         `json:"storageGB"`
	PoolMode    string      `json:"poolMode"`
	PostGIS     bool        `json:"postgis"`
	Extensions  []string    `json:"extensions"`
	Pooler      bool        `json:"pooler"`
	AppName     string      `json:"appName"`
	Standby     bool        `json:"standby"`
	Guest       wireGuest   `json:"guest"`
	URL         *wireSecret `json:"url"`
	SSLMode     string      `json:"sslMode"`
	CABundle    *wireSecret `json:"caBundle"`
	ManageRoles bool        `json:"manageRoles"`
	Admin       *wireSecret `json:"admin"`
	Check       string      `json:"check"`
}

type wireRedis struct {
	Mode         string      `json:"mode"`
	Version      string      `json:"version"`
	Persistence  bool        `json:"persistence"`
	Storage      string      `json:"storage"`
	StorageClass string      `json:"storageClass"`
	StorageGB    int         `json:"storageGB"`
	MaxMemory    string      `json:"maxMemory"`
	Eviction     string      `json:"eviction"`
	Password     *wireSecret `json:"password"`
	Name         string      `json:"name"`
	Create       bool        `json:"create"`
	Plan         string      `json:"plan"`
	Region       string      `json:"region"`
	ReadRegions  []string    `json:"readRegions"`
	Evict        bool        `json:"evict"`
	ProdPack     *bool       `json:"prodPack"`
	URL          *wireSecret `json:"url"`
	CABundle     *wireSecret `json:"caBundle"`
	Check        string      `json:"check"`
}

type wireTemporal struct {
	Mode          string      `json:"mode"`
	Version       string      `json:"version"`
	HistoryShards int         `json:"historyShards"`
	Retention     string      `json:"retention"`
	Password      *wireSecret `json:"password"`
	Namespace     string      `json:"namespace"`
	Web           struct {
		Enabled bool `json:"enabled"`
		Public  bool `json:"public"`
	} `json:"web"`
	Address string      `json:"address"`
	APIKey  *wireSecret `json:"apiKey"`
	MTLS    *struct {
		Cert wireSecret `json:"cert"`
		Key  wireSecret `json:"key"`
	} `json:"mtls"`
	TLS      bool        `json:"tls"`
	CABundle *wireSecret `json:"caBundle"`
	Check    string      `json:"check"`
}

type wireEnv struct {
	name     string
	Platform wirePlatform `json:"platform"`
	App      struct {
		Image struct {
			Tag    string `json:"tag"`
			Digest string `json:"digest"`
		} `json:"image"`
		Args        []string                  `json:"args"`
		Env         map[string]string         `json:"env"`
		Secrets     map[string]wireSecret     `json:"secrets"`
		ConfigFiles map[string]wireConfigFile `json:"configFiles"`
		Resources   wireResources             `json:"resources"`
		Needs       []string                  `json:"needs"`
		Chart       *wireChart                `json:"chart"`
	} `json:"app"`
	Regions  map[string]wireRegion `json:"regions"`
	Domains  []string              `json:"domains"`
	Expose   wireExpose            `json:"expose"`
	Services struct {
		Postgres wirePostgres `json:"postgres"`
		Redis    wireRedis    `json:"redis"`
		Temporal wireTemporal `json:"temporal"`
	} `json:"services"`
	Scaling       wireScaling               `json:"scaling"`
	Workers       map[string]wireWorker     `json:"workers"`
	Volumes       map[string]wireVolume     `json:"volumes"`
	Charts        map[string]wireNamedChart `json:"charts"`
	NetworkPolicy string                    `json:"networkPolicy"`
	Policy        wirePolicy                `json:"policy"`
}

type wirePolicy struct {
	Mode        string       `json:"mode"`
	Interval    string       `json:"interval"`
	Timeout     string       `json:"timeout"`
	Prune       string       `json:"prune"`
	MaxDelete   int          `json:"maxDelete"`
	Pin         string       `json:"pin"`
	DestroyData string       `json:"destroyData"`
	Recreate    string       `json:"recreate"`
	Rollback    bool         `json:"rollback"`
	Windows     []wireWindow `json:"windows"`
	Ignore      []wireRule   `json:"ignore"`
	Strict      []wireRule   `json:"strict"`
	Adopt       string       `json:"adopt"`
}

type wireRule struct {
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`
	Fields []string `json:"fields"`
}

type wireWindow struct {
	Days     []string `json:"days"`
	From     string   `json:"from"`
	To       string   `json:"to"`
	Timezone string   `json:"timezone"`
}
