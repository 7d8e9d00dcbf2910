package endpoint

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// patience is for what a watch has to show.
const patience = time.Minute

// rig is the provider on a real cluster, with a server of the test behind the
// load balancer.
type rig struct {
	*sandboxtest.Env
	t       *testing.T
	p       *Provider
	events  chan reconcile.Event
	request reconcile.Request
	status  atomic.Int64 // that the server answers with
	asked   atomic.Int64 // how often it was
	read    atomic.Int64 // requests to the cluster, without watches
}

func newRig(t *testing.T) (*rig, string) {
	t.Helper()
	r := &rig{Env: sandboxtest.Cluster(t), t: t, events: make(chan reconcile.Event, 1000)}
	r.CreateNamespace(t)
	r.status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		r.asked.Add(1)
		w.WriteHeader(int(r.status.Load()))
	}))
	clusters := kubernetes.NewClusters(kubernetes.Options{Instance: r.Instance, OnRequest: func(_ forge.Target, verb string, _ int) {
		if verb != "WATCH" {
			r.read.Add(1)
		}
	}})
	r.p = newProvider(newClusters(clusters), line{proxy: func(*http.Request) (*url.URL, error) { return nil, nil }})
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { _ = r.p.Watch(ctx, func(e reconcile.Event) { r.events <- e }) })
	t.Cleanup(func() {
		cancel()
		watching.Wait()
		clusters.Close()
		server.Close()
	})
	q := at(t, server.URL)
	r.request.Resource = forge.Resource{ID: appID, Target: r.Target(), Spec: forge.EndpointSpec{
		Namespace: r.Namespace, Service: "app", Port: q.port, Path: "/", Interval: time.Hour, Failures: 3,
	}}
	return r, q.host
}

// await looks with every event until it is as it has to be.
func (r *rig) await(status reconcile.HealthStatus, message string) reconcile.Observed {
	r.t.Helper()
	late := time.After(patience)
	for {
		o, err := r.p.Observe(r.t.Context(), r.request)
		if err != nil {
			r.t.Fatal(err)
		}
		if o.Health.Status == status && strings.Contains(o.Health.Message, message) {
			return o
		}
		select {
		case e := <-r.events:
			if e.ID != appID {
				r.t.Errorf("an event of %s", e.ID)
			}
		case <-late:
			r.t.Fatalf("want %s: %q, and it is %+v", status, message, o.Health)
		}
	}
}

func (r *rig) service(addresses ...corev1.LoadBalancerIngress) {
	r.t.Helper()
	services, class := r.Client.CoreV1().Services(r.Namespace), "example.test/nobody"
	s, err := services.Get(r.t.Context(), "app", metav1.GetOptions{})
	if err != nil {
		s, err = services.Create(r.t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "app"},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, Selector: map[string]string{"app": "shop"},
				Ports: []corev1.ServicePort{{Port: 80}},
			},
		}, metav1.CreateOptions{})
	}
	if err == nil {
		s.Status.LoadBalancer.Ingress = addresses
		_, err = services.UpdateStatus(r.t.Context(), s, metav1.UpdateOptions{})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// pod makes one that runs nowhere, and says that it is ready.
func (r *rig) pod(name, revision string, labels ...string) {
	r.t.Helper()
	pods := r.Client.CoreV1().Pods(r.Namespace)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "shop", "pod-template-hash": revision}},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody", ServiceAccountName: "default", AutomountServiceAccountToken: new(bool),
			Containers: []corev1.Container{{Name: "app", Image: "app"}},
		},
	}
	for _, label := range labels {
		p.Labels["app"] = label
	}
	p, err := pods.Create(r.t.Context(), p, metav1.CreateOptions{})
	if err == nil {
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		_, err = pods.UpdateStatus(r.t.Context(), p, metav1.UpdateOptions{})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) gone(name string) {
	r.t.Helper()
	now := int64(0)
	if err := r.Client.CoreV1().Pods(r.Namespace).Delete(r.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		r.t.Fatal(err)
	}
}

// All that changes in the cluster is seen by watch: nothing but the first look
// and changes has the app asked, for an hour.
func TestInACluster(t *testing.T) {
	t.Parallel()
	r, host := newRig(t)
	r.await(reconcile.Progressing, "Service "+r.Namespace+"/app is not there yet")
	r.service()
	r.await(reconcile.Progressing, "Service "+r.Namespace+"/app has no address yet")
	r.service(corev1.LoadBalancerIngress{IP: host})
	o := r.await(reconcile.Ready, "")
	if o.Outputs[forge.OutputHost].Value != host || o.Outputs[forge.OutputAddress].Value != host {
		t.Errorf("outputs %v", o.Outputs)
	}

	r.status.Store(http.StatusServiceUnavailable)
	r.pod("a", "1")
	r.await(reconcile.Progressing, "it answers 503 Service Unavailable")
	r.status.Store(http.StatusOK)
	r.await(reconcile.Ready, "")

	// Pods of others are none of its business.
	before := r.asked.Load()
	r.pod("b", "1", "another")
	r.status.Store(http.StatusInternalServerError)
	r.pod("c", "2")
	r.await(reconcile.Progressing, "it answers 500 Internal Server Error")
	r.gone("a")
	r.status.Store(http.StatusFound)
	r.await(reconcile.Ready, "")
	if r.asked.Load() == before {
		t.Error("it was not asked since")
	}

	read, asked := r.read.Load(), r.asked.Load()
	for range 100 {
		r.await(reconcile.Ready, "")
	}
	if n := r.read.Load() - read; n > 0 {
		t.Errorf("%d requests to the cluster, and nothing has changed", n)
	}
	if n := r.asked.Load() - asked; n > 1 {
		t.Errorf("the app was asked %d times, and nothing has changed", n)
	}

	named := corev1.LoadBalancerIngress{Hostname: "app.invalid"}
	r.service(corev1.LoadBalancerIngress{IP: host}, named)
	o = r.await(reconcile.Progressing, "://app.invalid")
	if o.Outputs[forge.OutputHost].Value != "app.invalid" || o.Outputs[forge.OutputAddress].Value != "app.invalid "+host {
		t.Errorf("outputs %v", o.Outputs)
	}
	if err := r.Client.CoreV1().Services(r.Namespace).Delete(t.Context(), "app", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.await(reconcile.Progressing, "is not there yet")
	r.request.Remove = true
	if o, err := r.p.Observe(t.Context(), r.request); err != nil || o.Exists {
		t.Errorf("%+v, %v", o, err)
	}
}

// A cluster that cannot be read is unknown, and not a Service that is not there.
func TestAClusterThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	clusters := kubernetes.NewClusters(kubernetes.Options{Instance: "test"})
	defer clusters.Close()
	p := New(Options{Clusters: clusters})
	o, err := p.Observe(t.Context(), reconcile.Request{Resource: forge.Resource{
		ID: appID, Target: forge.Target{Kubeconfig: "testdata/none", Context: "nowhere"}, Spec: spec(),
	}})
	if err == nil || o.Exists {
		t.Errorf("%+v", o)
	}
}
