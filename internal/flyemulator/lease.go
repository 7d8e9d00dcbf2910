package flyemulator

import (
	"net/http"
	"strconv"
	"time"
)

// lease keeps others from changing a machine.
type lease struct {
	Nonce       string
	Owner       string
	Description string
	Expires     time.Time
	Version     string
}

type leaseBody struct {
	Nonce       string `json:"nonce,omitempty"`
	Expires     int64  `json:"expires_at"`
	Owner       string `json:"owner"`
	Description string `json:"description"`
	Version     string `json:"version,omitempty"`
}

func (l *lease) shown(nonce bool) *leaseBody {
	if l == nil {
		return nil
	}
	b := &leaseBody{Expires: l.Expires.Unix(), Owner: l.Owner, Description: l.Description, Version: l.Version}
	if nonce {
		b.Nonce = l.Nonce
	}
	return b
}

// defaultTTL is a lease's that asks for none.
const defaultTTL = 120

// maxTTL is what nobody should ask for.
const maxTTL = 24 * 60 * 60

func (e *Emulator) newLease(c *call, m *machine, ttl int, description string) *lease {
	return &lease{
		Nonce: e.newHex("nonce", 12), Owner: c.owner(), Description: description, Version: m.Instance,
		Expires: e.now().Add(time.Duration(ttl) * time.Second),
	}
}

// held is the lease that holds now; nil: there is none.
func (m *machine) held(e *Emulator) *lease {
	if m.Lease == nil || !e.now().Before(m.Lease.Expires) {
		return nil
	}
	return m.Lease
}

func (c *call) nonce() string { return c.r.Header.Get("fly-machine-lease-nonce") }

var errNoLease = failure{status: http.StatusNotFound, text: "lease not found"}

func (l *lease) conflict(m *machine) *failure {
	return refuse(http.StatusConflict, "machine ID %s lease currently held by %s, expires at %s", m.ID, l.Owner, l.Expires.UTC().Format(time.RFC3339))
}

// guard refuses what somebody else's lease forbids, and the nonce of a lease
// that is no more.
func (c *call) guard(m *machine) *failure {
	if c.all {
		return nil
	}
	l := m.held(c.e)
	switch {
	case l == nil && c.nonce() != "":
		f := errNoLease
		return &f
	case l != nil && l.Nonce != c.nonce():
		return l.conflict(m)
	}
	return nil
}

// outwait is guard for stop and destroy: they hang until the lease is no more,
// and happen then. The machine is looked up again.
func (c *call) outwait(m *machine) (*machine, *failure) {
	e := c.e
	if m.held(e) == nil || c.nonce() != "" {
		return m, c.guard(m)
	}
	if c.all {
		return m, nil
	}
	app, id := c.app.Name, m.ID
	for l := m.held(e); l != nil; l = m.held(e) {
		e.await(c, l.Expires, func() bool {
			a := e.state.Apps[app]
			if m = nil; a != nil {
				c.app, m = a, a.Machines[id]
			}
			return m == nil || m.held(e) != l
		})
		if c.r.Context().Err() != nil || e.closed {
			return nil, refuse(http.StatusRequestTimeout, "request canceled")
		}
		if m == nil {
			return nil, refuse(http.StatusNotFound, "machine not found")
		}
	}
	return m, nil
}

type leaseRequest struct {
	TTL         int    `json:"ttl"`
	Description string `json:"description"`
}

// leased is how the service answers about leases; its document says otherwise.
func leased(data any) map[string]any { return map[string]any{"status": "success", "data": data} }

func (e *Emulator) takeLease(c *call) reply {
	m, f := c.machineBound()
	if f != nil {
		return c.failed(f)
	}
	var r leaseRequest
	if f := c.decodeMaybe(&r); f != nil {
		return c.failed(f)
	}
	if s := c.query("ttl"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			return c.fail(http.StatusBadRequest, "invalid ttl %q", s)
		}
		r.TTL = n
	}
	if r.TTL == 0 {
		r.TTL = defaultTTL
	}
	if r.TTL < 0 || r.TTL > maxTTL {
		return c.fail(http.StatusBadRequest, "invalid ttl %d", r.TTL)
	}
	l := m.held(e)
	switch {
	case l == nil && c.nonce() != "":
		return c.failed(&errNoLease)
	case l == nil || c.all: // the emulator's own requests steal it
		m.Lease = e.newLease(c, m, r.TTL, r.Description)
	case l.Nonce != c.nonce():
		return c.failed(l.conflict(m))
	default:
		l.Expires, l.Version = e.now().Add(time.Duration(r.TTL)*time.Second), m.Instance
		if r.Description != "" {
			l.Description = r.Description
		}
	}
	return c.reply(http.StatusCreated, leased(m.Lease.shown(true)))
}

func (e *Emulator) getLease(c *call) reply {
	m, f := c.machine()
	if f != nil {
		return c.failed(f)
	}
	l := m.held(e)
	if l == nil {
		return c.failed(&errNoLease)
	}
	return c.ok(leased(l.shown(false)))
}

func (e *Emulator) releaseLease(c *call) reply {
	m, f := c.machineBound()
	if f != nil {
		return c.failed(f)
	}
	l := m.held(e)
	if l == nil {
		return c.failed(&errNoLease)
	}
	if l.Nonce != c.nonce() {
		return c.fail(http.StatusBadRequest, "lease nonce does not match")
	}
	m.Lease = nil
	return c.ok(leased(map[string]any{"ok": true}))
}
