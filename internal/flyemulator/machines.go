package flyemulator

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// States of machines.
const (
	created    = "created"
	starting   = "starting"
	started    = "started"
	stopping   = "stopping"
	stopped    = "stopped"
	suspending = "suspending"
	suspended  = "suspended"
	replacing  = "replacing"
	restarting = "restarting"
	failed     = "failed"
	destroying = "destroying"
	destroyed  = "destroyed"
)

// machine is one of an app. A destroyed one stays, to be read.
type machine struct {
	ID       string
	Name     string
	State    string
	Region   string
	Host     string
	Instance string // a ULID, new with each config
	IP       string
	Created  time.Time
	Updated  time.Time
	Config   machineConfig
	Versions []version // newest first
	Events   []machineEvent
	Lease    *lease
	Cordoned bool

	Turn        int    // counts changes of the state: a transition planned before is void
	Then        string // where an update leads to
	Started     time.Time
	Stopped     time.Time
	Retries     int
	Code        int    // it exited with last
	Volume      string // id
	Digest      string // of its image, when it was fetched
	SkipSecrets bool
	Cron        bool // the schedule starts it
	Doomed      bool // destroyed as soon as its host is back
	LimitMB     int  // of its memory

	Env            map[string]string // that it saw when it started last
	SecretsVersion int
}

// version is a config that the machine has or had.
type version struct {
	Instance string
	Config   machineConfig
}

// maxVersions is how many versions of a machine are known.
const maxVersions = 25

// newVersion notes that the machine has another config.
func (m *machine) newVersion() {
	m.Versions = append([]version{{Instance: m.Instance, Config: m.Config.clone()}}, m.Versions[:min(len(m.Versions), maxVersions-1)]...)
}

// machineEvent is what happened to a machine.
type machineEvent struct {
	ID      string         `json:"id"`
	Type    string         `json:"type"`
	Status  string         `json:"status"`
	Source  string         `json:"source"`
	At      int64          `json:"timestamp"`
	Request map[string]any `json:"request,omitempty"`
}

// maxEvents is what Fly remembers of each machine.
const maxEvents = 50

// event notes what happened.
func (e *Emulator) note(m *machine, typ, source string, request map[string]any) {
	ev := machineEvent{ID: e.newULID(), Type: typ, Status: m.State, Source: source, At: e.now().UnixMilli(), Request: request}
	m.Events = append([]machineEvent{ev}, m.Events[:min(len(m.Events), maxEvents-1)]...)
}

// become changes the state. What was planned for the one before is void.
func (e *Emulator) become(m *machine, to string) {
	m.State, m.Updated = to, e.now()
	m.Turn++
}

// plan has a step happen in d, unless the state changes before.
func (e *Emulator) plan(a *app, m *machine, d time.Duration, step string) {
	e.after(d, event{Kind: "machine", App: a.Name, ID: m.ID, Turn: m.Turn, Data: step})
}

func (e *Emulator) machineEvents() map[string]func(event) {
	return map[string]func(event){"machine": e.machineStep, "cron": e.machineCron, "proxy": e.proxyTurn}
}

func (e *Emulator) machineOf(ev event) (*app, *machine) {
	a := e.state.Apps[ev.App]
	if a == nil {
		return nil, nil
	}
	return a, a.Machines[ev.ID]
}

// machineStep is a transition whose time has come.
func (e *Emulator) machineStep(ev event) {
	a, m := e.machineOf(ev)
	if m == nil || m.Turn != ev.Turn {
		return
	}
	if e.hostStatus(m.Host) != hostOK {
		e.plan(a, m, 5*time.Second, ev.Data) // nothing happens there until it is back
		return
	}
	switch ev.Data {
	case "prepared":
		if e.unpullable(a, m) {
			return
		}
		e.become(m, stopped)
		e.note(m, "launch", "flyd", nil)
	case "start":
		if e.unpullable(a, m) {
			return
		}
		e.begin(a, m)
	case "started":
		e.run(a, m)
	case "exit":
		e.exit(a, m)
	case "stopped":
		e.halt(m)
	case "suspended":
		e.become(m, suspended)
		e.note(m, "suspend", "flyd", nil)
	case "replaced":
		e.replaced(a, m)
	case "destroyed":
		e.gone(a, m)
	}
}

// begin starts the machine.
func (e *Emulator) begin(a *app, m *machine) {
	d := e.o.Times.Starting
	if m.State == suspended {
		d = e.o.Times.Resuming
	}
	e.become(m, starting)
	e.note(m, "start", "flyd", nil)
	e.plan(a, m, d, "started")
}

// run is the moment at which it has started: now it sees env and secrets.
func (e *Emulator) run(a *app, m *machine) {
	e.become(m, started)
	m.Started = e.now()
	e.snapshotEnv(a, m)
	e.note(m, "start", "flyd", nil)
	if p := e.program(m); p.ends() {
		e.plan(a, m, p.runs(e.o.Times.Run), "exit")
	}
}

// snapshotEnv is what a machine that starts now sees.
func (e *Emulator) snapshotEnv(a *app, m *machine) {
	m.Env = map[string]string{
		"FLY_APP_NAME": a.Name, "FLY_MACHINE_ID": m.ID, "FLY_ALLOC_ID": m.ID, "FLY_REGION": m.Region, "FLY_PRIVATE_IP": m.IP,
		"FLY_IMAGE_REF": m.Config.Image, "FLY_MACHINE_VERSION": m.Instance, "FLY_VM_MEMORY_MB": fmt.Sprint(m.Config.Guest.MemoryMB),
	}
	if g := m.Config.Metadata["fly_process_group"]; g != "" {
		m.Env["FLY_PROCESS_GROUP"] = g
	}
	values, v := e.seenSecrets(a, e.now())
	m.SecretsVersion = v
	if !m.SkipSecrets {
		for k, val := range values {
			m.Env[k] = val
		}
	}
	for k, val := range m.Config.Env {
		m.Env[k] = val
	}
}

// exit is the end of the program itself.
func (e *Emulator) exit(a *app, m *machine) {
	p := e.program(m)
	e.exited(a, m, p.Exit, p.OOM)
}

func (e *Emulator) exited(a *app, m *machine, code int, oom bool) {
	m.Code = code
	most := m.Config.Restart.MaxRetries
	if most == 0 {
		most = 10
	}
	policy := m.Config.Restart.Policy
	again := policy == "always" || (policy == "" || policy == "on-failure") && code != 0
	if m.Config.AutoDestroy && code == 0 || m.Retries >= most {
		again = false
	}
	ended := map[string]any{"exited_at": e.now().UnixMilli(), "oom_killed": oom, "requested_stop": false, "restarting": again, "guest_signal": -1, "signal": -1}
	if code != 0 {
		ended["exit_code"], ended["guest_exit_code"] = code, code
	}
	if again {
		m.Retries++
		e.become(m, starting)
		e.note(m, "exit", "flyd", map[string]any{"exit_event": ended, "restart_count": m.Retries})
		e.plan(a, m, time.Second, "started")
		return
	}
	e.become(m, stopped)
	m.Stopped = e.now()
	e.note(m, "exit", "flyd", map[string]any{"exit_event": ended, "restart_count": m.Retries})
	if m.Config.AutoDestroy {
		e.destroy(a, m, "flyd")
	}
}

// halt is the end of a stop.
func (e *Emulator) halt(m *machine) {
	e.become(m, stopped)
	m.Stopped = e.now()
	e.note(m, "exit", "flyd", map[string]any{"exit_event": map[string]any{
		"exited_at": e.now().UnixMilli(), "requested_stop": true, "restarting": false, "oom_killed": false, "guest_signal": 15, "signal": -1,
	}})
}

// replaced is the end of an update. One whose image cannot be fetched goes
// back to the version before.
func (e *Emulator) replaced(a *app, m *machine) {
	if e.program(m).Unpullable && len(m.Versions) > 1 {
		m.Versions = m.Versions[1:]
		m.Config, m.Instance = m.Versions[0].Config.clone(), m.Versions[0].Instance
		if v := a.Volumes[m.Volume]; v != nil && len(m.Config.Mounts) == 0 {
			v.Machine, m.Volume = "", ""
		}
		e.become(m, m.Then)
		e.note(m, "update", "flyd", map[string]any{"error": "failed to pull image: MANIFEST_UNKNOWN: manifest unknown"})
		if m.Then == started {
			m.Started = e.now()
		}
		return
	}
	e.become(m, stopped)
	e.note(m, "update", "flyd", nil)
	if m.Then == started {
		e.plan(a, m, reads, "start")
	}
}

// reads is how long a machine that is updated may read as stopped.
const reads = 500 * time.Millisecond

// destroy ends a machine.
func (e *Emulator) destroy(a *app, m *machine, source string) {
	e.become(m, destroying)
	e.note(m, "destroy", source, nil)
	e.plan(a, m, e.o.Times.Destroying, "destroyed")
}

// gone is the end of the end. Its volume stays bound for a while.
func (e *Emulator) gone(a *app, m *machine) {
	e.become(m, destroyed)
	m.Lease = nil
	e.note(m, "destroy", "flyd", nil)
	e.useRoom(m.Region, -1)
	if v := a.Volumes[m.Volume]; v != nil && v.Machine == m.ID {
		v.Machine, v.BoundTo, v.BoundTill, v.Updated = "", m.ID, e.now().Add(e.o.Times.VolumeBound), e.now()
	}
}

// unpullable fails a machine whose image cannot be fetched.
func (e *Emulator) unpullable(_ *app, m *machine) bool {
	if !e.program(m).Unpullable {
		return false
	}
	e.become(m, failed)
	e.note(m, "launch", "flyd", map[string]any{"error": "failed to pull image: MANIFEST_UNKNOWN: manifest unknown"})
	return true
}

// machineCron starts a machine with a schedule.
func (e *Emulator) machineCron(ev event) {
	a, m := e.machineOf(ev)
	if m == nil || !m.Cron || m.State == destroyed || m.Config.Schedule != ev.Data {
		return
	}
	if m.State == stopped {
		e.begin(a, m)
	}
	e.after(interval(ev.Data), ev)
}

func interval(schedule string) time.Duration {
	return map[string]time.Duration{"hourly": time.Hour, "daily": 24 * time.Hour, "weekly": 7 * 24 * time.Hour, "monthly": 30 * 24 * time.Hour}[schedule]
}

// follow has the schedule of a machine's config start it from now on.
func (e *Emulator) followSchedule(a *app, m *machine, launched bool) {
	m.Cron = launched && m.Config.Schedule != ""
	if m.Cron {
		e.after(interval(m.Config.Schedule), event{Kind: "cron", App: a.Name, ID: m.ID, Data: m.Config.Schedule})
	}
}

// proxyTurn is Fly's proxy in a mood: what it may stop it stops, what it may
// start it starts.
func (e *Emulator) proxyTurn(ev event) {
	if !e.state.Capricious {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(e.state.Apps)) {
		a := e.state.Apps[name]
		for _, id := range slices.Sorted(maps.Keys(a.Machines)) {
			m := a.Machines[id]
			for _, s := range m.Config.Services {
				switch {
				case m.State == started && s.Autostop != nil && *s.Autostop == "stop":
					e.become(m, stopping)
					e.plan(a, m, e.o.Times.Stopping, "stopped")
				case m.State == started && s.Autostop != nil && *s.Autostop == "suspend":
					e.become(m, suspending)
					e.plan(a, m, e.o.Times.Suspending, "suspended")
				case (m.State == stopped || m.State == suspended) && s.Autostart != nil && *s.Autostart && e.now().Sub(m.Stopped) > e.o.Times.StillActive:
					e.begin(a, m)
				default:
					continue
				}
				e.note(m, "proxy", "proxy", nil)
				break
			}
		}
		e.remember(name)
	}
	e.after(proxyPeriod, ev)
}

const proxyPeriod = time.Minute

// running says whether the machine runs, or is about to.
func (m *machine) running() bool {
	return slices.Contains([]string{started, starting, restarting, stopping, suspending}, m.State)
}

// rests says whether nothing is about to happen to it by itself.
func (m *machine) rests(e *Emulator) bool {
	if !slices.Contains([]string{created, started, stopped, suspended, failed, destroyed}, m.State) {
		return false
	}
	return !slices.ContainsFunc(e.state.Agenda, func(ev event) bool {
		return ev.Kind == "machine" && ev.ID == m.ID && ev.Turn == m.Turn && ev.Data != "exit"
	})
}

// digestOf is what a tag points at: it can be moved.
func (e *Emulator) digestOf(image string) string {
	if _, digest, pinned := strings.Cut(image, "@"); pinned {
		return digest
	}
	if d := e.state.Digests[image]; d != "" {
		return d
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(image)))
}

// imageRef is what Fly says of the image it fetched: it fetches those of
// Docker Hub from a mirror.
func (m *machine) imageRef() map[string]any {
	ref, _, _ := strings.Cut(m.Config.Image, "@")
	name, tag := ref, "latest"
	if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") {
		name, tag = ref[:i], ref[i+1:]
	}
	registry, repository, found := strings.Cut(name, "/")
	if !found || !strings.ContainsAny(registry, ".:") {
		registry, repository = "docker-hub-mirror.fly.io", name
		if !strings.Contains(name, "/") {
			repository = "library/" + name
		}
	}
	return map[string]any{"registry": registry, "repository": repository, "tag": tag, "digest": m.Digest, "labels": map[string]string{}}
}
