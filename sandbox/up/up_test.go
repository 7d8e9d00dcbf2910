package up_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/utils/ptr"

	"forged.dev/forged/sandbox/up"
)

// bound is far above what anything here takes on an idle machine.
const bound = 3 * time.Minute

// program is forged-sandbox as it is shipped. The tests run the supervisor in
// their own process, under the race detector, and this program as components:
// a kube-apiserver with the race detector would test nothing of ours, slowly.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "forged-sandbox-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "forged-sandbox")
		build := exec.Command("../build.sh", program)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build.sh: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

func TestVersionSatisfiesHelm(t *testing.T) {
	out, err := exec.Command(program, "version").Output()
	if err != nil || !regexp.MustCompile(`Kubernetes v1\.\d+\.\d+\n`).Match(out) {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestWrongUse(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), bound) // what is right stays
	defer cancel()
	for _, args := range [][]string{
		nil,
		{"down"},
		{"up"},
		{"up", "--dir"},
		{"up", "--dir", t.TempDir(), "extra"},
		{"up", "--dir", t.TempDir(), "--clusters", "-1"},
		{"up", "--dir", t.TempDir(), "--fly-speed", "-1"},
		{"up", "--dir", t.TempDir(), "--nodes", "1000"},
		{"up", "--dir", t.TempDir(), "--fks", "10"},
		{"up", "--dir", t.TempDir(), "--fks-way", "by foot"},
		{"up", "--dir", t.TempDir(), "--fks-admission", "maybe"},
	} {
		out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || len(out) == 0 {
			t.Errorf("%q: got %v and %q", args, err, out)
		}
		if ctx.Err() != nil {
			t.Fatalf("%q is not refused", args)
		}
	}
}

// A directory with somebody's data in it is none of ours to empty.
func TestForeignDirectoryIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "clusters", "precious")
	if err := os.MkdirAll(precious, 0o700); err != nil {
		t.Fatal(err)
	}
	err := up.Run(t.Context(), up.Options{Dir: dir, Clusters: 1, Nodes: 1, Command: command(), Out: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "choose another directory") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

// One sandbox with two clusters: what runs in them, that they are separate, who
// may not come near, and what happens when a part of one dies.
func TestSandbox(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's a sandbox") // env must quote it
	var out buffer
	s := runHere(t, up.Options{Dir: dir, Clusters: 2, Nodes: 2, Command: command(), Out: &out})
	s.awaitReady()
	t.Logf("progress:\n%s", out.String())

	one, two := s.client("cluster-1"), s.client("cluster-2")
	t.Run("kubeconfig", func(t *testing.T) {
		info, err := os.Stat(filepath.Join(dir, "kubeconfig"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got %v, %v", info.Mode(), err)
		}
		out, err := exec.Command("sh", "-c", `. "$0/env" && test -s "$KUBECONFIG"`, dir).CombinedOutput()
		if err != nil {
			t.Errorf("env: %v, %s", err, out)
		}
		config, err := clientcmd.LoadFromFile(filepath.Join(dir, "kubeconfig"))
		if err != nil || config.CurrentContext != "cluster-1" {
			t.Errorf("got %q, %v", config.CurrentContext, err)
		}
	})
	t.Run("version", func(t *testing.T) {
		version, err := one.Discovery().ServerVersion()
		if err != nil || !strings.HasPrefix(version.GitVersion, "v1.") || version.Major != "1" {
			t.Errorf("got %+v, %v", version, err)
		}
	})
	t.Run("clusters are separate", func(t *testing.T) {
		if _, err := one.CoreV1().Namespaces().Create(t.Context(), namespace("only-in-one"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err := two.CoreV1().Namespaces().Get(t.Context(), "only-in-one", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			t.Errorf("in the other cluster: %v", err)
		}
		// The credentials of one are worthless at the other.
		config := s.config("cluster-1")
		config.Host = s.config("cluster-2").Host
		config.TLSClientConfig.CAData, config.Insecure = nil, true
		_, err = kubernetes.NewForConfigOrDie(config).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
		if !apierrors.IsUnauthorized(err) {
			t.Errorf("at the other cluster: %v", err)
		}
	})
	t.Run("workloads", func(t *testing.T) {
		for i, client := range []*kubernetes.Clientset{one, two} {
			for name, test := range map[string]func(*testing.T, *kubernetes.Clientset){
				"deployment": testDeployment,
				"failure":    testFailingDeployment,
				"pod lives":  testPodLives,
				"job":        testJobs,
				"volume":     testVolumes,
				"balancer":   testBalancer,
				"ingress":    testIngress,
				"autoscaler": testAutoscaler,
				"namespace":  testNamespaceGoes,
			} {
				t.Run(fmt.Sprintf("cluster-%d/%s", i+1, name), func(t *testing.T) {
					t.Parallel()
					test(t, client)
				})
			}
		}
	})
	t.Run("second in the same directory", func(t *testing.T) {
		out, err := exec.Command(program, "up", "--dir", dir).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "in use") || !strings.Contains(string(out), strconv.Itoa(os.Getpid())) {
			t.Errorf("got %v and %q", err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, "ready")); err != nil {
			t.Errorf("the first is no longer ready: %v", err)
		}
	})

	// Last of all, because it ends the sandbox.
	children := descendants(t, os.Getpid())
	if len(children) != 10 {
		t.Errorf("%d children, want five for each cluster: %v", len(children), children)
	}
	kill(t, children, "kube-scheduler", filepath.Join(dir, "clusters", "cluster-2"))
	began := time.Now()
	err := s.awaitEnd()
	t.Logf("ended in %s", time.Since(began))
	if err == nil || !strings.Contains(err.Error(), "cluster-2: kube-scheduler ended unexpectedly (signal: killed)") ||
		!strings.Contains(err.Error(), filepath.Join(dir, "logs", "cluster-2", "kube-scheduler.log")) {
		t.Errorf("got %v", err)
	}
	awaitGone(t, children)
	wantFiles(t, dir, "lock", "logs")
}

func testDeployment(t *testing.T, client *kubernetes.Clientset) {
	deployment := deployment("web", 3, nil)
	if _, err := client.AppsV1().Deployments("default").Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, client.AppsV1().RESTClient(), "deployments", "web", func(d *appsv1.Deployment) bool {
		return d.Status.AvailableReplicas == 3 && deploymentIs(d, appsv1.DeploymentAvailable, corev1.ConditionTrue)
	})
	pods, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[string]bool{}
	for _, pod := range pods.Items {
		addresses[pod.Status.PodIP] = true
	}
	if len(addresses) != 3 || addresses[""] {
		t.Errorf("three pods have the addresses %v", addresses)
	}
}

func testFailingDeployment(t *testing.T, client *kubernetes.Clientset) {
	deployment := deployment("broken", 1, map[string]string{"sandbox.forged.dev/pod": "image-missing"})
	deployment.Spec.ProgressDeadlineSeconds = ptr.To[int32](2)
	deployment.Spec.MinReadySeconds = 1
	if _, err := client.AppsV1().Deployments("default").Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, client.AppsV1().RESTClient(), "deployments", "broken", func(d *appsv1.Deployment) bool {
		return deploymentIs(d, appsv1.DeploymentProgressing, corev1.ConditionFalse)
	})
}

func testPodLives(t *testing.T, client *kubernetes.Clientset) {
	for how, want := range map[string]struct {
		phase  corev1.PodPhase
		ready  bool
		waits  string
		policy corev1.RestartPolicy
	}{
		"":              {phase: corev1.PodRunning, ready: true, policy: corev1.RestartPolicyAlways},
		"run":           {phase: corev1.PodRunning, ready: true, policy: corev1.RestartPolicyNever},
		"fail":          {phase: corev1.PodFailed, policy: corev1.RestartPolicyNever},
		"not-ready":     {phase: corev1.PodRunning, policy: corev1.RestartPolicyAlways},
		"image-missing": {phase: corev1.PodPending, waits: "ImagePullBackOff", policy: corev1.RestartPolicyAlways},
		"crash-loop":    {phase: corev1.PodRunning, waits: "CrashLoopBackOff", policy: corev1.RestartPolicyAlways},
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "life-", Annotations: map[string]string{"sandbox.forged.dev/pod": how}},
			Spec:       template("life", nil).Spec,
		}
		pod.Spec.RestartPolicy = want.policy
		pod, err := client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pod = await(t, client.CoreV1().RESTClient(), "pods", pod.Name, func(pod *corev1.Pod) bool {
			return pod.Status.Phase == want.phase && len(pod.Status.ContainerStatuses) == 1
		})
		status := pod.Status.ContainerStatuses[0]
		waits := ""
		if status.State.Waiting != nil {
			waits = status.State.Waiting.Reason
		}
		if status.Ready != want.ready || waits != want.waits {
			t.Errorf("%q: container %+v", how, status)
		}
	}
	// One that takes its time has taken it when it is ready.
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "slow", Annotations: map[string]string{"sandbox.forged.dev/ready-after": "2s"}},
		Spec:       template("slow", nil).Spec,
	}
	began := time.Now()
	if _, err := client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, client.CoreV1().RESTClient(), "pods", "slow", func(pod *corev1.Pod) bool {
		return pod.Status.Phase == corev1.PodRunning
	})
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("ready after %s", took)
	}
}

func testJobs(t *testing.T, client *kubernetes.Clientset) {
	for name, want := range map[string]batchv1.JobConditionType{"": batchv1.JobComplete, "fail": batchv1.JobFailed} {
		job := &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "job-"},
			Spec:       batchv1.JobSpec{BackoffLimit: ptr.To[int32](0), Template: template("job", map[string]string{"sandbox.forged.dev/pod": name})},
		}
		job.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
		job, err := client.BatchV1().Jobs("default").Create(t.Context(), job, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		await(t, client.BatchV1().RESTClient(), "jobs", job.Name, func(j *batchv1.Job) bool {
			for _, condition := range j.Status.Conditions {
				if condition.Type == want && condition.Status == corev1.ConditionTrue {
					return true
				}
			}
			return false
		})
	}
}

func testVolumes(t *testing.T, client *kubernetes.Clientset) {
	ctx, claims := t.Context(), client.CoreV1().PersistentVolumeClaims("default")
	bound := func(claim *corev1.PersistentVolumeClaim) bool { return claim.Status.Phase == corev1.ClaimBound }

	// No class named: the default one.
	if _, err := claims.Create(ctx, newClaim("data", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	claim := await(t, client.CoreV1().RESTClient(), "persistentvolumeclaims", "data", bound)
	if got := ptr.Deref(claim.Spec.StorageClassName, ""); got != "standard" {
		t.Errorf("class %q", got)
	}

	// It grows.
	claim.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("5Gi")
	if _, err := claims.Update(ctx, claim, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, client.CoreV1().RESTClient(), "persistentvolumeclaims", "data", func(claim *corev1.PersistentVolumeClaim) bool {
		return claim.Status.Capacity.Storage().String() == "5Gi"
	})

	// It goes, and its volume with it.
	if err := claims.Delete(ctx, "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitDeleted[*corev1.PersistentVolume](t, client.CoreV1().RESTClient(), "persistentvolumes", metav1.NamespaceAll, claim.Spec.VolumeName)

	// A class that waits, waits for a pod.
	if _, err := claims.Create(ctx, newClaim("late", ptr.To("standard-late")), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "late"}, Spec: template("late", nil).Spec}
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "late"},
	}}}
	if _, err := client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, client.CoreV1().RESTClient(), "persistentvolumeclaims", "late", bound)
	await(t, client.CoreV1().RESTClient(), "pods", "late", func(pod *corev1.Pod) bool {
		return pod.Status.Phase == corev1.PodRunning
	})
}

func testBalancer(t *testing.T, client *kubernetes.Clientset) {
	ctx, services := t.Context(), client.CoreV1().Services("default")
	has := func(s *corev1.Service) bool { return len(s.Status.LoadBalancer.Ingress) > 0 }
	create := func(name string) string {
		t.Helper()
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
		}
		if _, err := services.Create(ctx, service, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		given := await(t, client.CoreV1().RESTClient(), "services", name, has).Status.LoadBalancer.Ingress[0]
		if ptr.Deref(given.IPMode, "") != corev1.LoadBalancerIPModeVIP {
			t.Errorf("%s: mode %v", name, given.IPMode)
		}
		return given.IP
	}
	first, second := create("lb-1"), create("lb-2")
	if first == second || !strings.HasPrefix(first, "203.0.113.") || !strings.HasPrefix(second, "203.0.113.") {
		t.Errorf("addresses %s and %s", first, second)
	}
	if err := services.Delete(ctx, "lb-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if again := create("lb-1"); again != first {
		t.Errorf("created again, the Service went from %s to %s", first, again)
	}
	// One that stops being balanced loses its address.
	service, err := services.Get(ctx, "lb-2", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	service.Spec.Type = corev1.ServiceTypeClusterIP
	if _, err := services.Update(ctx, service, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, client.CoreV1().RESTClient(), "services", "lb-2", func(s *corev1.Service) bool { return !has(s) })
}

func testIngress(t *testing.T, client *kubernetes.Clientset) {
	ctx := t.Context()
	has := func(i *networkingv1.Ingress) bool { return len(i.Status.LoadBalancer.Ingress) > 0 }
	ingress := func(name string, class *string) {
		t.Helper()
		_, err := client.NetworkingV1().Ingresses("default").Create(ctx, &networkingv1.Ingress{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: networkingv1.IngressSpec{
				IngressClassName: class,
				DefaultBackend:   &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	ingress("default", nil)
	ingress("early", ptr.To("brought-along")) // its class comes later
	if got := await(t, client.NetworkingV1().RESTClient(), "ingresses", "default", has); *got.Spec.IngressClassName != "nginx" {
		t.Errorf("class %q", *got.Spec.IngressClassName)
	}
	early, err := client.NetworkingV1().Ingresses("default").Get(ctx, "early", metav1.GetOptions{})
	if err != nil || has(early) {
		t.Errorf("without a class: %v, %v", early.Status, err)
	}
	class := &networkingv1.IngressClass{
		ObjectMeta: metav1.ObjectMeta{Name: "brought-along"},
		Spec:       networkingv1.IngressClassSpec{Controller: "example.com/ingress"},
	}
	if _, err := client.NetworkingV1().IngressClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, client.NetworkingV1().RESTClient(), "ingresses", "early", has)
}

// Without metrics the controller still enforces the minimum.
func testAutoscaler(t *testing.T, client *kubernetes.Clientset) {
	if _, err := client.AppsV1().Deployments("default").Create(t.Context(), deployment("scaled", 1, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := client.AutoscalingV2().HorizontalPodAutoscalers("default").Create(t.Context(), &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "scaled"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "scaled"},
			MinReplicas:    ptr.To[int32](2),
			MaxReplicas:    3,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, client.AppsV1().RESTClient(), "deployments", "scaled", func(d *appsv1.Deployment) bool {
		return d.Status.AvailableReplicas == 2
	})
}

func testNamespaceGoes(t *testing.T, client *kubernetes.Clientset) {
	ctx := t.Context()
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace("short-lived"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().ConfigMaps("short-lived").Create(ctx, configMap("x"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().Namespaces().Delete(ctx, "short-lived", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitDeleted[*corev1.Namespace](t, client.CoreV1().RESTClient(), "namespaces", metav1.NamespaceAll, "short-lived")
}

// The shipped program: killed without a chance to clean up it leaves no process
// behind, and what it was told to keep is there the next time.
func TestKilledAndKept(t *testing.T) {
	dir := t.TempDir()
	s := runProgram(t, dir, "--keep", "--nodes", "1", "--exit-with-parent")
	s.awaitReady()
	client := s.client("cluster-1")
	if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), configMap("kept"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	children := descendants(t, s.command.Process.Pid)
	if len(children) != 5 {
		t.Errorf("%d children, want 5: %v", len(children), children)
	}
	if err := s.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.awaitEnd()
	awaitGone(t, children)

	// It could not take back its word, so the next one must.
	if _, err := os.Stat(filepath.Join(dir, "ready")); err != nil {
		t.Fatalf("the test wants a stale file: %v", err)
	}
	s = runProgram(t, dir, "--nodes", "1")
	s.awaitReady()
	client = s.client("cluster-1")
	if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	// And it works, not just remembers.
	if _, err := client.AppsV1().Deployments("default").Create(t.Context(), deployment("web", 1, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, client.AppsV1().RESTClient(), "deployments", "web", func(d *appsv1.Deployment) bool {
		return d.Status.AvailableReplicas == 1
	})

	children = descendants(t, s.command.Process.Pid)
	began := time.Now()
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.awaitEnd(); err != nil {
		t.Errorf("stop: %v", err)
	}
	t.Logf("stopped in %s", time.Since(began))
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the stop took %s", took)
	}
	awaitGone(t, children)
	// The second one was not told to keep anything.
	wantFiles(t, dir, "lock", "logs")
}

// sandbox is a running sandbox, in this process or in one of its own.
type sandbox struct {
	t       *testing.T
	dir     string
	pid     int
	command *exec.Cmd // of a process of its own
	ended   chan struct{}
	err     error // valid once ended is closed
}

func command() []string { return []string{program, "component"} }

func runHere(t *testing.T, opts up.Options) *sandbox {
	s := &sandbox{t: t, dir: opts.Dir, pid: os.Getpid(), ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(s.ended)
		s.err = up.Run(ctx, opts)
	}()
	t.Cleanup(func() {
		cancel()
		<-s.ended
	})
	return s
}

func runProgram(t *testing.T, dir string, args ...string) *sandbox {
	command := exec.Command(program, append([]string{"up", "--dir", dir}, args...)...)
	var out buffer
	command.Stdout, command.Stderr = &out, &out
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	s := &sandbox{t: t, dir: dir, pid: command.Process.Pid, command: command, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.err = command.Wait()
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-s.ended
		t.Logf("output:\n%s", out.String())
	})
	return s
}

// awaitReady waits as a test of another module would: for the file to appear,
// written by this very process and not by one before it.
func (s *sandbox) awaitReady() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), bound)
	defer cancel()
	err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(context.Context) (bool, error) {
		select {
		case <-s.ended:
			return false, fmt.Errorf("ended: %w", s.err)
		default:
		}
		data, err := os.ReadFile(filepath.Join(s.dir, "ready"))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return string(data) == strconv.Itoa(s.pid)+"\n", err
	})
	if err != nil {
		s.t.Fatalf("not ready: %v", err)
	}
}

func (s *sandbox) awaitEnd() error {
	s.t.Helper()
	select {
	case <-s.ended:
		return s.err
	case <-time.After(bound):
		s.t.Fatalf("still there after %s", bound)
		return nil
	}
}

func (s *sandbox) config(context string) *rest.Config {
	s.t.Helper()
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: filepath.Join(s.dir, "kubeconfig")},
		&clientcmd.ConfigOverrides{CurrentContext: context},
	).ClientConfig()
	if err != nil {
		s.t.Fatal(err)
	}
	return config
}

func (s *sandbox) client(context string) *kubernetes.Clientset {
	s.t.Helper()
	client, err := kubernetes.NewForConfig(s.config(context))
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

// await watches an object in the namespace default until it is as wanted.
func await[T runtime.Object](t *testing.T, client cache.Getter, kind, name string, wanted func(T) bool) T {
	t.Helper()
	return awaitEvent(t, client, kind, metav1.NamespaceDefault, name, func(event watch.EventType, object T) bool {
		return event != watch.Deleted && wanted(object)
	})
}

func awaitEvent[T runtime.Object](t *testing.T, client cache.Getter, kind, namespace, name string, wanted func(watch.EventType, T) bool) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	var zero, last T
	expected := newObject[T]()
	list := cache.NewListWatchFromClient(client, kind, namespace, fields.OneTermEqualSelector("metadata.name", name))
	event, err := watchtools.UntilWithSync(ctx, list, expected, nil, func(event watch.Event) (bool, error) {
		object, ok := event.Object.(T)
		if !ok {
			return false, apierrors.FromObject(event.Object)
		}
		last = object
		return wanted(event.Type, object), nil
	})
	if err != nil {
		t.Fatalf("%s %s: %v; last seen: %+v", kind, name, err, last)
		return zero
	}
	return event.Object.(T)
}

// awaitDeleted waits until the object is gone, also if it is by now.
func awaitDeleted[T runtime.Object](t *testing.T, client rest.Interface, kind, namespace, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	list := cache.NewListWatchFromClient(client, kind, namespace, fields.OneTermEqualSelector("metadata.name", name))
	gone := func(store cache.Store) (bool, error) { return len(store.List()) == 0, nil }
	_, err := watchtools.UntilWithSync(ctx, list, newObject[T](), gone, func(event watch.Event) (bool, error) {
		return event.Type == watch.Deleted, nil
	})
	if err != nil {
		t.Fatalf("%s %s is still there: %v", kind, name, err)
	}
}

// newObject makes a T, which is a pointer.
func newObject[T runtime.Object]() runtime.Object {
	var zero T
	return zero
}

func deploymentIs(d *appsv1.Deployment, kind appsv1.DeploymentConditionType, status corev1.ConditionStatus) bool {
	for _, condition := range d.Status.Conditions {
		if condition.Type == kind {
			return condition.Status == status
		}
	}
	return false
}

func deployment(name string, replicas int32, annotations map[string]string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: template(name, annotations),
		},
	}
}

func template(app string, annotations map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}, Annotations: annotations},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "init", Image: "example.com/init:1"}},
			Containers:     []corev1.Container{{Name: "main", Image: "example.com/main:1"}},
		},
	}
}

func newClaim(name string, class *string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: class,
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			},
		},
	}
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// wantFiles checks what the directory holds.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s holds %v, want %v", dir, got, want)
	}
}

// child is a process as /proc shows it. The start time tells it from a later
// process with the same id.
type child struct {
	pid     int
	args    []string
	started string
}

func (c child) String() string { return fmt.Sprintf("%d %q", c.pid, c.args) }

// descendants lists the children of a process that run our program.
func descendants(t *testing.T, parent int) []child {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Fatal("no /proc to look for processes in")
	}
	var out []child
	for _, path := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		state, fields := stat(pid)
		if state == "" || state == "Z" || fields[1] != strconv.Itoa(parent) {
			continue
		}
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
		if len(args) > 2 && args[1] == "component" {
			out = append(out, child{pid: pid, args: args, started: fields[19]})
		}
	}
	return out
}

// stat returns the state and all fields from the state on, or nothing for a
// process that is not there.
func stat(pid int) (state string, fields []string) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", nil
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields = strings.Fields(rest)
	return fields[0], fields
}

// kill kills the component that works in the given directory.
func kill(t *testing.T, children []child, component, dir string) {
	t.Helper()
	for _, c := range children {
		cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", c.pid))
		if err == nil && cwd == dir && c.args[2] == component {
			if err := syscall.Kill(c.pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no %s in %s among %v", component, dir, children)
}

// awaitGone waits until none of the processes runs any more.
func awaitGone(t *testing.T, children []child) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	var left []child
	err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(context.Context) (bool, error) {
		left = nil
		for _, c := range children {
			// An orphan may stay as a zombie if nobody collects it.
			if state, fields := stat(c.pid); state != "" && state != "Z" && fields[19] == c.started {
				left = append(left, c)
			}
		}
		return len(left) == 0, nil
	})
	if err != nil {
		t.Errorf("left behind: %v", left)
	}
}

// buffer can be written and read at the same time.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
