package kubernetes

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What another tool wrote through another version of the API is taken over as
// well: what it set and we do not ask for goes. (A field that has another name in
// our version stays: the API server does not find it again, not even where one
// manager applies first the one version and then the other.)
func TestEntriesOfAnotherVersionAreTakenOver(t *testing.T) {
	const theirs = `
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: web, labels: {stale: "yes"}}
spec:
  minReplicas: 3
  maxReplicas: 9
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}`
	const ours = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  maxReplicas: 5
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}`
	check := func(t *testing.T, a Applied) {
		t.Helper()
		if got := a.Object.GetLabels()["stale"]; got != "" {
			t.Error("the label of theirs stays")
		}
		spec := child(a.Object.Object, "spec")
		if got := string(mustJSON(t, spec["minReplicas"])); got != "1" {
			t.Errorf("the minimum of theirs stays: %s", got)
		}
	}
	t.Run("of helm", func(t *testing.T) {
		b := newBed(t)
		b.create(b.manifest(theirs), "helm")
		a := b.apply(releaseID("web"), b.manifest(ours))
		check(t, a)
		if strings.Contains(managers(a.Object), "helm") {
			t.Errorf("left over: managers %s", managers(a.Object))
		}
	})
	// A person's helm upgrade of the old chart, behind our back.
	t.Run("of helm, after us", func(t *testing.T) {
		b := newBed(t)
		b.apply(releaseID("web"), b.manifest(ours))
		old := b.manifest(theirs)
		mapping, err := b.c.Mapping(t.Context(), old.GroupVersionKind())
		if err != nil {
			t.Fatal(err)
		}
		patch := `{"metadata":{"labels":{"stale":"yes"}},"spec":{"minReplicas":3,"maxReplicas":9}}`
		if _, err := b.c.resource(mapping, b.Namespace).Patch(t.Context(), "web", merge, []byte(patch), metav1.PatchOptions{FieldManager: "helm"}); err != nil {
			t.Fatal(err)
		}
		a := b.apply(releaseID("web"), b.manifest(ours))
		check(t, a)
		if got := string(mustJSON(t, child(a.Object.Object, "spec")["maxReplicas"])); got != "5" {
			t.Errorf("%s replicas at most", got)
		}
	})
}
