package external

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/servicetest"
)

const probeImage = "registry.acme.test/forged:1.0.0"

var vault = forge.ID{Environment: "prod", Kind: forge.KindSecrets, Name: "shop"}

func probeRequest(namespace string, target forge.Target) reconcile.Request {
	return reconcile.Request{
		Resource: forge.Resource{
			ID: forge.ID{Environment: "prod", Kind: forge.KindProbe, Name: "postgres"}, Target: target, Needs: []forge.ID{vault},
			Spec: forge.ProbeSpec{
				Namespace: namespace, Name: "shop-check-postgres", Labels: map[string]string{"app.kubernetes.io/part-of": "shop"},
				Service: servicePostgres, Secret: "shop-check-postgres", SSLMode: verifyFull,
			},
		},
		Inputs: map[forge.ID]reconcile.Outputs{vault: {"checksum/shop-check-postgres": {Value: "one"}}},
		Policy: forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10},
	}
}

// quick is a pace for answers that a test leaves behind.
func quick() pace {
	p := usualPace()
	p.first, p.again, p.fine = 50*time.Millisecond, 0, 200*time.Millisecond
	return p
}

func TestProbesConform(t *testing.T) {
	t.Parallel()
	providertest.Test(t, func(t *testing.T) providertest.Harness {
		env := sandboxtest.Cluster(t)
		env.CreateNamespace(t)
		proxy := faultproxy.New(t, env.Config)
		r := probeRequest(env.Namespace, forge.Target{Kubeconfig: proxy.Kubeconfig(), Context: faultproxy.Context})
		changed := r.Resource
		spec := changed.Spec.(forge.ProbeSpec)
		spec.SSLMode = require
		changed.Spec = spec
		api := env.Client.BatchV1().CronJobs(env.Namespace)
		foreign, err := api.Create(t.Context(), &batchv1.CronJob{
			ObjectMeta: metav1.ObjectMeta{Name: "foreign"},
			Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{
				Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
					RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i"}},
				}},
			}}},
		}, metav1.CreateOptions{FieldManager: "somebody"})
		if err != nil {
			t.Fatal(err)
		}
		return providertest.Harness{
			Resource: r.Resource, Changed: changed, Inputs: r.Inputs, Policy: r.Policy, Secrets: []string{"there is none"}, Patience: 20 * time.Second,
			Start: func(t *testing.T) reconcile.Provider {
				clusters := kubernetes.NewClusters(kubernetes.Options{Instance: env.Instance})
				t.Cleanup(clusters.Close)
				return newProbes(clusters, probeImage, quick())
			},
			Edit: func(t *testing.T) {
				if _, err := api.Patch(t.Context(), spec.Name, types.MergePatchType, []byte(`{"spec":{"suspend":true,"schedule":"0 0 1 1 *"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
					t.Fatal(err)
				}
			},
			Delete: func(t *testing.T) {
				if err := api.Delete(t.Context(), spec.Name, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			},
			BreakReads: func(*testing.T) func() { return proxy.CutAfter(0) },
			CutAfter:   func(_ *testing.T, n int) func() { return proxy.CutAfter(n) },
			Writes:     proxy.Mutations,
			Bystander: func(t *testing.T) {
				now, err := api.Get(context.WithoutCancel(t.Context()), "foreign", metav1.GetOptions{})
				if err != nil || now.UID != foreign.UID || len(now.Labels) > 0 {
					t.Errorf("a CronJob that is not ours was touched: %v", err)
				}
			},
		}
	})
}

// prober is a provider of probes in a namespace that takes restricted pods only.
type prober struct {
	*sandboxtest.Env
	t      *testing.T
	p      reconcile.Provider
	events chan reconcile.Event

	mu    sync.Mutex
	asked int
}

func newProber(t *testing.T, at pace) *prober {
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	enforce := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	if _, err := env.Client.CoreV1().Namespaces().Patch(t.Context(), env.Namespace, types.MergePatchType, enforce, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	r := &prober{Env: env, t: t, events: make(chan reconcile.Event, 1000)}
	clusters := kubernetes.NewClusters(kubernetes.Options{Instance: env.Instance, OnRequest: func(_ forge.Target, verb string, _ int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if verb != "WATCH" {
			r.asked++
		}
	}})
	r.p = newProbes(clusters, probeImage, at)
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { _ = r.p.Watch(ctx, func(e reconcile.Event) { r.events <- e }) })
	t.Cleanup(func() {
		cancel()
		watching.Wait()
		clusters.Close()
	})
	return r
}

func (r *prober) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.asked
	r.asked = 0
	return n
}

// await looks, and applies what is planned, with every event until ok.
func (r *prober) await(req reconcile.Request, what string, ok func(reconcile.Observed) bool) reconcile.Observed {
	r.t.Helper()
	late := time.After(time.Minute)
	for {
		o, err := r.p.Observe(r.t.Context(), req)
		if err != nil {
			r.t.Fatal(err)
		}
		steps, err := r.p.Plan(r.t.Context(), req, o)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, s := range steps {
			if o, err = r.p.Apply(r.t.Context(), req, s); err != nil && reconcile.KindOf(err) != reconcile.Stale {
				r.t.Fatal(err)
			}
		}
		if err == nil && ok(o) {
			return o
		}
		select {
		case <-r.events:
		case <-late:
			r.t.Fatalf("not seen: %s; %+v, %v", what, o.Health, o.Notices)
		}
	}
}

func (r *prober) jobs() (names []string) {
	r.t.Helper()
	jobs, err := r.Client.BatchV1().Jobs(r.Namespace).List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, j := range jobs.Items {
		names = append(names, j.Name)
	}
	return names
}

// leave has a pod leave an answer to what is asked now, as the kubelet does.
func (r *prober) leave(message string, exit int) {
	r.t.Helper()
	pods := r.Client.CoreV1().Pods(r.Namespace)
	late := time.After(time.Minute)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		cron, err := r.Client.BatchV1().CronJobs(r.Namespace).Get(r.t.Context(), "shop-check-postgres", metav1.GetOptions{})
		if err != nil {
			r.t.Fatal(err)
		}
		list, err := pods.List(r.t.Context(), metav1.ListOptions{LabelSelector: labelAsks + "=" + cron.Spec.JobTemplate.Labels[labelAsks]})
		if err != nil {
			r.t.Fatal(err)
		}
		for _, pod := range list.Items {
			if pod.Status.Phase != corev1.PodSucceeded || len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Terminated == nil {
				continue
			}
			ended := pod.Status.ContainerStatuses[0].State.Terminated
			ended.Message, ended.ExitCode, ended.FinishedAt = message, int32(exit), metav1.Now()
			if _, err := pods.UpdateStatus(r.t.Context(), &pod, metav1.UpdateOptions{}); err == nil {
				tick.Stop()
				return
			}
		}
		select {
		case <-tick.C:
		case <-late:
			r.t.Fatal("no pod has ended")
		}
	}
}

func message(t *testing.T, a answer) string {
	t.Helper()
	raw, err := told(a).JSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// What a pod in the cluster leaves behind is the health of the resource, with
// what it says of certificates and replicas. A Job is made when the question
// changes, and by nobody but the cluster otherwise.
func TestProbes(t *testing.T) {
	t.Parallel()
	r := newProber(t, quick())
	req := probeRequest(r.Namespace, r.Target())
	r.await(req, "that nothing was answered", func(o reconcile.Observed) bool {
		return o.Health.Status == reconcile.Unknown && strings.Contains(o.Health.Message, "left no answer")
	})

	r.leave(message(t, answer{trouble: &trouble{codeRefused, "db:5432 refuses connections", "is the server running?"}}), 0)
	r.await(req, "trouble", func(o reconcile.Observed) bool {
		return o.Health.Status == reconcile.Failed && o.Health.Message == "from inside of the cluster: db:5432 refuses connections (is the server running?)"
	})
	ends := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	r.leave(message(t, answer{notices: []reconcile.Notice{notice(noticeReadOnly, "db:5432", "it is a replica")}, expires: ends}), 0)
	r.await(req, "an answer", func(o reconcile.Observed) bool {
		return o.Health == reconcile.Health{Status: reconcile.Ready} && o.Expires.Equal(ends) && len(o.Notices) == 1 && o.Notices[0].Code == noticeReadOnly
	})
	r.leave("panic: something", 2)
	r.await(req, "a pod that could not ask", func(o reconcile.Observed) bool { return o.Health.Status != reconcile.Ready })
	r.leave(message(t, answer{}), 0)
	r.await(req, "a good answer", func(o reconcile.Observed) bool { return o.Health.Status == reconcile.Ready })

	first := r.jobs()[0]
	// Somebody tidies up: that is no reason to ask again, before it is time.
	background := metav1.DeletePropagationBackground
	for _, name := range r.jobs() {
		if err := r.Client.BatchV1().Jobs(r.Namespace).Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
			t.Fatal(err)
		}
	}
	r.await(req, "that its answer is gone", func(o reconcile.Observed) bool {
		return o.Health.Status == reconcile.Unknown && strings.Contains(o.Health.Message, "asks again within 10m0s")
	})
	// Who cannot wait has the CronJob ask.
	cron, err := r.Client.BatchV1().CronJobs(r.Namespace).Get(t.Context(), "shop-check-postgres", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Client.BatchV1().Jobs(r.Namespace).Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "by-hand", Labels: cron.Spec.JobTemplate.Labels}, Spec: cron.Spec.JobTemplate.Spec,
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.leave(message(t, answer{}), 0)
	r.await(req, "the answer to somebody", func(o reconcile.Observed) bool { return o.Health.Status == reconcile.Ready })

	// Another secret is another question.
	req.Inputs = map[forge.ID]reconcile.Outputs{vault: {"checksum/shop-check-postgres": {Value: "two"}}}
	r.await(req, "that it is asked again with another secret", func(o reconcile.Observed) bool { return o.Health.Status == reconcile.Unknown })
	r.leave(message(t, answer{}), 0)
	r.await(req, "a new answer", func(o reconcile.Observed) bool { return o.Health.Status == reconcile.Ready })
	if now := slices.DeleteFunc(r.jobs(), func(name string) bool { return name == "by-hand" }); len(now) != 1 || now[0] == first {
		t.Errorf("before %v, now %v: want another one in its place", first, now)
	}

	if cron, err = r.Client.BatchV1().CronJobs(r.Namespace).Get(t.Context(), "shop-check-postgres", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	raw, _ := json.Marshal(cron.Spec)
	if !strings.HasSuffix(cron.Spec.Schedule, "-59/10 * * * *") || cron.Spec.ConcurrencyPolicy != batchv1.ForbidConcurrent || !strings.Contains(string(raw), `"args":["probe","postgres","--secrets=/run/forged","--ssl-mode=verify-full"]`) {
		t.Errorf("%s", raw)
	}
}

// Without anything to tell, looking costs no request.
func TestProbesAreQuiet(t *testing.T) {
	t.Parallel()
	r := newProber(t, usualPace())
	req := probeRequest(r.Namespace, r.Target())
	r.await(req, "a Job that has ended", func(o reconcile.Observed) bool { return o.Health.Status == reconcile.Unknown })
	r.requests()
	for range 10 {
		o, err := r.p.Observe(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if steps, err := r.p.Plan(t.Context(), req, o); err != nil || len(steps) > 0 {
			t.Fatal(steps, err)
		}
	}
	if n := r.requests(); n > 0 {
		t.Errorf("%d requests", n)
	}
}

// Without an image, and before its Secret, nothing is made.
func TestProbesWait(t *testing.T) {
	t.Parallel()
	r := newProber(t, usualPace())
	req := probeRequest(r.Namespace, r.Target())
	req.Inputs = nil
	o, err := r.p.Observe(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.p.Plan(t.Context(), req, o); reconcile.KindOf(err) != reconcile.Waiting {
		t.Errorf("without its Secret: %v", err)
	}
	clusters := kubernetes.NewClusters(kubernetes.Options{Instance: r.Instance})
	t.Cleanup(clusters.Close)
	_, err = NewProbes(clusters, "").Observe(t.Context(), probeRequest(r.Namespace, r.Target()))
	if reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(fmt.Sprint(err), "FORGED_IMAGE") {
		t.Errorf("without an image: %v", err)
	}
}

// What runs in the pod asks a real server with what is in files, and leaves
// nothing of that behind.
func TestProbe(t *testing.T) {
	t.Parallel()
	authority := servicetest.NewAuthority(t, "our authority")
	cert, key := authority.Sign(t, servicetest.Certificate{Hosts: []string{"localhost"}})
	server := servicetest.StartPostgres(t, servicetest.PostgresOptions{Cert: cert, Key: key})
	server.SQL(t, "CREATE DATABASE shop", "CREATE ROLE app LOGIN PASSWORD '"+strings.ReplaceAll(password, "'", "''")+"'")
	spec := forge.ProbeSpec{Service: servicePostgres, SSLMode: verifyFull}
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"fine", map[string]string{forge.ProbeURL: fmt.Sprintf("postgresql://app:%s@localhost:%d/shop", escaped, server.Port), forge.ProbeCABundle: authority.PEM}, "it answers, and lets the app in"},
		{"the wrong password", map[string]string{forge.ProbeURL: fmt.Sprintf("postgresql://app:wrong-S3cret@localhost:%d/shop", server.Port), forge.ProbeCABundle: authority.PEM}, "refuses the password of role app"},
		{"no trust", map[string]string{forge.ProbeURL: fmt.Sprintf("postgresql://app:%s@localhost:%d/shop", escaped, server.Port)}, "put the certificate of the authority that signed it into services.postgres.caBundle"},
		{"an unknown name", map[string]string{forge.ProbeURL: "postgresql://app:" + escaped + "@db.invalid/shop"}, "the name db.invalid is not known here (check the host in services.postgres.url)"},
		{"no URL", nil, "services.postgres.url is not a URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Probe(t.Context(), spec, dir)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := got.JSON()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got.String(), tt.want) {
				t.Errorf("got %s", got)
			}
			if strings.Contains(string(raw)+got.String(), "S3cret") {
				t.Errorf("a secret is in: %s", raw)
			}
			var back Told
			if err := json.Unmarshal(raw, &back); err != nil || back.answer().health() != got.answer().health() || !back.Expires.Equal(got.Expires) {
				t.Errorf("read back: %+v, %v", back, err)
			}
			if ok := tt.name == "fine"; ok == got.Expires.IsZero() && ok {
				t.Error("when the certificate ends is not said")
			}
		})
	}
	if _, err := Probe(t.Context(), forge.ProbeSpec{Service: "mysql"}, ""); err == nil {
		t.Error("a service that nobody knows is asked")
	}
}
