package objects

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
	"forged.dev/forged/internal/sandboxtest"
)

func TestMain(m *testing.M) { os.Exit(sandboxtest.Main(m)) }

const patience = time.Minute

var person = metav1.PatchOptions{FieldManager: "kubectl-edit"}

// rig is a provider with a namespace of its own, and no engine.
type rig struct {
	*sandboxtest.Env
	t        *testing.T
	clusters *kubernetes.Clusters
	p        reconcile.Provider
	events   chan reconcile.Event
	policy   forge.Policy

	mu       sync.Mutex
	requests []string
	cut      func() // called after an object was applied; may be nil
}

func newRig(t *testing.T, provider func(*kubernetes.Clusters) reconcile.Provider) *rig {
	t.Helper()
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	r := &rig{Env: env, t: t, events: make(chan reconcile.Event, 100), policy: forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10}}
	r.clusters = kubernetes.NewClusters(kubernetes.Options{
		Instance: env.Instance,
		OnRequest: func(_ forge.Target, verb string, _ int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.requests = append(r.requests, verb)
			if r.cut != nil && verb == "APPLY" {
				r.cut()
			}
		},
	})
	r.p = provider(r.clusters)
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { _ = r.p.Watch(ctx, func(e reconcile.Event) { r.events <- e }) })
	t.Cleanup(func() {
		cancel()
		watching.Wait()
		r.clusters.Close()
	})
	return r
}

// asked are the requests since the last call.
func (r *rig) asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.requests
	r.requests = nil
	return slices.DeleteFunc(all, func(verb string) bool { return verb == "WATCH" })
}

func (r *rig) request(kind, name string, spec forge.Spec) reconcile.Request {
	return reconcile.Request{
		Resource: forge.Resource{ID: forge.ID{Environment: "prod", Kind: kind, Name: name}, Target: r.Target(), Spec: spec},
		Policy:   r.policy,
	}
}

func (r *rig) plan(req reconcile.Request) (reconcile.Observed, []reconcile.Step) {
	r.t.Helper()
	o, err := r.p.Observe(r.t.Context(), req)
	if err != nil {
		r.t.Fatalf("observe: %v", err)
	}
	steps, err := r.p.Plan(r.t.Context(), req, o)
	if err != nil {
		r.t.Fatalf("plan: %v", err)
	}
	return o, steps
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
			if _, err := r.p.Apply(r.t.Context(), req, s); err != nil && reconcile.KindOf(err) != reconcile.Stale {
				r.t.Fatalf("apply %s: %v", s, err)
			}
		}
	}
	r.t.Fatalf("does not come to rest: %v", last)
	return reconcile.Observed{}
}

// await looks again with every event until ok.
func (r *rig) await(req reconcile.Request, what string, ok func(reconcile.Observed, []reconcile.Step) bool) (reconcile.Observed, []reconcile.Step) {
	r.t.Helper()
	late := time.After(patience)
	for {
		o, steps := r.plan(req)
		if ok(o, steps) {
			return o, steps
		}
		select {
		case <-r.events:
		case <-late:
			r.t.Fatalf("%s: not seen within %s; health %v, steps %v", what, patience, o.Health, steps)
		}
	}
}

// single is the one step, which a test is about.
func (r *rig) single(steps []reconcile.Step) reconcile.Step {
	r.t.Helper()
	if len(steps) != 1 {
		r.t.Fatalf("want one step, got %v", steps)
	}
	return steps[0]
}

// harness is a provider reached over a line that breaks.
func harness(t *testing.T, provider func(*kubernetes.Clusters) reconcile.Provider) (*sandboxtest.Env, providertest.Harness) {
	t.Helper()
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	proxy := faultproxy.New(t, env.Config)
	cms := env.Client.CoreV1().ConfigMaps(env.Namespace)
	foreign, err := cms.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "foreign"}}, metav1.CreateOptions{FieldManager: "somebody"})
	if err != nil {
		t.Fatal(err)
	}
	target := forge.Target{Kubeconfig: proxy.Kubeconfig(), Context: faultproxy.Context}
	return env, providertest.Harness{
		Resource: forge.Resource{Target: target}, Changed: forge.Resource{Target: target},
		Policy:   forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10},
		Secrets:  []string{"there is none"},
		Patience: patience,
		Start: func(t *testing.T) reconcile.Provider {
			clusters := kubernetes.NewClusters(kubernetes.Options{Instance: env.Instance})
			t.Cleanup(clusters.Close)
			return provider(clusters)
		},
		BreakReads: func(*testing.T) func() { return proxy.CutAfter(0) },
		CutAfter:   func(_ *testing.T, n int) func() { return proxy.CutAfter(n) },
		Writes:     proxy.Mutations,
		Bystander: func(t *testing.T) {
			now, err := cms.Get(context.WithoutCancel(t.Context()), "foreign", metav1.GetOptions{})
			if apierrors.IsNotFound(err) || err != nil || now.ResourceVersion != foreign.ResourceVersion {
				t.Errorf("a ConfigMap that is not ours was touched: %v", err)
			}
		},
	}
}
