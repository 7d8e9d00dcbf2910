package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// right is one that an API server checks: "create apps/deployments in shop".
// name is that of the object, where only one is meant.
type right struct{ verb, group, resource, namespace, name string }

func (r right) String() string {
	s := r.verb + " " + r.resource
	if r.group != "" {
		s += "." + r.group
	}
	if r.name != "" {
		s += " " + r.name
	}
	if r.namespace != "" {
		s += " in " + r.namespace
	}
	return s
}

// recorder stands between forged and an API server, passes everything on as
// somebody, and notes which rights that took and which were missing.
type recorder struct {
	kubeconfig string

	mu      sync.Mutex
	used    map[right]bool
	refused map[right]bool
}

// newRecorder passes requests on with a configuration.
func newRecorder(t *testing.T, cfg *rest.Config) *recorder {
	t.Helper()
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(cfg.Host)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{used: map[right]bool{}, refused: map[right]bool{}}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(to) },
		Transport: transport, FlushInterval: -1,
		ModifyResponse: func(resp *http.Response) error { r.note(resp); return nil },
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		bounded, stop := context.WithCancel(req.Context())
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		proxy.ServeHTTP(w, req.WithContext(bounded))
	}))
	t.Cleanup(func() { cancel(); server.CloseClientConnections(); server.Close() })
	r.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: %q}}], users: [{name: u, user: {}}], contexts: [{name: recorded, context: {cluster: c, user: u}}]}", server.URL)
	if err := os.WriteFile(r.kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// note takes down what a request took.
func (r *recorder) note(resp *http.Response) {
	all := rightsOf(resp.Request, resp.StatusCode)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range all {
		if resp.StatusCode == http.StatusForbidden {
			r.refused[one] = true
		} else {
			r.used[one] = true
		}
	}
}

// rightsOf are the rights that a request takes. Applying what is not there yet
// takes two.
func rightsOf(req *http.Request, code int) []right {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	one := right{}
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		one.group, parts = parts[1], parts[3:]
	default:
		return nil // everybody may ask what kinds there are
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		one.namespace, parts = parts[1], parts[2:]
	}
	one.resource = parts[0]
	if len(parts) > 1 {
		one.name = parts[1]
	}
	if len(parts) > 2 {
		one.resource += "/" + parts[2]
	}
	query := req.URL.Query()
	selected, _ := strings.CutPrefix(query.Get("fieldSelector"), "metadata.name=")
	switch req.Method {
	case http.MethodGet:
		switch {
		case one.name != "":
			one.verb = "get"
		case query.Get("watch") == "true" || query.Get("watch") == "1":
			one.verb, one.name = "watch", selected
		default:
			one.verb, one.name = "list", selected
		}
	case http.MethodPost:
		one.verb = "create"
	case http.MethodPut:
		one.verb = "update"
	case http.MethodDelete:
		one.verb = "delete"
	case http.MethodPatch:
		one.verb = "patch"
		if code == http.StatusCreated {
			made := one
			made.verb, made.name = "create", ""
			return []right{one, made}
		}
	}
	return []right{one}
}
