package flyemulator

import (
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DNS is what the world's name servers say of one name.
type DNS struct {
	A     []string `json:"a,omitempty"`
	AAAA  []string `json:"aaaa,omitempty"`
	CNAME string   `json:"cname,omitempty"`
	TXT   []string `json:"txt,omitempty"`
	SOA   string   `json:"soa,omitempty"` // its provider
}

// dnsTable is all of it, by name: in small letters, without a dot at the end.
type dnsTable map[string]DNS

// dnsNoticed is how long Fly takes to look by itself.
const dnsNoticed = 30 * time.Second

// SetDNS says what is known of a name from now on; nil: nothing. Fly looks when
// it is asked to check a certificate, and by itself after half a minute.
func (e *Emulator) SetDNS(name string, records *DNS) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.setDNS(name, records)
	e.wake()
}

func (e *Emulator) setDNS(name string, records *DNS) {
	if records == nil {
		delete(e.state.DNS, dnsName(name))
	} else {
		e.state.DNS[dnsName(name)] = *records
	}
	e.after(dnsNoticed, event{Kind: "certificate.look"})
}

func dnsName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// lookup is the records of a name; those of a wildcard if it has none.
func (e *Emulator) lookup(name string) DNS {
	name = dnsName(name)
	if r, ok := e.state.DNS[name]; ok {
		return r
	}
	if _, rest, ok := strings.Cut(name, "."); ok {
		return e.state.DNS["*."+rest]
	}
	return DNS{}
}

// resolve follows names to addresses. <anything>.<app>.fly.dev and
// <app>.fly.dev have those of the app, <service>.svc.<app>.fly.dev has those
// that were assigned for the service.
func (e *Emulator) resolve(name string) []string {
	for range 8 {
		r := e.lookup(name)
		if r.CNAME == "" {
			if len(r.A)+len(r.AAAA) > 0 {
				return slices.Concat(r.A, r.AAAA)
			}
			break
		}
		name = r.CNAME
	}
	if rest, ok := strings.CutSuffix(dnsName(name), ".fly.dev"); ok {
		at := strings.LastIndex(rest, ".") + 1
		if a := e.state.Apps[rest[at:]]; a != nil {
			if service, ok := strings.CutSuffix(rest[:at], ".svc."); ok {
				return a.serving(service)
			}
			v4, v6 := a.public()
			return slices.Concat(v4, v6)
		}
	}
	return nil
}

// sameAddress compares addresses however they are written.
func sameAddress(a, b string) bool {
	x, err1 := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	return err1 == nil && err2 == nil && x.Unmap() == y.Unmap()
}

func (e *Emulator) dnsRoutes() []route {
	return []route{
		{method: http.MethodGet, pattern: "/_emulator/dns", scope: scopeControl, handler: func(c *call) reply {
			return c.ok(c.e.state.DNS)
		}},
		// The body is {"<name>": {"a": […], "aaaa": […], "cname": "…", "txt": […]}}; null takes a name away.
		{method: http.MethodPost, pattern: "/_emulator/dns", scope: scopeControl, handler: func(c *call) reply {
			var names map[string]*DNS
			if f := c.decode(&names); f != nil {
				return c.failed(f)
			}
			for _, name := range slices.Sorted(maps.Keys(names)) {
				c.e.setDNS(name, names[name])
			}
			return c.ok(c.e.state.DNS)
		}},
	}
}
