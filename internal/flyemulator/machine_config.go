package flyemulator

import (
	"encoding/json"
	"fmt"
	"time"
)

// machineConfig is what a machine is asked to be, as the API knows it: what it
// does not know is dropped. How it marshals is how it reads back, which is not
// how it was written: see normalise.
type machineConfig struct {
	Image       string            `json:"image,omitempty"`
	Env         map[string]string `json:"env,omitempty"`
	Init        machineInit       `json:"init"`
	Guest       *guest            `json:"guest,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Mounts      []mount           `json:"mounts,omitempty"`
	Services    []service         `json:"services,omitempty"`
	Checks      map[string]check  `json:"checks,omitempty"`
	Metrics     *metrics          `json:"metrics,omitempty"`
	Statics     []static          `json:"statics,omitempty"`
	Files       []file            `json:"files,omitempty"`
	Schedule    string            `json:"schedule,omitempty"`
	AutoDestroy bool              `json:"auto_destroy,omitempty"`
	Restart     restart           `json:"restart"`
	DNS         dns               `json:"dns"`
	Stop        *stopConfig       `json:"stop_config,omitempty"`
	Standbys    []string          `json:"standbys,omitempty"`
	Processes   []json.RawMessage `json:"processes,omitempty"`
	Containers  []json.RawMessage `json:"containers,omitempty"`
	Volumes     []json.RawMessage `json:"volumes,omitempty"`
	Rootfs      *rootfs           `json:"rootfs,omitempty"`
	CacheDrive  *cacheDrive       `json:"cache_drive,omitempty"`
	Spot        json.RawMessage   `json:"spot,omitempty"`
	NoAutostart *bool             `json:"disable_machine_autostart,omitempty"`
	Size        string            `json:"size,omitempty"`
}

type machineInit struct {
	Exec       []string `json:"exec,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	TTY        bool     `json:"tty,omitempty"`
	SwapMB     *int     `json:"swap_size_mb,omitempty"`
	KernelArgs []string `json:"kernel_args,omitempty"`
}

type guest struct {
	CPUKind    string   `json:"cpu_kind,omitempty"`
	CPUs       int      `json:"cpus,omitempty"`
	MemoryMB   int      `json:"memory_mb,omitempty"`
	MaxMemory  int      `json:"max_memory_mb,omitempty"`
	GPUs       int      `json:"gpus,omitempty"`
	GPUKind    string   `json:"gpu_kind,omitempty"`
	Dedication string   `json:"host_dedication_id,omitempty"`
	KernelArgs []string `json:"kernel_args,omitempty"`
	Persist    string   `json:"persist_rootfs,omitempty"`
}

type mount struct {
	Volume    string `json:"volume,omitempty"`
	Name      string `json:"name,omitempty"`
	Path      string `json:"path,omitempty"`
	Encrypted bool   `json:"encrypted,omitempty"`
	SizeGB    int    `json:"size_gb,omitempty"`
	Threshold int    `json:"extend_threshold_percent,omitempty"`
	AddGB     int    `json:"add_size_gb,omitempty"`
	LimitGB   int    `json:"size_gb_limit,omitempty"`
}

type service struct {
	Protocol         string         `json:"protocol,omitempty"`
	InternalPort     int            `json:"internal_port,omitempty"`
	Autostop         *autostop      `json:"autostop,omitempty"`
	Autostart        *bool          `json:"autostart,omitempty"`
	MinRunning       *int           `json:"min_machines_running,omitempty"`
	Ports            []port         `json:"ports,omitempty"`
	Checks           []serviceCheck `json:"checks,omitempty"`
	Concurrency      *concurrency   `json:"concurrency,omitempty"`
	ForceKey         *string        `json:"force_instance_key"`
	ForceDescription string         `json:"force_instance_description,omitempty"`
}

type port struct {
	Port       *int            `json:"port,omitempty"`
	StartPort  *int            `json:"start_port,omitempty"`
	EndPort    *int            `json:"end_port,omitempty"`
	Handlers   []string        `json:"handlers,omitempty"`
	ForceHTTPS bool            `json:"force_https,omitempty"`
	TLS        json.RawMessage `json:"tls_options,omitempty"`
	HTTP       json.RawMessage `json:"http_options,omitempty"`
	ProxyProto json.RawMessage `json:"proxy_proto_options,omitempty"`
}

type concurrency struct {
	Type string `json:"type,omitempty"`
	Soft int    `json:"soft_limit,omitempty"`
	Hard int    `json:"hard_limit,omitempty"`
}

type checkHeader struct {
	Name   string   `json:"name,omitempty"`
	Values []string `json:"values,omitempty"`
}

type probe struct {
	Type       string        `json:"type,omitempty"`
	Interval   *span         `json:"interval,omitempty"`
	Timeout    *span         `json:"timeout,omitempty"`
	Grace      *span         `json:"grace_period,omitempty"`
	Method     string        `json:"method,omitempty"`
	Path       string        `json:"path,omitempty"`
	Protocol   string        `json:"protocol,omitempty"`
	Headers    []checkHeader `json:"headers,omitempty"`
	ServerName string        `json:"tls_server_name,omitempty"`
	SkipVerify *bool         `json:"tls_skip_verify,omitempty"`
}

type check struct {
	probe
	Port *int   `json:"port,omitempty"`
	Kind string `json:"kind,omitempty"`
}

type serviceCheck struct {
	probe
	Port *int `json:"port,omitempty"`
}

type metrics struct {
	Port  int    `json:"port,omitempty"`
	Path  string `json:"path,omitempty"`
	HTTPS bool   `json:"https,omitempty"`
}

type static struct {
	GuestPath string `json:"guest_path"`
	URLPrefix string `json:"url_prefix"`
	Bucket    string `json:"tigris_bucket,omitempty"`
	Index     string `json:"index_document,omitempty"`
}

type file struct {
	GuestPath   string  `json:"guest_path,omitempty"`
	RawValue    *string `json:"raw_value,omitempty"`
	SecretName  *string `json:"secret_name,omitempty"`
	ImageConfig *string `json:"image_config,omitempty"`
	Mode        int     `json:"mode,omitempty"`
}

type restart struct {
	Policy     string `json:"policy,omitempty"`
	MaxRetries int    `json:"max_retries,omitempty"`
}

type dns struct {
	SkipRegistration bool              `json:"skip_registration,omitempty"`
	Nameservers      []string          `json:"nameservers,omitempty"`
	Searches         []string          `json:"searches,omitempty"`
	Options          []json.RawMessage `json:"options,omitempty"`
	ForwardRules     []json.RawMessage `json:"dns_forward_rules,omitempty"`
	Hostname         string            `json:"hostname,omitempty"`
	HostnameFQDN     string            `json:"hostname_fqdn,omitempty"`
}

type stopConfig struct {
	Signal  string `json:"signal,omitempty"`
	Timeout *span  `json:"timeout,omitempty"`
}

type rootfs struct {
	Persist string `json:"persist,omitempty"`
	SizeGB  int    `json:"size_gb,omitempty"`
}

type cacheDrive struct {
	SizeMB int `json:"size_mb,omitempty"`
}

// span is a duration: written as "15s" or in nanoseconds, read back as Go
// writes it ("60s" is "1m0s").
type span time.Duration

func (s span) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).String()) }

func (s *span) UnmarshalJSON(raw []byte) error {
	var d Duration
	if err := d.UnmarshalJSON(raw); err != nil {
		return err
	}
	*s = span(d)
	return nil
}

// autostop is written as a word or as yes and no. It reads back as false, true
// or "suspend".
type autostop string

func (a autostop) MarshalJSON() ([]byte, error) {
	switch a {
	case "suspend":
		return json.Marshal("suspend")
	default:
		return json.Marshal(a == "stop")
	}
}

func (a *autostop) UnmarshalJSON(raw []byte) error {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	switch v {
	case false, "off":
		*a = "off"
	case true, "stop":
		*a = "stop"
	case "suspend":
		*a = "suspend"
	default:
		return fmt.Errorf("invalid autostop %s: off, stop or suspend", raw)
	}
	return nil
}

// sizes are the presets of config.size.
var sizes = map[string]guest{
	"shared-cpu-1x": {CPUKind: "shared", CPUs: 1, MemoryMB: 256}, "shared-cpu-2x": {CPUKind: "shared", CPUs: 2, MemoryMB: 512},
	"shared-cpu-4x": {CPUKind: "shared", CPUs: 4, MemoryMB: 1024}, "shared-cpu-6x": {CPUKind: "shared", CPUs: 6, MemoryMB: 1536},
	"shared-cpu-8x":  {CPUKind: "shared", CPUs: 8, MemoryMB: 2048},
	"performance-1x": {CPUKind: "performance", CPUs: 1, MemoryMB: 2048}, "performance-2x": {CPUKind: "performance", CPUs: 2, MemoryMB: 4096},
	"performance-4x": {CPUKind: "performance", CPUs: 4, MemoryMB: 8192}, "performance-8x": {CPUKind: "performance", CPUs: 8, MemoryMB: 16384},
	"performance-16x": {CPUKind: "performance", CPUs: 16, MemoryMB: 32768},
}

// normalise makes the config what Fly keeps of it: the guest is filled in, a
// size becomes a guest, checks of services come at least once a minute, and
// what is empty is as if it had not been said.
func (m *machineConfig) normalise() {
	if m.Guest == nil {
		g, known := sizes[m.Size]
		if !known {
			g = sizes["shared-cpu-1x"]
		}
		m.Guest = &g
	}
	m.Size = ""
	for i := range m.Services {
		for j := range m.Services[i].Checks {
			if c := &m.Services[i].Checks[j]; c.Interval != nil && *c.Interval > span(time.Minute) {
				minute := span(time.Minute)
				c.Interval = &minute
			}
		}
	}
}

// clone is a copy that shares nothing.
func (m machineConfig) clone() machineConfig {
	raw, err := json.Marshal(m)
	if err != nil {
		panic("flyemulator: a config is no JSON: " + err.Error())
	}
	var c machineConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		panic("flyemulator: a config does not read back: " + err.Error())
	}
	return c
}
