package flyemulator

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

// Drift is a request of somebody else, who may do everything: no token, no
// lease, no limit and no trouble holds them up, and it is not in the log. With
// Patch the body is merged (RFC 7396) into the config of the machine of the
// path, which is then updated, as somebody with flyctl would do it.
type Drift struct {
	Method string          `json:"method"`
	Path   string          `json:"path"` // from /v1 on
	Body   json.RawMessage `json:"body,omitempty"`
	Patch  bool            `json:"patch,omitempty"`
}

// Drift does what somebody else asks for, and returns what they are answered.
func (e *Emulator) Drift(d Drift) (status int, body []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rep := e.drift(context.Background(), d)
	raw, _ := rep.bytes()
	return rep.status, raw
}

func (e *Emulator) drift(ctx context.Context, d Drift) reply {
	e.runDue()
	method := d.Method
	if method == "" {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://fly.emulator"+d.Path, nil)
	if err != nil {
		return reply{status: http.StatusBadRequest, body: errorBody{Error: err.Error()}}
	}
	c := e.newCall(r, d.Body)
	c.all = true
	if c.route == nil {
		return c.notRouted()
	}
	if d.Patch {
		if c.body, err = e.patched(c); err != nil {
			return c.fail(http.StatusBadRequest, "%v", err)
		}
	}
	rep := e.permitted(c)
	if !c.route.read {
		e.remember(c.appName())
	}
	e.wake()
	return rep
}

// patched is the request for a machine whose config is changed by the body.
func (e *Emulator) patched(c *call) ([]byte, error) {
	a := e.state.Apps[c.values["app"]]
	if a == nil || a.Machines[c.values["id"]] == nil {
		return nil, fmt.Errorf("no machine at %s", c.r.URL.Path)
	}
	raw, err := json.Marshal(a.Machines[c.values["id"]].Config)
	if err != nil {
		return nil, err
	}
	var config, patch map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(c.body, &patch); err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	return json.Marshal(map[string]any{"config": merged(config, patch)})
}

// merged is RFC 7396.
func merged(to, patch map[string]any) map[string]any {
	if to == nil {
		to = map[string]any{}
	}
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(to, k)
		case map[string]any:
			was, _ := to[k].(map[string]any)
			to[k] = merged(was, v)
		default:
			to[k] = v
		}
	}
	return to
}

// hostOf is where a machine or a volume lies.
func (e *Emulator) hostOf(app, machine, volume string) (string, error) {
	a := e.state.Apps[app]
	if a == nil {
		return "", fmt.Errorf("no app %q", app)
	}
	if m := a.Machines[machine]; m != nil {
		return m.Host, nil
	}
	if v := a.Volumes[volume]; v != nil {
		return v.Host, nil
	}
	return "", fmt.Errorf("app %s has neither machine %q nor volume %q", app, machine, volume)
}

// setHost changes a host. One that is lost takes along who stands in for its
// machines; one that is back does what was asked of it meanwhile.
func (e *Emulator) setHost(id, status string, full *bool) error {
	h := e.state.Hosts[id]
	if h == nil {
		return fmt.Errorf("no host %q", id)
	}
	if full != nil {
		h.Full = *full
	}
	if status == "" || status == h.Status {
		return nil
	}
	if !slices.Contains([]string{hostOK, hostUnknown, hostUnreachable}, status) {
		return fmt.Errorf("a host is ok, unknown or unreachable, not %q", status)
	}
	h.Status = status
	for _, name := range slices.Sorted(maps.Keys(e.state.Apps)) {
		a := e.state.Apps[name]
		for _, m := range a.inOrder() {
			switch {
			case m.Host != id || m.State == destroyed:
			case status == hostUnreachable:
				e.standIn(a, m)
			case status == hostOK && m.Doomed:
				e.destroy(a, m, "user")
			}
		}
		e.remember(name)
	}
	return nil
}

// standIn starts the machines that stand by for one that was lost.
func (e *Emulator) standIn(a *app, lost *machine) {
	for _, m := range a.inOrder() {
		if m.State == stopped && slices.Contains(m.Config.Standbys, lost.ID) && e.hostStatus(m.Host) == hostOK {
			e.begin(a, m)
		}
	}
}

// SetHost changes the host of a machine or of a volume: status ok, unknown or
// unreachable, and whether it takes anything more. It panics where there is none.
func (e *Emulator) SetHost(app, id, status string, full bool) {
	e.control(func() error {
		host, err := e.hostOf(app, id, id)
		if err != nil {
			return err
		}
		return e.setHost(host, status, &full)
	})
}

// control does something under e.mu, and panics when it cannot be done: a test
// asked for it.
func (e *Emulator) control(do func() error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runDue()
	if err := do(); err != nil {
		panic("flyemulator: " + err.Error())
	}
	e.wake()
}

func (e *Emulator) setRegion(code string, room *int, silent *bool) error {
	r := e.state.Regions[code]
	if r == nil {
		return fmt.Errorf("no region %q", code)
	}
	if room != nil {
		if r.Room = room; *room < 0 {
			r.Room = nil
		}
	}
	if silent != nil {
		r.Silent = *silent
	}
	return nil
}

// SetRoom says for how many more machines a region has room; negative: no end.
func (e *Emulator) SetRoom(region string, machines int) {
	e.control(func() error { return e.setRegion(region, &machines, nil) })
}

// SetSilent has a region not answer when the machines of an organization are
// listed.
func (e *Emulator) SetSilent(region string, silent bool) {
	e.control(func() error { return e.setRegion(region, nil, &silent) })
}

// migrate moves a machine to another host: its address, its volume's id and
// its version are new.
func (e *Emulator) migrate(app, id string) error {
	a := e.state.Apps[app]
	if a == nil || a.Machines[id] == nil || a.Machines[id].State == destroyed {
		return fmt.Errorf("app %q has no machine %q", app, id)
	}
	m := a.Machines[id]
	h := e.pickHost(m.Region, map[string]bool{m.Host: true})
	if h == nil {
		return fmt.Errorf("no other host in %s", m.Region)
	}
	m.Host, m.IP = h.ID, e.newIP(a)
	if v := a.Volumes[m.Volume]; v != nil {
		delete(a.Volumes, v.ID)
		v.ID, v.Host = "vol_"+e.newID("volume", 16), h.ID
		a.Volumes[v.ID], m.Volume = v, v.ID
		m.Config.Mounts[0].Volume = v.ID
	}
	m.Instance, m.Updated = e.newULID(), e.now()
	m.newVersion()
	e.note(m, "migrate", "flyd", nil)
	e.remember(a.Name)
	return nil
}

// Migrate moves a machine to another host, as Fly does when one is to rest.
func (e *Emulator) Migrate(app, machine string) {
	e.control(func() error { return e.migrate(app, machine) })
}

// MoveTag has a tag point at another image from now on.
func (e *Emulator) MoveTag(image, digest string) {
	e.control(func() error {
		e.state.Digests[image] = digest
		return nil
	})
}

func (e *Emulator) setProxy(on bool) {
	if was := e.state.Capricious; on && !was {
		e.after(proxyPeriod, event{Kind: "proxy"})
	}
	e.state.Capricious = on
}

// SetProxy has Fly's proxy start and stop by itself, each minute, whatever the
// services of a machine let it.
func (e *Emulator) SetProxy(on bool) {
	e.control(func() error {
		e.setProxy(on)
		return nil
	})
}

// Env is what a machine saw when it started last.
func (e *Emulator) Env(app, machine string) map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runDue()
	if a := e.state.Apps[app]; a != nil && a.Machines[machine] != nil {
		return maps.Clone(a.Machines[machine].Env)
	}
	return nil
}

// StealLease gives the lease of a machine to somebody else for d, as it ends
// for one who sleeps through its end.
func (e *Emulator) StealLease(app, machine, owner string, d time.Duration) {
	e.control(func() error {
		a := e.state.Apps[app]
		if a == nil || a.Machines[machine] == nil {
			return fmt.Errorf("app %q has no machine %q", app, machine)
		}
		m := a.Machines[machine]
		m.Lease = &lease{Nonce: e.newHex("nonce", 12), Owner: owner, Expires: e.now().Add(d), Version: m.Instance}
		return nil
	})
}
