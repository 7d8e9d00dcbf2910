// Package faultproxy stands between a test and an HTTP API and breaks things on
// command: it counts requests, kills or cuts after any one of them, and answers
// late, wrongly, or not at all.
package faultproxy

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// Context is the context of the kubeconfig that Kubeconfig names.
const Context = "proxied"

// Request is one that has reached the server, or was answered in its place.
type Request struct {
	Method, Path string
	DryRun       bool
	Watch        bool
	Agent        string // User-Agent
}

// Mutates tells whether the request changes something.
func (r Request) Mutates() bool { return r.Method != http.MethodGet && !r.DryRun }

func (r Request) String() string { return r.Method + " " + r.Path }

// Proxy forwards to a server, with the credentials it was made with.
type Proxy struct {
	url        string
	kubeconfig string          // empty: it is no API server of Kubernetes
	ctx        context.Context // ends with the test

	mu       sync.Mutex
	requests []Request
	counted  int           // mutations since the start or the last DieAfter
	allowed  int           // mutations still let through; negative: all
	dead     chan struct{} // closed when it has died; nil: nobody asked for that
	line     context.Context
	hangUp   context.CancelFunc // ends line, which all reads hang on
	called   map[int]func()     // by the number of the mutation
	faults   []*fault
}

// New starts a proxy in front of the API server of cfg; it ends with the test.
func New(t testing.TB, cfg *rest.Config) *Proxy {
	t.Helper()
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	host, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := InFrontOf(t, host, transport)
	p.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q}}]
users: [{name: u, user: {}}]
contexts: [{name: %s, context: {cluster: c, user: u}}]
`, p.url, Context)
	if err := os.WriteFile(p.kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// InFrontOf starts a proxy in front of any HTTP API; it ends with the test.
// nil for the transport is the default one.
func InFrontOf(t testing.TB, base *url.URL, transport http.RoundTripper) *Proxy {
	t.Helper()
	p := &Proxy{allowed: -1, called: map[int]func(){}}
	reverse := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: base.Scheme, Host: base.Host}) },
		Transport:     transport,
		FlushInterval: -1, // watches
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(reverse, w, r) }))
	p.url = srv.URL
	ctx, cancel := context.WithCancel(context.Background())
	p.ctx = ctx
	p.line, p.hangUp = context.WithCancel(ctx)
	t.Cleanup(func() {
		cancel() // ends the watches that clients keep opening
		srv.CloseClientConnections()
		srv.Close()
	})
	return p
}

// URL is where the proxy listens.
func (p *Proxy) URL() string { return p.url }

// Kubeconfig is the path of a kubeconfig that leads through the proxy.
func (p *Proxy) Kubeconfig() string { return p.kubeconfig }

// DieAfter lets n more mutating requests reach the server, n being at least 1.
// The answer to the last of them is lost, and so is everything after it, reads
// included: to the cluster it looks as if the client had been killed at that
// moment. The channel is closed then.
func (p *Proxy) DieAfter(n int) (dead <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed, p.counted = n, 0
	p.dead = make(chan struct{})
	return p.dead
}

// CutAfter lets n more mutating requests through, the answer to the last of
// which is lost, and then fails every request. With the line dead, watches end
// too. After mend everything passes again.
func (p *Proxy) CutAfter(n int) (mend func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = n
	if n == 0 {
		p.hangUp()
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.allowed = -1
		p.hangUp() // what is left of the dead line must not come back to life
		p.line, p.hangUp = context.WithCancel(p.ctx)
	}
}

// OnMutation has f called when the n-th mutating request from now, n being at
// least 1, has been carried out and not been answered yet. The answer is lost;
// whatever else is under way passes.
func (p *Proxy) OnMutation(n int, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.called[p.counted+n] = f
}

// Mutations is how many mutating requests have reached the server since the
// proxy started or DieAfter was called. Dry runs do not count.
func (p *Proxy) Mutations() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counted
}

// Requests are all requests that have reached the server, oldest first.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// verdict is what becomes of a request.
type verdict struct {
	refused bool
	last    func() // set when its answer is lost, and all after it
	call    func()
	fault   *fault // nil: none
	line    context.Context
}

func (p *Proxy) judge(r *http.Request) verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.allowed == 0 {
		return verdict{refused: true}
	}
	query := r.URL.Query()
	req := Request{
		Method: r.Method, Path: r.URL.Path, DryRun: query.Get("dryRun") != "",
		Watch: query.Get("watch") == "true" || query.Get("watch") == "1", Agent: r.UserAgent(),
	}
	p.requests = append(p.requests, req)
	v := verdict{line: p.line, fault: p.faultFor(req)}
	if !req.Mutates() || v.fault != nil && v.fault.answers() {
		return v
	}
	v.line = p.ctx // it is finished whatever becomes of the line
	p.counted++
	v.call = p.called[p.counted]
	delete(p.called, p.counted)
	if p.allowed > 0 {
		p.allowed--
		if p.allowed == 0 {
			v.last = p.hangUp
			if dead := p.dead; dead != nil {
				v.last = func() { close(dead) }
			}
		}
	}
	return v
}

func (p *Proxy) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	v := p.judge(r)
	if v.refused {
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
	lost := v.last != nil || v.call != nil
	if v.fault != nil {
		if !v.fault.before(w, r, p.ctx) {
			return
		}
		w = v.fault.around(w, r)
		lost = lost || v.fault.LoseAnswer
	}
	if lost {
		// The server handles it whatever becomes of the client.
		next.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
		if v.call != nil {
			v.call()
		}
		if v.last != nil {
			v.last()
		}
		panic(http.ErrAbortHandler)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(v.line, cancel)()
	next.ServeHTTP(w, r.WithContext(ctx))
}
