package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// road leads to one cluster, as far as that is known.
type road struct {
	mu     sync.Mutex
	config *rest.Config
	err    error
	asked  int
}

var madeCluster = forge.ID{Environment: "prod", Kind: forge.KindFlyCluster, Name: "made"}

func (r *road) set(config *rest.Config, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.config, r.err = config, err
}

// Way implements Ways. Each answer brings a transport of its own, as one with a
// token that renews itself does.
func (r *road) Way(_ context.Context, cluster forge.ID) (*rest.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	switch {
	case r.err != nil:
		return nil, r.err
	case r.config == nil:
		return nil, reconcile.WaitingFor(cluster, forge.OutputKubeconfig)
	}
	cfg := rest.CopyConfig(r.config)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return next })
	return cfg, nil
}

func (s *stage) leadBy(r *road) {
	s.t.Helper()
	s.start()
	s.clusters.opts.Ways = r
}

// A cluster whose way in is not known yet is unknown, and not empty; a way that
// has only been renewed is no other one.
func TestClusterThatIsAResource(t *testing.T) {
	env := sandboxtest.Cluster(t)
	r := &road{}
	s := newStage(t, env)
	s.leadBy(r)
	target := forge.Target{Cluster: madeCluster}
	wanted := s.resources(target, env.Namespace)
	_, err := s.clusters.Cluster(t.Context(), target)
	wantError(t, err, reconcile.Waiting, "kubeconfig", madeCluster.String())
	_, err = s.namespaces.(reconcile.Owner).Owned(t.Context(), "prod", wanted)
	wantError(t, err, reconcile.Waiting)
	if _, err := s.secrets.Observe(t.Context(), s.request(wanted[1], false)); reconcile.KindOf(err) != reconcile.Waiting {
		t.Errorf("not known is not absent: %v", err)
	}

	r.set(env.Config, nil)
	s.deploy(wanted)
	c, err := s.clusters.Cluster(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if known, err := s.clusters.Cluster(t.Context(), target); err != nil || known != c {
		t.Errorf("connected anew: %v", err)
	}
	asked := r.asked
	c.trouble.Store(true)
	if known, err := s.clusters.Cluster(t.Context(), target); err != nil || known != c || r.asked != asked+1 {
		t.Errorf("connected anew, since its token was renewed: %v", err)
	}
	elsewhere := rest.CopyConfig(env.Config)
	elsewhere.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse("http://127.0.0.1:1") }
	if fingerprint(elsewhere) == c.print {
		t.Error("another proxy is no change")
	}
	r.set(elsewhere, nil)
	c.trouble.Store(true)
	_, err = s.clusters.Cluster(t.Context(), target)
	wantError(t, err, reconcile.Unavailable, "connect to made", "fly ext kubernetes save-kubeconfig made", "kubectl --kubeconfig made.kubeconfig.yml")
	r.set(env.Config, nil)
	if _, err := s.clusters.Cluster(t.Context(), target); err != nil {
		t.Error(err)
	}

	other := sandboxtest.Second(t)
	r.set(other.Config, nil)
	if c := s.clusters.followed(target); c != nil {
		c.trouble.Store(true)
	}
	_, err = s.clusters.Cluster(t.Context(), target)
	wantError(t, err, reconcile.Conflict, "cluster made is another one than before")
}

// What stands between here and a cluster may know more than that there is no
// answer: what it says is told, by its kind.
func TestWayThatSaysWhatIsMissing(t *testing.T) {
	env := sandboxtest.Cluster(t)
	cfg := rest.CopyConfig(env.Config)
	cfg.Wrap(func(http.RoundTripper) http.RoundTripper { return closedRoad{} })
	r := &road{config: cfg}
	s := newStage(t, env)
	s.leadBy(r)
	_, err := s.clusters.Cluster(t.Context(), forge.Target{Cluster: madeCluster})
	wantError(t, err, reconcile.Unavailable, "connect to made: reach cluster made: the bridge is up", "take the ferry")
	if err != nil && strings.Contains(err.Error(), "Get \"") {
		t.Errorf("the request is not what matters: %v", err)
	}
}

type closedRoad struct{}

// RoundTrip implements http.RoundTripper.
func (closedRoad) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, &reconcile.Error{Kind: reconcile.Unavailable, Op: "reach", Object: "cluster made", Err: fmt.Errorf("the bridge is up"), Hint: "take the ferry"}
}

// An environment that moves away from a cluster that was a resource does not
// forget what is in it: not while the way there is unknown, and until somebody
// has seen that it is gone.
func TestMovedFromAClusterThatIsAResource(t *testing.T) {
	env := sandboxtest.Cluster(t)
	elsewhere := sandboxtest.Second(t)
	r := &road{config: env.Config}
	s := newStage(t, env)
	s.leadBy(r)
	first, second := forge.Target{Cluster: madeCluster}, elsewhere.Target()
	before, after := s.resources(first, env.Namespace), s.resources(second, env.Namespace)
	s.deploy(before)
	s.left(before)
	s.deploy(after)
	t.Cleanup(func() {
		_ = elsewhere.Client.CoreV1().Namespaces().Delete(t.Context(), env.Namespace, metav1.DeleteOptions{})
		_ = env.Client.CoreV1().Namespaces().Delete(t.Context(), env.Namespace, metav1.DeleteOptions{})
	})
	suffix := "@@" + env.Namespace + "@made"
	want := fmt.Sprintf("prod/namespace/%s%s prod/secrets/shop%s", env.Namespace, suffix, suffix)
	for range 2 { // the second time by a process that knows from the inventory alone
		left := s.left(after)
		if names(left) != want || left[0].Target != first {
			t.Fatalf("left is %s, want %s", names(left), want)
		}
		s.leadBy(r)
	}
	r.set(nil, nil)
	s.leadBy(r)
	left := s.left(after)
	if len(left) != 1 || left[0].ID.Kind != forge.KindNamespace || left[0].Target != first {
		t.Fatalf("left is %s", names(left))
	}
	if _, err := s.namespaces.Observe(t.Context(), s.request(left[0], true)); reconcile.KindOf(err) != reconcile.Waiting {
		t.Errorf("observe: %v", err)
	}
	r.set(env.Config, nil)
	if left := s.left(after); names(left) != want {
		t.Fatalf("left is %s", names(left))
	}
	r.set(nil, reconcile.Errorf(reconcile.Invalid, "read the kubeconfig of cluster made", "permission denied"))
	s.leadBy(r)
	if left := s.left(after); len(left) != 1 || left[0].Target != first {
		t.Errorf("the way there cannot be read, and left is %s", names(left))
	}
	r.set(nil, &reconcile.Error{Kind: reconcile.Invalid, Op: "reach", Object: "cluster made", Err: reconcile.ErrGone})
	s.leadBy(r)
	if left := s.left(after); len(left) != 0 {
		t.Errorf("the cluster is gone, and left is %s", names(left))
	}
}
