package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
)

const killedOnFKS = `forge: "v1"
app: {
	name: "$NAME"
	image: {repository: "registry.fly.io/shop-api", tag: "$TAG"}
	secrets: SESSION: generate: {}
	migrate: {run: "before-deploy", args: ["alembic", "upgrade", "head"]}
}
environments: prod: {
	platform: {
		kind: "fks", org: "acme", cluster: "$NAME", region: "ord"
		create: true, acknowledgeClosedBeta: true
	}
	services: {
		postgres: {mode: "fly-managed", create: true}
		redis: {mode: "upstash", create: true}
	}
	volumes: uploads: {mount: "/app/uploads", size: "1Gi"}
	policy: mode: "apply"
}
`

// fksLine is a place at Fly, and a forge.cue for it. All that forged asks passes
// here, of Fly and of the cluster: Fly gives out a kubeconfig that leads here.
type fksLine struct {
	*onFKS
	t   *testing.T
	dir string
	fly string // URL of Fly

	mu      sync.Mutex
	way     string         // the kubeconfig that leads here; empty: none was given out yet
	process *apply         // that runs
	every   int            // new requests to a kill; 0: none is killed
	until   int            // new requests left until the next
	met     map[string]int // how often in a process, at most, by the request
	kills   []string
	lease   http.Header    // of a request that gives back the lease at Fly
	leased  string         // path of that
	created map[string]int // how often, by the path of what was applied
}

// apply is a forged apply.
type apply struct {
	*exec.Cmd
	log    logBuffer
	asked  map[string]int // requests that may change something
	killed bool
	done   chan struct{} // closed when it has ended
	err    error         // once done is closed
}

func newFKSLine(t *testing.T) *fksLine {
	t.Helper()
	l := &fksLine{onFKS: newOnFKS(t), t: t, dir: t.TempDir(), met: map[string]int{}, created: map[string]int{}}
	at, err := url.Parse(l.URL)
	if err != nil {
		t.Fatal(err)
	}
	l.fly = l.serve(at, l.askFly, httptest.NewServer).URL
	return l
}

// serve passes on requests to a server.
func (l *fksLine) serve(to *url.URL, ask answering, start func(http.Handler) *httptest.Server) *httptest.Server {
	front := start(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: ask, FlushInterval: -1,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	l.t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
	})
	return front
}

// answering is a server.
type answering func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var (
	addOn     = regexp.MustCompile(`upstash_\w+|kubernetes`)
	mutations = regexp.MustCompile(`mutation[^{]*\{\s*(\w+)`)
	numbers   = regexp.MustCompile(`[0-9a-f]{6,}|\.v[0-9]+$`) // of machines, migrations and revisions
)

// askFly passes on a request to Fly.
func (l *fksLine) askFly(r *http.Request) (*http.Response, error) {
	r.Header.Del("Accept-Encoding") // what is to be changed has to be read
	what := ""
	if r.Method != http.MethodGet {
		what = "fly " + r.Method + " " + r.URL.Path
	}
	if r.URL.Path == "/graphql" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var query struct{ Query string }
		if err := json.Unmarshal(body, &query); err != nil {
			return nil, err
		}
		what = ""
		if found := mutations.FindStringSubmatch(query.Query); found != nil {
			what = "fly " + found[1] + " " + addOn.FindString(string(body))
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	var answer any
	if json.Unmarshal(body, &answer) == nil {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/lease") {
			l.note(r, answer)
		}
		if r.URL.Path == "/graphql" && l.reroute(answer) {
			if body, err = json.Marshal(answer); err != nil {
				return nil, err
			}
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
	l.pass(what)
	return resp, nil
}

// note keeps what it takes to give a lease back.
func (l *fksLine) note(r *http.Request, answer any) {
	data, _ := answer.(map[string]any)["data"].(map[string]any)
	if nonce, ok := data["nonce"].(string); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.leased, l.lease = r.URL.Path, http.Header{"Authorization": r.Header["Authorization"], "Fly-Machine-Lease-Nonce": {nonce}}
	}
}

// pass notes that a request has been carried out, and kills who sent it before
// the answer is told, if it is one that nobody was killed after.
func (l *fksLine) pass(what string) {
	if what == "" {
		return
	}
	what = numbers.ReplaceAllString(strings.ReplaceAll(what, l.name, "NAME"), "-")
	l.mu.Lock()
	p := l.process
	p.asked[what]++
	fresh := p.asked[what] > l.met[what]
	if fresh && !p.killed {
		l.met[what] = p.asked[what]
		if l.until--; l.every > 0 && l.until <= 0 {
			l.until = l.every
			p.killed = true
			l.kills = append(l.kills, fmt.Sprintf("%s, %d", what, p.asked[what]))
			_ = p.Process.Kill() // it may have ended: then its end is the moment
		}
	}
	killed := p.killed
	l.mu.Unlock()
	if killed {
		<-p.done
	}
}

// reroute puts the way through here in the place of every kubeconfig of the
// test's cluster.
func (l *fksLine) reroute(v any) (changed bool) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			changed = l.reroute(e) || changed
		}
	case map[string]any:
		metadata, _ := v["metadata"].(map[string]any)
		if text, ok := metadata["kubeconfig"].(string); ok && text != "" && v["name"] == l.name {
			metadata["kubeconfig"] = l.through(text)
			return true
		}
		for _, e := range v {
			changed = l.reroute(e) || changed
		}
	}
	return changed
}

// through is a kubeconfig that leads where another one does, by way of here.
func (l *fksLine) through(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.way != "" {
		return l.way
	}
	must := func(err error) {
		if err != nil {
			l.t.Error(err)
		}
	}
	raw, err := clientcmd.Load([]byte(text))
	must(err)
	cluster := raw.Clusters[raw.Contexts[raw.CurrentContext].Cluster]
	proxy, err := url.Parse(cluster.ProxyURL)
	must(err)
	server, err := url.Parse(cluster.Server)
	must(err)
	known := x509.NewCertPool()
	known.AppendCertsFromPEM(cluster.CertificateAuthorityData)
	transport := &http.Transport{
		Proxy:           http.ProxyURL(proxy),
		TLSClientConfig: &tls.Config{RootCAs: known, ServerName: cluster.TLSServerName, MinVersion: tls.VersionTLS12},
	}
	l.t.Cleanup(transport.CloseIdleConnections)
	front := l.serve(server, func(r *http.Request) (*http.Response, error) {
		resp, err := transport.RoundTrip(r)
		if err == nil && r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == "" {
			l.mu.Lock()
			if resp.StatusCode == http.StatusCreated && r.Method == http.MethodPatch {
				l.created[r.URL.Path]++
			}
			l.mu.Unlock()
			l.pass("cluster " + r.Method + " " + r.URL.Path)
		}
		return resp, err
	}, httptest.NewTLSServer) // kubeconfigs name no server without TLS
	cluster.Server, cluster.ProxyURL, cluster.TLSServerName = front.URL, "", ""
	cluster.CertificateAuthorityData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	out, err := clientcmd.Write(*raw)
	must(err)
	l.way = string(out)
	return l.way
}

// write puts forge.cue in its place.
func (l *fksLine) write(tag string) {
	l.t.Helper()
	text := strings.NewReplacer("$NAME", l.name, "$TAG", tag).Replace(killedOnFKS)
	if err := os.WriteFile(filepath.Join(l.dir, "forge.cue"), []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// run is a forged that has ended.
func (l *fksLine) run(args ...string) *apply {
	l.t.Helper()
	p := &apply{Cmd: exec.CommandContext(l.t.Context(), "forged", args...), asked: map[string]int{}, done: make(chan struct{})}
	p.Dir, p.Stdout, p.Stderr, p.Env = l.dir, &p.log, &p.log, os.Environ()
	env := l.environ()
	for _, name := range []string{"FLY_FLAPS_BASE_URL", "FLY_API_BASE_URL", "FLY_UIEX_BASE_URL"} {
		env[name] = l.fly
	}
	for name, value := range env {
		p.Env = append(p.Env, name+"="+value)
	}
	l.mu.Lock()
	l.process = p
	err := p.Start()
	l.mu.Unlock()
	if err != nil {
		l.t.Fatal(err)
	}
	p.err = p.Wait()
	close(p.done)
	return p
}

// converge runs forged apply, kills it, and runs it again until it comes to its
// end. every is how many new requests lie between kills.
func (l *fksLine) converge(every int) {
	l.t.Helper()
	l.mu.Lock()
	l.every, l.until, l.met, l.kills = every, every, map[string]int{}, nil
	l.mu.Unlock()
	failures := 0
	for {
		p := l.run("apply", "--yes")
		if p.err == nil {
			break
		}
		if !p.killed {
			l.t.Logf("an apply after %d kills: %s", len(l.kills), lastLine(p.log.String()))
			if failures++; failures == 5 {
				l.t.Fatalf("no apply after the kills %q comes to its end:\n%s", l.kills, &p.log)
			}
		}
		l.expire()
	}
	l.mu.Lock()
	l.every = 0
	l.mu.Unlock()
	if p := l.run("plan"); p.err != nil || !strings.Contains(p.log.String(), "Nothing to change.") {
		l.t.Errorf("after %d kills it is not at rest: %v\n%s", len(l.kills), p.err, &p.log)
	}
}

// expire has the lease at Fly of who was killed run out, which takes 90 s there.
func (l *fksLine) expire() {
	l.t.Helper()
	l.mu.Lock()
	path, header := l.leased, l.lease
	l.leased = ""
	l.mu.Unlock()
	if path == "" {
		return
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, l.URL+path, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header = header
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	resp.Body.Close() // one that was given back already is not there
}

// TestKilledOnFKS kills forged apply with SIGKILL again and again while it makes
// a cluster at Fly, databases, and all that is in the cluster, and while it
// changes the app: after each request, to Fly or to the cluster, that has not
// been the last of a process before. Then there is what an undisturbed one makes,
// once, with the same secrets, and nothing is left to be done.
//
// With -every-kill that is so for every request, else for each seventh.
func TestKilledOnFKS(t *testing.T) {
	every := 7
	if *everyKill {
		every = 1
	}
	ends := map[int]string{}
	for _, every := range []int{0, every} {
		t.Run(fmt.Sprintf("killed after each of %d", every), func(t *testing.T) {
			l := newFKSLine(t)
			l.write("1.4.1")
			l.converge(every)
			first, secrets := l.end()
			t.Logf("killed %d times: %q", len(l.kills), l.kills)
			l.write("1.4.2")
			l.converge(every)
			second, after := l.end()
			t.Logf("killed %d times: %q", len(l.kills), l.kills)
			if diff := cmp.Diff(secrets, after); diff != "" {
				t.Error("the app is given other secrets than before")
			}
			if every > 0 && len(l.kills) < 2 {
				t.Errorf("killed after %q", l.kills)
			}
			l.once()
			ends[every] = first + "\n--\n" + second
		})
	}
	if diff := cmp.Diff(ends[0], ends[every]); diff != "" {
		t.Errorf("not as after an undisturbed run:\n%s", diff)
	}
}
