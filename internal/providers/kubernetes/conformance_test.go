package kubernetes

import (
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/secret"
)

// place is a namespace of a test's own, reached over a line that breaks.
type place struct {
	*sandboxtest.Env
	faults *faults
	target forge.Target
	writes *requests
	latest *Clusters // of the provider started last
}

func newPlace(t *testing.T) *place {
	env := sandboxtest.Cluster(t)
	return &place{Env: env, faults: &faults{allowed: -1}, writes: &requests{}, target: env.Target()}
}

func (p *place) harness(provider func(*Clusters) reconcile.Provider) providertest.Harness {
	return providertest.Harness{
		Policy:   forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10},
		Patience: patience,
		Start: func(t *testing.T) reconcile.Provider {
			clusters := NewClusters(Options{Instance: p.Instance, OnRequest: p.writes.observe})
			clusters.wrap = p.faults.wrap
			t.Cleanup(clusters.Close)
			p.latest = clusters
			return provider(clusters)
		},
		BreakReads: func(*testing.T) func() { return p.faults.after(0) },
		CutAfter:   func(_ *testing.T, n int) func() { return p.faults.after(n) },
		Writes:     func() int { return len(p.writes.writes()) },
	}
}

func TestSecretsConform(t *testing.T) {
	t.Parallel()
	const canary = "c4n4ryPassw0rd"
	providertest.Test(t, func(t *testing.T) providertest.Harness {
		p := newPlace(t)
		p.CreateNamespace(t)
		bystander := p.foreignConfigMap(t)
		resolver := &secret.Resolver{LookupEnv: func(name string) (string, bool) { return canary + name, true }}
		h := p.harness(func(c *Clusters) reconcile.Provider { return NewSecrets(c, resolver) })
		resource := func(variable string) forge.Resource {
			return forge.Resource{
				ID: forge.ID{Environment: "prod", Kind: forge.KindSecrets, Name: "shop"}, Target: p.target,
				Spec: forge.SecretsSpec{Namespace: p.Namespace, Secrets: []forge.SecretObject{
					{Name: "shop-env", Labels: map[string]string{"app": "shop"}, Entries: []forge.SecretEntry{
						{Key: "SIGNING", Ref: &forge.SecretRef{Env: variable}},
						{Key: "URL", Join: []forge.SecretPart{{Literal: "redis://:"}, {Secret: "shop-redis", Key: "password", URLEscape: true}}},
					}},
					{Name: "shop-redis", Entries: []forge.SecretEntry{
						{Key: "password", Ref: &forge.SecretRef{Generate: &forge.Generate{Alphabet: "alnum", Length: 24}}},
					}},
				}},
			}
		}
		h.Resource, h.Changed, h.Secrets = resource("OLD"), resource("NEW"), []string{canary, "YzRuNHJ5"}
		secrets := p.Client.CoreV1().Secrets(p.Namespace)
		h.Edit = func(t *testing.T) {
			_, err := secrets.Patch(t.Context(), "shop-env", merge, []byte(`{"stringData":{"SIGNING":"`+canary+`edited"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
			if err != nil {
				t.Fatal(err)
			}
		}
		h.Delete = func(t *testing.T) {
			if err := secrets.Delete(t.Context(), "shop-env", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		h.Bystander = bystander
		return h
	})
}

func TestNamespacesConform(t *testing.T) {
	t.Parallel()
	providertest.Test(t, func(t *testing.T) providertest.Harness {
		p := newPlace(t)
		h := p.harness(func(c *Clusters) reconcile.Provider { return NewNamespaces(c) })
		resource := func(tier string) forge.Resource {
			return forge.Resource{
				ID: forge.ID{Environment: "prod", Kind: forge.KindNamespace, Name: p.Namespace}, Target: p.target,
				Spec: forge.NamespaceSpec{Name: p.Namespace, Create: true, Labels: map[string]string{"tier": tier}},
			}
		}
		h.Resource, h.Changed, h.Secrets = resource("gold"), resource("silver"), []string{"there is none"}
		namespaces := p.Client.CoreV1().Namespaces()
		h.Settle = func(t *testing.T) {
			c, err := p.latest.Cluster(t.Context(), p.target)
			if err != nil {
				t.Fatal(err)
			}
			awaitGone(t, c, namespaceRef(p.Namespace))
		}
		h.Edit = func(t *testing.T) {
			_, err := namespaces.Patch(t.Context(), p.Namespace, merge, []byte(`{"metadata":{"labels":{"tier":"lead"}}}`), metav1.PatchOptions{FieldManager: "kubectl-label"})
			if err != nil {
				t.Fatal(err)
			}
		}
		h.Delete = func(t *testing.T) {
			if err := namespaces.Delete(t.Context(), p.Namespace, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			// While it is being deleted there is nothing to plan but to wait.
			c, err := p.latest.Cluster(t.Context(), p.target)
			if err != nil {
				t.Fatal(err)
			}
			awaitGone(t, c, namespaceRef(p.Namespace))
		}
		h.Bystander = func(t *testing.T) {
			ns, err := namespaces.Get(t.Context(), "default", metav1.GetOptions{})
			if err != nil || ns.Labels[LabelInstance] != "" {
				t.Errorf("default: %v, %v", ns.Labels, err)
			}
		}
		return h
	})
}

// awaitGone waits until a watch shows that an object is gone.
func awaitGone(t testing.TB, c *Cluster, ref Ref) {
	t.Helper()
	awaitLive(t, c, ref, "gone", func(s State) bool { return !s.Exists })
}

// awaitLive waits until the watch shows an object as somebody else made it.
func awaitLive(t testing.TB, c *Cluster, ref Ref, want string, ok func(State) bool) {
	t.Helper()
	w, err := c.watchFor(t.Context(), ref.GVK, ref.Name)
	if err != nil {
		t.Fatal(err)
	}
	timeout := time.After(4 * patience)
	for {
		c.mu.Lock()
		state, moved, synced := w.states[ref.key()], w.moved, w.synced
		c.mu.Unlock()
		if synced && ok(state) {
			return
		}
		select {
		case <-moved:
		case <-timeout:
			t.Fatalf("%s is not %s", ref, want)
		}
	}
}

// foreignConfigMap makes one that is nobody's, and returns a check of it.
func (p *place) foreignConfigMap(t *testing.T) func(*testing.T) {
	t.Helper()
	obj := parse(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: foreign}, data: {a: b}}")
	client := p.Client.CoreV1().ConfigMaps(p.Namespace)
	cm, err := client.Patch(t.Context(), "foreign", ssa, mustJSON(t, obj.Object), metav1.PatchOptions{FieldManager: "somebody"})
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) {
		now, err := client.Get(t.Context(), "foreign", metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err != nil || now.ResourceVersion != cm.ResourceVersion {
			t.Errorf("a ConfigMap that is not ours was touched: %v", err)
		}
	}
}
