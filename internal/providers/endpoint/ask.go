package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// question is where an app is asked for, and how.
type question struct {
	host    string // name or address of the load balancer
	port    int
	tls     bool
	path    string
	hosts   []string // further names that are asked for there
	timeout time.Duration
}

// same tells whether an answer to one question is one to the other.
func (q question) same(o question) bool {
	return q.host == o.host && q.port == o.port && q.tls == o.tls && q.path == o.path
}

// verdict is what came of asking under one name.
type verdict struct {
	trouble     string // empty: it answers
	certificate string // it answers, and this is wrong with its certificate
	encryption  bool   // the trouble is with TLS: nobody got as far as the app
	blind       bool   // the trouble is on this side: it says nothing of the app
}

func (v verdict) fine() bool { return v.trouble == "" }

// line is how apps are reached from here. The zero value is the usual one.
type line struct {
	proxy func(*http.Request) (*url.URL, error) // nil: the standard variables say
	roots *x509.CertPool                        // nil: the system's
}

// own asks under the load balancer's own name. Whether that name has a
// certificate is not documented (Fly docs, Kubernetes, Services), so one that is
// not good for it does not keep an app from being called ready: nothing is sent
// that could be stolen, and nothing is believed but the status.
func (l line) own(ctx context.Context, q question) verdict {
	v, bad := l.ask(ctx, q, q.host, true)
	if !bad {
		return v
	}
	again, _ := l.ask(ctx, q, q.host, false)
	again.certificate = v.trouble
	return again
}

// others asks under the further names, all at once.
func (l line) others(ctx context.Context, q question) map[string]verdict {
	var mu sync.Mutex
	var all sync.WaitGroup
	found := map[string]verdict{}
	for _, host := range q.hosts {
		all.Go(func() {
			v, _ := l.ask(ctx, q, host, true)
			mu.Lock()
			defer mu.Unlock()
			found[host] = v
		})
	}
	all.Wait()
	return found
}

// ask makes one request. The load balancer is dialled, whatever the name: DNS
// need not lead there yet. bad tells that all that is wrong is the certificate.
func (l line) ask(ctx context.Context, q question, name string, verify bool) (v verdict, bad bool) {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	var h handshake
	ctx = httptrace.WithClientTrace(ctx, h.trace())
	if parent, wild := strings.CutPrefix(name, "*."); wild {
		name = "forged-asks." + parent // any will do
	}
	scheme := "http"
	if q.tls {
		scheme = "https"
	}
	at := net.JoinHostPort(q.host, strconv.Itoa(q.port))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+at+q.path, http.NoBody)
	if err != nil {
		return verdict{trouble: "path " + q.path + " makes no URL"}, false
	}
	if request.Host = name; name == q.host { // an address of IPv6 has brackets there
		request.Host = strings.TrimSuffix(at, usualPort(q.tls))
	}
	request.Header.Set("User-Agent", "forged")
	transport := l.transport(name, verify)
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return q.why(err, &h)
	}
	defer func() { _ = response.Body.Close() }() // what the app says is its own business
	if response.StatusCode >= http.StatusBadRequest {
		return verdict{trouble: strings.TrimSpace(fmt.Sprintf("it answers %d %s", response.StatusCode, http.StatusText(response.StatusCode)))}, false
	}
	return verdict{}, false
}

// usualPort is what nobody writes.
func usualPort(tls bool) string {
	if tls {
		return ":443"
	}
	return ":80"
}

// handshake is how far TLS came. A dial may go on for a moment when its time is
// over.
type handshake struct {
	begun, done atomic.Bool
	failed      atomic.Pointer[error]
}

func (h *handshake) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		TLSHandshakeStart: func() { h.begun.Store(true) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err != nil {
				h.failed.Store(&err)
				return
			}
			h.done.Store(true)
		},
	}
}

// err is why there is no TLS; nil: that is not what is wrong.
func (h *handshake) err(otherwise error) error {
	if failed := h.failed.Load(); failed != nil {
		return *failed
	}
	if h.begun.Load() && !h.done.Load() {
		return otherwise
	}
	return nil
}

func (l line) transport(name string, verify bool) *http.Transport {
	proxy := l.proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            dial,
		DisableKeepAlives:      true, // each answer is one of a new connection
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig: &tls.Config{
			ServerName: name, RootCAs: l.roots, MinVersion: tls.VersionTLS12,
			InsecureSkipVerify: !verify, //nolint:gosec // see own
		},
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, r *http.Response) error {
			if r.StatusCode == http.StatusOK {
				return nil
			}
			return refusedByProxy(r.StatusCode)
		},
	}
}

// refusedByProxy is the status by which a proxy did not connect.
type refusedByProxy int

func (s refusedByProxy) Error() string {
	return fmt.Sprintf("the proxy answers %d %s", int(s), http.StatusText(int(s)))
}

// dial prefers, of several errors, one that says something of the other side: a
// machine without IPv6 learns from IPv4 how it is.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if !errors.Is(err, syscall.ENETUNREACH) {
		return conn, err
	}
	conn, four := d.DialContext(ctx, "tcp4", address)
	var none *net.AddrError
	if errors.As(four, &none) {
		return nil, err
	}
	return conn, four
}
