package kubernetes

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/reconcile"
)

const shortJob = `
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: run, image: "tool:1"}]`

const shortPod = `
apiVersion: v1
kind: Pod
metadata: {name: once, labels: {forged.dev/job: once}}
spec:
  restartPolicy: Never
  containers: [{name: run, image: "tool:1"}]`

// A Job with a time to live is gone after it has run, and so is a Pod that
// somebody tidies away. Putting it back would run it again.
func TestCompletedMayVanish(t *testing.T) {
	for name, text := range map[string]string{"job": shortJob, "pod": shortPod} {
		t.Run(name, func(t *testing.T) { completedMayVanish(t, text) })
	}
}

func completedMayVanish(t *testing.T, text string) {
	b := newBed(t)
	id := releaseID("job")
	obj := b.manifest(text)
	ref := RefOf(obj)
	entry := b.own(id, obj)[0]
	awaitLive(t, b.c, ref, "complete", func(s State) bool { return s.Health.Status == reconcile.Ready })
	b.await("that to be noted", func() bool {
		r, _ := b.inventory().Record(id)
		return r.Entries[0].Baseline.Done
	})
	b.still(id, "after it has run")
	if ref.GVK.Kind == "Job" {
		b.edit(ref, "test", merge, `{"spec":{"ttlSecondsAfterFinished":0}}`)
	} else if err := b.Client.CoreV1().Pods(b.Namespace).Delete(t.Context(), ref.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, b.c, ref)
	b.still(id, "after it vanished")
	b.quiet(id, causeLive)
	r, _ := b.inventory().Record(id)
	if s, err := b.c.Live(t.Context(), ref); err != nil || !r.Entries[0].Baseline.Vanished(s) {
		t.Errorf("%+v, %v", s, err)
	}
	b.restart()
	b.still(id, "after a restart")

	// Another one under its name is not it.
	obj.SetLabels(map[string]string{LabelInstance: b.Instance})
	b.create(obj, "kubectl-create")
	b.event(id, causeLive)
	if d := b.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonReplaced || d[0].State.UID == entry.Baseline.UID {
		t.Errorf("drifts %+v", d)
	}
}

// A Pod that is stopped by being deleted may end with success. It has not come
// to its end.
func TestPodDeletedBeforeItsEndIsDrift(t *testing.T) {
	b := newBed(t)
	id := releaseID("job")
	obj := b.manifest(shortPod)
	obj.SetFinalizers([]string{"forged.dev/slow-kubelet"})
	obj.SetAnnotations(map[string]string{"sandbox.forged.dev/pod": "run"})
	ref := RefOf(obj)
	b.own(id, obj)
	pods := b.Client.CoreV1().Pods(b.Namespace)
	awaitLive(t, b.c, ref, "running", func(s State) bool { return s.Health.Message == "runs" })
	if err := pods.Delete(t.Context(), ref.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Patch(t.Context(), ref.Name, merge, []byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Patch(t.Context(), ref.Name, merge, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, b.c, ref)
	if d := b.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonDeleted {
		t.Errorf("drifts %+v", d)
	}
}

// One that was deleted before it had completed has not run.
func TestJobDeletedBeforeItsEndIsDrift(t *testing.T) {
	b := newBed(t)
	id := releaseID("job")
	obj := b.manifest(shortJob)
	if err := unstructured.SetNestedField(obj.Object, true, "spec", "suspend"); err != nil {
		t.Fatal(err)
	}
	ref := RefOf(obj)
	b.own(id, obj)
	background := metav1.DeletePropagationBackground
	if err := b.Client.BatchV1().Jobs(b.Namespace).Delete(t.Context(), ref.Name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, b.c, ref)
	if d := b.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonDeleted {
		t.Errorf("drifts %+v", d)
	}
}
