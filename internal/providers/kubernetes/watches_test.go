package kubernetes

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

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
