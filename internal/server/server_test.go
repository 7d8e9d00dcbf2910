package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"forged.dev/forged/internal/daemon"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is everything a Server shows, to be changed by tests.
type world struct {
	config daemon.ConfigState
	status reconcile.Status
	reload error
	alive  error

	approved []string
	refusal  error
}

func (w *world) server() *Server {
	return New(Options{
		Build: BuildInfo{Version: "v1.2.3", Revision: "abc"}, Instance: "shop",
		Metrics: NewMetrics(BuildInfo{Version: "v1.2.3", Revision: "abc"}),
		Status:  func() reconcile.Status { return w.status },
		Config:  func() daemon.ConfigState { return w.config },
		Reload:  func(context.Context) error { return w.reload },
		Approve: func(token string) error { w.approved = append(w.approved, token); return w.refusal },
		Alive:   func() error { return w.alive },
	})
}

func resource(env, name string, state reconcile.State) *reconcile.ResourceStatus {
	return &reconcile.ResourceStatus{ID: forge.ID{Environment: env, Kind: forge.KindRelease, Name: name}, State: state, Objects: 3}
}

func get(h http.Handler, r *http.Request) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func request(method, path string) *http.Request {
	r := httptest.NewRequest(method, "http://127.0.0.1:9464"+path, nil)
	r.RemoteAddr = "127.0.0.1:40000"
	return r
}

func TestHealth(t *testing.T) {
	w := &world{}
	h := w.server().handler(true)
	if code, body := get(h, request("GET", "/healthz")); code != 200 || body != "ok\n" {
		t.Errorf("%d %q", code, body)
	}
	w.alive = errors.New("no pass for 3m0s")
	if code, body := get(h, request("GET", "/healthz")); code != 503 || body != "no pass for 3m0s\n" {
		t.Errorf("%d %q", code, body)
	}
}

func TestReadiness(t *testing.T) {
	w := &world{}
	h := w.server().handler(true)
	expect := func(wantCode int, want ...string) {
		t.Helper()
		code, body := get(h, request("GET", "/readyz"))
		if code != wantCode {
			t.Errorf("%d %q, want %d", code, body, wantCode)
		}
		for _, s := range want {
			if !strings.Contains(body, s) {
				t.Errorf("%q does not say %q", body, s)
			}
		}
	}
	expect(503, "no configuration is in force yet")

	w.config.Generation = 1
	blocked := resource("test", "app", reconcile.StateWaiting)
	blocked.WaitingFor = "test/release/postgres"
	prod := resource("prod", "app", reconcile.StateUnknown)
	w.status.Environments = []reconcile.EnvironmentStatus{
		{Name: "prod", Resources: []*reconcile.ResourceStatus{resource("prod", "redis", reconcile.StateReady), prod}},
		{Name: "test", Resources: []*reconcile.ResourceStatus{resource("test", "pg", reconcile.StateWaiting), blocked}},
	}
	expect(503, "environment prod: not observed yet: release/app\n", "environment test: not observed yet: release/pg\n")

	prod.State = reconcile.StateFailed
	w.status.Environments[1].Resources[0].State = reconcile.StateProgressing
	expect(200, "ok")

	// Once seen is seen, until the environment is gone and comes back.
	prod.State = reconcile.StateUnknown
	expect(200, "ok")
	all := w.status.Environments
	w.status.Environments = all[1:]
	expect(200, "ok")
	w.status.Environments = all
	expect(503, "environment prod")
}

func TestStatus(t *testing.T) {
	w := &world{}
	w.config = daemon.ConfigState{Path: "forge.cue", OK: false, Generation: 2, Received: daemon.Version{Hash: "new"}, Active: daemon.Version{Hash: "old"}}
	w.status.Environments = []reconcile.EnvironmentStatus{{Name: "prod", Resources: []*reconcile.ResourceStatus{resource("prod", "app", reconcile.StateReady)}}}
	code, body := get(w.server().handler(true), request("GET", "/status"))
	var got Snapshot
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 {
		t.Fatal(code, err)
	}
	if got.Instance != "shop" || got.Config.Received.Hash != "new" || got.Config.Active.Hash != "old" ||
		got.Status.Environments[0].Resources[0].ID.String() != "prod/release/app" {
		t.Errorf("%+v", got)
	}
}

func TestReload(t *testing.T) {
	tests := map[string]struct {
		change func(*http.Request)
		reload error
		method string
		code   int
		want   string
	}{
		"loads":                   {code: 200, want: "the configuration is in force"},
		"answers with what fails": {reload: errors.New("forge.cue:3:1: no such field"), code: 422, want: "forge.cue:3:1: no such field"},
		"needs POST":              {method: "GET", code: 405},
		"not from elsewhere":      {change: func(r *http.Request) { r.RemoteAddr = "10.0.0.9:1234" }, code: 403, want: "only served to this machine"},
		"not from a web page":     {change: func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, code: 403},
		"not under another name":  {change: func(r *http.Request) { r.Host = "evil.example" }, code: 403},
		"under localhost":         {change: func(r *http.Request) { r.Host = "localhost:9464" }, code: 200},
		"over IPv6":               {change: func(r *http.Request) { r.Host = "[::1]:9464"; r.RemoteAddr = "[::1]:4" }, code: 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := &world{reload: tt.reload}
			method := tt.method
			if method == "" {
				method = "POST"
			}
			r := request(method, "/-/reload")
			if tt.change != nil {
				tt.change(r)
			}
			code, body := get(w.server().handler(true), r)
			if code != tt.code || !strings.Contains(body, tt.want) {
				t.Errorf("%d %q, want %d %q", code, body, tt.code, tt.want)
			}
		})
	}
}

func TestApprove(t *testing.T) {
	ask := func(w *world, change func(*http.Request)) (int, string) {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:9464/-/approve", strings.NewReader("token=0a1b2c3d4e5f"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = "127.0.0.1:40000"
		if change != nil {
			change(r)
		}
		return get(w.server().handler(true), r)
	}
	w := &world{}
	if code, body := ask(w, nil); code != 200 || !strings.Contains(body, "approved") || len(w.approved) != 1 || w.approved[0] != "0a1b2c3d4e5f" {
		t.Errorf("%d %q, approved %q", code, body, w.approved)
	}
	w = &world{refusal: errors.New("no step waits for it")}
	if code, body := ask(w, nil); code != 422 || !strings.Contains(body, "no step waits for it") {
		t.Errorf("%d %q", code, body)
	}
	for name, change := range map[string]func(*http.Request){
		"from elsewhere":     func(r *http.Request) { r.RemoteAddr = "10.0.0.9:1234" },
		"from a web page":    func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"under another name": func(r *http.Request) { r.Host = "evil.example" },
	} {
		w := &world{}
		if code, _ := ask(w, change); code != 403 || len(w.approved) > 0 {
			t.Errorf("%s: %d, approved %q", name, code, w.approved)
		}
	}
}

func TestOtherNamesOffLoopback(t *testing.T) {
	r := request("GET", "/healthz")
	r.Host = "forged.monitoring.svc"
	w := &world{}
	if code, _ := get(w.server().handler(true), r); code != 403 {
		t.Errorf("on loopback: %d", code)
	}
	if code, _ := get(w.server().handler(false), r); code != 200 {
		t.Errorf("off loopback: %d", code)
	}
}

func TestNothingElse(t *testing.T) {
	h := (&world{}).server().handler(true)
	for _, path := range []string{"/debug/pprof/", "/favicon.ico", "/status/x"} {
		if code, _ := get(h, request("GET", path)); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(ctx, ln.Addr().String()); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("listening twice: %v", err)
	}
	done := make(chan error)
	go func() { done <- (&world{}).server().Serve(ctx, ln) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get(fmt.Sprintf("http://%s/healthz", ln.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "ok\n" {
		t.Errorf("%q", body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		conn.Close()
		t.Error("still listening")
	}
}
