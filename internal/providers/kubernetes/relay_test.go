package kubernetes

import (
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// relay passes bytes between a client and a server. It can forget a connection
// without telling anybody, as a firewall does, and be gone, as a server does
// that restarts.
type relay struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	gone  bool
	conns map[net.Conn]chan struct{} // closed: nothing passes any more
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, to: to, conns: map[net.Conn]chan struct{}{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.hangUp()
		wg.Wait()
	})
	return r
}

func (r *relay) serve(c net.Conn) {
	defer c.Close()
	r.mu.Lock()
	gone, dead := r.gone, make(chan struct{})
	if !gone {
		r.conns[c] = dead
	}
	r.mu.Unlock()
	if gone {
		return
	}
	s, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer s.Close()
	pipe := func(to, from net.Conn) {
		defer to.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			select {
			case <-dead:
				n = 0 // swallowed
			default:
			}
			if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { pipe(s, c) })
	pipe(c, s)
	wg.Wait()
}

// forget leaves the connections of now open and dead.
func (r *relay) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c, dead := range r.conns {
		close(dead)
		r.conns[c] = make(chan struct{}) // never looked at
	}
}

func (r *relay) hangUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
		delete(r.conns, c)
	}
}

// away hangs up and takes nobody until it is called back.
func (r *relay) away() (back func()) {
	r.mu.Lock()
	r.gone = true
	r.mu.Unlock()
	r.hangUp()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.gone = false
	}
}

// through makes a bed whose forged reaches the cluster over a relay.
func through(t *testing.T) (*bed, *relay) {
	t.Helper()
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	cfg, err := clientcmd.LoadFromFile(env.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cluster := cfg.Clusters[cfg.Contexts[env.Context].Cluster]
	at, err := url.Parse(cluster.Server)
	if err != nil {
		t.Fatal(err)
	}
	r := newRelay(t, at.Host)
	cluster.Server = "https://" + r.listener.Addr().String()
	// client-go shares connections, and what was set for them, among all that
	// trust the same text.
	cluster.CertificateAuthorityData = append(cluster.CertificateAuthorityData, []byte("\n# "+env.Instance+"\n")...)
	env.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, env.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	b := &bed{Env: env, t: t}
	b.start()
	return b, r
}

// as changes a ConfigMap as somebody else, past the line to forged.
func (b *bed) as(manager, name, patch string) {
	b.t.Helper()
	other, err := rest.HTTPClientFor(b.Config)
	if err != nil {
		b.t.Fatal(err)
	}
	host, _, err := rest.DefaultServerUrlFor(b.Config)
	if err != nil {
		b.t.Fatal(err)
	}
	at := host.String() + "/api/v1/namespaces/" + b.Namespace + "/configmaps/" + name + "?fieldManager=" + manager
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPatch, at, strings.NewReader(patch))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", string(merge))
	resp, err := other.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("patch: %s", resp.Status)
	}
}

// A connection that somebody in between has forgotten is neither closed nor
// answered. Pings find that out, and nothing is missed.
func TestSilentlyDeadConnection(t *testing.T) {
	t.Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "1") // 30 where nobody sets it
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "1")      // 15
	b, line := through(t)
	id := releaseID("dead-line")
	b.own(id, b.configMap("c", `{a: "1"}`))
	b.still(id, "at first")
	line.forget()
	b.as("kubectl-edit", "c", `{"data":{"a":"2"}}`)
	b.event(id, causeLive)
	if d := b.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonEdited {
		t.Errorf("drifts %+v", d)
	}
}

// While an API server restarts nothing is known, and nothing is done. When it
// is back, what stood still is as it was, and what moved meanwhile is found.
func TestServerRestartsWhileAllIsIdle(t *testing.T) {
	b, line := through(t)
	id, other := releaseID("idle"), releaseID("moved")
	b.own(id, b.configMap("c", `{a: "1"}`), b.manifest(twoContainers))
	b.own(other, b.configMap("d", `{a: "1"}`))
	awaitLive(t, b.c, RefOf(b.manifest(twoContainers)), "ready", func(s State) bool { return s.Health.Status == reconcile.Ready })
	b.still(id, "at first")
	b.requests.reset()
	b.drainEvents()
	back := line.away()
	b.event(id, causeWatch)
	if _, err := b.inventory().Drifted(t.Context(), id); err == nil || reconcile.KindOf(err) != reconcile.Unavailable {
		t.Errorf("while it is away: %v", err)
	}
	b.as("kubectl-edit", "d", `{"data":{"a":"2"}}`)
	back()
	for !b.event(id, causeWatch).Retry {
	}
	b.await("both kinds to be seen again", func() bool {
		d, err := b.inventory().Drifted(t.Context(), id)
		if len(d) != 0 {
			t.Fatalf("drifted by a restart: %+v", d)
		}
		return err == nil
	})
	b.await("what moved to be seen", func() bool {
		d, err := b.inventory().Drifted(t.Context(), other)
		return err == nil && len(d) == 1
	})
	if w := b.requests.writes(); len(w) != 0 {
		t.Errorf("writes: %q", w)
	}
}

func (b *bed) drainEvents() {
	for {
		select {
		case <-b.events:
		default:
			return
		}
	}
}
