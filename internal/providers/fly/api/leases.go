package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Lease is the right to change a machine, for a time.
type Lease struct {
	Nonce       string
	ExpiresAt   time.Time
	Owner       string // an e-mail address, or <uuid>@tokens.fly.io
	Description string
	Version     string // InstanceID of the machine
}

// UnmarshalJSON implements json.Unmarshaler: the OpenAPI document describes the
// lease alone, Fly answers with it in {"status","data"}.
func (l *Lease) UnmarshalJSON(b []byte) error {
	type fields struct {
		Nonce       string `json:"nonce"`
		ExpiresAt   Time   `json:"expires_at"`
		Owner       string `json:"owner"`
		Description string `json:"description"`
		Version     string `json:"version"`
	}
	var reply struct {
		fields
		Data *fields `json:"data"`
	}
	if err := json.Unmarshal(b, &reply); err != nil {
		return err
	}
	f := reply.fields
	if reply.Data != nil {
		f = *reply.Data
	}
	*l = Lease{Nonce: f.Nonce, ExpiresAt: f.ExpiresAt.Time, Owner: f.Owner, Description: f.Description, Version: f.Version}
	return nil
}

// Lease is who holds the lease of a machine. NoLease: nobody does.
func (c *Client) Lease(ctx context.Context, app, machine string) (Lease, error) {
	return get[Lease](ctx, c, c.leaseRequest(app, machine, "get"))
}

// AcquireLease takes the lease of a machine. Leased: somebody else has it.
// After Ambiguous we may have it without knowing the nonce, and must wait until
// it runs out.
func (c *Client) AcquireLease(ctx context.Context, app, machine string, ttl time.Duration, description string) (Lease, error) {
	r := c.leaseRequest(app, machine, "create")
	r.method, r.body = http.MethodPost, leaseBody(ttl, description)
	return send[Lease](ctx, c, r)
}

// RefreshLease holds a lease for longer. The nonce stays. NoLease or Leased:
// it is lost.
func (c *Client) RefreshLease(ctx context.Context, app, machine, nonce string, ttl time.Duration, description string) (Lease, error) {
	r := c.leaseRequest(app, machine, "create") // the same call of Fly, so the same limit
	r.method, r.body, r.nonce, r.repeat = http.MethodPost, leaseBody(ttl, description), nonce, true
	return send[Lease](ctx, c, r)
}

// ReleaseLease gives a lease back. It is content when there is none.
func (c *Client) ReleaseLease(ctx context.Context, app, machine, nonce string) error {
	r := c.leaseRequest(app, machine, "release")
	r.nonce = nonce
	err := c.gone(ctx, r)
	if KindOf(err) == NoLease {
		return nil
	}
	return err
}

func (c *Client) leaseRequest(app, machine, act string) request {
	return request{action: "lease." + act, ident: machine, app: app, path: appPath(app, "machines", machine, "lease"), holds: "expires_at"}
}

func leaseBody(ttl time.Duration, description string) any {
	return struct {
		TTL         int    `json:"ttl"` // seconds
		Description string `json:"description,omitempty"`
	}{max(1, int(ttl/time.Second)), description}
}
