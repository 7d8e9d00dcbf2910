package jobs

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

func TestMain(m *testing.M) { os.Exit(sandboxtest.Main(m)) }

const patience = time.Minute

var person = metav1.PatchOptions{FieldManager: "kubectl-edit"}

// never is more CPU than any node of the sandbox has: the pod is never begun.
const never = "100000"

// forms are what a process may run as: true as a Pod by itself.
var forms = map[string]bool{"job": false, "pod": true}

// objectsOf are the objects of a form in a namespace of a test.
func objectsOf(t testing.TB, env *sandboxtest.Env, pod bool) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(env.Config)
	if err != nil {
		t.Fatal(err)
	}
	gvr := clusterJob{}.gvk().GroupVersion().WithResource("jobs")
	if pod {
		gvr = plainPod{}.gvk().GroupVersion().WithResource("pods")
	}
	return client.Resource(gvr).Namespace(env.Namespace)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// rig is a provider with a namespace of its own. Its pods live as the test
// says: the annotation goes into them by way of Fit.
type rig struct {
	*sandboxtest.Env
	t        *testing.T
	clusters *kubernetes.Clusters
	p        *Provider
	events   chan reconcile.Event
	life     string // sandbox.forged.dev/pod
	spec     forge.JobSpec
	policy   forge.Policy
	stop     func()

	refuses string // what cannot be had, as Fit has it
	grace   int64  // seconds that the table gives to pods

	mu       sync.Mutex
	requests int
}

// inForms runs a test with a rig of each form.
func inForms(t *testing.T, test func(*testing.T, *rig)) {
	t.Parallel()
	for name, pod := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.spec.Pod = pod
			test(t, r)
		})
	}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	r := &rig{
		Env: env, t: t, policy: forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10},
		spec: forge.JobSpec{
			Process:   forge.Process{Image: "shop:1", Args: []string{"migrate"}},
			Namespace: env.Namespace, Name: "shop-migrate", Timeout: time.Hour, Rules: forge.Rules{Table: "test"},
		},
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// Fit gives the pods the life that the test asks for.
func (r *rig) Fit(_ context.Context, _ *kubernetes.Cluster, _ forge.Rules, objects []*unstructured.Unstructured) (kubernetes.Fitted, error) {
	if r.refuses != "" {
		return kubernetes.Fitted{}, reconcile.Errorf(reconcile.Invalid, "fit", "%s", r.refuses)
	}
	out := kubernetes.Fitted{Digest: "another one each time " + time.Now().String()}
	for _, o := range objects {
		o = o.DeepCopy()
		if r.grace > 0 {
			path := []string{"spec", "terminationGracePeriodSeconds"}
			if o.GetKind() == "Job" {
				path = append([]string{"spec", "template"}, path...)
			}
			if err := unstructured.SetNestedField(o.Object, r.grace, path...); err != nil {
				return kubernetes.Fitted{}, err
			}
		}
		if r.life != "" {
			path := []string{"metadata", "annotations", "sandbox.forged.dev/pod"}
			if o.GetKind() == "Job" {
				path = append([]string{"spec", "template"}, path...)
			}
			if err := unstructured.SetNestedField(o.Object, r.life, path...); err != nil {
				return kubernetes.Fitted{}, err
			}
			out.Changes = append(out.Changes, reconcile.Change{Path: kubernetes.RefOf(o).String() + ": " + strings.Join(path, "."), To: r.life})
			out.Notices = append(out.Notices, reconcile.Notice{Code: "fitted", Object: kubernetes.RefOf(o).String(), Message: "it lives as the test says"})
		}
		out.Objects = append(out.Objects, o)
	}
	return out, nil
}

func (r *rig) start() {
	r.clusters = kubernetes.NewClusters(kubernetes.Options{
		Instance: r.Instance,
		OnRequest: func(_ forge.Target, verb string, _ int) {
			if verb != "WATCH" {
				r.mu.Lock()
				r.requests++
				r.mu.Unlock()
			}
		},
	})
	r.p = New(Options{Clusters: r.clusters, Fitter: r})
	events := make(chan reconcile.Event, 1000)
	r.events = events
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	p, clusters := r.p, r.clusters
	watching.Go(func() { _ = p.Watch(ctx, func(e reconcile.Event) { events <- e }) })
	r.stop = func() {
		cancel()
		watching.Wait()
		clusters.Close()
	}
}

func (r *rig) restart() {
	r.stop()
	r.start()
}

func (r *rig) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.requests
	r.requests = 0
	return n
}

func (r *rig) request() reconcile.Request {
	return reconcile.Request{
		Resource: forge.Resource{ID: forge.ID{Environment: "prod", Kind: forge.KindJob, Name: "migrate"}, Target: r.Target(), Spec: r.spec},
		Policy:   r.policy,
	}
}

func (r *rig) look() (reconcile.Observed, []reconcile.Step) {
	r.t.Helper()
	o, err := r.p.Observe(r.t.Context(), r.request())
	if err != nil {
		r.t.Fatalf("observe: %v", err)
	}
	steps, err := r.p.Plan(r.t.Context(), r.request(), o)
	if err != nil {
		r.t.Fatalf("plan: %v", err)
	}
	return o, steps
}

// pass looks and does what is planned.
func (r *rig) pass() (reconcile.Observed, []reconcile.Step) {
	r.t.Helper()
	o, steps := r.look()
	for _, s := range steps {
		if s.Blocked != "" {
			continue
		}
		switch _, err := r.p.Apply(r.t.Context(), r.request(), s); reconcile.KindOf(err) {
		case reconcile.Stale, reconcile.Unavailable: // as the engine does: later
		default:
			if err != nil {
				r.t.Fatalf("apply %s: %v", s, err)
			}
		}
	}
	return o, steps
}

// until passes until ok, and returns all steps that were taken.
func (r *rig) until(what string, ok func(reconcile.Observed, []reconcile.Step) bool) (all []reconcile.Step) {
	r.t.Helper()
	var o reconcile.Observed
	var steps []reconcile.Step
	late := time.After(patience)
	tick := time.NewTicker(500 * time.Millisecond) // for what the engine would try again
	defer tick.Stop()
	for {
		if o, steps = r.pass(); ok(o, steps) {
			return all
		}
		all = append(all, steps...)
		select {
		case <-r.events:
		case <-tick.C:
		case <-late:
			r.t.Fatalf("not within %s: %s; health %+v, steps %v", patience, what, o.Health, steps)
		}
	}
}

func is(status reconcile.HealthStatus) func(reconcile.Observed, []reconcile.Step) bool {
	return func(o reconcile.Observed, steps []reconcile.Step) bool {
		return o.Health.Status == status && len(steps) == 0
	}
}

func (r *rig) objects() dynamic.ResourceInterface { return objectsOf(r.t, r.Env, r.spec.Pod) }

// jobs are the names of the objects of the form.
func (r *rig) jobs() (names []string) {
	r.t.Helper()
	list, err := r.objects().List(r.t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelInstance})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, j := range list.Items {
		names = append(names, j.GetName())
	}
	return names
}

func (r *rig) delete(name string) {
	r.t.Helper()
	now := metav1.DeletePropagationBackground
	if err := r.objects().Delete(r.t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &now}); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, name+" has gone", func() bool {
		_, err := r.objects().Get(r.t.Context(), name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

// annotate asks for another run.
func (r *rig) annotate(name string) {
	r.t.Helper()
	note := []byte(`{"metadata":{"annotations":{"` + kubernetes.AnnotationRunAgain + `":"yes"}}}`)
	if _, err := r.objects().Patch(r.t.Context(), name, types.MergePatchType, note, person); err != nil {
		r.t.Fatal(err)
	}
}

// end has a process run out of time.
func (r *rig) end(name string) {
	r.t.Helper()
	patch, sub := `{"spec":{"activeDeadlineSeconds":1}}`, []string(nil)
	if r.spec.Pod { // there is no kubelet that would
		patch, sub = `{"status":{"phase":"Failed","reason":"DeadlineExceeded"}}`, []string{"status"}
	}
	if _, err := r.objects().Patch(r.t.Context(), name, types.MergePatchType, []byte(patch), person, sub...); err != nil {
		r.t.Fatal(err)
	}
}

// begun waits until a pod runs.
func (r *rig) begun() {
	r.t.Helper()
	eventually(r.t, "it runs", func() bool {
		pods, err := r.Client.CoreV1().Pods(r.Namespace).List(r.t.Context(), metav1.ListOptions{FieldSelector: "status.phase=" + string(corev1.PodRunning)})
		return err == nil && len(pods.Items) == 1
	})
}

// created counts the objects that steps have made.
func created(steps []reconcile.Step) int {
	names := map[string]bool{}
	for _, s := range steps {
		if s.Action == reconcile.ActionCreate || s.Action == reconcile.ActionUpdate && s.Deletes == 0 {
			names[s.Object] = true
		}
	}
	return len(names)
}
