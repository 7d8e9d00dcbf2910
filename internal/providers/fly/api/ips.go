package api

import (
	"context"
	"net/http"
	"strings"
)

// Types of addresses.
const (
	IPv4       = "v4" // of the app alone; costs money
	IPv6       = "v6"
	SharedIPv4 = "shared_v4"
	PrivateIP  = "private_v6" // flycast
)

// IP is an address of an app.
type IP struct {
	Address     string `json:"ip"`
	Region      string `json:"region"`
	ServiceName string `json:"service_name"`
	Shared      bool   `json:"shared"`
	CreatedAt   Time   `json:"created_at"`
	Network     *struct {
		Name string `json:"name"` // empty: the organization's own
		Org  string `json:"org_slug"`
	} `json:"network"` // only of a PrivateIP
}

// Type is the type of an address, which Fly does not tell.
func (ip IP) Type() string {
	switch {
	case ip.Shared:
		return SharedIPv4
	case strings.HasPrefix(strings.ToLower(ip.Address), "fdaa:"):
		return PrivateIP
	case strings.Contains(ip.Address, ":"):
		return IPv6
	default:
		return IPv4
	}
}

// AssignIP asks for an address.
type AssignIP struct {
	Type        string `json:"type"`
	Region      string `json:"region,omitempty"`
	Org         string `json:"org_slug,omitempty"` // PrivateIP: whose network
	Network     string `json:"network,omitempty"`  // PrivateIP
	ServiceName string `json:"service_name,omitempty"`
}

// IPs are the addresses of an app.
func (c *Client) IPs(ctx context.Context, app string) ([]IP, error) {
	list, err := get[struct {
		IPs []IP `json:"ips"`
	}](ctx, c, request{action: "ip.list", ident: app, app: app, path: appPath(app, "ip_assignments"), holds: "ips"})
	return list.IPs, err
}

// AssignIP gives an app an address. After any error but Denied look at the
// list: there may be one of the type already.
func (c *Client) AssignIP(ctx context.Context, app string, ask AssignIP) (IP, error) {
	return send[IP](ctx, c, request{
		action: "ip.assign", ident: app, app: app, method: http.MethodPost, path: appPath(app, "ip_assignments"), body: ask,
	})
}

// ReleaseIP takes an address from an app. It is content when the app does not
// have it.
func (c *Client) ReleaseIP(ctx context.Context, app, address string) error {
	return c.gone(ctx, request{action: "ip.release", ident: app, app: app, path: appPath(app, "ip_assignments", address)})
}
