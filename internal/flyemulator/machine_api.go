package flyemulator

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
)

func (e *Emulator) machineRoutes() []route {
	const all, one = "/v1/apps/{app}/machines", "/v1/apps/{app}/machines/{id}"
	return []route{
		{method: "GET", pattern: all, action: "machines.list", scope: scopeApp, handler: e.listMachines},
		{method: "POST", pattern: all, action: "machines.create", scope: scopeApp, handler: e.createMachine},
		{method: "GET", pattern: one, action: "machines.get", scope: scopeApp, handler: e.getMachine, rate: machineGet},
		{method: "POST", pattern: one, action: "machines.update", scope: scopeApp, handler: e.updateMachine},
		{method: "DELETE", pattern: one, action: "machines.destroy", scope: scopeApp, handler: e.destroyMachine},
		{method: "POST", pattern: one + "/start", action: "machines.start", scope: scopeApp, handler: e.startMachine},
		{method: "POST", pattern: one + "/stop", action: "machines.stop", scope: scopeApp, handler: e.stopMachine},
		{method: "POST", pattern: one + "/restart", action: "machines.restart", scope: scopeApp, handler: e.restartMachine},
		{method: "POST", pattern: one + "/suspend", action: "machines.suspend", scope: scopeApp, handler: e.suspendMachine},
		{method: "POST", pattern: one + "/cordon", action: "machines.cordon", scope: scopeApp, handler: e.cordonMachine},
		{method: "POST", pattern: one + "/uncordon", action: "machines.uncordon", scope: scopeApp, handler: e.cordonMachine},
		{method: "POST", pattern: one + "/signal", action: "machines.signal", scope: scopeApp, handler: e.signalMachine},
		{method: "POST", pattern: one + "/exec", action: "machines.exec", scope: scopeApp, handler: e.execMachine},
		{method: "GET", pattern: one + "/ps", action: "machines.ps", scope: scopeApp, handler: e.listProcesses},
		{method: "GET", pattern: one + "/events", action: "machines.events", scope: scopeApp, handler: e.listEvents},
		{method: "GET", pattern: one + "/versions", action: "machines.versions", scope: scopeApp, handler: e.listVersions},
		{method: "GET", pattern: one + "/wait", action: "machines.wait", scope: scopeApp, handler: e.waitMachine},
		{method: "GET", pattern: one + "/lease", action: "leases.get", scope: scopeApp, handler: e.getLease},
		{method: "POST", pattern: one + "/lease", action: "leases.create", scope: scopeApp, handler: e.takeLease},
		{method: "DELETE", pattern: one + "/lease", action: "leases.release", scope: scopeApp, handler: e.releaseLease},
		{method: "GET", pattern: one + "/metadata", action: "metadata.list", scope: scopeApp, handler: e.listMetadata},
		{method: "PUT", pattern: one + "/metadata", action: "metadata.update", scope: scopeApp, handler: e.updateMetadata},
		{method: "PATCH", pattern: one + "/metadata", action: "metadata.update", scope: scopeApp, handler: e.updateMetadata},
		{method: "GET", pattern: one + "/metadata/{key}", action: "metadata.get", scope: scopeApp, handler: e.getMetadata},
		{method: "POST", pattern: one + "/metadata/{key}", action: "metadata.set", scope: scopeApp, handler: e.setMetadata},
		{method: "DELETE", pattern: one + "/metadata/{key}", action: "metadata.delete", scope: scopeApp, handler: e.deleteMetadata},
		{method: "GET", pattern: one + "/memory", action: "memory.get", scope: scopeApp, handler: e.getMemory},
		{method: "PUT", pattern: one + "/memory", action: "memory.set", scope: scopeApp, handler: e.setMemory},
		{method: "POST", pattern: one + "/memory/reclaim", action: "memory.reclaim", scope: scopeApp, handler: e.reclaimMemory},
	}
}

// machineBody is a machine as the API shows it.
type machineBody struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	State      string         `json:"state"`
	Region     string         `json:"region"`
	Instance   string         `json:"instance_id"`
	Version    string         `json:"version"`
	IP         string         `json:"private_ip"`
	Created    string         `json:"created_at"`
	Updated    string         `json:"updated_at"`
	Image      map[string]any `json:"image_ref"`
	Config     any            `json:"config"`
	Incomplete any            `json:"incomplete_config,omitempty"`
	Host       string         `json:"host_status"`
	Cordoned   bool           `json:"cordoned"`
	Nonce      string         `json:"nonce,omitempty"`
	Events     []machineEvent `json:"events,omitempty"`
	Checks     []checkStatus  `json:"checks,omitempty"`
	Lease      *leaseBody     `json:"lease,omitempty"`
}

// overview is what listings show of a config.
type overview struct {
	Image    string            `json:"image,omitempty"`
	Guest    *guest            `json:"guest,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

func overviewOf(m *machine) overview {
	return overview{Image: m.Config.Image, Guest: m.Config.Guest, Metadata: m.Config.Metadata}
}

// shown is the machine as the API shows it: without its config when its host
// is lost.
func (e *Emulator) shown(m *machine) machineBody {
	b := machineBody{
		ID: m.ID, Name: m.Name, State: m.State, Region: m.Region, Instance: m.Instance, Version: m.Instance, IP: m.IP,
		Created: stamp(m.Created), Updated: stamp(m.Updated), Image: m.imageRef(), Config: m.Config,
		Host: e.hostStatus(m.Host), Cordoned: m.Cordoned, Events: m.Events, Checks: e.checks(m),
	}
	if b.Host != hostOK && m.State != destroyed {
		b.Config, b.Incomplete = nil, overviewOf(m)
	}
	return b
}

// machine is the one of the path.
func (c *call) machine() (*machine, *failure) {
	m := c.app.Machines[c.values["id"]]
	if m == nil {
		return nil, refuse(http.StatusNotFound, "machine not found")
	}
	return m, nil
}

// machineBound is the machine of the path where its host is needed.
func (c *call) machineBound() (*machine, *failure) {
	m, f := c.machine()
	if f == nil && m.State == destroyed {
		return nil, refuse(http.StatusNotFound, "machine not found")
	}
	if f == nil && c.e.hostStatus(m.Host) != hostOK {
		return nil, refuse(http.StatusServiceUnavailable, "unavailable: the host of machine %s cannot be reached", m.ID)
	}
	return m, f
}

// machineFree is the same where a lease of somebody else forbids it.
func (c *call) machineFree() (*machine, *failure) {
	m, f := c.machineBound()
	if f == nil {
		f = c.guard(m)
	}
	return m, f
}

func (e *Emulator) getMachine(c *call) reply {
	m, f := c.machine()
	if f != nil {
		return c.failed(f)
	}
	b := e.shown(m)
	if c.flag("include_leases") {
		b.Lease = m.held(e).shown(false)
	}
	return c.ok(b)
}

func (e *Emulator) listMachines(c *call) reply {
	q := c.r.URL.Query()
	var states []string
	if s := q.Get("state"); s != "" {
		states = strings.Split(s, ",")
	}
	out := []machineBody{}
	for _, m := range c.app.inOrder() {
		if m.State == destroyed && !c.flag("include_deleted") ||
			q.Get("region") != "" && m.Region != q.Get("region") ||
			states != nil && !slices.Contains(states, m.State) ||
			!m.tagged(q) {
			continue
		}
		b := e.shown(m)
		if c.flag("summary") {
			if b.Config != nil {
				b.Config = overviewOf(m)
			}
			b.Events, b.Checks = nil, nil
		}
		if c.flag("include_leases") {
			b.Lease = m.held(e).shown(false)
		}
		out = append(out, b)
	}
	return c.ok(out)
}

// inOrder are the machines by their id.
func (a *app) inOrder() []*machine {
	return slices.SortedFunc(maps.Values(a.Machines), func(x, y *machine) int { return cmp.Compare(x.ID, y.ID) })
}

// tagged says whether the machine has the metadata that the query asks for.
func (m *machine) tagged(q map[string][]string) bool {
	for k, vs := range q {
		key, is := strings.CutPrefix(k, "metadata.")
		if is && (len(vs) == 0 || m.Config.Metadata[key] != vs[0]) {
			return false
		}
	}
	return true
}

// machineRequest asks for a machine, or for another config of one.
type machineRequest struct {
	Name        string         `json:"name"`
	Region      string         `json:"region"`
	Config      *machineConfig `json:"config"`
	LeaseTTL    int            `json:"lease_ttl"`
	SkipLaunch  bool           `json:"skip_launch"`
	SkipService bool           `json:"skip_service_registration"`
	SkipSecrets bool           `json:"skip_secrets"`
	MinSecrets  int            `json:"min_secrets_version"`
	Version     string         `json:"current_version"`
}

// read checks what does not depend on the machine.
func (r *machineRequest) read(c *call) *failure {
	if f := c.decode(r); f != nil {
		return f
	}
	if r.Config == nil {
		return refuse(http.StatusBadRequest, "invalid config, must be set")
	}
	r.Config.normalise()
	if f := r.Config.valid(); f != nil {
		return f
	}
	if _, seen := c.e.seenSecrets(c.app, c.e.now()); r.MinSecrets > seen {
		return refuse(http.StatusPreconditionFailed, "min_secrets_version %d is not yet available", r.MinSecrets)
	}
	p := c.e.programOf(r.Config)
	if n := c.app.Images[r.Config.Image]; p.Late < 0 || n < p.Late {
		c.app.Images[r.Config.Image]++
		return refuse(http.StatusUnprocessableEntity, "failed to get manifest %s: MANIFEST_UNKNOWN: manifest unknown", r.Config.Image)
	}
	return nil
}

func (e *Emulator) createMachine(c *call) reply {
	var r machineRequest
	if f := r.read(c); f != nil {
		return c.failed(f)
	}
	a := c.app
	if r.Name == "" {
		r.Name = e.newName()
	}
	for _, m := range a.inOrder() {
		if m.Name == r.Name && m.State != destroyed {
			return c.fail(http.StatusConflict, "already_exists: unique machine name violation, machine ID %s already exists with name %q", m.ID, m.Name)
		}
	}
	if c.org.Unpaid && slices.ContainsFunc(a.inOrder(), func(m *machine) bool { return m.State != destroyed }) {
		return c.fail(http.StatusUnprocessableEntity, "To create more than 1 machine per app please add a payment method. https://fly.io/dashboard/%s/billing", c.org.Slug)
	}
	m := &machine{
		ID: e.newHex("machine", 14), Name: r.Name, Instance: e.newULID(), Created: e.now(), Config: r.Config.clone(),
		Cordoned: r.SkipService, SkipSecrets: r.SkipSecrets, Digest: e.digestOf(r.Config.Image), LimitMB: r.Config.Guest.MemoryMB,
	}
	if f := e.place(a, m, r.Region); f != nil {
		return c.failed(f)
	}
	e.useRoom(m.Region, 1)
	m.IP = e.newIP(a)
	m.Versions = []version{{Instance: m.Instance, Config: m.Config.clone()}}
	a.Machines[m.ID] = m
	e.become(m, created)
	e.note(m, "launch", "user", nil)
	cold := a.Images[m.Config.Image] == 0
	a.Images[m.Config.Image]++
	m.Then = stopped
	switch {
	case !r.SkipLaunch && len(m.Config.Standbys) == 0:
		m.Then = started
		e.plan(a, m, e.o.Times.Launch, "start")
	case cold:
		e.plan(a, m, e.o.Times.PrepareCold, "prepared")
	default:
		e.plan(a, m, e.o.Times.Prepare, "prepared")
	}
	e.followSchedule(a, m, !r.SkipLaunch)
	b := e.shown(m)
	if r.LeaseTTL > 0 {
		m.Lease = e.newLease(c, m, r.LeaseTTL, "")
		b.Nonce = m.Lease.Nonce
	}
	return c.ok(b)
}

func (e *Emulator) updateMachine(c *call) reply {
	m, f := c.machineFree()
	if f != nil {
		return c.failed(f)
	}
	var r machineRequest
	if f := r.read(c); f != nil {
		return c.failed(f)
	}
	if f := e.updatable(c.app, m, &r); f != nil {
		return c.failed(f)
	}
	m.Then = e.leadsTo(m, r.SkipLaunch)
	d := e.o.Times.UpdateStopped
	if m.running() {
		d = e.o.Times.Replacing - reads
	}
	m.Config, m.Instance, m.Digest = r.Config.clone(), e.newULID(), e.digestOf(r.Config.Image)
	m.SkipSecrets, m.Retries = r.SkipSecrets, 0
	m.newVersion()
	e.become(m, replacing)
	e.note(m, "update", "user", nil)
	e.plan(c.app, m, d, "replaced")
	e.followSchedule(c.app, m, !r.SkipLaunch)
	b := e.shown(m)
	if r.LeaseTTL > 0 && m.held(e) == nil {
		m.Lease = e.newLease(c, m, r.LeaseTTL, "")
		b.Nonce = m.Lease.Nonce
	}
	return c.ok(b)
}

// leadsTo is where an update of the machine ends.
func (e *Emulator) leadsTo(m *machine, skipLaunch bool) string {
	switch {
	case skipLaunch:
		return stopped
	case m.State == started || m.State == starting || m.State == restarting:
		return started
	case m.State == created || m.State == replacing:
		return m.Then // as it was to end
	case e.mode(ModeUpdateStopped) == "starts":
		return started
	}
	return stopped
}

// updatable says why an update cannot be.
func (e *Emulator) updatable(a *app, m *machine, r *machineRequest) *failure {
	if r.Version != "" && r.Version != m.Instance {
		return refuse(http.StatusPreconditionFailed, "failed_precondition: current_version %s does not match the machine's version %s", r.Version, m.Instance)
	}
	if r.Name != "" && r.Name != m.Name {
		return refuse(http.StatusBadRequest, "invalid_argument: the name of a machine cannot be changed")
	}
	if r.Region != "" && r.Region != m.Region {
		return refuse(http.StatusBadRequest, "invalid_argument: the region of a machine cannot be changed")
	}
	switch {
	case m.State == replacing && e.mode(ModeUpdateReplacing) == "refused":
		return refuse(http.StatusConflict, "aborted: machine update failed due to concurrent update")
	case m.State == destroying:
		return refuse(http.StatusPreconditionFailed, "failed_precondition: unable to update machine from current state: '%s'", m.State)
	}
	if len(m.Config.Mounts) == 0 && len(r.Config.Mounts) == 1 && e.mode(ModeFirstMount) == "accepted" {
		return e.firstMount(a, m, &r.Config.Mounts[0])
	}
	if len(r.Config.Mounts) != len(m.Config.Mounts) {
		return refuse(http.StatusBadRequest, "invalid_argument: the mounts of a machine cannot be changed")
	}
	for i := range r.Config.Mounts {
		mt, was := &r.Config.Mounts[i], m.Config.Mounts[i]
		if mt.Volume == "" && mt.Name == was.Name {
			mt.Volume = was.Volume
		}
		if mt.Volume != was.Volume {
			return refuse(http.StatusBadRequest, "invalid_argument: the mounts of a machine cannot be changed")
		}
		if v := a.Volumes[mt.Volume]; v != nil {
			mt.Name, mt.SizeGB, mt.Encrypted = v.Name, v.SizeGB, v.Encrypted
		}
	}
	if h := e.state.Hosts[m.Host]; h != nil && h.Full && r.Config.Guest.grown(m.Config.Guest) {
		return errFull("memory")
	}
	return nil
}

// errFull is what a host says that has no more of something.
func errFull(of string) *failure {
	return refuse(http.StatusConflict, "aborted: could not reserve resource for machine: insufficient %s available to fulfill request on the current host", of)
}
