package kubernetes

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/reconcile"
)

// kubelets answer requests for logs, which the sandbox has none of: it runs no
// container. Everything else goes to the API server.
type kubelets struct {
	mu     sync.Mutex
	log    string
	asked  []string // pods whose log was read
	denied string   // prefix of paths that are forbidden
}

func (k *kubelets) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		answer := func(code int, body string) *http.Response {
			return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
		}
		if k.denied != "" && strings.HasSuffix(r.URL.Path, k.denied) {
			return answer(http.StatusForbidden, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"not you"}`), nil
		}
		path := strings.Split(r.URL.Path, "/")
		if r.Method == http.MethodGet && path[len(path)-1] == "log" {
			k.asked = append(k.asked, path[len(path)-2]+"/"+r.URL.Query().Get("container"))
			return answer(http.StatusOK, k.log), nil
		}
		k.mu.Unlock()
		resp, err := next.RoundTrip(r)
		k.mu.Lock()
		return resp, err
	})
}

func (k *kubelets) reads() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.asked)
}

// newPodBed is a bed whose kubelets have logs and whose grace is short.
func newPodBed(t *testing.T, log string) (*bed, *kubelets) {
	b := newBed(t)
	k := &kubelets{log: log}
	b.clusters.Close()
	b.setup = func(cs *Clusters) { cs.wrap, cs.podGrace = k.wrap, 300*time.Millisecond }
	b.start()
	return b, k
}

const podsOf = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations: {sandbox.forged.dev/pod: %s}
    spec: {containers: [{name: web, image: 'web:%s'}]}
`

func workload(kind, namespace, name string) Ref {
	return Ref{GVK: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: kind}, Namespace: namespace, Name: name}
}

// follow asks for the health of an object with every event until ok.
func (b *bed) follow(ref Ref, what string, ok func(reconcile.Health) bool) reconcile.Health {
	b.t.Helper()
	id := releaseID("app")
	var h reconcile.Health
	late := time.After(2 * patience)
	for {
		state, err := b.c.Live(b.t.Context(), ref)
		if err != nil {
			b.t.Fatal(err)
		}
		if h = b.c.Health(b.t.Context(), id, ref, state); ok(h) {
			return h
		}
		select {
		case <-b.events:
		case <-late:
			b.t.Fatalf("%s: not seen; last %+v", what, h)
		}
	}
}

func (b *bed) watchesPods(ref Ref) bool {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	return b.c.pods[ref] != nil
}

// A rollout that cannot succeed says so before its time is over: which pod,
// which container, why, and what the container had to say; and none of it is a
// secret.
func TestFailingRolloutSaysWhy(t *testing.T) {
	t.Parallel()
	const canary = "c4n4ry/Pass w0rd+"
	b, k := newPodBed(t, "starting\n\x1b[31mcannot log in with "+canary+"\nTraceback: api key=ghp_abcdefghijklmnopqrstuvwxyz0123456789\nKeyError: 'x'\n")
	secrets := b.Client.CoreV1().Secrets(b.Namespace)
	if _, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"password": canary}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	id, ref := releaseID("app"), workload("Deployment", b.Namespace, "web")
	b.own(id, b.manifest(fmt.Sprintf(podsOf, "run", "1")))
	b.follow(ref, "ready", func(h reconcile.Health) bool { return h.Status == reconcile.Ready })
	if b.watchesPods(ref) || len(k.reads()) > 0 {
		t.Error("pods are watched, or logs read, of what is ready")
	}

	b.own(id, b.manifest(fmt.Sprintf(podsOf, "not-ready", "2")))
	pod := b.podOf("web:2")
	crash := func(restarts int) {
		b.setStatus(pod, map[string]any{"containerStatuses": []any{map[string]any{
			"name": "web", "image": "web:2", "imageID": "", "ready": false, "restartCount": restarts,
			"state":     map[string]any{"waiting": map[string]any{"reason": "CrashLoopBackOff", "message": "back-off 1m20s"}},
			"lastState": map[string]any{"terminated": map[string]any{"exitCode": 1, "reason": "Error", "message": "fatal: " + canary + "\n"}},
		}}})
	}
	b.eventually("the kubelet has taken it up", func() bool {
		p, err := b.Client.CoreV1().Pods(b.Namespace).Get(t.Context(), pod, metav1.GetOptions{})
		return err == nil && len(p.Status.ContainerStatuses) > 0
	})
	crash(1)
	h := b.follow(ref, "a crash loop", func(h reconcile.Health) bool { return strings.Contains(h.Message, "CrashLoopBackOff") })
	if h.Status == reconcile.Failed {
		t.Errorf("one crash is a failure: %+v", h)
	}
	crash(4)
	h = b.follow(ref, "a failure", func(h reconcile.Health) bool { return h.Status == reconcile.Failed })
	for _, want := range []string{"pod " + pod + ", container web: CrashLoopBackOff, exit code 1, restarted 4 times: fatal: [redacted]", "its log ends:\n| starting\n", "cannot log in with [redacted]\n", "KeyError: 'x'"} {
		if !strings.Contains(h.Message, want) {
			t.Errorf("%q is not in\n%s", want, h.Message)
		}
	}
	for _, secret := range []string{canary, "Pass w0rd", "ghp_", "\x1b"} {
		if strings.Contains(h.Message, secret) {
			t.Errorf("a secret is in\n%s", h.Message)
		}
	}
	before := len(k.reads())
	for range 3 {
		state, err := b.c.Live(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		b.c.Health(b.t.Context(), id, ref, state)
	}
	if n := len(k.reads()); n != before {
		t.Errorf("the log is read with every look: %d times", n)
	}

	// The image before comes back: nothing is watched any more.
	b.own(id, b.manifest(fmt.Sprintf(podsOf, "run", "1")))
	b.follow(ref, "ready again", func(h reconcile.Health) bool { return h.Status == reconcile.Ready })
	if b.watchesPods(ref) {
		t.Error("pods are still watched")
	}
}

// Where secrets cannot be known they cannot be taken out: no log is shown.
func TestNoLogWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	b, k := newPodBed(t, "c4n4ry\n")
	k.mu.Lock()
	k.denied = "/namespaces/" + b.Namespace + "/secrets"
	k.mu.Unlock()
	ref := workload("Deployment", b.Namespace, "web")
	b.own(releaseID("app"), b.manifest(fmt.Sprintf(podsOf, "crash-loop", "1")))
	h := b.follow(ref, "a crash loop", func(h reconcile.Health) bool { return strings.Contains(h.Message, "CrashLoopBackOff") })
	if strings.Contains(h.Message, "c4n4ry") || !strings.Contains(h.Message, "its log is not shown") || len(k.reads()) > 0 {
		t.Errorf("%s\nread: %v", h.Message, k.reads())
	}
}

// What may not be seen is said, and not asked for again and again.
func TestPodsThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	b, k := newPodBed(t, "")
	b.setup = func(cs *Clusters) { cs.wrap, cs.podGrace = k.wrap, time.Hour }
	ref := workload("Deployment", b.Namespace, "web")
	b.own(releaseID("app"), b.manifest(fmt.Sprintf(podsOf, "crash-loop", "1")))
	for what, said := range map[string]string{"replicasets": "list the replica sets of", "pods": "list the pods of"} {
		k.mu.Lock()
		k.denied = "/namespaces/" + b.Namespace + "/" + what
		k.mu.Unlock()
		b.restart() // nothing is known of the pods
		b.follow(ref, "what is missing", func(h reconcile.Health) bool {
			return h.Status == reconcile.Progressing && strings.Contains(h.Message, "why it is not ready cannot be seen: "+said)
		})
		b.requests.reset()
		for range 10 {
			state, err := b.c.Live(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			b.c.Health(t.Context(), releaseID("app"), ref, state)
		}
		if n := b.requests.all(); len(n) > 1 { // the watch tries again by itself, later and later
			t.Errorf("%s: asked again: %v", what, n)
		}
	}
}

// An image that cannot be pulled may still be on its way to the registry: it
// counts as a failure after a while.
func TestImageThatIsMissing(t *testing.T) {
	t.Parallel()
	b, _ := newPodBed(t, "")
	b.clusters.podGrace = 3 * time.Second
	ref := workload("Deployment", b.Namespace, "web")
	b.own(releaseID("app"), b.manifest(fmt.Sprintf(podsOf, "image-missing", "1")))
	h := b.follow(ref, "the reason", func(h reconcile.Health) bool { return strings.Contains(h.Message, "ImagePullBackOff") })
	if h.Status != reconcile.Progressing {
		t.Errorf("at once: %+v", h)
	}
	b.follow(ref, "a failure", func(h reconcile.Health) bool { return h.Status == reconcile.Failed })
}

// Only pods of what is rolled out now count: those of the revision before may
// be in trouble for reasons of their own.
func TestOldPodsAreNotTheTrouble(t *testing.T) {
	t.Parallel()
	b, k := newPodBed(t, "old\n")
	id, ref := releaseID("app"), workload("Deployment", b.Namespace, "web")
	b.own(id, b.manifest(fmt.Sprintf(podsOf, "crash-loop", "old")))
	b.follow(ref, "the old trouble", func(h reconcile.Health) bool { return strings.Contains(h.Message, b.podOf("web:old")) })
	before := len(k.reads())

	// The new pod finds no node; the old one goes on crashing.
	b.own(id, b.manifest(strings.Replace(fmt.Sprintf(podsOf, "run", "new"), "image: 'web:new'", "image: 'web:new', resources: {requests: {cpu: 100000}}", 1)))
	h := b.follow(ref, "the new trouble", func(h reconcile.Health) bool { return strings.Contains(h.Message, "Unschedulable") })
	if strings.Contains(h.Message, "CrashLoopBackOff") || h.Status != reconcile.Progressing || len(k.reads()) != before {
		t.Errorf("%+v", h)
	}
}

// Pods that nobody makes have no status to read: the quota, or whatever
// refuses them, is named all the same.
func TestRefusedPodsSayWhy(t *testing.T) {
	t.Parallel()
	b, _ := newPodBed(t, "")
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "none"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}}}
	if _, err := b.Client.CoreV1().ResourceQuotas(b.Namespace).Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.own(releaseID("app"), b.manifest(fmt.Sprintf(podsOf, "run", "1")), b.manifest(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: db}]}
`))
	for _, ref := range []Ref{workload("Deployment", b.Namespace, "web"), workload("StatefulSet", b.Namespace, "db")} {
		b.follow(ref, "the quota", func(h reconcile.Health) bool {
			return h.Status == reconcile.Progressing && strings.Contains(h.Message, "exceeded quota: none")
		})
	}
}

func (b *bed) podOf(image string) string {
	b.t.Helper()
	var name string
	b.eventually("a pod of "+image, func() bool {
		pods, err := b.Client.CoreV1().Pods(b.Namespace).List(b.t.Context(), metav1.ListOptions{})
		if err != nil {
			b.t.Fatal(err)
		}
		for _, p := range pods.Items {
			if p.Spec.Containers[0].Image == image && p.DeletionTimestamp == nil {
				name = p.Name
			}
		}
		return name != ""
	})
	return name
}

func (b *bed) eventually(what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			b.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// setStatus writes a pod's status as its kubelet would.
func (b *bed) setStatus(pod string, status map[string]any) {
	b.t.Helper()
	raw, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.Client.CoreV1().Pods(b.Namespace).Patch(b.t.Context(), pod, types.MergePatchType, raw, metav1.PatchOptions{FieldManager: "kubelet"}, "status"); err != nil {
		b.t.Fatal(err)
	}
}
