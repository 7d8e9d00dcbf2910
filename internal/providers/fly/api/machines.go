package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// States of a machine. Those that a machine stays in are created, started,
// stopped, suspended, failed and destroyed.
const (
	StateCreated    = "created"
	StateStarting   = "starting"
	StateStarted    = "started"
	StateStopping   = "stopping"
	StateStopped    = "stopped"
	StateSuspending = "suspending"
	StateSuspended  = "suspended"
	StateReplacing  = "replacing"
	StateUpdating   = "updating"
	StateDestroying = "destroying"
	StateDestroyed  = "destroyed"
	StateFailed     = "failed"
)

// HostOK is the status of the host of a machine or volume that can be reached.
const HostOK = "ok"

// Machine is a machine.
type Machine struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	State      string `json:"state"`
	Region     string `json:"region"`
	InstanceID string `json:"instance_id"` // of its config: each update makes a new one
	PrivateIP  string `json:"private_ip"`
	CreatedAt  Time   `json:"created_at"`
	UpdatedAt  Time   `json:"updated_at"`

	ImageRef   ImageRef `json:"image_ref"`
	HostStatus string   `json:"host_status"` // ok, unknown, unreachable

	// Config is nil when the host does not answer. What is known of it then is
	// Incomplete, which must never be applied.
	Config     *MachineConfig `json:"config"`
	Incomplete *MachineConfig `json:"incomplete_config"`

	Cordoned bool           `json:"cordoned"`
	Nonce    string         `json:"nonce"` // only when a lease was asked for
	Events   []MachineEvent `json:"events"`
	Checks   []CheckStatus  `json:"checks"`
	Lease    *Lease         `json:"lease"`
}

// ImageRef is the image that Fly has fetched. The registry may be Fly's mirror,
// and the digest is that of the image for its platform.
type ImageRef struct {
	Registry   string            `json:"registry"`
	Repository string            `json:"repository"`
	Tag        string            `json:"tag"`
	Digest     string            `json:"digest"`
	Labels     map[string]string `json:"labels"`
}

// MachineEvent is something that happened to a machine.
type MachineEvent struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"` // launch, start, exit, stop, update, restart, destroy, …
	Status    string          `json:"status"`
	Source    string          `json:"source"`
	Timestamp Time            `json:"timestamp"`
	Request   json.RawMessage `json:"request"`
}

// Exit is how a machine ended.
type Exit struct {
	ExitCode      int  `json:"exit_code"` // left out when it is zero
	ExitedAt      Time `json:"exited_at"`
	GuestExitCode int  `json:"guest_exit_code"`
	GuestSignal   int  `json:"guest_signal"`
	Signal        int  `json:"signal"`
	OOMKilled     bool `json:"oom_killed"`
	RequestedStop bool `json:"requested_stop"`
	Restarting    bool `json:"restarting"`
}

// Exit is what an event of type exit tells, and whether it tells anything.
func (e MachineEvent) Exit() (Exit, bool) {
	var request struct {
		Exit    *Exit `json:"exit_event"`
		Monitor *struct {
			Exit *Exit `json:"exit_event"`
		} `json:"MonitorEvent"`
	}
	if len(e.Request) == 0 || json.Unmarshal(e.Request, &request) != nil {
		return Exit{}, false
	}
	switch {
	case request.Exit != nil:
		return *request.Exit, true
	case request.Monitor != nil && request.Monitor.Exit != nil:
		return *request.Monitor.Exit, true
	}
	return Exit{}, false
}

// CheckStatus is what a check found.
type CheckStatus struct {
	Name      string `json:"name"`
	Status    string `json:"status"` // passing, warning, critical
	Output    string `json:"output"`
	UpdatedAt Time   `json:"updated_at"`
}

// CreateMachine asks for a machine.
type CreateMachine struct {
	Name                    string        `json:"name,omitempty"`   // unique in its app
	Region                  string        `json:"region,omitempty"` // or several, the best first: "cdg,eu"
	Config                  MachineConfig `json:"config"`
	LeaseTTL                int           `json:"lease_ttl,omitempty"` // seconds; the answer holds the Nonce
	SkipLaunch              bool          `json:"skip_launch,omitempty"`
	SkipServiceRegistration bool          `json:"skip_service_registration,omitempty"`
	SkipSecrets             bool          `json:"skip_secrets,omitempty"`
	MinSecretsVersion       uint64        `json:"min_secrets_version,omitempty"`
}

// UpdateMachine replaces the config of a machine.
type UpdateMachine struct {
	CreateMachine         // Name and Region stay as they are
	CurrentVersion string `json:"current_version,omitempty"` // InstanceID that it must have; else Conflict
	Nonce          string `json:"-"`                         // of the lease, if there is one
}

// MachinesQuery says which machines of an app are asked for.
type MachinesQuery struct {
	IncludeDeleted bool
	IncludeLeases  bool
	Summary        bool // without most of the config
	Region         string
	States         []string
	Metadata       map[string]string // which they have
}

func (q MachinesQuery) values() url.Values {
	v := url.Values{}
	flag := func(name string, on bool) {
		if on {
			v.Set(name, "true")
		}
	}
	flag("include_deleted", q.IncludeDeleted)
	flag("include_leases", q.IncludeLeases)
	flag("summary", q.Summary)
	if q.Region != "" {
		v.Set("region", q.Region)
	}
	if len(q.States) > 0 {
		v.Set("state", strings.Join(q.States, ","))
	}
	for key, value := range q.Metadata {
		v.Set("metadata."+key, value)
	}
	return v
}

// Machines are the machines of an app.
func (c *Client) Machines(ctx context.Context, app string, q MachinesQuery) ([]Machine, error) {
	return get[[]Machine](ctx, c, request{
		action: "machine.list", ident: app, app: app, path: appPath(app, "machines"), query: q.values(),
	})
}

// Machine is a machine, with who holds its lease. One that is destroyed is
// still there, in that state; NotFound means that there never was one in the
// app.
func (c *Client) Machine(ctx context.Context, app, id string) (Machine, error) {
	return get[Machine](ctx, c, request{
		action: "machine.get", ident: id, app: app, path: appPath(app, "machines", id),
		query: url.Values{"include_leases": {"true"}}, holds: "state",
	})
}

// CreateMachine makes a machine. After Ambiguous it may be there: look for its
// name or metadata before another is made.
func (c *Client) CreateMachine(ctx context.Context, app string, ask CreateMachine) (Machine, error) {
	return send[Machine](ctx, c, request{
		action: "machine.create", ident: app, app: app, method: http.MethodPost, path: appPath(app, "machines"), body: ask, holds: "instance_id",
	})
}

// UpdateMachine replaces the config of a machine, and starts it again if it
// runs and SkipLaunch is not set.
func (c *Client) UpdateMachine(ctx context.Context, app, id string, ask UpdateMachine) (Machine, error) {
	return send[Machine](ctx, c, request{
		action: "machine.update", ident: id, app: app, method: http.MethodPost, path: appPath(app, "machines", id),
		body: ask, nonce: ask.Nonce, holds: "instance_id",
	})
}

// DestroyMachine destroys a machine, whether it runs or not. Its volumes stay.
// It is content when there is none.
func (c *Client) DestroyMachine(ctx context.Context, app, id, nonce string) error {
	return c.gone(ctx, request{
		action: "machine.destroy", ident: id, app: app, path: appPath(app, "machines", id), nonce: nonce,
		query: url.Values{"force": {"true"}, "kill": {"true"}}, // the docs; flyctl's source
	})
}

// StartMachine starts a machine that is stopped, suspended or failed.
func (c *Client) StartMachine(ctx context.Context, app, id, nonce string) error {
	return c.machineAct(ctx, app, id, "start", nonce, nil)
}

// StopMachine stops a machine. Zero values leave signal and time to its config.
// While somebody else holds its lease, Fly does not answer before that ends.
func (c *Client) StopMachine(ctx context.Context, app, id, nonce, signal string, timeout time.Duration) error {
	body := struct {
		Signal  string    `json:"signal,omitempty"`
		Timeout *Duration `json:"timeout,omitempty"`
	}{Signal: signal}
	if timeout > 0 {
		body.Timeout = new(Duration(timeout))
	}
	return c.machineAct(ctx, app, id, "stop", nonce, body)
}

// SuspendMachine puts a machine to sleep with its memory.
func (c *Client) SuspendMachine(ctx context.Context, app, id, nonce string) error {
	return c.machineAct(ctx, app, id, "suspend", nonce, nil)
}

// CordonMachine takes a machine out of the proxy's rotation.
func (c *Client) CordonMachine(ctx context.Context, app, id, nonce string) error {
	return c.machineAct(ctx, app, id, "cordon", nonce, nil)
}

// UncordonMachine puts a machine back into the proxy's rotation.
func (c *Client) UncordonMachine(ctx context.Context, app, id, nonce string) error {
	return c.machineAct(ctx, app, id, "uncordon", nonce, nil)
}

// machineAct does what can be done twice.
func (c *Client) machineAct(ctx context.Context, app, id, act, nonce string, body any) error {
	return c.do(ctx, request{
		action: "machine." + act, ident: id, app: app, method: http.MethodPost,
		path: appPath(app, "machines", id, act), nonce: nonce, body: body, repeat: true,
	}, nil)
}

// RestartMachine stops and starts a machine. After Ambiguous its events tell
// whether that has happened.
func (c *Client) RestartMachine(ctx context.Context, app, id, nonce string, timeout time.Duration) error {
	query := url.Values{}
	if timeout > 0 {
		query.Set("timeout", timeout.String())
	}
	return c.do(ctx, request{
		action: "machine.restart", ident: id, app: app, method: http.MethodPost,
		path: appPath(app, "machines", id, "restart"), nonce: nonce, query: query,
	}, nil)
}

// Exec is a command that is run in a machine, without a shell.
type Exec struct {
	Command   []string `json:"command"`
	Container string   `json:"container,omitempty"`
	Stdin     string   `json:"stdin,omitempty"`
	Timeout   int      `json:"timeout,omitempty"` // seconds
}

// ExecResult is how a command ended. What it printed is not for logs.
type ExecResult struct {
	ExitCode   int    `json:"exit_code"`
	ExitSignal int    `json:"exit_signal"`
	Stdout     string `json:"stdout"`
	Stderr     string `json:"stderr"`
}

// Exec runs a command in a machine that runs.
func (c *Client) Exec(ctx context.Context, app, id, nonce string, ask Exec) (ExecResult, error) {
	return send[ExecResult](ctx, c, request{
		action: "machine.exec", ident: id, app: app, method: http.MethodPost, path: appPath(app, "machines", id, "exec"),
		body: ask, nonce: nonce, hide: []string{ask.Stdin}, patience: patience + time.Duration(ask.Timeout)*time.Second,
	})
}

// maxEvents is how many events of a machine Fly gives.
const maxEvents = 50

// Events are the last events of a machine, the newest first.
func (c *Client) Events(ctx context.Context, app, id string) ([]MachineEvent, error) {
	return get[[]MachineEvent](ctx, c, request{
		action: "machine.events", ident: id, app: app, path: appPath(app, "machines", id, "events"),
		query: url.Values{"limit": {strconv.Itoa(maxEvents)}},
	})
}

// MachineVersion is a config that a machine had or has.
type MachineVersion struct {
	Version string         `json:"version"`
	Config  *MachineConfig `json:"user_config"`
}

// Versions are the configs of a machine.
func (c *Client) Versions(ctx context.Context, app, id string) ([]MachineVersion, error) {
	return get[[]MachineVersion](ctx, c, request{
		action: "machine.versions", ident: id, app: app, path: appPath(app, "machines", id, "versions"),
	})
}

// Metadata is a machine's. Writing it makes no new version, starts nothing
// again, and asks for no lease.
func (c *Client) Metadata(ctx context.Context, app, id string) (map[string]string, error) {
	return get[map[string]string](ctx, c, request{
		action: "machine.metadata.list", ident: id, app: app, path: appPath(app, "machines", id, "metadata"),
	})
}

// PatchMetadata writes and (nil) deletes keys and leaves the others alone.
// version is the InstanceID that the machine must have; empty: any.
func (c *Client) PatchMetadata(ctx context.Context, app, id, version string, values map[string]*string) error {
	return c.do(ctx, request{
		action: "machine.metadata.update", ident: id, app: app, method: http.MethodPatch, repeat: true,
		path: appPath(app, "machines", id, "metadata"),
		body: struct {
			Metadata map[string]*string `json:"metadata"`
			Version  string             `json:"machine_version,omitempty"`
		}{values, version},
	}, nil)
}

// SetMetadata writes one key.
func (c *Client) SetMetadata(ctx context.Context, app, id, key, value string) error {
	return c.do(ctx, request{
		action: "machine.metadata.set", ident: id, app: app, method: http.MethodPost, repeat: true,
		path: appPath(app, "machines", id, "metadata", key),
		body: struct {
			Value string `json:"value"`
		}{value},
	}, nil)
}

// DeleteMetadata deletes one key. It is content when there is none.
func (c *Client) DeleteMetadata(ctx context.Context, app, id, key string) error {
	return c.gone(ctx, request{
		action: "machine.metadata.delete", ident: id, app: app, path: appPath(app, "machines", id, "metadata", key),
	})
}
