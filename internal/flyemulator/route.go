package flyemulator

import (
	"net/http"
	"net/url"
	"strings"
)

// scope is what a token must reach.
type scope int

const (
	scopeToken   scope = iota // any valid token; the handler asks for more
	scopeApp                  // the app of {app}: it is in c.app
	scopeOrg                  // the whole organization of {org}: it is in c.org
	scopeNone                 // no token is asked for
	scopeControl              // the emulator's own: neither log nor faults
)

// route is one call of an API.
type route struct {
	method  string
	pattern string // as "/v1/apps/{app}/machines/{id}"
	action  string // what rate limits count, as "machines.get"; empty: unlimited
	scope   scope
	handler func(*call) reply

	read  bool // changes nothing although it is no GET: read-only tokens may
	rate  rate // zero: 1 a second, 3 at once
	parts []string
}

// prepared readies the routes for match.
func prepared(rs []route) []*route {
	out := make([]*route, len(rs))
	for i := range rs {
		r := &rs[i]
		r.parts = strings.Split(strings.Trim(r.pattern, "/"), "/")
		if r.method == http.MethodGet {
			r.read = true
		}
		out[i] = r
	}
	return out
}

// match finds the route of a request. Of several, that with more words of its
// own. known says that the path exists with another method.
func (e *Emulator) match(r *http.Request) (found *route, values map[string]string, known bool) {
	parts := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	for i := range parts {
		if p, err := url.PathUnescape(parts[i]); err == nil {
			parts[i] = p
		}
	}
	best := -1
	for _, rt := range e.routes {
		words, vs, ok := rt.fits(parts)
		if !ok {
			continue
		}
		known = true
		if rt.method == r.Method && words > best {
			found, values, best = rt, vs, words
		}
	}
	return found, values, known
}

// fits says whether the path is one of the route, and how many words they share.
// A last part "{name...}" takes all that is left.
func (rt *route) fits(parts []string) (words int, values map[string]string, ok bool) {
	for i, p := range rt.parts {
		if name, rest := strings.CutSuffix(p, "...}"); rest {
			if i >= len(parts) {
				return 0, nil, false
			}
			if values == nil {
				values = map[string]string{}
			}
			values[name[1:]] = strings.Join(parts[i:], "/")
			return words, values, true
		}
		if i >= len(parts) {
			return 0, nil, false
		}
		if name, is := strings.CutPrefix(p, "{"); is {
			if parts[i] == "" {
				return 0, nil, false
			}
			if values == nil {
				values = map[string]string{}
			}
			values[strings.TrimSuffix(name, "}")] = parts[i]
			continue
		}
		if p != parts[i] {
			return 0, nil, false
		}
		words++
	}
	return words, values, len(parts) == len(rt.parts)
}

// appName is the app a request speaks of, by its path.
func (c *call) appName() string { return c.values["app"] }
