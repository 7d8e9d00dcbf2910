package jobs

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

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

// never is more CPU than any node of the sandbox has: the pod is never begun.
const never = "100000"

func TestConforms(t *testing.T) {
	t.Parallel()
	providertest.Test(t, func(t *testing.T) providertest.Harness {
		env := sandboxtest.Cluster(t)
		env.CreateNamespace(t)
		proxy := faultproxy.New(t, env.Config)
		target := forge.Target{Kubeconfig: proxy.Kubeconfig(), Context: faultproxy.Context}
		api := env.Client.BatchV1().Jobs(env.Namespace)
		foreign, err := api.Create(t.Context(), jobOf("foreign"), metav1.CreateOptions{FieldManager: "somebody"})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(image string) forge.Resource {
			return forge.Resource{
				ID: forge.ID{Environment: "prod", Kind: forge.KindJob, Name: "migrate"}, Target: target,
				Spec: forge.JobSpec{
					Process:   forge.Process{Image: image, Args: []string{"migrate"}, Env: map[string]string{"A": "1"}},
					Namespace: env.Namespace, Name: "shop-migrate", Labels: map[string]string{"app": "shop"},
					Resources: forge.Resources{CPU: never}, Timeout: time.Hour,
				},
			}
		}
		find := func(t *testing.T) string {
			t.Helper()
			list, err := api.List(t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelInstance})
			if err != nil || len(list.Items) == 0 {
				t.Fatalf("no job: %v", err)
			}
			return list.Items[0].Name
		}
		return providertest.Harness{
			Resource: ask("shop:1"), Changed: ask("shop:2"), Secrets: []string{"there is none"}, Patience: patience,
			Policy: forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10},
			Start: func(t *testing.T) reconcile.Provider {
				clusters := kubernetes.NewClusters(kubernetes.Options{Instance: env.Instance})
				t.Cleanup(clusters.Close)
				return New(Options{Clusters: clusters})
			},
			Edit: func(t *testing.T) {
				if _, err := api.Patch(t.Context(), find(t), types.MergePatchType, []byte(`{"spec":{"activeDeadlineSeconds":5000}}`), person); err != nil {
					t.Fatal(err)
				}
			},
			Delete: func(t *testing.T) {
				name, now := find(t), metav1.DeletePropagationBackground
				if err := api.Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &now}); err != nil {
					t.Fatal(err)
				}
				// While its pods are still there no other is made.
				eventually(t, "the pods have gone", func() bool {
					pods, err := env.Client.CoreV1().Pods(env.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + name})
					return err == nil && len(pods.Items) == 0
				})
			},
			BreakReads: func(*testing.T) func() { return proxy.CutAfter(0) },
			CutAfter:   func(_ *testing.T, n int) func() { return proxy.CutAfter(n) },
			Writes:     proxy.Mutations,
			Bystander: func(t *testing.T) {
				now, err := api.Get(context.WithoutCancel(t.Context()), "foreign", metav1.GetOptions{})
				if apierrors.IsNotFound(err) || err != nil || now.UID != foreign.UID || len(now.Labels) != len(foreign.Labels) {
					t.Errorf("a Job that is not ours was touched: %v", err)
				}
			},
		}
	})
}

func jobOf(name string) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i"}},
		}}},
	}
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
// says: the annotation goes into the template by way of fit.
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

	mu       sync.Mutex
	requests int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	r := &rig{
		Env: env, t: t, policy: forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10},
		spec: forge.JobSpec{
			Process:   forge.Process{Image: "shop:1", Args: []string{"migrate"}},
			Namespace: env.Namespace, Name: "shop-migrate", Timeout: time.Hour, Rules: "test",
		},
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
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
	r.p = New(Options{Clusters: r.clusters, Fit: r.fit})
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

func (r *rig) jobs() (names []string) {
	r.t.Helper()
	list, err := r.Client.BatchV1().Jobs(r.Namespace).List(r.t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelInstance})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, j := range list.Items {
		names = append(names, j.Name)
	}
	return names
}

func (r *rig) delete(name string) {
	r.t.Helper()
	now := metav1.DeletePropagationBackground
	if err := r.Client.BatchV1().Jobs(r.Namespace).Delete(r.t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &now}); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, name+" has gone", func() bool {
		_, err := r.Client.BatchV1().Jobs(r.Namespace).Get(r.t.Context(), name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

// created counts the Jobs that steps have made.
func created(steps []reconcile.Step) int {
	names := map[string]bool{}
	for _, s := range steps {
		if s.Action == reconcile.ActionCreate || s.Action == reconcile.ActionUpdate && s.Deletes == 0 {
			names[s.Object] = true
		}
	}
	return len(names)
}

// A finished Job that the cluster cleans away did run: that it is absent does
// not mean that it never was there.
func TestCompletedAndGoneIsNotRunAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if steps := r.until("complete", is(reconcile.Ready)); created(steps) != 1 {
		t.Errorf("steps: %v", steps)
	}
	name := r.jobs()[0]
	r.delete(name)
	r.asked()
	for range 3 {
		if o, steps := r.look(); o.Health.Status != reconcile.Ready || len(steps) > 0 {
			t.Fatalf("after it was cleaned away: %+v, %v", o.Health, steps)
		}
	}
	if n := r.asked(); n > 1 { // the note of its end may be written meanwhile
		t.Errorf("looks cost %d requests", n)
	}
	r.restart()
	if o, steps := r.look(); o.Health.Status != reconcile.Ready || len(steps) > 0 || len(r.jobs()) > 0 {
		t.Errorf("after a restart: %+v, %v, %v", o.Health, steps, r.jobs())
	}

	// A new image runs, and the one before is not run again when it comes back.
	r.spec.Image = "shop:2"
	if steps := r.until("the next image", is(reconcile.Ready)); created(steps) != 1 {
		t.Errorf("steps: %v", steps)
	}
	r.spec.Image, r.spec.Env = "shop:1", map[string]string{"LEVEL": "debug"}
	if steps := r.until("back to the first image", is(reconcile.Ready)); created(steps) != 0 {
		t.Errorf("an older image was migrated to again: %v", steps)
	}
}

// A failed Job stays failed until something that it is given changes, whatever
// happens around it; the reason is told.
func TestFailureIsNotRetriedBlindly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.life = "fail"
	r.until("failed", is(reconcile.Failed))
	o, _ := r.look()
	if !strings.Contains(o.Health.Message, "BackoffLimitExceeded") || !strings.Contains(o.Health.Message, "delete job "+r.jobs()[0]) {
		t.Errorf("message: %s", o.Health.Message)
	}
	r.restart()
	for range 3 {
		if o, steps := r.look(); o.Health.Status != reconcile.Failed || len(steps) > 0 {
			t.Fatalf("%+v, %v", o.Health, steps)
		}
	}

	r.life, r.spec.Env = "", map[string]string{"DATABASE": "right"}
	if steps := r.until("mended", is(reconcile.Ready)); created(steps) != 1 {
		t.Errorf("steps: %v", steps)
	}
	// The failed one was removed, late.
	if names := r.jobs(); len(names) != 1 {
		t.Errorf("left: %v", names)
	}
}

// A person asks for another run by deleting the Job that failed, or by an
// annotation on one that is over.
func TestPersonAsksForAnotherRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.life = "fail"
	r.until("failed", is(reconcile.Failed))
	r.life = ""
	first := r.jobs()[0]
	r.delete(first)
	if steps := r.until("the second run", is(reconcile.Ready)); created(steps) != 1 {
		t.Errorf("after the failed Job was deleted: %v", steps)
	}

	second := r.jobs()[0]
	if second == first {
		t.Error("the second run has the name of the first")
	}
	note := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"yes"}}}`, kubernetes.AnnotationRunAgain)
	if _, err := r.Client.BatchV1().Jobs(r.Namespace).Patch(t.Context(), second, types.MergePatchType, note, person); err != nil {
		t.Fatal(err)
	}
	var all []reconcile.Step
	eventually(t, "a third Job", func() bool {
		_, steps := r.pass()
		all = append(all, steps...)
		return !slices.Contains(r.jobs(), second) && len(r.jobs()) == 1
	})
	all = append(all, r.until("the third run", is(reconcile.Ready))...)
	if created(all) != 1 {
		t.Errorf("after the annotation: %v", all)
	}
	r.restart()
	if o, steps := r.look(); !is(reconcile.Ready)(o, steps) {
		t.Errorf("after a restart: %+v %v", o.Health, steps)
	}
}

// A Job has a name that is made of what it is given. While that is about to
// change, the plan names none that is never made.
func TestNameIsUnknownWhileInputsMove(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := r.request()
	secrets := forge.ID{Environment: "prod", Kind: forge.KindSecrets, Name: "shop"}
	req.Moving = []forge.ID{secrets, {Environment: "prod", Kind: forge.KindRelease, Name: "postgres"}}
	o, err := r.p.Observe(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := r.p.Plan(t.Context(), req, o)
	if err != nil || len(steps) != 1 {
		t.Fatalf("%v, %v", steps, err)
	}
	want := "create Job " + r.Namespace + "/shop-migrate-…: absent (its name is unknown until prod/secrets/shop is applied)"
	if got := steps[0].String(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if _, steps := r.look(); len(steps) != 1 || strings.Contains(steps[0].Object, "…") {
		t.Errorf("with inputs that hold: %v", steps)
	}
}

// Two migrations never run at the same time: one that has begun is awaited,
// one that has not is cancelled.
func TestTwoNeverRunAtATime(t *testing.T) {
	t.Parallel()
	t.Run("begun", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.life = "run"
		running := func() bool {
			pods, err := r.Client.CoreV1().Pods(r.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "status.phase=Running"})
			return err == nil && len(pods.Items) == 1
		}
		r.pass()
		eventually(t, "it runs", running)
		first := r.jobs()[0]
		r.spec.Image, r.life = "shop:2", ""
		for range 3 {
			o, steps := r.pass()
			if len(steps) > 0 || o.Health.Status != reconcile.Progressing || !strings.Contains(o.Health.Message, "waits for the end of Job "+r.Namespace+"/"+first) {
				t.Fatalf("while another runs: %+v, %v", o.Health, steps)
			}
		}
		// It goes, with its pods: its place is free.
		if _, err := r.Client.BatchV1().Jobs(r.Namespace).Patch(t.Context(), first, types.MergePatchType, []byte(`{"spec":{"activeDeadlineSeconds":1}}`), person); err != nil {
			t.Fatal(err)
		}
		r.until("the second has run", is(reconcile.Ready))
	})
	t.Run("not begun", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.spec.Resources.CPU = never
		r.pass()
		first := r.jobs()[0]
		r.spec.Resources.CPU = ""
		steps := r.until("the second has run", is(reconcile.Ready))
		if s := steps[0]; !strings.Contains(s.Object, first) || s.Deletes != 1 || !strings.Contains(s.String(), "has not begun") {
			t.Errorf("first step: %s", s)
		}
	})
	t.Run("unknown to the inventory", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.life = "run"
		r.pass()
		eventually(t, "it runs", func() bool {
			pods, err := r.Client.CoreV1().Pods(r.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "status.phase=Running"})
			return err == nil && len(pods.Items) == 1
		})
		r.stop()
		if err := r.Client.CoreV1().ConfigMaps(r.Namespace).Delete(t.Context(), "forged-inventory-prod", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.spec.Image = "shop:2"
		_, steps := r.look()
		if len(steps) != 1 {
			t.Fatalf("steps: %v", steps)
		}
		_, err := r.p.Apply(t.Context(), r.request(), steps[0])
		if reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(err.Error(), "two never run at a time") {
			t.Errorf("beside another one: %v", err)
		}
	})
}

func TestRemovalWaitsForWhatHasBegun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.life = "run"
	r.pass()
	eventually(t, "it runs", func() bool {
		pods, err := r.Client.CoreV1().Pods(r.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "status.phase=Running"})
		return err == nil && len(pods.Items) == 1
	})
	req := r.request()
	req.Remove, req.Resource.Spec = true, forge.JobSpec{Namespace: r.Namespace}
	plan := func() []reconcile.Step {
		o, err := r.p.Observe(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := r.p.Plan(t.Context(), req, o)
		if err != nil {
			t.Fatal(err)
		}
		return steps
	}
	if steps := plan(); len(steps) != 1 || steps[0].Blocked == "" {
		t.Fatalf("while it runs: %v", steps)
	}
	if _, err := r.Client.BatchV1().Jobs(r.Namespace).Patch(t.Context(), r.jobs()[0], types.MergePatchType, []byte(`{"spec":{"activeDeadlineSeconds":1}}`), person); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it can be removed", func() bool { s := plan(); return len(s) == 1 && s[0].Blocked == "" })
	if _, err := r.p.Apply(t.Context(), req, plan()[0]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is left", func() bool { return len(plan()) == 0 && len(r.jobs()) == 0 })
}

// The pod passes the strictest of the Pod Security Standards.
func TestPodIsRestricted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	enforce := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	if _, err := r.Client.CoreV1().Namespaces().Patch(t.Context(), r.Namespace, types.MergePatchType, enforce, person); err != nil {
		t.Fatal(err)
	}
	r.spec.SecretNames, r.spec.PullSecret, r.spec.PullPolicy = []string{"shop-env"}, "login", "IfNotPresent"
	r.spec.Files = []forge.MountedFile{{Path: "/etc/app.yaml", Config: "shop-config", Key: "app.yaml"}, {Path: "/run/forged/ca.crt", Secret: "tls", Key: "ca.crt"}}
	r.spec.Resources = forge.Resources{CPU: "100m", Memory: "64Mi", MemoryLimit: "1Gi"}
	r.until("complete", is(reconcile.Ready))
	j, err := r.Client.BatchV1().Jobs(r.Namespace).Get(t.Context(), r.jobs()[0], metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := j.Spec.Template.Spec.Containers[0]
	if *j.Spec.ActiveDeadlineSeconds != 3600 || *j.Spec.BackoffLimit != 0 || c.EnvFrom[0].SecretRef.Name != "shop-env" ||
		c.VolumeMounts[1].MountPath != "/etc/app.yaml" || c.VolumeMounts[2].MountPath != "/run/forged/ca.crt" ||
		j.Spec.Template.Spec.ImagePullSecrets[0].Name != "login" || *j.Spec.Template.Spec.EnableServiceLinks {
		t.Errorf("%+v", j.Spec)
	}
}

// fit gives the pods the life that the test asks for.
func (r *rig) fit(_ string, job *unstructured.Unstructured) error {
	if r.life == "" {
		return nil
	}
	return unstructured.SetNestedField(job.Object, r.life, "spec", "template", "metadata", "annotations", "sandbox.forged.dev/pod")
}

// A Job that was to make room because it had not begun has begun when it comes
// to that: it is not cut.
func TestJobThatBeginsAfterThePlanIsNotCut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.spec.Resources.CPU = never
	r.pass()
	first := r.jobs()[0]
	pods := r.Client.CoreV1().Pods(r.Namespace)
	var pod string
	eventually(t, "there is a pod", func() bool {
		list, err := pods.List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) == 0 {
			return false
		}
		pod = list.Items[0].Name
		return true
	})
	r.spec.Image = "shop:2"
	_, steps := r.look()
	if len(steps) != 1 || steps[0].Deletes != 1 {
		t.Fatalf("steps: %v", steps)
	}
	running := `{"status":{"phase":"Running","containerStatuses":[{"name":"job","image":"shop:1","imageID":"","ready":true,"restartCount":0,"state":{"running":{}}}]}}`
	if _, err := pods.Patch(t.Context(), pod, types.StrategicMergePatchType, []byte(running), person, "status"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.p.Apply(t.Context(), r.request(), steps[0]); reconcile.KindOf(err) != reconcile.Stale {
		t.Errorf("error %v", err)
	}
	if live, err := r.Client.BatchV1().Jobs(r.Namespace).Get(t.Context(), first, metav1.GetOptions{}); err != nil || live.DeletionTimestamp != nil {
		t.Errorf("it was cut: %v", err)
	}
}
