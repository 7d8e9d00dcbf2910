package kubernetes

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// counting tells observe about every request that leaves.
type counting struct {
	next    http.RoundTripper
	observe func(verb string, code int)
	refuse  func(*http.Request) error // before it leaves; may be nil
}

// RoundTrip implements http.RoundTripper.
func (t *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.refuse != nil {
		if err := t.refuse(r); err != nil {
			if r.Body != nil {
				r.Body.Close()
			}
			return nil, err
		}
	}
	resp, err := t.next.RoundTrip(r)
	code := 0
	if err == nil {
		code = resp.StatusCode
	}
	t.observe(verbOf(r), code)
	if told, ok := r.Context().Value(attemptsKey{}).(func(error)); ok {
		if err != nil {
			told(&url.Error{Op: "Get", URL: r.URL.Redacted(), Err: err}) // as http.Client words it
		} else {
			told(nil)
		}
	}
	return resp, err
}

type attemptsKey struct{}

// withAttempts has f called with the outcome of every attempt at a request: nil
// when there was an answer of any kind. client-go tries again by itself, for
// ten seconds, and then calls a watch that found nobody at the other end one
// that has seen nothing.
func withAttempts(ctx context.Context, f func(error)) context.Context {
	return context.WithValue(ctx, attemptsKey{}, f)
}

// WrappedRoundTripper lets client-go find the transport below.
func (t *counting) WrappedRoundTripper() http.RoundTripper { return t.next }

// CloseIdleConnections is what http.Client.CloseIdleConnections asks for.
func (t *counting) CloseIdleConnections() { utilnet.CloseIdleConnectionsFor(t.next) }

// verbOf is what the API server would call the request. A dry run is DRYRUN
// whatever it would have done, because it does nothing.
func verbOf(r *http.Request) string {
	query := r.URL.Query()
	if query.Get("dryRun") != "" {
		return "DRYRUN"
	}
	switch r.Method {
	case http.MethodPost:
		return "CREATE"
	case http.MethodPut:
		return "UPDATE"
	case http.MethodDelete:
		return "DELETE"
	case http.MethodPatch:
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/apply-patch") {
			return "APPLY"
		}
		return "PATCH"
	}
	switch watch := query.Get("watch"); {
	case watch == "true" || watch == "1":
		return "WATCH"
	case isCollection(r.URL.Path):
		return "LIST"
	default:
		return "GET"
	}
}

// isCollection tells a path of many objects from that of one object, of a
// discovery document or of anything else.
func isCollection(path string) bool {
	// A server may live under a prefix, so look for the first api element.
	p := strings.Split(strings.Trim(path, "/"), "/")
	for i, s := range p {
		switch s {
		case "api":
			p = p[i+1:]
		case "apis":
			if len(p) < i+2 {
				return false
			}
			p = p[i+2:]
		default:
			continue
		}
		if len(p) < 2 {
			return false // discovery
		}
		p = p[1:] // the version
		if p[0] == "namespaces" && len(p) > 2 {
			p = p[2:]
		}
		return len(p) == 1
	}
	return false
}
