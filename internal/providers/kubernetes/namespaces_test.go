package kubernetes

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

func namespaceRequest(env *sandboxtest.Env, create bool) reconcile.Request {
	return reconcile.Request{Resource: forge.Resource{
		ID: forge.ID{Environment: "prod", Kind: forge.KindNamespace, Name: env.Namespace}, Target: env.Target(),
		Spec: forge.NamespaceSpec{Name: env.Namespace, Create: create, Labels: map[string]string{"tier": "gold"}},
	}}
}

func plan(t testing.TB, p reconcile.Provider, r reconcile.Request) (reconcile.Observed, []reconcile.Step) {
	t.Helper()
	o, err := p.Observe(t.Context(), r)
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	steps, err := p.Plan(t.Context(), r, o)
	if err != nil {
		t.Fatalf("plan: %v", err)
	}
	return o, steps
}

// do carries out the only step there is to be.
func do(t testing.TB, p reconcile.Provider, r reconcile.Request, action reconcile.Action, code reconcile.ReasonCode) (reconcile.Step, reconcile.Observed) {
	t.Helper()
	_, steps := plan(t, p, r)
	if len(steps) != 1 || steps[0].Action != action || steps[0].Reason.Code != code || steps[0].Blocked != "" {
		t.Fatalf("planned %v, want one %s because of %s", steps, action, code)
	}
	o, err := p.Apply(t.Context(), r, steps[0])
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return steps[0], o
}

func TestNamespaceThatMustBeThere(t *testing.T) {
	env := sandboxtest.Cluster(t)
	cs := newClusters(t)
	p := NewNamespaces(cs)
	r := namespaceRequest(env, false)
	o, err := p.Observe(t.Context(), r)
	if err != nil || o.Exists {
		t.Fatalf("observe: %+v, %v", o, err)
	}
	_, err = p.Plan(t.Context(), r, o)
	wantError(t, err, reconcile.Invalid, "Namespace "+env.Namespace, "kubectl --context cluster-1 create namespace "+env.Namespace)
	env.CreateNamespace(t)
	c, err := cs.Cluster(t.Context(), env.Target())
	if err != nil {
		t.Fatal(err)
	}
	awaitLive(t, c, namespaceRef(env.Namespace), "there", func(s State) bool { return s.Exists })
	if o, steps := plan(t, p, r); len(steps) != 0 || !o.Exists {
		t.Errorf("observed %+v, planned %v", o, steps)
	}
}

// Somebody else's namespace is used and left as it is.
func TestForeignNamespaceIsNotTouched(t *testing.T) {
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	before, err := env.Client.CoreV1().Namespaces().Get(t.Context(), env.Namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	counted := &requests{}
	cs := NewClusters(Options{Instance: env.Instance, OnRequest: counted.observe})
	defer cs.Close()
	p := NewNamespaces(cs)
	r := namespaceRequest(env, true)
	o, steps := plan(t, p, r)
	if !o.Exists || o.Health.Status != reconcile.Ready || o.Objects != 0 || len(steps) != 0 {
		t.Errorf("observed %+v, planned %v", o, steps)
	}
	r.Remove = true
	if _, steps := plan(t, p, r); len(steps) != 0 {
		t.Errorf("removal: %v", steps)
	}
	after, err := env.Client.CoreV1().Namespaces().Get(t.Context(), env.Namespace, metav1.GetOptions{})
	if err != nil || after.ResourceVersion != before.ResourceVersion || len(counted.writes()) != 0 {
		t.Errorf("touched: %v, %q, %v", after.Labels, counted.writes(), err)
	}
	counted.reset()
	r.Remove = false
	for range 10 {
		plan(t, p, r)
	}
	if all := counted.all(); len(all) != 0 {
		t.Errorf("a steady state costs %q", all)
	}
}

func TestOwnNamespace(t *testing.T) {
	t.Parallel()
	env := sandboxtest.Cluster(t)
	cs := NewClusters(Options{Instance: env.Instance})
	defer cs.Close()
	p := NewNamespaces(cs)
	r := namespaceRequest(env, true)
	if _, o := do(t, p, r, reconcile.ActionCreate, reconcile.ReasonAbsent); !o.Exists || o.Objects != 1 || o.Health.Status != reconcile.Ready {
		t.Errorf("observed %+v", o)
	}

	// While it is held in its deletion it is not made again, and that is said.
	namespaces := env.Client.CoreV1().Namespaces()
	hold := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "hold", Finalizers: []string{"test.forged.dev/hold"}}}
	if _, err := env.Client.CoreV1().ConfigMaps(env.Namespace).Create(t.Context(), hold, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := namespaces.Delete(t.Context(), env.Namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c, err := cs.Cluster(t.Context(), env.Target())
	if err != nil {
		t.Fatal(err)
	}
	awaitLive(t, c, namespaceRef(env.Namespace), "being deleted", func(s State) bool { return s.Deleting })
	o, err := p.Observe(t.Context(), r)
	if err != nil || o.Health.Status != reconcile.Progressing {
		t.Fatalf("observed %+v, %v", o, err)
	}
	_, err = p.Plan(t.Context(), r, o)
	wantError(t, err, reconcile.Unavailable, "is being deleted", "get namespace "+env.Namespace)
	if _, err := env.Client.CoreV1().ConfigMaps(env.Namespace).Patch(t.Context(), "hold", merge, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, c, namespaceRef(env.Namespace))
	do(t, p, r, reconcile.ActionHeal, reconcile.ReasonDeleted)
	if o, steps := plan(t, p, r); !o.Exists || len(steps) != 0 {
		t.Errorf("observed %+v, planned %v", o, steps)
	}
}
