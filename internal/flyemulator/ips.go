package flyemulator

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// ip is an address of an app.
type ip struct {
	ID      string // as GraphQL knows it
	Address string
	Type    string // v4, v6, shared_v4, private_v6
	Region  string // empty: of a private one; else "global", or where it is announced
	Service string
	Network string // of a private one; empty: the organization's own
	Created time.Time
}

// ipRequest asks for an address.
type ipRequest struct {
	Type    string `json:"type"`
	Region  string `json:"region"`
	OrgSlug string `json:"org_slug"`
	Network string `json:"network"`
	Service string `json:"service_name"`
}

// assignIP gives the app an address. A second v4 or v6 is one more, which
// costs; of the others an app has only one.
func (e *Emulator) assignIP(a *app, r ipRequest) (*ip, *failure) {
	one := &ip{Type: r.Type, Region: r.Region, Service: r.Service, Created: e.now()}
	if one.Region == "" {
		one.Region = "global"
	} else if one.Region != "global" && len(e.hostsIn(one.Region)) == 0 {
		return nil, refuse(http.StatusBadRequest, "target region '%s' not found", one.Region)
	}
	n := e.next()
	switch r.Type {
	case "v4":
		if e.mode(ModeDedicatedIPv4) == "exhausted" {
			return nil, refuse(http.StatusBadRequest, "Your organization has reached its limit of dedicated IPv4 addresses")
		}
		one.Address = fmt.Sprintf("137.66.%d.%d", n/250%250, n%250+1)
	case "v6":
		one.Address = fmt.Sprintf("2a09:8280:1::%x:%x", n>>16+1, n&0xffff+1)
	case "shared_v4":
		if a.hasIP(func(o *ip) bool { return o.Type == r.Type }) {
			return nil, e.already("App already has a shared IPv4 address")
		}
		one.Address = fmt.Sprintf("66.241.124.%d", n%250+1)
	case "private_v6":
		network, f := e.network(a, r)
		if f != nil {
			return nil, f
		}
		if a.hasIP(func(o *ip) bool { return o.Type == r.Type && o.Network == network }) {
			return nil, e.already("App already has a private IPv6 address in this network")
		}
		one.Network, one.Region = network, ""
		one.Address = fmt.Sprintf("fdaa:%x:%x:1::%x", hash32(a.Org)&0xff, hash32(network)&0xfff, n+1)
	default:
		return nil, invalid("Type %q is not one of v4, v6, shared_v4, private_v6", r.Type)
	}
	one.ID = "ip_" + e.newID("ip", 20)
	a.IPs = append(a.IPs, one)
	return one, nil
}

// network is the one that a private address is asked for in.
func (e *Emulator) network(a *app, r ipRequest) (string, *failure) {
	org := a.Org
	if r.OrgSlug != "" {
		o := e.org(r.OrgSlug)
		if o == nil {
			return "", missing("organization not found")
		}
		org = o.Slug
	}
	if r.Network == "" || r.Network == "default" {
		return "", nil
	}
	for _, other := range e.state.Apps {
		if other.Org == org && other.Network == r.Network {
			return r.Network, nil
		}
	}
	return "", refuse(http.StatusBadRequest, "network not found")
}

func (a *app) hasIP(like func(*ip) bool) bool { return slices.ContainsFunc(a.IPs, like) }

// public are the addresses that the world can reach.
func (a *app) public() (v4, v6 []string) {
	for _, one := range a.IPs {
		switch one.Type {
		case "v4", "shared_v4":
			v4 = append(v4, one.Address)
		case "v6":
			v6 = append(v6, one.Address)
		}
	}
	return v4, v6
}

// serving are the addresses that were assigned for one service of the app.
func (a *app) serving(service string) []string {
	var out []string
	for _, one := range a.IPs {
		if one.Service == service {
			out = append(out, one.Address)
		}
	}
	return out
}

// releaseIP takes an address away, and says whether the app had it.
func (a *app) releaseIP(address string) bool {
	before := len(a.IPs)
	a.IPs = slices.DeleteFunc(a.IPs, func(one *ip) bool { return sameAddress(one.Address, address) || one.ID == address })
	return len(a.IPs) < before
}

func (e *Emulator) ipRoutes() []route {
	const all = "/v1/apps/{app}/ip_assignments"
	return []route{
		{method: http.MethodGet, pattern: all, action: "ips.list", scope: scopeApp, handler: (*call).listIPs},
		{method: http.MethodPost, pattern: all, action: "ips.create", scope: scopeApp, handler: (*call).createIP},
		{method: http.MethodDelete, pattern: all + "/{ip}", action: "ips.delete", scope: scopeApp, handler: (*call).deleteIP},
	}
}

// ipView is an address as the API shows it: its type has to be inferred.
type ipView struct {
	IP      string         `json:"ip"`
	Region  string         `json:"region"`
	Service string         `json:"service_name"`
	Shared  bool           `json:"shared"`
	Egress  bool           `json:"egress"`
	Created time.Time      `json:"created_at"`
	Network *ipNetworkView `json:"network"` // of a private one only
}

type ipNetworkView struct {
	Name    string `json:"name"`
	OrgSlug string `json:"org_slug"`
}

func (a *app) ipView(one *ip) ipView {
	out := ipView{IP: one.Address, Region: one.Region, Service: one.Service, Shared: one.Type == "shared_v4", Created: one.Created}
	if one.Type == "private_v6" {
		out.Network = &ipNetworkView{one.Network, a.Org}
	}
	return out
}

func (c *call) listIPs() reply {
	out := []ipView{}
	for _, one := range c.app.IPs {
		out = append(out, c.app.ipView(one))
	}
	return c.ok(map[string]any{"ips": out})
}

func (c *call) createIP() reply {
	var in ipRequest
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	one, f := c.e.assignIP(c.app, in)
	if f != nil {
		return c.failed(f)
	}
	return c.ok(c.app.ipView(one))
}

func (c *call) deleteIP() reply {
	if address := c.values["ip"]; !strings.ContainsAny(address, ".:") || !c.app.releaseIP(address) {
		return c.failed(missing("IP address not found"))
	}
	return c.nothing(http.StatusNoContent)
}
