package kubernetes

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// wire looks into watches as they pass.
type wire struct {
	mu      sync.Mutex
	expire  bool // a watch that goes on from somewhere is told that this is too long ago
	expired int
	mute    bool   // bookmarks are lost
	astray  string // uid of the cluster in whose place another one answers
	lost    int
	open    map[io.Closer]struct{}
}

func (w *wire) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		query := r.URL.Query()
		w.mu.Lock()
		astray := w.astray
		w.mu.Unlock()
		if astray != "" && query.Get("labelSelector") != "" {
			r = r.Clone(r.Context())
			query.Set("labelSelector", LabelInstance+"=nobody")
			r.URL.RawQuery = query.Encode()
		}
		if query.Get("watch") == "" {
			resp, err := next.RoundTrip(r)
			if err == nil && astray != "" && strings.HasSuffix(r.URL.Path, "/namespaces/kube-system") {
				body, _ := io.ReadAll(resp.Body)
				resp.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(body, []byte(astray), []byte("00000000"+astray[8:]))))
			}
			return resp, err
		}
		w.mu.Lock()
		expire := w.expire && query.Get("sendInitialEvents") == "" && query.Get("resourceVersion") != ""
		if expire {
			w.expired++
		}
		w.mu.Unlock()
		if expire {
			const body = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old resource version"}`
			return &http.Response{
				StatusCode: http.StatusGone, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
				Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
			}, nil
		}
		resp, err := next.RoundTrip(r)
		if err != nil || resp.StatusCode != http.StatusOK {
			return resp, err
		}
		resp.Body = w.filter(resp.Body, strings.Contains(resp.Header.Get("Content-Type"), "protobuf"))
		return resp, nil
	})
}

// filter passes a watch on frame by frame.
func (w *wire) filter(from io.ReadCloser, protobuf bool) io.ReadCloser {
	out, in := io.Pipe()
	w.set(func() { w.open[in] = struct{}{} })
	next := func() ([]byte, error) { return frame(from) }
	if !protobuf {
		lines := newLines(from)
		next = lines.next
	}
	go func() {
		for {
			one, err := next()
			if err != nil {
				in.CloseWithError(err)
				return
			}
			w.mu.Lock()
			drop := w.mute && bytes.Contains(one, []byte("BOOKMARK")) && !bytes.Contains(one, []byte("initial-events-end"))
			if drop {
				w.lost++
			}
			w.mu.Unlock()
			if drop {
				continue
			}
			if _, err := in.Write(one); err != nil {
				return
			}
		}
	}()
	return struct {
		io.Reader
		io.Closer
	}{out, closers{from, out}}
}

type closers []io.Closer

func (c closers) Close() error {
	for _, one := range c {
		one.Close()
	}
	return nil
}

// frame reads one frame of a protobuf stream: its length, and itself.
func frame(r io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	one := make([]byte, 4+binary.BigEndian.Uint32(head))
	copy(one, head)
	_, err := io.ReadFull(r, one[4:])
	return one, err
}

type lines struct {
	from io.Reader
	rest []byte
}

func newLines(r io.Reader) *lines { return &lines{from: r} }

func (l *lines) next() ([]byte, error) {
	buf := make([]byte, 4096)
	for {
		if i := bytes.IndexByte(l.rest, '\n'); i >= 0 {
			one := l.rest[:i+1]
			l.rest = l.rest[i+1:]
			return one, nil
		}
		n, err := l.from.Read(buf)
		l.rest = append(l.rest, buf[:n]...)
		if err != nil {
			return nil, err
		}
	}
}

func (w *wire) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// hangUp ends all watches, the way a server does after a while.
func (w *wire) hangUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		c.Close()
		delete(w.open, c)
	}
}

func wired(t *testing.T) (*bed, *wire) {
	t.Helper()
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	w := &wire{open: map[io.Closer]struct{}{}}
	b := &bed{Env: env, t: t, setup: func(cs *Clusters) { cs.wrap = w.wrap }}
	b.start()
	return b, w
}

// A watch that cannot go on from where it was lists everything anew. What is as
// it was is no event, and what has changed in between is found.
func TestExpiredWatchListsAnew(t *testing.T) {
	b, w := wired(t)
	id, other := releaseID("expired"), releaseID("moved")
	b.own(id, b.configMap("c", `{a: "1"}`), b.configMap("d", `{a: "1"}`), b.manifest(twoContainers))
	b.own(other, b.configMap("e", `{a: "1"}`), b.configMap("f", `{a: "1"}`))
	awaitLive(t, b.c, RefOf(b.manifest(twoContainers)), "ready", func(s State) bool { return s.Health.Status == reconcile.Ready })
	b.drainEvents()
	b.requests.reset()
	w.set(func() { w.expire = true })
	w.hangUp()
	b.as("kubectl-edit", "e", `{"data":{"a":"2"}}`)
	if err := b.Client.CoreV1().ConfigMaps(b.Namespace).Delete(t.Context(), "f", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.await("a watch to have expired", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.expired > 0
	})
	b.await("what moved to be seen", func() bool {
		d, err := b.inventory().Drifted(t.Context(), other)
		return err == nil && len(d) == 2
	})
	b.still(id, "after the list")
	b.quiet(id, causeLive)
	if wr := b.requests.writes(); len(wr) != 0 {
		t.Errorf("writes: %q", wr)
	}
}

// Bookmarks only say how far a watch has come. Without them all is seen that
// is to be seen, and what we have written is not waited for.
func TestLostBookmarks(t *testing.T) {
	b, w := wired(t)
	w.set(func() { w.mute = true })
	id := releaseID("mute")
	obj, deployment := b.configMap("c", `{a: "1"}`), b.manifest(twoContainers)
	b.own(id, obj, deployment)
	for range 3 {
		b.heal(id, obj) // changes nothing
		b.heal(id, deployment)
		b.still(id, "after an apply")
	}
	b.edit(RefOf(obj), "kubectl-edit", merge, `{"data":{"a":"2"}}`)
	b.event(id, causeLive)
	b.heal(id, obj)
	b.still(id, "after a heal")
	w.hangUp()
	b.await("the watches to go on", func() bool {
		d, err := b.inventory().Drifted(t.Context(), id)
		return err == nil && len(d) == 0
	})
}

// A name that leads to another cluster from one moment to the next: there
// nothing of ours exists. That is no reason to put it there.
func TestAnotherClusterAnswers(t *testing.T) {
	b, w := wired(t)
	id := releaseID("astray")
	obj := b.configMap("c", `{a: "1"}`)
	b.own(id, obj, b.manifest(twoContainers))
	awaitLive(t, b.c, RefOf(b.manifest(twoContainers)), "ready", func(s State) bool { return s.Health.Status == reconcile.Ready })
	b.still(id, "at first")
	b.drainEvents()
	b.requests.reset()
	w.set(func() { w.astray, w.expire = b.c.UID(), true })
	w.hangUp()
	b.event(id, causeWatch)
	wrong := func(err error) {
		t.Helper()
		if reconcile.KindOf(err) != reconcile.Conflict || !strings.Contains(err.Error(), "another cluster") {
			t.Errorf("got %v", err)
		}
	}
	b.await("that to be noticed", func() bool {
		_, err := b.inventory().Drifted(t.Context(), id)
		return reconcile.KindOf(err) == reconcile.Conflict
	})
	_, err := b.inventory().Drifted(t.Context(), id)
	wrong(err)
	_, err = b.c.Apply(t.Context(), obj)
	wrong(err)
	wrong(b.c.Delete(t.Context(), RefOf(obj), "uid"))
	_, err = b.clusters.Cluster(t.Context(), b.Target())
	wrong(err)
	if all := b.requests.writes(); len(all) != 0 {
		t.Errorf("writes: %q", all)
	}

	w.set(func() { w.astray, w.expire = "", false })
	if b.c, err = b.clusters.Cluster(t.Context(), b.Target()); err != nil {
		t.Fatal(err)
	}
	b.still(id, "back again")
}

// An etcd that was restored from a backup shows an earlier time: nothing that
// was noted of the order of writes holds, and nothing is deleted for it.
func TestResourceVersionsGoBackwards(t *testing.T) {
	b := newBed(t)
	id := releaseID("restored")
	obj, other := b.configMap("c", `{a: "1"}`), b.configMap("d", `{a: "1"}`)
	b.own(id, obj, other)
	early := b.get(RefOf(obj))
	b.heal(id, b.configMap("c", `{a: "1", b: "2"}`)) // after the backup
	b.still(id, "at first")
	b.drainEvents()
	b.requests.reset()
	w, err := b.c.watchFor(t.Context(), RefOf(obj).GVK, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Replace([]any{early, b.get(RefOf(other))}, early.GetResourceVersion()); err != nil {
		t.Fatal(err)
	}
	b.event(id, causeLive)
	if d := b.drifted(id); len(d) != 1 || d[0].Entry.Ref != RefOf(obj) || d[0].Code != reconcile.ReasonEdited {
		t.Errorf("drifts %+v", d)
	}
	if all := b.requests.writes(); len(all) != 0 {
		t.Errorf("writes: %q", all)
	}
	b.heal(id, b.configMap("c", `{a: "1", b: "2"}`))
}
