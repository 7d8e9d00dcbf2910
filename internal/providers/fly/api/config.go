package api

import (
	"encoding/json"
	"fmt"
)

// MachineConfig is what a machine is to be. An update replaces it as a whole:
// what is left out is gone. Fields are those of the OpenAPI document of the
// Machines API.
type MachineConfig struct {
	Image         string            `json:"image,omitempty"`
	Env           map[string]string `json:"env,omitempty"`
	Init          *Init             `json:"init,omitempty"`
	Guest         *Guest            `json:"guest,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	Mounts        []Mount           `json:"mounts,omitempty"`
	Services      []Service         `json:"services,omitempty"`
	Checks        map[string]Check  `json:"checks,omitempty"`
	Metrics       *Metrics          `json:"metrics,omitempty"`
	Statics       []Static          `json:"statics,omitempty"`
	Files         []File            `json:"files,omitempty"`
	Schedule      string            `json:"schedule,omitempty"`
	AutoDestroy   bool              `json:"auto_destroy,omitempty"`
	Restart       *Restart          `json:"restart,omitempty"`
	DNS           *DNS              `json:"dns,omitempty"`
	StopConfig    *StopConfig       `json:"stop_config,omitempty"`
	Standbys      []string          `json:"standbys,omitempty"`
	Processes     []Process         `json:"processes,omitempty"`
	Rootfs        *Rootfs           `json:"rootfs,omitempty"`
	Size          string            `json:"size,omitempty"`                      // deprecated: Guest
	NoAutostart   *bool             `json:"disable_machine_autostart,omitempty"` // deprecated: Service.Autostart
	Containers    []json.RawMessage `json:"containers,omitempty"`                // not forged's
	ContainerDisk []json.RawMessage `json:"volumes,omitempty"`                   // not forged's
	CacheDrive    *struct {
		SizeMB int `json:"size_mb,omitempty"`
	} `json:"cache_drive,omitempty"`
}

// Init is what runs.
type Init struct {
	Exec       []string `json:"exec,omitempty"` // replaces what the image runs; the others are added to it
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	TTY        bool     `json:"tty,omitempty"`
	SwapSizeMB int      `json:"swap_size_mb,omitempty"`
	KernelArgs []string `json:"kernel_args,omitempty"`
}

// Guest is how large a machine is.
type Guest struct {
	CPUKind          string   `json:"cpu_kind,omitempty"` // shared, performance
	CPUs             int      `json:"cpus,omitempty"`
	MemoryMB         int      `json:"memory_mb,omitempty"`
	MaxMemoryMB      int      `json:"max_memory_mb,omitempty"`
	GPUs             int      `json:"gpus,omitempty"`
	GPUKind          string   `json:"gpu_kind,omitempty"`
	HostDedicationID string   `json:"host_dedication_id,omitempty"`
	KernelArgs       []string `json:"kernel_args,omitempty"`
	PersistRootfs    string   `json:"persist_rootfs,omitempty"` // deprecated: Rootfs
}

// Mount is where a volume is.
type Mount struct {
	Volume                 string `json:"volume,omitempty"` // id
	Name                   string `json:"name,omitempty"`
	Path                   string `json:"path,omitempty"`
	Encrypted              bool   `json:"encrypted,omitempty"`
	SizeGB                 int    `json:"size_gb,omitempty"`
	ExtendThresholdPercent int    `json:"extend_threshold_percent,omitempty"`
	AddSizeGB              int    `json:"add_size_gb,omitempty"`
	SizeGBLimit            int    `json:"size_gb_limit,omitempty"`
}

// Service is how Fly's proxy reaches a machine.
type Service struct {
	Protocol           string       `json:"protocol,omitempty"` // tcp, udp
	InternalPort       int          `json:"internal_port,omitempty"`
	Autostop           Autostop     `json:"autostop,omitempty"`
	Autostart          *bool        `json:"autostart,omitempty"`
	MinMachinesRunning *int         `json:"min_machines_running,omitempty"`
	Ports              []Port       `json:"ports,omitempty"`
	Checks             []Check      `json:"checks,omitempty"`
	Concurrency        *Concurrency `json:"concurrency,omitempty"`
	ForceInstanceKey   *string      `json:"force_instance_key,omitempty"`
}

// Autostop is what the proxy does with a machine that nobody uses.
type Autostop string

// What the proxy does.
const (
	AutostopOff     Autostop = "off"
	AutostopStop    Autostop = "stop"
	AutostopSuspend Autostop = "suspend"
)

// UnmarshalJSON implements json.Unmarshaler: for the sake of old clients Fly
// answers false and true for "off" and "stop" (OpenAPI document).
func (a *Autostop) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "null":
	case "false":
		*a = AutostopOff
	case "true":
		*a = AutostopStop
	default:
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("autostop is neither a text nor a boolean")
		}
		*a = Autostop(s)
	}
	return nil
}

// Port is a port that the proxy listens on.
type Port struct {
	Port              *int               `json:"port,omitempty"`
	StartPort         *int               `json:"start_port,omitempty"`
	EndPort           *int               `json:"end_port,omitempty"`
	Handlers          []string           `json:"handlers,omitempty"` // http, tls, pg_tls, proxy_proto
	ForceHTTPS        bool               `json:"force_https,omitempty"`
	TLSOptions        *TLSOptions        `json:"tls_options,omitempty"`
	HTTPOptions       *HTTPOptions       `json:"http_options,omitempty"`
	ProxyProtoOptions *ProxyProtoOptions `json:"proxy_proto_options,omitempty"`
}

// TLSOptions are how the proxy does TLS.
type TLSOptions struct {
	ALPN              []string `json:"alpn,omitempty"`
	Versions          []string `json:"versions,omitempty"`
	DefaultSelfSigned *bool    `json:"default_self_signed,omitempty"`
}

// HTTPOptions are how the proxy does HTTP.
type HTTPOptions struct {
	Compress           *bool           `json:"compress,omitempty"`
	H2Backend          *bool           `json:"h2_backend,omitempty"`
	IdleTimeout        *int            `json:"idle_timeout,omitempty"` // seconds
	HeadersReadTimeout *int            `json:"headers_read_timeout,omitempty"`
	Response           *HTTPResponse   `json:"response,omitempty"`
	ReplayCache        json.RawMessage `json:"replay_cache,omitempty"` // not forged's
}

// HTTPResponse is what the proxy adds to responses.
type HTTPResponse struct {
	Headers  map[string]any `json:"headers,omitempty"`
	Pristine *bool          `json:"pristine,omitempty"`
}

// ProxyProtoOptions are of the PROXY protocol.
type ProxyProtoOptions struct {
	Version string `json:"version,omitempty"`
}

// Concurrency is how much a machine takes.
type Concurrency struct {
	Type      string `json:"type,omitempty"` // connections, requests
	SoftLimit int    `json:"soft_limit,omitempty"`
	HardLimit int    `json:"hard_limit,omitempty"`
}

// Check is how Fly asks a machine how it is.
type Check struct {
	Type          string    `json:"type,omitempty"` // tcp, http
	Port          *int      `json:"port,omitempty"`
	Kind          string    `json:"kind,omitempty"` // informational, readiness; not of services
	Interval      *Duration `json:"interval,omitempty"`
	Timeout       *Duration `json:"timeout,omitempty"`
	GracePeriod   *Duration `json:"grace_period,omitempty"`
	Method        string    `json:"method,omitempty"`
	Path          string    `json:"path,omitempty"`
	Protocol      string    `json:"protocol,omitempty"` // http, https
	Headers       []Header  `json:"headers,omitempty"`
	TLSServerName string    `json:"tls_server_name,omitempty"`
	TLSSkipVerify *bool     `json:"tls_skip_verify,omitempty"`
}

// Header is one of a check's.
type Header struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

// Metrics is where Prometheus finds a machine's.
type Metrics struct {
	Port  int    `json:"port,omitempty"`
	Path  string `json:"path,omitempty"`
	HTTPS bool   `json:"https,omitempty"`
}

// Static is a directory that the proxy serves.
type Static struct {
	GuestPath     string `json:"guest_path,omitempty"`
	URLPrefix     string `json:"url_prefix,omitempty"`
	TigrisBucket  string `json:"tigris_bucket,omitempty"`
	IndexDocument string `json:"index_document,omitempty"`
}

// File is a file in a machine.
type File struct {
	GuestPath   string  `json:"guest_path"`
	RawValue    *string `json:"raw_value,omitempty"` // base64
	SecretName  *string `json:"secret_name,omitempty"`
	ImageConfig string  `json:"image_config,omitempty"`
	Mode        int     `json:"mode,omitempty"`
}

// Restart is what happens after the end.
type Restart struct {
	Policy     string `json:"policy,omitempty"` // no, always, on-failure
	MaxRetries int    `json:"max_retries,omitempty"`
}

// DNS is how a machine finds others, and others it.
type DNS struct {
	SkipRegistration bool              `json:"skip_registration,omitempty"`
	Nameservers      []string          `json:"nameservers,omitempty"`
	Searches         []string          `json:"searches,omitempty"`
	Options          []json.RawMessage `json:"options,omitempty"`
	ForwardRules     []json.RawMessage `json:"dns_forward_rules,omitempty"`
	Hostname         string            `json:"hostname,omitempty"`
	HostnameFQDN     string            `json:"hostname_fqdn,omitempty"`
}

// StopConfig is how a machine is told to end.
type StopConfig struct {
	Signal  string    `json:"signal,omitempty"`
	Timeout *Duration `json:"timeout,omitempty"`
}

// Process is one of several in a machine.
type Process struct {
	Exec             []string          `json:"exec,omitempty"`
	Entrypoint       []string          `json:"entrypoint,omitempty"`
	Cmd              []string          `json:"cmd,omitempty"`
	Env              map[string]string `json:"env,omitempty"`
	EnvFrom          []json.RawMessage `json:"env_from,omitempty"`
	Secrets          []json.RawMessage `json:"secrets,omitempty"`
	IgnoreAppSecrets bool              `json:"ignore_app_secrets,omitempty"`
	User             string            `json:"user,omitempty"`
}

// Rootfs is what becomes of the root file system.
type Rootfs struct {
	Persist string `json:"persist,omitempty"` // never, always, restart
	SizeGB  int    `json:"size_gb,omitempty"`
}
