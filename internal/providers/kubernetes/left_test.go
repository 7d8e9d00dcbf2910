package kubernetes

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/secret"
)

// A namespace that forged made is deleted when it is empty, and only then: what
// else is in it is named, whoever made it and of whatever kind.
func TestNamespaceIsRemovedWhenEmpty(t *testing.T) {
	env := sandboxtest.Cluster(t)
	f := &faults{allowed: -1}
	cs := NewClusters(Options{Instance: env.Instance})
	cs.wrap = f.wrap
	defer cs.Close()
	p := NewNamespaces(cs)
	r := namespaceRequest(env, true)
	do(t, p, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	leases := NewLeases(cs)
	if l, err := leases.Hold(t.Context(), "prod", r.Resource); err != nil || !l.Held {
		t.Fatal(l, err)
	}
	r.Remove = true
	ctx := t.Context()
	cms, claims := env.Client.CoreV1().ConfigMaps(env.Namespace), env.Client.CoreV1().PersistentVolumeClaims(env.Namespace)
	// More of what does not count than is listed at once, and what counts behind it.
	for i := range mostOfKind + 10 {
		mustMake(t, cms, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("forged-inventory-prod.%d", i), Labels: map[string]string{labelPart: env.Instance},
		}})
	}
	mustMake(t, cms, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}})
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data-postgres-0"}}
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: mustQuantity(t, "1Gi")}
	if _, err := claims.Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, steps := plan(t, p, r)
	if len(steps) != 1 || !strings.Contains(steps[0].Blocked, "PersistentVolumeClaim data-postgres-0, ConfigMap theirs;") {
		t.Fatalf("removal: %v", steps)
	}
	if _, err := p.Apply(ctx, r, steps[0]); reconcile.KindOf(err) != reconcile.Invalid {
		t.Errorf("a blocked step was applied: %v", err)
	}
	if err := claims.Delete(ctx, claim.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := claims.Patch(ctx, claim.Name, merge, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil && !strings.Contains(err.Error(), "not found") {
		t.Fatal(err)
	}
	if err := cms.Delete(ctx, "theirs", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}

	// What cannot be listed may be there.
	f.reject(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/cronjobs") })
	o, err := p.Observe(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if steps, err := p.Plan(ctx, r, o); err == nil {
		t.Errorf("planned without knowing: %v", steps)
	}
	f.reject(nil)

	// Something comes between the plan and its step.
	_, steps = plan(t, p, r)
	if len(steps) != 1 || steps[0].Blocked != "" || steps[0].Deletes != 1 {
		t.Fatalf("removal: %v", steps)
	}
	mustMake(t, cms, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}})
	if _, err := p.Apply(ctx, r, steps[0]); reconcile.KindOf(err) != reconcile.Stale || err == nil {
		t.Errorf("deleted with something in it: %v", err)
	}
	if err := cms.Delete(ctx, "late", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, o := do(t, p, r, reconcile.ActionDelete, reconcile.ReasonUnwanted); o.Exists {
		t.Errorf("observed %+v", o)
	}
	c, err := cs.Cluster(ctx, env.Target())
	if err != nil {
		t.Fatal(err)
	}
	awaitGone(t, c, namespaceRef(env.Namespace))
}

// stage is an environment on the move.
type stage struct {
	t          *testing.T
	env        *sandboxtest.Env
	clusters   *Clusters
	namespaces reconcile.Provider
	secrets    reconcile.Provider
}

func newStage(t *testing.T, env *sandboxtest.Env) *stage {
	s := &stage{t: t, env: env}
	s.start()
	return s
}

func (s *stage) start() {
	if s.clusters != nil {
		s.clusters.Close()
	}
	s.clusters = NewClusters(Options{Instance: s.env.Instance, Logger: slog.New(slog.NewTextHandler(testWriter{s.t}, nil))})
	s.clusters.clock = newFakeClock()
	s.t.Cleanup(s.clusters.Close)
	s.namespaces = NewNamespaces(s.clusters)
	s.secrets = NewSecrets(s.clusters, &secret.Resolver{})
}

func (s *stage) resources(target forge.Target, namespace string) []forge.Resource {
	ns := forge.ID{Environment: "prod", Kind: forge.KindNamespace, Name: namespace}
	return []forge.Resource{
		{ID: ns, Target: target, Spec: forge.NamespaceSpec{Name: namespace, Create: true}},
		{
			ID: forge.ID{Environment: "prod", Kind: forge.KindSecrets, Name: "shop"}, Target: target, Needs: []forge.ID{ns},
			Spec: forge.SecretsSpec{Namespace: namespace, Secrets: []forge.SecretObject{{Name: "plain", Entries: []forge.SecretEntry{{Key: "a", Join: []forge.SecretPart{{Literal: "b"}}}}}}},
		},
	}
}

func (s *stage) provider(kind string) reconcile.Provider {
	if kind == forge.KindNamespace {
		return s.namespaces
	}
	return s.secrets
}

func (s *stage) request(r forge.Resource, remove bool) reconcile.Request {
	return reconcile.Request{Resource: r, Remove: remove, Policy: forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10}}
}

func (s *stage) deploy(rs []forge.Resource) {
	s.t.Helper()
	for _, r := range rs {
		p := s.provider(r.ID.Kind)
		for range 4 {
			_, steps := plan(s.t, p, s.request(r, false))
			if len(steps) == 0 {
				break
			}
			for _, step := range steps {
				if _, err := p.Apply(s.t.Context(), s.request(r, false), step); err != nil {
					s.t.Fatalf("%s: %v", step, err)
				}
			}
		}
	}
}

// left is what is owned and not wanted.
func (s *stage) left(wanted []forge.Resource) []forge.Resource {
	s.t.Helper()
	s.clusters.clock.(*fakeClock).advance(2 * listedFor)
	var left []forge.Resource
	for _, p := range []reconcile.Provider{s.namespaces, s.secrets} {
		owned, err := p.(reconcile.Owner).Owned(s.t.Context(), "prod", wanted)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, o := range owned {
			if !slices.ContainsFunc(wanted, func(w forge.Resource) bool { return w.ID == o.ID && namespaceOf(w.Spec) != "" }) {
				left = append(left, o)
			}
		}
	}
	return left
}

func names(rs []forge.Resource) string {
	var all []string
	for _, r := range rs {
		all = append(all, r.ID.String())
	}
	return strings.Join(all, " ")
}

// An environment whose namespace changes in forge.cue does not leave the old one
// running unseen: what is there is owned and unwanted, and goes by the rules for
// that, in order.
func TestMovedNamespaceIsNotForgotten(t *testing.T) {
	env := sandboxtest.Cluster(t)
	s := newStage(t, env)
	old, young := env.Namespace, env.Namespace+"-new"
	t.Cleanup(func() { _ = env.Client.CoreV1().Namespaces().Delete(t.Context(), young, metav1.DeleteOptions{}) })
	before, after := s.resources(env.Target(), old), s.resources(env.Target(), young)
	s.deploy(before)
	if left := s.left(before); len(left) != 0 {
		t.Fatalf("nothing has moved, and left is %s", names(left))
	}
	s.deploy(after)
	for range 2 { // also by a process that has not seen it move
		left := s.left(after)
		want := fmt.Sprintf("prod/namespace/%s@@%s prod/secrets/shop@@%s", old, old, old)
		if names(left) != want {
			t.Fatalf("left is %s, want %s", names(left), want)
		}
		if needs := left[1].Needs; len(needs) != 1 || needs[0] != left[0].ID {
			t.Errorf("it needs %v", needs)
		}
		s.start()
	}
	left := s.left(after)
	_, steps := plan(t, s.namespaces, s.request(left[0], true))
	if len(steps) != 1 || !strings.Contains(steps[0].Blocked, "Secret forged-prod, Secret plain") {
		t.Errorf("the namespace goes first: %v", steps)
	}
	if step, _ := do(t, s.secrets, s.request(left[1], true), reconcile.ActionDelete, reconcile.ReasonUnwanted); step.Deletes != 2 {
		t.Errorf("%s", step)
	}
	do(t, s.namespaces, s.request(left[0], true), reconcile.ActionDelete, reconcile.ReasonUnwanted)
	if left := s.left(after); len(left) != 0 {
		t.Errorf("left is %s", names(left))
	}
	if o, steps := plan(t, s.secrets, s.request(after[1], false)); len(steps) != 0 || !o.Exists {
		t.Errorf("what is wanted was touched: %v", steps)
	}
	c, err := s.clusters.Cluster(t.Context(), env.Target())
	if err != nil {
		t.Fatal(err)
	}
	awaitGone(t, c, namespaceRef(old))
}

// One that moves to another cluster is remembered where it is now. A context
// that is taken out of the kubeconfig is how a person says that the old cluster
// is gone.
func TestMovedClusterIsNotForgotten(t *testing.T) {
	env := sandboxtest.Cluster(t)
	elsewhere := sandboxtest.Second(t)
	config, err := os.ReadFile(env.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(kubeconfig, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(config)
	first, second := forge.Target{Kubeconfig: kubeconfig, Context: "cluster-1"}, elsewhere.Target()
	s := newStage(t, env)
	before, after := s.resources(first, env.Namespace), s.resources(second, env.Namespace)
	s.deploy(before)
	s.left(before)
	s.deploy(after)
	t.Cleanup(func() {
		if c, err := s.clusters.Cluster(t.Context(), second); err == nil {
			_ = c.Client().CoreV1().Namespaces().Delete(t.Context(), env.Namespace, metav1.DeleteOptions{})
		}
	})
	suffix := "@@" + env.Namespace + "@cluster-1"
	want := fmt.Sprintf("prod/namespace/%s%s prod/secrets/shop%s", env.Namespace, suffix, suffix)
	for range 2 { // the second time by a process that knows from the inventory alone
		left := s.left(after)
		if names(left) != want || left[0].Target != first {
			t.Fatalf("left is %s, want %s", names(left), want)
		}
		s.start()
	}

	// Out of reach it is unknown, not gone, and holds up nothing else.
	unreachable := strings.ReplaceAll(string(config), serverOf(t, config, 0), "https://127.0.0.1:1")
	write([]byte(unreachable))
	s.start()
	left := s.left(after)
	if len(left) != 1 || left[0].ID.Kind != forge.KindNamespace || left[0].Target != first {
		t.Fatalf("left is %s", names(left))
	}
	if _, err := s.namespaces.Observe(t.Context(), s.request(left[0], true)); reconcile.KindOf(err) != reconcile.Unavailable || err == nil {
		t.Errorf("observe: %v", err)
	}

	// Removed there, nothing is left to remember.
	write(config)
	s.start()
	left = s.left(after)
	if names(left) != want {
		t.Fatalf("left is %s", names(left))
	}
	do(t, s.secrets, s.request(left[1], true), reconcile.ActionDelete, reconcile.ReasonUnwanted)
	do(t, s.namespaces, s.request(left[0], true), reconcile.ActionDelete, reconcile.ReasonUnwanted)
	if left := s.left(after); len(left) != 0 {
		t.Errorf("left is %s", names(left))
	}
	c, err := s.clusters.Cluster(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := c.Inventory(t.Context(), "prod", env.Namespace)
	if err != nil || len(inv.leftElsewhere()) != 0 {
		t.Errorf("still noted: %v, %v", inv.leftElsewhere(), err)
	}
	if len(inv.IDs()) != 2 {
		t.Errorf("what is wanted is gone: %v", inv.IDs())
	}
}

func TestForgottenClusterIsForgotten(t *testing.T) {
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	s := newStage(t, env)
	gone := forge.Target{Kubeconfig: env.Kubeconfig, Context: "no-such-context"}
	wanted := s.resources(env.Target(), env.Namespace)
	s.deploy(wanted)
	c, err := s.clusters.Cluster(t.Context(), env.Target())
	if err != nil {
		t.Fatal(err)
	}
	inv, err := c.Inventory(t.Context(), "prod", env.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	inv.noteLeft(t.Context(), []Left{{Target: gone, Namespace: "x", ClusterUID: "u"}})
	s.start()
	if left := s.left(wanted); len(left) != 0 {
		t.Errorf("left is %s", names(left))
	}
}

func mustQuantity(t testing.TB, text string) resource.Quantity {
	t.Helper()
	q, err := resource.ParseQuantity(text)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func mustMake(t testing.TB, api typedcorev1.ConfigMapInterface, cm *corev1.ConfigMap) {
	t.Helper()
	if _, err := api.Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// serverOf is the address of the n-th cluster of a kubeconfig.
func serverOf(t testing.TB, config []byte, n int) string {
	t.Helper()
	for line := range strings.Lines(string(config)) {
		if _, address, ok := strings.Cut(line, "server: "); ok {
			if n == 0 {
				return strings.TrimSpace(address)
			}
			n--
		}
	}
	t.Fatal("no server in the kubeconfig")
	return ""
}
