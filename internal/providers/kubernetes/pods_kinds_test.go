package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/reconcile"
)

// A Job that runs out of time loses its pod: what the pod had to say is read
// before it goes.
func TestJobOutOfTimeHasALog(t *testing.T) {
	t.Parallel()
	b, _ := newPodBed(t, "waiting for a lock\n")
	id := releaseID("app")
	job := b.manifest(`
apiVersion: batch/v1
kind: Job
metadata: {name: slow}
spec:
  backoffLimit: 0
  activeDeadlineSeconds: 2
  template:
    metadata: {annotations: {sandbox.forged.dev/pod: run}, finalizers: [forged.dev/slow-kubelet]}
    spec: {restartPolicy: Never, containers: [{name: work, image: work}]}
`)
	b.own(id, job)
	h := b.follow(RefOf(job), "a log", func(h reconcile.Health) bool { return strings.Contains(h.Message, "| waiting for a lock") })
	if !strings.Contains(h.Message, "container work: it was stopped") {
		t.Errorf("%s", h.Message)
	}
	// Its pod has gone; what it said has not.
	pods, err := b.Client.CoreV1().Pods(b.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	if _, err := b.Client.CoreV1().Pods(b.Namespace).Patch(t.Context(), pods.Items[0].Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	h = b.follow(RefOf(job), "the failure", func(h reconcile.Health) bool { return h.Status == reconcile.Failed })
	if !strings.Contains(h.Message, "DeadlineExceeded") || !strings.Contains(h.Message, "| waiting for a lock") {
		t.Errorf("after its pod has gone: %s", h.Message)
	}
}

// A Pod by itself says why it has failed, and others beside it are not looked at.
func TestPodHasALog(t *testing.T) {
	t.Parallel()
	b, k := newPodBed(t, "column exists already\n")
	id := releaseID("app")
	other := b.manifest(`
apiVersion: v1
kind: Pod
metadata: {name: other, annotations: {sandbox.forged.dev/pod: crash-loop}}
spec: {containers: [{name: c, image: c}]}
`)
	pod := b.manifest(`
apiVersion: v1
kind: Pod
metadata: {name: migrate, labels: {forged.dev/job: migrate}, annotations: {sandbox.forged.dev/pod: fail}}
spec: {restartPolicy: Never, containers: [{name: work, image: work}]}
`)
	b.own(id, other, pod)
	h := b.follow(RefOf(pod), "a log", func(h reconcile.Health) bool { return strings.Contains(h.Message, "| column exists already") })
	if h.Status != reconcile.Failed || !strings.Contains(h.Message, "pod migrate, container work: Error, exit code 1") {
		t.Errorf("%+v", h)
	}
	if reads := k.reads(); len(reads) != 1 || reads[0] != "migrate/work" {
		t.Errorf("logs were read of %v", reads)
	}
}

// A StatefulSet replaces one pod after the other: only those of the new
// revision say whether that goes well.
func TestRevisionOfAStatefulSet(t *testing.T) {
	t.Parallel()
	b, _ := newPodBed(t, "new\n")
	id, ref := releaseID("app"), workload("StatefulSet", b.Namespace, "db")
	set := func(life, image string) string {
		return fmt.Sprintf(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}, annotations: {sandbox.forged.dev/pod: %s}}
    spec: {containers: [{name: db, image: 'db:%s'}]}
`, life, image)
	}
	b.own(id, b.manifest(set("run", "1")))
	b.follow(ref, "ready", func(h reconcile.Health) bool { return h.Status == reconcile.Ready })
	b.own(id, b.manifest(set("crash-loop", "2")))
	h := b.follow(ref, "the new pod", func(h reconcile.Health) bool { return strings.Contains(h.Message, "CrashLoopBackOff") })
	if !strings.Contains(h.Message, "pod db-1,") {
		t.Errorf("%s", h.Message)
	}
}

func TestRevisionOfADaemonSet(t *testing.T) {
	t.Parallel()
	b, _ := newPodBed(t, "new\n")
	id, ref := releaseID("app"), workload("DaemonSet", b.Namespace, "agent")
	set := func(life, image string) string {
		return fmt.Sprintf(`
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}, annotations: {sandbox.forged.dev/pod: %s}}
    spec: {containers: [{name: agent, image: 'agent:%s'}]}
`, life, image)
	}
	b.own(id, b.manifest(set("run", "1")))
	b.follow(ref, "ready", func(h reconcile.Health) bool { return h.Status == reconcile.Ready })
	b.own(id, b.manifest(set("image-missing", "2")))
	b.follow(ref, "a failure", func(h reconcile.Health) bool {
		return h.Status == reconcile.Failed && strings.Contains(h.Message, "container agent: ImagePullBackOff")
	})
}
