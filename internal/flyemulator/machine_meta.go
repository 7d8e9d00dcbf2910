package flyemulator

import (
	"fmt"
	"net/http"
	"strconv"
)

func itoa(n int) string { return strconv.Itoa(n) }

func (e *Emulator) listEvents(c *call) reply {
	m, f := c.machine()
	if f != nil {
		return c.failed(f)
	}
	limit := 20
	if s := c.query("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return c.fail(http.StatusBadRequest, "invalid limit %q", s)
		}
		limit = min(n, maxEvents)
	}
	return c.ok(m.Events[:min(limit, len(m.Events))])
}

func (e *Emulator) listVersions(c *call) reply {
	m, f := c.machine()
	if f != nil {
		return c.failed(f)
	}
	out := []map[string]any{}
	for _, v := range m.Versions {
		out = append(out, map[string]any{"version": v.Instance, "user_config": v.Config})
	}
	return c.ok(out)
}

// Metadata is no part of a version: writing it restarts nothing, no lease
// guards it, and it is written where the host cannot be reached.

func (e *Emulator) listMetadata(c *call) reply {
	m, f := c.machine()
	if f != nil {
		return c.failed(f)
	}
	all := map[string]string{}
	for k, v := range m.Config.Metadata {
		all[k] = v
	}
	return c.ok(all)
}

func (e *Emulator) getMetadata(c *call) reply {
	m, f := c.machine()
	if f != nil {
		return c.failed(f)
	}
	v, ok := m.Config.Metadata[c.values["key"]]
	if !ok {
		return c.fail(http.StatusNotFound, "metadata key not found")
	}
	return c.ok(map[string]any{"value": v})
}

// living is the machine of the path, unless it is destroyed.
func (c *call) living() (*machine, *failure) {
	m, f := c.machine()
	if f == nil && m.State == destroyed {
		return nil, refuse(http.StatusNotFound, "machine not found")
	}
	return m, f
}

func (e *Emulator) setMetadata(c *call) reply {
	m, f := c.living()
	if f != nil {
		return c.failed(f)
	}
	var r struct {
		Value *string `json:"value"`
	}
	if f := c.decode(&r); f != nil {
		return c.failed(f)
	}
	if r.Value == nil {
		return c.fail(http.StatusBadRequest, "value is required")
	}
	e.putMetadata(m, map[string]*string{c.values["key"]: r.Value})
	return c.nothing(http.StatusNoContent)
}

func (e *Emulator) deleteMetadata(c *call) reply {
	m, f := c.living()
	if f != nil {
		return c.failed(f)
	}
	e.putMetadata(m, map[string]*string{c.values["key"]: nil})
	return c.nothing(http.StatusNoContent)
}

func (e *Emulator) updateMetadata(c *call) reply {
	m, f := c.living()
	if f != nil {
		return c.failed(f)
	}
	var r struct {
		Metadata map[string]*string `json:"metadata"`
		Version  string             `json:"machine_version"`
	}
	if f := c.decode(&r); f != nil {
		return c.failed(f)
	}
	if r.Version != "" && r.Version != m.Instance {
		return c.fail(http.StatusPreconditionFailed, "failed_precondition: machine_version %s does not match the machine's version %s", r.Version, m.Instance)
	}
	if c.r.Method == http.MethodPut {
		m.Config.Metadata = nil
	}
	e.putMetadata(m, r.Metadata)
	return c.nothing(http.StatusNoContent)
}

// putMetadata writes keys; nothing, or nil, deletes them.
func (e *Emulator) putMetadata(m *machine, kv map[string]*string) {
	if m.Config.Metadata == nil {
		m.Config.Metadata = map[string]string{}
	}
	for k, v := range kv {
		if v == nil || *v == "" {
			delete(m.Config.Metadata, k)
		} else {
			m.Config.Metadata[k] = *v
		}
	}
	if len(m.Config.Metadata) == 0 {
		m.Config.Metadata = nil
	}
	m.Updated = e.now()
}

func (m *machine) memory() map[string]any {
	return map[string]any{"limit_mb": m.LimitMB, "available_mb": m.LimitMB / 2}
}

func (e *Emulator) getMemory(c *call) reply {
	m, f := c.machineBound()
	if f != nil {
		return c.failed(f)
	}
	return c.ok(m.memory())
}

func (e *Emulator) setMemory(c *call) reply {
	m, f := c.machineBound()
	if f != nil {
		return c.failed(f)
	}
	var r struct {
		Limit int `json:"limit_mb"`
	}
	if f := c.decode(&r); f != nil {
		return c.failed(f)
	}
	most := max(m.Config.Guest.MaxMemory, m.Config.Guest.MemoryMB)
	if r.Limit < 1 || r.Limit > most {
		return c.fail(http.StatusBadRequest, "invalid limit_mb, must be between 1 and %d", most)
	}
	m.LimitMB = r.Limit
	return c.ok(m.memory())
}

func (e *Emulator) reclaimMemory(c *call) reply {
	m, f := c.machineBound()
	if f != nil {
		return c.failed(f)
	}
	var r struct {
		Amount int `json:"amount_mb"`
	}
	if f := c.decode(&r); f != nil {
		return c.failed(f)
	}
	return c.ok(map[string]any{"actual_mb": min(max(r.Amount, 0), m.LimitMB/2)})
}

var (
	adjectives = []string{"quiet", "bold", "late", "amber", "dry", "old", "crimson", "still", "wild", "polished", "hidden", "divine"}
	nouns      = []string{"sun", "river", "field", "wind", "pond", "leaf", "moon", "tree", "brook", "fire", "dew", "shadow"}
)

// newName is a name as Fly makes them up.
func (e *Emulator) newName() string {
	d := e.digest("name")
	return fmt.Sprintf("%s-%s-%d", adjectives[int(d[0])%len(adjectives)], nouns[int(d[1])%len(nouns)], 1000+e.next()%9000)
}

// newIP is an address in the app's network.
func (e *Emulator) newIP(a *app) string {
	n := e.next()
	return fmt.Sprintf("fdaa:%x:%x:a7b:%x:%x:%x:2", hash32(a.Org)&0xff, hash32(a.Network)&0xfff, a.Number&0xffff, n>>16&0xffff, n&0xffff)
}
