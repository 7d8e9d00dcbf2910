package flyemulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

var okay = map[string]any{"ok": true}

func (e *Emulator) startMachine(c *call) reply {
	m, f := c.machineFree()
	if f == nil {
		f = e.startable(m)
	}
	if f != nil {
		return c.failed(f)
	}
	was := m.State
	if was != started {
		m.Retries = 0
		e.begin(c.app, m)
	}
	return c.ok(map[string]any{"previous_state": was, "migrated": false, "new_host": ""})
}

// startable says why a machine cannot be started now.
func (e *Emulator) startable(m *machine) *failure {
	since := e.now().Sub(m.Stopped)
	switch {
	case m.State == started:
		return nil
	case m.State == replacing:
		return refuse(http.StatusPreconditionFailed, "failed_precondition: machine getting replaced, refusing to start")
	case m.State == stopped && !m.Stopped.IsZero() && since < e.o.Times.StillActive:
		return refuse(http.StatusPreconditionFailed, "failed_precondition: machine still active, refusing to start")
	case m.State == starting || m.State == restarting:
		return refuse(http.StatusPreconditionFailed, "failed_precondition: machine still attempting to start")
	case m.State != stopped && m.State != suspended && m.State != failed:
		return refuse(http.StatusPreconditionFailed, "failed_precondition: unable to start machine from current state: '%s'", m.State)
	}
	if h := e.state.Hosts[m.Host]; h != nil && h.Full {
		return errFull("memory")
	}
	return nil
}

var signals = []string{
	"SIGABRT", "SIGALRM", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSEGV", "SIGTERM", "SIGTRAP", "SIGUSR1", "SIGUSR2",
}

func (e *Emulator) stopMachine(c *call) reply {
	var r struct {
		Signal  string `json:"signal"`
		Timeout *span  `json:"timeout"`
	}
	if f := c.decodeMaybe(&r); f != nil {
		return c.failed(f)
	}
	if r.Signal != "" && !slices.Contains(signals, r.Signal) {
		return c.fail(http.StatusBadRequest, "invalid signal %q", r.Signal)
	}
	m, f := c.machineBound()
	if f == nil {
		m, f = c.outwait(m)
	}
	if f != nil {
		return c.failed(f)
	}
	switch m.State {
	case started, starting, restarting, suspended:
		e.become(m, stopping)
		e.note(m, "stop", "user", nil)
		e.plan(c.app, m, e.o.Times.Stopping, "stopped")
	case stopping, stopped:
	default:
		return c.fail(http.StatusPreconditionFailed, "failed_precondition: unable to stop machine from current state: '%s'", m.State)
	}
	return c.ok(okay)
}

func (e *Emulator) restartMachine(c *call) reply {
	m, f := c.machineFree()
	if f != nil {
		return c.failed(f)
	}
	if m.State != started {
		return c.fail(http.StatusPreconditionFailed, "failed_precondition: unable to restart machine from current state: '%s'", m.State)
	}
	e.become(m, restarting)
	e.note(m, "restart", "user", nil)
	e.plan(c.app, m, e.o.Times.Stopping+e.o.Times.Starting, "started")
	return c.ok(okay)
}

func (e *Emulator) suspendMachine(c *call) reply {
	m, f := c.machineFree()
	if f != nil {
		return c.failed(f)
	}
	g := m.Config.Guest
	switch {
	case m.State == suspended || m.State == suspending:
		return c.ok(okay)
	case m.State != started:
		return c.fail(http.StatusPreconditionFailed, "failed_precondition: unable to suspend machine from current state: '%s'", m.State)
	case g.MemoryMB > 2048 || g.GPUs > 0 || g.GPUKind != "" || m.Config.Init.SwapMB != nil || m.Config.Schedule != "":
		return c.fail(http.StatusPreconditionFailed, "failed_precondition: machine cannot be suspended")
	}
	e.become(m, suspending)
	e.note(m, "suspend", "user", nil)
	e.plan(c.app, m, e.o.Times.Suspending, "suspended")
	return c.ok(okay)
}

func (e *Emulator) cordonMachine(c *call) reply {
	m, f := c.machineFree()
	if f != nil {
		return c.failed(f)
	}
	m.Cordoned = strings.HasSuffix(c.route.pattern, "/cordon")
	return c.ok(okay)
}

func (e *Emulator) destroyMachine(c *call) reply {
	m, f := c.machine()
	if f != nil {
		return c.failed(f)
	}
	force := c.flag("force") || c.flag("kill")
	if e.hostStatus(m.Host) != hostOK && m.State != destroyed {
		if !force {
			return c.fail(http.StatusServiceUnavailable, "unavailable: the host of machine %s cannot be reached", m.ID)
		}
		m.Doomed = true // as soon as the host is back
		return c.ok(okay)
	}
	if m.State == destroyed {
		return c.fail(http.StatusNotFound, "machine not found")
	}
	if m, f = c.outwait(m); f != nil {
		return c.failed(f)
	}
	switch {
	case m.State == destroying:
	case m.State == destroyed:
		return c.fail(http.StatusNotFound, "machine not found")
	case !force && m.State != stopped && m.State != suspended && m.State != failed && m.State != created:
		return c.fail(http.StatusPreconditionFailed, "failed_precondition: unable to destroy machine, not currently stopped")
	default:
		e.destroy(c.app, m, "user")
	}
	return c.ok(okay)
}

// signalName is a signal by its name; flyctl kills with its number.
type signalName string

// UnmarshalJSON reads "SIGKILL", or 9.
func (s *signalName) UnmarshalJSON(raw []byte) error {
	if string(raw) == "9" {
		*s = "SIGKILL"
		return nil
	}
	return json.Unmarshal(raw, (*string)(s))
}

func (e *Emulator) signalMachine(c *call) reply {
	var r struct {
		Signal signalName `json:"signal"`
	}
	if f := c.decode(&r); f != nil {
		return c.failed(f)
	}
	if !slices.Contains(signals, string(r.Signal)) {
		return c.fail(http.StatusBadRequest, "invalid signal %q", r.Signal)
	}
	m, f := c.machineFree()
	if f != nil {
		return c.failed(f)
	}
	if m.State != started {
		return c.fail(http.StatusPreconditionFailed, "failed_precondition: machine not running")
	}
	switch r.Signal {
	case "SIGKILL":
		e.exited(c.app, m, 137, false)
	case "SIGTERM", "SIGINT", "SIGQUIT":
		e.exited(c.app, m, 0, false)
	}
	return c.ok(okay)
}

func (e *Emulator) execMachine(c *call) reply {
	var r struct {
		Command []string `json:"command"`
		Cmd     string   `json:"cmd"`
		Stdin   string   `json:"stdin"`
		Timeout int      `json:"timeout"`
	}
	if f := c.decode(&r); f != nil {
		return c.failed(f)
	}
	if len(r.Command) == 0 && r.Cmd == "" {
		return c.fail(http.StatusBadRequest, "command is required")
	}
	m, f := c.machineFree()
	if f != nil {
		return c.failed(f)
	}
	if m.State != started {
		return c.fail(http.StatusPreconditionFailed, "failed_precondition: machine not running")
	}
	line := strings.Join(append(r.Command, r.Cmd), " ")
	out := map[string]any{"exit_code": 0, "exit_signal": 0, "stdout": "", "stderr": ""}
	if answer, ok := c.execGuest(m.ID, append(r.Command, strings.Fields(r.Cmd)...), r.Stdin); ok {
		out["exit_code"], out["stdout"], out["stderr"] = answer.Code, answer.Stdout, answer.Stderr
		return c.ok(out)
	}
	for _, x := range e.program(m).Exec {
		if e.matches(x.Match, line) {
			out["exit_code"], out["stdout"], out["stderr"] = x.Code, x.Stdout, x.Stderr
			break
		}
	}
	return c.ok(out)
}

func (e *Emulator) listProcesses(c *call) reply {
	m, f := c.machineBound()
	if f != nil {
		return c.failed(f)
	}
	if m.State != started {
		return c.fail(http.StatusPreconditionFailed, "failed_precondition: machine not running")
	}
	sockets := []map[string]any{}
	for _, s := range m.Config.Services {
		sockets = append(sockets, map[string]any{"address": "[::]:" + itoa(s.InternalPort), "proto": s.Protocol})
	}
	return c.ok([]map[string]any{{
		"pid": 1, "command": "/fly/init", "directory": "/", "cpu": 0, "rss": 4 << 20, "rtime": int(e.now().Sub(m.Started) / time.Second), "stime": 0, "listen_sockets": sockets,
	}})
}
