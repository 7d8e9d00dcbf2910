package kubernetes

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Giving up spec.replicas as the only one that holds it would reset the
// workload to one replica.
func TestReplicasGivenUpAreNotReset(t *testing.T) {
	b := newBed(t)
	id := releaseID("given-up")
	obj := b.manifest(twoContainers)
	ref := RefOf(obj)
	if err := unstructured.SetNestedField(obj.Object, int64(3), "spec", "replicas"); err != nil {
		t.Fatal(err)
	}
	b.own(id, obj)
	unstructured.RemoveNestedField(obj.Object, "spec", "replicas")
	b.heal(id, obj)
	if got := b.field(ref, "spec.replicas"); got != "3" {
		t.Fatalf("replicas %s", got)
	}
	b.still(id, "after giving them up")
	live := b.edit(ref, "kubectl", merge, `{"spec":{"replicas":6}}`, "scale")
	b.seen(ref, live.GetResourceVersion())
	b.quiet(id, causeLive)
	b.heal(id, obj)
	if got := b.field(ref, "spec.replicas"); got != "6" {
		t.Fatalf("replicas %s", got)
	}
	// And taken up again.
	if err := unstructured.SetNestedField(obj.Object, int64(2), "spec", "replicas"); err != nil {
		t.Fatal(err)
	}
	b.heal(id, obj)
	if got := b.field(ref, "spec.replicas"); got != "2" {
		t.Fatalf("replicas %s", got)
	}
	b.still(id, "at the end")
}

// A workload that an autoscaler targets is scaled by it, whoever made the
// autoscaler and whatever number the manifest has.
func TestAutoscalerIsNotFought(t *testing.T) {
	b := newBed(t)
	id := releaseID("scaled")
	obj := b.manifest(twoContainers)
	ref := RefOf(obj)
	b.own(id, obj)
	hpa := b.manifest(`
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: foreign}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 4
  maxReplicas: 6`)
	b.create(hpa, "kubectl-create")
	awaitField(b, ref, "spec.replicas", "4")
	// The event of the scaling may come before that of the autoscaler.
	b.event(id, causeLive)
	b.await("the autoscaler to be respected", func() bool { return len(b.drifted(id)) == 0 })
	b.still(id, "scaled")
	a := b.heal(id, obj)
	if got := b.field(ref, "spec.replicas"); got != "4" {
		t.Fatalf("a rollout set the replicas to %s", got)
	}
	if e := entryOf(a.Object.GetManagedFields(), b.c.Manager()); strings.Contains(e.FieldsV1.GetRawString(), "f:replicas") {
		t.Error("we hold the number of replicas beside the autoscaler")
	}
	b.still(id, "after a rollout")
	b.restart()
	b.still(id, "after a restart")

	err := b.c.Dynamic().Resource(autoscalers).Namespace(b.Namespace).Delete(t.Context(), "foreign", metav1.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.event(id, causeLive)
	if d := b.drifted(id); len(d) != 1 {
		t.Fatalf("without the autoscaler: %+v", d)
	}
	b.heal(id, obj)
	if got := b.field(ref, "spec.replicas"); got != "2" {
		t.Errorf("without the autoscaler: %s replicas", got)
	}
	b.still(id, "at the end")
}

// An autoscaler that has never scaled holds no field. When it is gone, the
// number of the manifest holds all the same.
func TestReplicasAreHeldWithoutTheAutoscaler(t *testing.T) {
	b := newBed(t)
	id := releaseID("held")
	obj := b.manifest(twoContainers)
	ref := RefOf(obj)
	b.create(b.manifest(`
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: idle}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 6`), "kubectl-create")
	b.await("the autoscaler to be seen", func() bool {
		scaled, err := b.c.scaled(t.Context(), ref)
		return err == nil && scaled
	})
	b.own(id, obj)
	b.still(id, "at first")
	err := b.c.Dynamic().Resource(autoscalers).Namespace(b.Namespace).Delete(t.Context(), "idle", metav1.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.event(id, causeLive)
	if d := b.drifted(id); len(d) != 1 {
		t.Fatalf("without the autoscaler: %+v", d)
	}
	a := b.heal(id, obj)
	if e := entryOf(a.Object.GetManagedFields(), b.c.Manager()); !strings.Contains(e.FieldsV1.GetRawString(), "f:replicas") {
		t.Error("nobody holds the number of replicas")
	}
	if got := b.field(ref, "spec.replicas"); got != "2" {
		t.Errorf("%s replicas", got)
	}
	b.still(id, "at the end")
}
