// Package api is a client of Fly's APIs: Machines, GraphQL, the one behind the
// web interface, and Prometheus. It knows what each call is called, what it
// answers, how often it may be made, which calls may be made again, and what
// Fly means when it refuses. It knows nothing of forged's resources.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"forged.dev/forged/internal/secret"
)

// Endpoints are the addresses of Fly's services. What is empty is Fly's own.
type Endpoints struct {
	Machines   string // without "/v1"
	GraphQL    string // without "/graphql"
	UI         string // without "/api/v1"
	Prometheus string // without "/prometheus/<org>"
}

// Fly's own addresses.
const (
	machinesEndpoint = "https://api.machines.dev"
	apiEndpoint      = "https://api.fly.io"
)

// Options say whom a Client asks, and as whom.
type Options struct {
	Endpoints Endpoints
	Token     secret.Value // as Fly prints it, or a list of them separated by commas
	HTTP      *http.Client // nil: one with limits of its own; redirects and cookies are never left to it
	UserAgent string

	// OnRequest is told of each answer, and of each request without one
	// (status 0). It is called by many at once.
	OnRequest func(action string, status int, took time.Duration)
	Logger    *slog.Logger // nil: nobody is told
}

// Client asks Fly. It limits itself to what Fly allows, so there should be one
// for each token. It is safe for use by many at once.
type Client struct {
	endpoints [services]*url.URL
	headers   [services]secret.Value // of Authorization
	tokens    []secret.Value         // which never may be told
	http      *http.Client
	userAgent string
	onRequest func(action string, status int, took time.Duration)
	logger    *slog.Logger

	limits   *limiter
	affinity *affinity
}

// New makes a Client. It asks nothing yet.
func New(o Options) (*Client, error) {
	pieces, err := tokenPieces(o.Token)
	if err != nil {
		return nil, err
	}
	c := &Client{
		userAgent: o.UserAgent,
		onRequest: o.OnRequest,
		logger:    o.Logger,
		limits:    newLimiter(time.Now()),
		affinity:  newAffinity(),
		http:      withoutRedirects(o.HTTP),
	}
	if c.userAgent == "" {
		c.userAgent = "forged"
	}
	if c.onRequest == nil {
		c.onRequest = func(string, int, time.Duration) {}
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	for s, base := range map[service]string{
		machines:   or(o.Endpoints.Machines, machinesEndpoint),
		graphQL:    or(o.Endpoints.GraphQL, apiEndpoint),
		ui:         or(o.Endpoints.UI, apiEndpoint),
		prometheus: or(o.Endpoints.Prometheus, apiEndpoint),
	} {
		if c.endpoints[s], err = endpoint(base); err != nil {
			return nil, err
		}
		c.headers[s] = secret.New([]byte(authorization(s, pieces)))
	}
	for _, piece := range pieces {
		c.tokens = append(c.tokens, secret.New([]byte(piece)))
	}
	return c, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// withoutRedirects is a client that takes no redirect and no cookie: either
// could carry the token to somebody else, and a redirect from http to https has
// been seen to arrive without a whole Authorization.
func withoutRedirects(given *http.Client) *http.Client {
	var own http.Client
	if given != nil {
		own = *given
	}
	if own.Transport == nil {
		own.Transport = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   16,
			IdleConnTimeout:       90 * time.Second,
			TLSHandshakeTimeout:   10 * time.Second,
			ExpectContinueTimeout: time.Second,
		}
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	own.Jar = nil
	own.Timeout = 0 // each request has its own
	return &own
}

// endpoint checks an address that the token is sent to.
func endpoint(base string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil {
		return nil, errors.New("address of Fly's API: it is not a URL") // it may hold a password
	}
	switch {
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Host == "":
		return nil, errors.New("address of Fly's API: give a scheme, a host, and perhaps a path")
	case u.Scheme == "https", u.Scheme == "http" && near(u.Hostname()):
		return u, nil
	case u.Scheme == "http":
		return nil, fmt.Errorf("address of Fly's API: http://%s would send the token unencrypted; give https://", u.Host)
	default:
		return nil, fmt.Errorf("address of Fly's API: scheme %q is neither https nor http", u.Scheme)
	}
}

// near tells of a host that is reached without the internet: this machine, a
// private network, or Fly's own.
func near(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast()
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".internal") || strings.HasSuffix(host, ".localhost")
}

// get asks for what cannot change anything.
func get[T any](ctx context.Context, c *Client, r request) (T, error) {
	r.method = http.MethodGet
	r.repeat = true
	return send[T](ctx, c, r)
}

// send makes a request whose answer is a T.
func send[T any](ctx context.Context, c *Client, r request) (T, error) {
	var out T
	err := c.do(ctx, r, &out)
	return out, err
}

// gone makes a request that takes something away; it is content when that has
// gone already.
func (c *Client) gone(ctx context.Context, r request) error {
	r.method = http.MethodDelete
	r.repeat = true
	err := c.do(ctx, r, nil)
	if k := KindOf(err); k == NotFound || k == Gone {
		return nil
	}
	return err
}
