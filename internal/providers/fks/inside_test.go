package fks

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clients "k8s.io/client-go/kubernetes"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/secret"
)

func TestMain(m *testing.M) { os.Exit(sandboxtest.Main(m)) }

// patience is for what happens by itself, on a machine that may be slow.
const patience = 3 * time.Minute

// inside is forged with a cluster of Fly Kubernetes in the sandbox.
type inside struct {
	t        *testing.T
	fly      *sandboxtest.Fly
	somebody *api.Client
	accounts *fly.Accounts
	provider *Provider
	clusters *kubernetes.Clusters
	requests atomic.Int64 // to clusters
	lists    atomic.Int64 // of them
	lines    lines
	mint     mint
	engine   *reconcile.Engine
	name     string
}

func newInside(t *testing.T) *inside {
	f := sandboxtest.FKS(t)
	in := &inside{t: t, fly: f, name: f.Name(t)}
	f.DeleteCluster(t, in.name)
	at := api.Endpoints{Machines: f.URL, GraphQL: f.URL, UI: f.URL, Prometheus: f.URL}
	var err error
	if in.somebody, err = api.New(api.Options{Endpoints: at, Token: secret.New([]byte(f.Token))}); err != nil {
		t.Fatal(err)
	}
	in.accounts = fly.NewAccounts(fly.Options{
		Instance: in.name, Endpoints: at, Tick: time.Second, HTTP: &http.Client{Transport: &in.mint},
		Resolver: &secret.Resolver{Dir: t.TempDir(), LookupEnv: func(string) (string, bool) { return f.Token, true }},
	})
	t.Cleanup(in.accounts.Close)
	in.provider = New(in.accounts)
	in.provider.connect = in.lines.over(in.provider.connect)
	in.clusters = kubernetes.NewClusters(kubernetes.Options{
		Instance: in.name, Ways: in.provider,
		OnRequest: func(_ forge.Target, verb string, _ int) {
			if in.requests.Add(1); verb == "LIST" {
				in.lists.Add(1)
			}
		},
	})
	t.Cleanup(in.clusters.Close)
	in.engine = reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{
		forge.KindFlyCluster: in.provider,
		forge.KindNamespace:  kubernetes.NewNamespaces(in.clusters),
		forge.KindConfig:     objects.NewConfig(in.clusters, t.TempDir()),
	}})
	t.Cleanup(func() {
		if err := in.somebody.DeleteApp(context.WithoutCancel(t.Context()), in.account().Inventory); err != nil && api.KindOf(err) != api.NotFound {
			t.Error(err)
		}
	})
	return in
}

func (in *inside) account() forge.FlyAccount {
	return forge.FlyAccount{Org: in.fly.Organization, Token: forge.SecretRef{Env: "FLY_TOKEN"}, Inventory: "forged-" + in.name}
}

func (in *inside) id(kind, name string) forge.ID {
	return forge.ID{Environment: "prod", Kind: kind, Name: name}
}

func (in *inside) cluster() forge.Resource {
	return forge.Resource{
		ID: in.id(forge.KindFlyCluster, in.name), Target: forge.Target{Org: in.fly.Organization},
		Spec: forge.FlyClusterSpec{Account: in.account(), Name: in.name, Create: true, Region: "iad"},
	}
}

func (in *inside) target() forge.Target { return forge.Target{Cluster: in.cluster().ID} }

// generation asks for the cluster, and for something in it.
func (in *inside) generation(text string) reconcile.Generation {
	cluster := in.cluster()
	namespace := forge.Resource{
		ID: in.id(forge.KindNamespace, "shop"), Target: in.target(), Needs: []forge.ID{cluster.ID},
		Spec: forge.NamespaceSpec{Name: "shop", Create: true},
	}
	config := forge.Resource{
		ID: in.id(forge.KindConfig, "files"), Target: in.target(), Needs: []forge.ID{cluster.ID, namespace.ID},
		Spec: forge.ConfigSpec{Namespace: "shop", Name: "files", Files: []forge.ConfigEntry{{Key: "a", Text: text}}},
	}
	return reconcile.Generation{Environments: []reconcile.Environment{{
		Name: "prod", Platform: forge.PlatformFKS, Target: in.name, Resources: []forge.Resource{cluster, namespace, config},
		Policy: forge.Policy{Mode: forge.ModeApply, Timeout: 10 * time.Minute, Interval: 5 * time.Minute, Adopt: forge.AdoptMustMatch},
	}}}
}

func (in *inside) must(err error) {
	in.t.Helper()
	if err != nil {
		in.t.Fatal(err)
	}
}

// client is somebody else's, in the cluster.
func (in *inside) client() clients.Interface {
	in.t.Helper()
	cfg, err := in.provider.Way(in.t.Context(), in.cluster().ID)
	in.must(err)
	c, err := clients.NewForConfig(cfg)
	in.must(err)
	return c
}

// revoke ends all tokens that open clusters, as their hour does.
func (in *inside) revoke() {
	in.t.Helper()
	all, err := in.somebody.LimitedTokens(in.t.Context(), in.fly.Organization)
	in.must(err)
	n := 0
	for _, made := range all {
		if made.Name == tokenName {
			in.must(in.somebody.DeleteLimitedToken(in.t.Context(), made.ID))
			n++
		}
	}
	if n == 0 {
		in.t.Error("nothing was opened with a token")
	}
}

// await waits until something is so.
func (in *inside) await(what string, so func(ctx context.Context) bool) {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), patience)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); !so(ctx); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			in.t.Fatalf("%s: not within %s; %+v", what, patience, in.engine.Status().Environments)
		}
	}
}

// A cluster is made, what is to be in it follows, and all of it goes on when
// tokens end.
func TestClusterAndWhatIsInIt(t *testing.T) {
	in := newInside(t)
	owned := func() error {
		g := in.generation("1")
		_, err := in.clusters.Owned(t.Context(), "prod", forge.KindConfig, g.Environments[0].Resources, func(namespace string) forge.Spec {
			return forge.ConfigSpec{Namespace: namespace}
		})
		return err
	}
	if err := owned(); reconcile.KindOf(err) != reconcile.Waiting {
		t.Errorf("what is owned in a cluster that nobody has seen: %v", err)
	}
	status, err := in.engine.Converge(t.Context(), in.generation("1"))
	in.must(err)
	if env := status.Environments[0]; env.State != reconcile.StateReady {
		t.Fatalf("%s: %+v %+v", env.State, env.Error, env.Resources)
	}
	in.must(owned())

	t.Run("the lease is in the cluster", func(t *testing.T) {
		config := in.generation("1").Environments[0].Resources[2]
		lease, err := kubernetes.NewLeases(in.clusters).Hold(t.Context(), "prod", config)
		if err != nil || !lease.Held {
			t.Fatal(lease, err)
		}
		if _, err := in.client().CoordinationV1().Leases("shop").Get(t.Context(), "forged-prod", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("tokens end", in.tokensEnd)
	t.Run("tokens run out", in.tokensRunOut)
	t.Run("the app of two clusters", in.appOfTwo)
	t.Run("objects are fitted", in.fitted)
	t.Run("a kubeconfig of the user's", in.ownKubeconfig)
	t.Run("others are in it", in.occupied)
}

// tokensEnd ends all tokens in the middle of everything.
func (in *inside) tokensEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	in.must(in.engine.Set(in.generation("1")))
	go func() { ended <- in.engine.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	files := in.client().CoreV1().ConfigMaps("shop")
	live := func(ctx context.Context) string {
		got, err := files.Get(ctx, "files", metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		if err != nil {
			return ""
		}
		return got.Data["a"]
	}
	in.await("all is well", func(context.Context) bool { return in.engine.Status().Environments[0].State == reconcile.StateReady })
	for _, text := range []string{"2", "3"} {
		in.revoke()
		in.must(in.engine.Set(in.generation(text)))
		in.revoke()
		in.await("a rollout", func(ctx context.Context) bool { return live(ctx) == text })
		in.revoke()
		in.must(files.Delete(ctx, "files", metav1.DeleteOptions{}))
		in.await("a heal", func(ctx context.Context) bool { return live(ctx) == text })
	}
	for _, action := range in.engine.Status().History {
		if action.Error != "" {
			t.Errorf("%+v", action)
		}
	}
}

// appOfTwo has a load balancer tell which of two apps is this cluster's.
func (in *inside) appOfTwo(t *testing.T) {
	p := New(in.accounts)
	request := reconcile.Request{Resource: in.cluster()}
	_, err := p.Observe(t.Context(), request)
	in.must(err)
	w := p.ways[in.cluster().ID]
	w.mu.Lock()
	w.appName = "" // as it is where the organization has more clusters
	w.mu.Unlock()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}, Selector: map[string]string{"app": "web"}},
	}
	_, err = in.client().CoreV1().Services("shop").Create(t.Context(), service, metav1.CreateOptions{})
	in.must(err)
	in.await("the app is known", func(ctx context.Context) bool { return w.findApp(ctx) })
	if w.findApp(t.Context()) {
		t.Error("it is told twice")
	}
	w.mu.Lock()
	w.appName, w.unanswered = "", time.Now()
	w.mu.Unlock()
	if w.lookInside(t.Context()); w.app() != "" {
		t.Error("it was asked in vain, and is asked again at once")
	}
	w.mu.Lock()
	w.unanswered = time.Time{}
	w.mu.Unlock()
	w.lookInside(t.Context())
	app, err := in.somebody.App(t.Context(), w.app())
	if err != nil || !strings.HasPrefix(app.Name, appPrefix) {
		t.Errorf("%+v %v", app, err)
	}
	o, err := p.Observe(t.Context(), request)
	if err != nil || o.Outputs[forge.OutputApp].Value != app.Name {
		t.Errorf("%+v %v", o, err)
	}
}

// fitted has objects fitted to what this cluster can do.
func (in *inside) fitted(t *testing.T) {
	c, err := in.clusters.Cluster(t.Context(), in.target())
	in.must(err)
	rules := forge.Rules{Table: forge.TableFKS}
	deployment := object("apps/v1", "Deployment", map[string]any{"template": map[string]any{"spec": map[string]any{
		"affinity":   map[string]any{"nodeAffinity": map[string]any{}},
		"containers": []any{map[string]any{"name": "web", "image": "web"}},
	}}})
	daemons := object("apps/v1", "DaemonSet", map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "a", "image": "a"}}}}})
	before := deployment.DeepCopy()
	got, err := NewFitter("").Fit(t.Context(), c, rules, []*unstructured.Unstructured{deployment})
	in.must(err)
	if _, there, _ := unstructured.NestedMap(got.Objects[0].Object, "spec", "template", "spec", "affinity"); there || len(got.Changes) == 0 || len(got.Notices) == 0 || got.Digest == "" {
		t.Errorf("%v %v %q", got.Changes, got.Notices, got.Digest)
	}
	if !same(before, deployment) {
		t.Error("what was given was changed")
	}
	asked := in.requests.Load()
	again, err := NewFitter("").Fit(t.Context(), c, rules, []*unstructured.Unstructured{deployment})
	if n := in.requests.Load() - asked; err != nil || n != 0 || again.Digest != got.Digest {
		t.Errorf("to fit again costs %d requests: %v", n, err)
	}
	_, err = NewFitter("").Fit(t.Context(), c, rules, []*unstructured.Unstructured{deployment, daemons})
	var refused *reconcile.Error
	if !errors.As(err, &refused) || refused.Kind != reconcile.Invalid || !strings.Contains(err.Error(), "DaemonSet") || !strings.Contains(err.Error(), "FKS") ||
		strings.Contains(err.Error(), ".;") || !strings.Contains(refused.Hint, `allowUnsupported: ["FKS109"]`) {
		t.Errorf("%v", err)
	}
	if plain, err := NewFitter("").Fit(t.Context(), c, forge.Rules{}, []*unstructured.Unstructured{daemons}); err != nil || plain.Digest != "" || len(plain.Notices) != 0 {
		t.Errorf("without rules: %+v %v", plain, err)
	}
	has, err := capabilities(t.Context(), c)
	in.must(err)
	if want := []string{"flyio-volume", "flyio-volume-retain"}; strings.Join(has.StorageClasses, " ") != strings.Join(want, " ") || len(has.IngressClasses) != 0 {
		t.Errorf("%+v", has)
	}
	if !strings.Contains(strings.Join(has.APIGroups, " "), appsv1.GroupName) {
		t.Errorf("%+v", has.APIGroups)
	}
}

func object(version, kind string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": version, "kind": kind, "metadata": map[string]any{"name": "web", "namespace": "shop"}, "spec": spec,
	}}
}

func same(a, b *unstructured.Unstructured) bool {
	x, _ := a.MarshalJSON()
	y, _ := b.MarshalJSON()
	return string(x) == string(y)
}

// ownKubeconfig takes the way that the user gives, and says what is missing where
// that leads nowhere.
func (in *inside) ownKubeconfig(t *testing.T) {
	live, err := in.somebody.AddOn(t.Context(), in.name, api.AddOnKubernetes)
	in.must(err)
	given := string(live.Kubeconfig.Reveal())
	var direct []string
	for line := range strings.Lines(given) {
		if !strings.Contains(line, "proxy-url:") {
			direct = append(direct, line)
		}
	}
	if strings.Join(direct, "") == given {
		t.Fatal("the sandbox gives out no proxy")
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	write := func(text string) {
		in.must(os.WriteFile(file, []byte(text), 0o600))
	}
	p := New(in.accounts)
	clusters := kubernetes.NewClusters(kubernetes.Options{Instance: in.name, Ways: p})
	defer clusters.Close()
	cluster := in.cluster()
	spec := cluster.Spec.(forge.FlyClusterSpec)
	spec.Kubeconfig = file
	cluster.Spec = spec
	health := func() reconcile.Health {
		o, err := p.Observe(t.Context(), reconcile.Request{Resource: cluster})
		in.must(err)
		return o.Health
	}
	if h := health(); h.Status != reconcile.Failed || !strings.Contains(h.Message, file) {
		t.Errorf("there is no such file: %+v", h)
	}
	write(strings.Join(direct, ""))
	if h := health(); h.Status != reconcile.Ready {
		t.Fatalf("%+v", h)
	}
	_, err = clusters.Cluster(t.Context(), in.target())
	if want := "the private network of organization acme is not reachable from here"; reconcile.KindOf(err) != reconcile.Unavailable ||
		!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "platform.kubeconfig") {
		t.Errorf("%v", err)
	}
	write(given)
	c, err := clusters.Cluster(t.Context(), in.target())
	in.must(err)
	if other, err := in.clusters.Cluster(t.Context(), in.target()); err != nil || other.UID() != c.UID() {
		t.Errorf("another cluster: %v", err)
	}
	write(strings.ReplaceAll(given, in.fly.Proxy, "http://127.0.0.1:1"))
	if again, err := clusters.Cluster(t.Context(), in.target()); err != nil || again != c {
		t.Errorf("a connection that is well was made anew: %v", err)
	}
	cfg, err := p.Way(t.Context(), cluster.ID)
	in.must(err)
	if u, err := cfg.Proxy(&http.Request{}); err != nil || u.Host != "127.0.0.1:1" {
		t.Errorf("the file is not read again: %v %v", u, err)
	}
}
