// Package faultproxy stands between a test and an API server and breaks
// things on command: it is how the tests kill forged after any one request.
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
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// Context is the context of the kubeconfig that Kubeconfig names.
const Context = "proxied"

// Proxy forwards to an API server, with the credentials it was made with.
type Proxy struct {
	kubeconfig string
	ctx        context.Context // ends with the test

	mu        sync.Mutex
	mutations int
	allowed   int           // mutations still let through; negative: all
	dead      chan struct{} // closed when it has died
}

// New starts a proxy in front of the server of cfg; it ends with the test.
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
	p := &Proxy{allowed: -1, dead: make(chan struct{})}
	reverse := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: host.Scheme, Host: host.Host}) },
		Transport:     transport,
		FlushInterval: -1, // watches
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(reverse, w, r) }))
	ctx, cancel := context.WithCancel(context.Background())
	p.ctx = ctx
	t.Cleanup(func() {
		cancel() // ends the watches that clients keep opening
		srv.CloseClientConnections()
		srv.Close()
	})
	p.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q}}]
users: [{name: u, user: {}}]
contexts: [{name: %s, context: {cluster: c, user: u}}]
`, srv.URL, Context)
	if err := os.WriteFile(p.kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// Kubeconfig is the path of a kubeconfig that leads through the proxy.
func (p *Proxy) Kubeconfig() string { return p.kubeconfig }

// DieAfter lets n more mutating requests reach the server, n being at least 1.
// The answer to the last of them is lost, and so is everything after it, reads
// included: to the cluster it looks as if the client had been killed at that
// moment. The channel is closed then.
func (p *Proxy) DieAfter(n int) (dead <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed, p.mutations = n, 0
	return p.dead
}

// Mutations is how many mutating requests have reached the server since the
// proxy started or DieAfter was called. Dry runs do not count.
func (p *Proxy) Mutations() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mutations
}

func (p *Proxy) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	mutates := r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == ""
	p.mu.Lock()
	dead, last := p.allowed == 0, false
	if !dead && mutates {
		p.mutations++
		if p.allowed > 0 {
			p.allowed--
			last = p.allowed == 0
		}
	}
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	r = r.WithContext(ctx)
	switch {
	case dead:
		panic(http.ErrAbortHandler) // closes the connection without an answer
	case last:
		// The server handles it whatever becomes of the client.
		next.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
		close(p.dead)
		panic(http.ErrAbortHandler)
	}
	next.ServeHTTP(w, r)
}
