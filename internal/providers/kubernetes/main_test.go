package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

func TestMain(m *testing.M) {
	if args := os.Getenv(childVariable); args != "" {
		if err := leaseChild(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug - 10})))
	os.Exit(sandboxtest.Main(m))
}

const patience = time.Minute

// requests counts what leaves.
type requests struct {
	mu   sync.Mutex
	list []string
}

func (r *requests) observe(_ forge.Target, verb string, code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, fmt.Sprintf("%s %d", verb, code))
}

func (r *requests) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = nil
}

func (r *requests) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// writes are those that change something.
func (r *requests) writes() []string {
	return slices.DeleteFunc(r.all(), func(s string) bool {
		var verb string
		fmt.Sscan(s, &verb)
		return slices.Contains([]string{"GET", "LIST", "WATCH", "DRYRUN"}, verb)
	})
}

// bed is a cluster with a namespace and a forged of its own.
type bed struct {
	*sandboxtest.Env
	t        testing.TB
	clusters *Clusters
	c        *Cluster
	requests *requests
	events   chan reconcile.Event
	setup    func(*Clusters) // called before they are used; may be nil
}

func newBed(t testing.TB) *bed {
	t.Helper()
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	b := &bed{Env: env, t: t}
	b.start()
	return b
}

// start makes a forged; again after stop it is the next process.
func (b *bed) start() {
	b.t.Helper()
	b.begin(func(*Options) {}, func(*Clusters) {})
}

// begin is start with something about it changed.
func (b *bed) begin(options func(*Options), clusters func(*Clusters)) {
	b.t.Helper()
	b.requests = &requests{}
	o := Options{
		Instance: b.Instance, OnRequest: b.requests.observe,
		Logger: slog.New(slog.NewTextHandler(testWriter{b.t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	options(&o)
	b.clusters = NewClusters(o)
	clusters(b.clusters)
	b.t.Cleanup(b.clusters.Close)
	if b.setup != nil {
		b.setup(b.clusters)
	}
	var err error
	if b.c, err = b.clusters.Cluster(b.t.Context(), b.Target()); err != nil {
		b.t.Fatal(err)
	}
	b.events = make(chan reconcile.Event, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	events := b.events
	for _, kind := range []string{forge.KindNamespace, forge.KindSecrets, forge.KindRelease} {
		wg.Go(func() {
			_ = b.clusters.Watch(ctx, kind, func(e reconcile.Event) { events <- e })
		})
	}
	for subscribed := 0; subscribed < 3; runtime.Gosched() { // subscriptions are made without a word
		b.clusters.mu.Lock()
		subscribed = len(b.clusters.subscribers)
		b.clusters.mu.Unlock()
	}
	b.t.Cleanup(func() { cancel(); wg.Wait() })
}

func (b *bed) restart() {
	b.t.Helper()
	b.clusters.Close()
	b.start()
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p))
	return len(p), nil
}

func (b *bed) inventory() *Inventory {
	b.t.Helper()
	inv, err := b.c.Inventory(b.t.Context(), "prod", b.Namespace)
	if err != nil {
		b.t.Fatal(err)
	}
	return inv
}

func releaseID(name string) forge.ID {
	return forge.ID{Environment: "prod", Kind: forge.KindRelease, Name: name}
}

// manifest reads YAML and puts it into the test's namespace.
func (b *bed) manifest(text string) *unstructured.Unstructured {
	b.t.Helper()
	obj := parse(b.t, text)
	obj.SetNamespace(b.Namespace)
	return obj
}

func parse(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	obj := &unstructured.Unstructured{}
	if err := obj.UnmarshalJSON(b); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return obj
}

// apply normalises, stamps and applies.
func (b *bed) apply(id forge.ID, obj *unstructured.Unstructured) Applied {
	b.t.Helper()
	obj = obj.DeepCopy()
	b.c.Stamp(obj, id)
	if _, err := Normalise(obj); err != nil {
		b.t.Fatal(err)
	}
	a, err := b.c.Apply(b.t.Context(), obj)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// own applies objects as one resource, the way a provider does.
func (b *bed) own(id forge.ID, objs ...*unstructured.Unstructured) []Entry {
	b.t.Helper()
	var refs []Ref
	for _, o := range objs {
		refs = append(refs, RefOf(o))
	}
	inv := b.inventory()
	if err := inv.Begin(b.t.Context(), id, refs); err != nil {
		b.t.Fatal(err)
	}
	var entries []Entry
	for _, o := range objs {
		entries = append(entries, Entry{Ref: RefOf(o), Desired: "x", Baseline: b.apply(id, o).Baseline})
	}
	if err := inv.Commit(b.t.Context(), Record{ID: id, Entries: entries}); err != nil {
		b.t.Fatal(err)
	}
	return entries
}

func (b *bed) drifted(id forge.ID) []Drift {
	b.t.Helper()
	d, err := b.inventory().Drifted(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// event waits for the next event of a cause.
func (b *bed) event(id forge.ID, cause string) reconcile.Event {
	b.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e := <-b.events:
			if e.ID == id && e.Cause == cause {
				return e
			}
		case <-timeout:
			b.t.Fatalf("no %s event of %s within %s", cause, id, patience)
		}
	}
}

// quiet fails if there was an event of a cause.
func (b *bed) quiet(id forge.ID, cause string) {
	b.t.Helper()
	for {
		select {
		case e := <-b.events:
			if e.ID == id && e.Cause == cause {
				b.t.Fatalf("unexpected event: %+v", e)
			}
		default:
			return
		}
	}
}

// seen waits until the watch of an object has seen a resource version.
func (b *bed) seen(ref Ref, rv string) {
	b.t.Helper()
	w, err := b.c.watchFor(b.t.Context(), ref.GVK, ref.Name)
	if err != nil {
		b.t.Fatal(err)
	}
	timeout := time.After(patience)
	for {
		b.c.mu.Lock()
		at, moved, synced := w.rv, w.moved, w.synced
		b.c.mu.Unlock()
		if synced && !olderThan(at, rv) {
			return
		}
		select {
		case <-moved:
		case <-timeout:
			b.t.Fatalf("the watch of %s is at %s and does not reach %s", ref, at, rv)
		}
	}
}

// edit patches an object as somebody else.
func (b *bed) edit(ref Ref, manager string, kind types.PatchType, patch string, subresources ...string) *unstructured.Unstructured {
	b.t.Helper()
	mapping, err := b.c.Mapping(b.t.Context(), ref.GVK)
	if err != nil {
		b.t.Fatal(err)
	}
	opts := metav1.PatchOptions{FieldManager: manager}
	if kind == types.ApplyPatchType {
		force := true
		opts.Force = &force
	}
	live, err := b.c.resource(mapping, ref.Namespace).Patch(b.t.Context(), ref.Name, kind, []byte(patch), opts, subresources...)
	if err != nil {
		b.t.Fatalf("edit %s: %v", ref, err)
	}
	return live
}

func (b *bed) get(ref Ref) *unstructured.Unstructured {
	b.t.Helper()
	live, err := b.c.Get(b.t.Context(), ref)
	if err != nil {
		b.t.Fatal(err)
	}
	return live
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// await polls: for what no watch of ours shows.
func (b *bed) await(what string, done func() bool) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(2 * patience)
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			b.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func awaitField(b *bed, ref Ref, path, want string) {
	b.t.Helper()
	b.await(path+" to be "+want, func() bool { return b.field(ref, path) == want })
}
