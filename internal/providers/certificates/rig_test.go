package certificates

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/providers/sights"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// The kinds of cert-manager and others are cluster-wide, and some tests want
// them not to be there: this package has a sandbox of its own.
func TestMain(m *testing.M) {
	if err := os.Unsetenv(sandboxtest.DirVariable); err != nil {
		panic(err)
	}
	os.Exit(sandboxtest.Main(m))
}

const patience = time.Minute

var (
	issuersGVR      = managerGVR(groupManager, "issuers")
	clusterGVR      = managerGVR(groupManager, "clusterissuers")
	certificatesGVR = managerGVR(groupManager, "certificates")
)

// rig is the providers with a namespace of their own, a clock that a test can
// turn, and no engine.
type rig struct {
	*sandboxtest.Env
	t       *testing.T
	dynamic dynamic.Interface
	all     Providers
	sights  *sights.Sights
	policy  forge.Policy
	names   Resolver

	mu     sync.Mutex
	ahead  time.Duration
	asked  []string
	events chan reconcile.Event
	leases *kubernetes.Leases
	stop   func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	r := &rig{
		Env: env, t: t, names: nobodyKnows{},
		policy: forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10},
	}
	var err error
	if r.dynamic, err = dynamic.NewForConfig(env.Config); err != nil {
		t.Fatal(err)
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// nobodyKnows is a resolver for tests that are about something else.
type nobodyKnows struct{ Resolver }

// start makes the providers, the way a process does that has just begun.
func (r *rig) start() {
	r.t.Helper()
	clusters := kubernetes.NewClusters(kubernetes.Options{
		Instance: r.Instance,
		OnRequest: func(_ forge.Target, verb string, _ int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if verb != "WATCH" {
				r.asked = append(r.asked, verb)
			}
		},
	})
	r.leases = kubernetes.NewLeases(clusters)
	o := Options{Clusters: clusters, Resolver: r.names, Now: r.now}
	r.sights = sights.New(r.now)
	r.all = Providers{newCertificates(o, r.sights), newIssuers(o, r.sights), newDNS(o, r.sights)}
	r.events = make(chan reconcile.Event, 1000)
	events := r.events
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	for _, p := range []reconcile.Provider{r.all.Certificates, r.all.Issuers, r.all.DNS} {
		watching.Go(func() { _ = p.Watch(ctx, func(e reconcile.Event) { events <- e }) })
	}
	r.stop = func() {
		cancel()
		watching.Wait()
		clusters.Close()
	}
}

// another is a second process of the same forged.
func (r *rig) another() *rig {
	r.t.Helper()
	o := &rig{Env: r.Env, t: r.t, dynamic: r.dynamic, names: r.names, policy: r.policy}
	o.start()
	r.t.Cleanup(func() { o.stop() })
	return o
}

// hold asks for the lease of the environment.
func (r *rig) hold(req reconcile.Request) bool {
	r.t.Helper()
	l, err := r.leases.Hold(r.t.Context(), req.Resource.ID.Environment, req.Resource)
	if err != nil {
		r.t.Fatal(err)
	}
	return l.Held
}

func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	r.start()
}

// now is the clock that the providers go by.
func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Add(r.ahead)
}

// later turns the clock.
func (r *rig) later(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ahead += d
}

// requests are those since the last call, without watches.
func (r *rig) requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.asked
	r.asked = nil
	return all
}

func (r *rig) request(kind string, spec forge.Spec) reconcile.Request {
	return reconcile.Request{
		Resource: forge.Resource{ID: forge.ID{Environment: "prod", Kind: kind, Name: "app"}, Target: r.Target(), Spec: spec},
		Policy:   r.policy,
	}
}

func (r *rig) provider(req reconcile.Request) reconcile.Provider {
	switch req.Resource.ID.Kind {
	case forge.KindIssuer:
		return r.all.Issuers
	case forge.KindDNS:
		return r.all.DNS
	default:
		return r.all.Certificates
	}
}

func (r *rig) observe(req reconcile.Request) reconcile.Observed {
	r.t.Helper()
	o, err := r.provider(req).Observe(r.t.Context(), req)
	if err != nil {
		r.t.Fatalf("observe: %v", err)
	}
	return o
}

func (r *rig) plan(req reconcile.Request) (reconcile.Observed, []reconcile.Step) {
	r.t.Helper()
	o := r.observe(req)
	steps, err := r.provider(req).Plan(r.t.Context(), req, o)
	if err != nil {
		r.t.Fatalf("plan: %v", err)
	}
	return o, steps
}

// try is one look whose error is what the test is about.
func (r *rig) try(req reconcile.Request) error {
	o, err := r.provider(req).Observe(r.t.Context(), req)
	if err != nil {
		return err
	}
	_, err = r.provider(req).Plan(r.t.Context(), req, o)
	return err
}

// converge applies until nothing is planned any more.
func (r *rig) converge(req reconcile.Request) reconcile.Observed {
	r.t.Helper()
	var last []reconcile.Step
	for range 5 {
		o, steps := r.plan(req)
		if len(steps) == 0 {
			return o
		}
		last = steps
		for _, s := range steps {
			if s.Blocked != "" {
				r.t.Fatalf("blocked: %s", s)
			}
			if _, err := r.provider(req).Apply(r.t.Context(), req, s); err != nil && reconcile.KindOf(err) != reconcile.Stale {
				r.t.Fatalf("apply %s: %v", s, err)
			}
		}
	}
	r.t.Fatalf("does not come to rest: %v", last)
	return reconcile.Observed{}
}

// await looks again with every event of the resource until ok.
func (r *rig) await(req reconcile.Request, what string, ok func(reconcile.Observed, []reconcile.Step, error) bool) reconcile.Observed {
	r.t.Helper()
	late := time.After(patience)
	for {
		o, err := r.provider(req).Observe(r.t.Context(), req)
		var steps []reconcile.Step
		if err == nil {
			steps, err = r.provider(req).Plan(r.t.Context(), req, o)
		}
		if ok(o, steps, err) {
			return o
		}
		for looking := true; looking; {
			select {
			case e := <-r.events:
				looking = e.ID != req.Resource.ID
			case <-late:
				r.t.Fatalf("%s: not seen within %s; health %+v, notices %+v, steps %v, error %v", what, patience, o.Health, o.Notices, steps, err)
			}
		}
	}
}

// awaitHealth waits for a health whose message has a text.
func (r *rig) awaitHealth(req reconcile.Request, status reconcile.HealthStatus, message string) reconcile.Observed {
	r.t.Helper()
	return r.await(req, string(status)+" with "+message, func(o reconcile.Observed, steps []reconcile.Step, err error) bool {
		return err == nil && len(steps) == 0 && o.Health.Status == status && strings.Contains(o.Health.Message, message)
	})
}

// install applies the kinds of a file and waits until they are served.
func (r *rig) install(file string) {
	r.t.Helper()
	for _, crd := range manifests(r.t, file) {
		api := r.dynamic.Resource(crdsGVR)
		raw, err := json.Marshal(crd.Object)
		if err != nil {
			r.t.Fatal(err)
		}
		force := true
		if _, err := api.Patch(r.t.Context(), crd.GetName(), types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: "admin", Force: &force}); err != nil {
			r.t.Fatal(err)
		}
		r.until("established: "+crd.GetName(), func() bool {
			live, err := api.Get(r.t.Context(), crd.GetName(), metav1.GetOptions{})
			return err == nil && condition(live, "Established")["status"] == "True"
		})
	}
}

// uninstall deletes the kinds of a file, or only some of them, and waits until
// they are gone.
func (r *rig) uninstall(file string, only ...string) {
	r.t.Helper()
	api := r.dynamic.Resource(crdsGVR)
	crds := slices.DeleteFunc(manifests(r.t, file), func(crd *unstructured.Unstructured) bool {
		return len(only) > 0 && !slices.Contains(only, crd.GetName())
	})
	for _, crd := range crds {
		if err := api.Delete(r.t.Context(), crd.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			r.t.Fatal(err)
		}
	}
	for _, crd := range crds {
		r.within(3*patience, "gone: "+crd.GetName(), func() bool {
			_, err := api.Get(r.t.Context(), crd.GetName(), metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
	}
}

// until asks now and then; for what no watch of the test shows.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	r.within(patience, what, ok)
}

func (r *rig) within(limit time.Duration, what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			r.t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func manifests(t *testing.T, file string) []*unstructured.Unstructured {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "crds", file+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var all []*unstructured.Unstructured
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096); ; {
		obj := &unstructured.Unstructured{}
		if err := d.Decode(&obj.Object); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, obj)
	}
}

// make creates an object as somebody else, with its status.
func (r *rig) make(gvr schema.GroupVersionResource, obj map[string]any) *unstructured.Unstructured {
	r.t.Helper()
	u := &unstructured.Unstructured{Object: obj}
	api := r.in(gvr, u.GetNamespace())
	made, err := api.Create(r.t.Context(), u, metav1.CreateOptions{FieldManager: "somebody"})
	if err != nil {
		r.t.Fatal(err)
	}
	if status, ok := obj["status"]; ok {
		r.status(gvr, u.GetNamespace(), u.GetName(), status.(map[string]any))
	}
	return made
}

func (r *rig) in(gvr schema.GroupVersionResource, namespace string) dynamic.ResourceInterface {
	if namespace == "" {
		return r.dynamic.Resource(gvr)
	}
	return r.dynamic.Resource(gvr).Namespace(namespace)
}

// status writes a status as a controller does.
func (r *rig) status(gvr schema.GroupVersionResource, namespace, name string, status map[string]any) {
	r.t.Helper()
	raw, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.in(gvr, namespace).Patch(r.t.Context(), name, types.MergePatchType, raw, metav1.PatchOptions{FieldManager: "controller"}, "status"); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) get(gvr schema.GroupVersionResource, namespace, name string) *unstructured.Unstructured {
	r.t.Helper()
	live, err := r.in(gvr, namespace).Get(r.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return live
}

func meta(namespace, name string) map[string]any {
	m := map[string]any{"name": name}
	if namespace != "" {
		m["namespace"] = namespace
	}
	return m
}

func conditions(list ...[4]string) []any {
	var all []any
	for _, c := range list {
		all = append(all, map[string]any{"type": c[0], "status": c[1], "reason": c[2], "message": c[3], "lastTransitionTime": "2026-03-01T12:00:00Z"})
	}
	return all
}
