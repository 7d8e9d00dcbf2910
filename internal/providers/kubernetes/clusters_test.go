package kubernetes

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// kubeconfig writes a kubeconfig with contexts that differ in server or user.
func kubeconfig(t testing.TB, base string, change func(*clientcmdapi.Config)) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	if base != "" {
		var err error
		if config, err = clientcmd.LoadFromFile(base); err != nil {
			t.Fatal(err)
		}
	}
	change(config)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func newClusters(t testing.TB) *Clusters {
	cs := NewClusters(Options{Instance: "test"})
	t.Cleanup(cs.Close)
	return cs
}

func wantError(t *testing.T, err error, kind reconcile.ErrorKind, parts ...string) {
	t.Helper()
	var e *reconcile.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("got %v (%s), want %s", err, reconcile.KindOf(err), kind)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q is not in: %v", p, err)
		}
	}
}

func TestUnknownContext(t *testing.T) {
	path := kubeconfig(t, "", func(c *clientcmdapi.Config) {
		c.Contexts["beta"], c.Contexts["alpha"] = &clientcmdapi.Context{}, &clientcmdapi.Context{}
	})
	cs := newClusters(t)
	_, err := cs.Cluster(t.Context(), forge.Target{Kubeconfig: path, Context: "gamma"})
	wantError(t, err, reconcile.Invalid, "gamma", "known contexts: alpha, beta", path)

	missing := filepath.Join(t.TempDir(), "none")
	_, err = cs.Cluster(t.Context(), forge.Target{Kubeconfig: missing, Context: "gamma"})
	wantError(t, err, reconcile.Invalid, missing)

	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = cs.Cluster(t.Context(), forge.Target{Kubeconfig: broken, Context: "gamma"})
	wantError(t, err, reconcile.Invalid)

	t.Setenv("KUBECONFIG", path) // the search path of every tool
	_, err = cs.Cluster(t.Context(), forge.Target{Context: "gamma"})
	wantError(t, err, reconcile.Invalid, "known contexts: alpha, beta")
}

// A server that does not answer is unknown, is tried again at the next call,
// and holds up nobody else.
func TestUnreachableServer(t *testing.T) {
	env := sandboxtest.Cluster(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := closed.Addr().String()
	closed.Close()
	path := kubeconfig(t, env.Kubeconfig, func(c *clientcmdapi.Config) {
		for name, address := range map[string]string{"silent": silent.Addr().String(), "refused": refused} {
			c.Clusters[name] = &clientcmdapi.Cluster{Server: "https://" + address, CertificateAuthorityData: c.Clusters[env.Context].CertificateAuthorityData}
			c.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: env.Context}
		}
	})
	cs := newClusters(t)
	stuck, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := cs.Cluster(stuck, forge.Target{Kubeconfig: path, Context: "silent"})
			ended <- err
		}()
	}
	for range 2 {
		_, err = cs.Cluster(t.Context(), forge.Target{Kubeconfig: path, Context: "refused"})
		wantError(t, err, reconcile.Unavailable, "refused", "kubectl --context refused")
	}
	c, err := cs.Cluster(t.Context(), forge.Target{Kubeconfig: path, Context: env.Context})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := cs.Cluster(t.Context(), forge.Target{Kubeconfig: path, Context: env.Context}); err != nil || again != c {
		t.Errorf("the second call connects anew: %v", err)
	}
	cancel()
	for range 2 {
		wantError(t, <-ended, reconcile.Unavailable)
	}
}

func TestWrongCertificate(t *testing.T) {
	env := sandboxtest.Cluster(t)
	path := kubeconfig(t, env.Kubeconfig, func(c *clientcmdapi.Config) {
		c.Clusters[env.Context].CertificateAuthorityData = nil
	})
	_, err := newClusters(t).Cluster(t.Context(), forge.Target{Kubeconfig: path, Context: env.Context})
	wantError(t, err, reconcile.Denied, "renew the kubeconfig")
}

// With a token that may do nothing, nothing is known; with one that may not
// list everywhere, the refusal names the verb and the resource.
func TestForbiddenIsUnknown(t *testing.T) {
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	ctx := t.Context()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "weak"}}
	if _, err := env.Client.CoreV1().ServiceAccounts(env.Namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := env.Client.CoreV1().ServiceAccounts(env.Namespace).CreateToken(ctx, "weak", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	target := forge.Target{Context: "weak", Kubeconfig: kubeconfig(t, env.Kubeconfig, func(c *clientcmdapi.Config) {
		c.AuthInfos["weak"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
		c.AuthInfos["none"] = &clientcmdapi.AuthInfo{Token: "wrong"}
		c.Contexts["weak"] = &clientcmdapi.Context{Cluster: env.Context, AuthInfo: "weak"}
		c.Contexts["none"] = &clientcmdapi.Context{Cluster: env.Context, AuthInfo: "none"}
	})}
	cs := newClusters(t)
	_, err = cs.Cluster(ctx, forge.Target{Kubeconfig: target.Kubeconfig, Context: "none"})
	wantError(t, err, reconcile.Denied, "credentials")
	_, err = cs.Cluster(ctx, target)
	wantError(t, err, reconcile.Denied, "kube-system")

	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: env.Namespace}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}}}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: env.Namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: env.Namespace},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: env.Namespace, Name: "weak"}},
	}
	if _, err := env.Client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := env.Client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := contextForCleanup()
		defer cancel()
		if err := errors.Join(
			env.Client.RbacV1().ClusterRoleBindings().Delete(ctx, env.Namespace, metav1.DeleteOptions{}),
			env.Client.RbacV1().ClusterRoles().Delete(ctx, env.Namespace, metav1.DeleteOptions{})); err != nil {
			t.Error(err)
		}
	})
	var c *Cluster
	for deadline := time.Now().Add(patience); ; { // the authorizer learns of it in its own time
		if c, err = cs.Cluster(ctx, target); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	ref := secretRef(env.Namespace, "s")
	_, err = c.Live(ctx, ref)
	wantError(t, err, reconcile.Denied, "secrets in namespace "+env.Namespace, "list and watch on secrets in namespace "+env.Namespace)
	live, err := c.Get(ctx, ref)
	if wantError(t, err, reconcile.Denied); live != nil {
		t.Error("got an object")
	}
	inv, err := c.Inventory(ctx, "prod", env.Namespace)
	if wantError(t, err, reconcile.Denied, "ConfigMap"); inv != nil {
		t.Error("got an inventory")
	}
}

// When the watches break, what they showed is not taken for the truth; when
// they work again, everybody looks again.
func TestLostWatch(t *testing.T) {
	b := newBed(t)
	id := releaseID("a")
	entry := b.own(id, b.configMap("a", `{x: "1"}`))[0]
	w, err := b.c.watchFor(t.Context(), entry.Ref.GVK, "")
	if err != nil {
		t.Fatal(err)
	}
	w.outcome("watch", &net.OpError{Op: "dial", Err: errors.New("connection refused")})
	_, err = b.inventory().Drifted(t.Context(), id)
	wantError(t, err, reconcile.Unavailable, "ConfigMap")
	w.outcome("watch", nil)
	b.event(id, causeWatch)
	if d := b.drifted(id); len(d) != 0 {
		t.Errorf("drifted: %+v", d)
	}
}

// A new connection has no watches yet: whoever relied on those of the old one
// has to look, also when it was somebody else who connected.
func TestReconnectionIsTold(t *testing.T) {
	b := newBed(t)
	id := releaseID("a")
	b.own(id, b.configMap("a", `{x: "1"}`), b.configMap("b", `{x: "1"}`))
	b.c.print = [32]byte{} // as if the kubeconfig had been written anew
	b.c.trouble.Store(true)
	c, err := b.clusters.Cluster(t.Context(), b.Target())
	if err != nil || c == b.c {
		t.Fatalf("not connected anew: %v", err)
	}
	b.event(id, causeWatch)
	if n := len(b.events); n != 0 {
		t.Errorf("%d more events", n)
	}
}

func TestMapping(t *testing.T) {
	b := newBed(t)
	gvk := schema.GroupVersionKind{Group: b.Instance + ".test.forged.dev", Version: "v1", Kind: "Widget"}
	_, err := b.c.Mapping(t.Context(), gvk)
	wantError(t, err, reconcile.Invalid, gvk.Group, "CustomResourceDefinition")
	b.customResource()
	m, err := b.c.Mapping(t.Context(), gvk) // discovery is read again
	if err != nil || m.Resource.Resource != "widgets" {
		t.Fatalf("got %v, %v", m, err)
	}
	b.requests.reset()
	if _, err := b.c.Mapping(t.Context(), gvk); err != nil || len(b.requests.all()) != 0 {
		t.Errorf("not cached: %q, %v", b.requests.all(), err)
	}

	version, apis, err := b.c.Discovery(t.Context())
	if err != nil || !strings.HasPrefix(version.GitVersion, "v1.") {
		t.Fatalf("version %v, %v", version, err)
	}
	have := strings.Join(apis, "\n") + "\n"
	for _, want := range []string{"v1", "v1/Secret", "apps/v1", "apps/v1/Deployment", gvk.Group + "/v1/Widget"} {
		if !strings.Contains(have, want+"\n") {
			t.Errorf("%s is not among the API versions", want)
		}
	}
	b.requests.reset()
	if _, _, err := b.c.Discovery(t.Context()); err != nil || len(b.requests.all()) != 0 {
		t.Errorf("not cached: %q, %v", b.requests.all(), err)
	}
}

// The same context leads to another cluster: nothing is done to it.
func TestAnotherClusterIsRefused(t *testing.T) {
	env := sandboxtest.Cluster(t)
	cs := newClusters(t)
	if _, err := connect(t.Context(), cs, env.Target(), "the uid it had before"); err == nil {
		t.Fatal("connected")
	} else {
		wantError(t, err, reconcile.Conflict, "another cluster", "the uid it had before")
	}
}

// A kubeconfig that leads elsewhere is followed once the old way is closed.
func TestKubeconfigIsReadAgain(t *testing.T) {
	env := sandboxtest.Cluster(t)
	path := kubeconfig(t, env.Kubeconfig, func(*clientcmdapi.Config) {})
	target := forge.Target{Kubeconfig: path, Context: env.Context}
	cs := newClusters(t)
	first, err := cs.Cluster(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config.Clusters[env.Context].TLSServerName = "kubernetes"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	if c, err := cs.Cluster(t.Context(), target); err != nil || c != first {
		t.Fatalf("read again although all is well: %v", err)
	}
	first.onRequest("GET", 0)
	second, err := cs.Cluster(t.Context(), target)
	if err != nil || second == first {
		t.Fatalf("not read again: %v", err)
	}
	if first.Context().Err() == nil {
		t.Error("the old connection goes on")
	}
	if _, err := first.Live(t.Context(), secretRef("a", "b")); reconcile.KindOf(err) != reconcile.Unavailable {
		t.Errorf("the old connection: %v", err)
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	before := goleak.IgnoreCurrent()
	cs := NewClusters(Options{Instance: env.Instance})
	watched := make(chan error)
	go func() { watched <- cs.Watch(context.Background(), forge.KindRelease, func(reconcile.Event) {}) }()
	c, err := cs.Cluster(t.Context(), env.Target())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Inventory(t.Context(), "prod", env.Namespace); err != nil {
		t.Fatal(err)
	}
	for _, gvk := range []schema.GroupVersionKind{
		{Version: "v1", Kind: "Secret"}, {Group: "apps", Version: "v1", Kind: "Deployment"}, {Version: "v1", Kind: "Namespace"},
	} {
		if _, err := c.Live(t.Context(), Ref{GVK: gvk, Namespace: env.Namespace, Name: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	cs.Close()
	if err := <-watched; err != nil {
		t.Error(err)
	}
	_, err = cs.Cluster(t.Context(), env.Target())
	wantError(t, err, reconcile.Unavailable, "shutting down")
	http.DefaultClient.CloseIdleConnections()
	goleak.VerifyNone(t, before)
}
