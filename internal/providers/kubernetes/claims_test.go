package kubernetes

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"forged.dev/forged/internal/reconcile"
)

// A StatefulSet may own its claims, so that they go when it goes. When forged
// deletes it, they stay all the same.
func TestClaimsOutliveTheirStatefulSet(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	obj := b.manifest(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 1
  serviceName: db
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: "db:1"}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}`)
	entry := b.own(releaseID("db"), obj)[0]
	claims := b.Client.CoreV1().PersistentVolumeClaims(b.Namespace)
	claim := awaitClaim(t, b.Client, b.Namespace, func(c corev1.PersistentVolumeClaim) bool { return len(c.OwnerReferences) > 0 })

	if err := b.c.Delete(t.Context(), entry.Ref, entry.Baseline.UID); err != nil {
		t.Fatal(err)
	}
	now, err := claims.Get(t.Context(), claim.Name, metav1.GetOptions{})
	if err != nil || now.UID != claim.UID || now.DeletionTimestamp != nil || len(now.OwnerReferences) > 0 {
		t.Errorf("the claim goes with the StatefulSet: %v, deleted %v, owned by %v", err, now.DeletionTimestamp, now.OwnerReferences)
	}
}

// awaitClaim waits for a claim of a namespace that is as wanted.
func awaitClaim(t *testing.T, client kubernetes.Interface, namespace string, ok func(corev1.PersistentVolumeClaim) bool) corev1.PersistentVolumeClaim {
	t.Helper()
	ticker := time.NewTicker(letGoPoll)
	defer ticker.Stop()
	limit := time.After(4 * patience)
	for {
		list, err := client.CoreV1().PersistentVolumeClaims(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, claim := range list.Items {
			if ok(claim) {
				return claim
			}
		}
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("no claim is as wanted: %v", list.Items)
		}
	}
}

// Of the claims of a namespace those are found that the controller has made for
// one StatefulSet, and none that only looks like one.
func TestVolumesOfAStatefulSet(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	id := releaseID("db")
	set := func(name string) *unstructured.Unstructured {
		return b.manifest(strings.ReplaceAll(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: NAME}
spec:
  replicas: 2
  serviceName: NAME
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: "db:1"}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}`, "NAME", name))
	}
	entry := b.own(id, set("db"))[0]
	claims := b.Client.CoreV1().PersistentVolumeClaims(b.Namespace)
	want := awaitClaim(t, b.Client, b.Namespace, func(c corev1.PersistentVolumeClaim) bool { return c.Name == "data-db-1" })
	for name, change := range map[string]func(*corev1.PersistentVolumeClaim){
		"data-db-7":       func(c *corev1.PersistentVolumeClaim) { c.Labels = nil },
		"data-db-8":       func(c *corev1.PersistentVolumeClaim) { c.Labels[LabelInstance] = "another" },
		"data-db-9":       func(c *corev1.PersistentVolumeClaim) { c.Annotations = map[string]string{AnnotationKeep: "true"} },
		"data-db-x":       func(*corev1.PersistentVolumeClaim) {},
		"data-db-01":      func(*corev1.PersistentVolumeClaim) {},
		"data-db-":        func(c *corev1.PersistentVolumeClaim) { c.Name += "a" },
		"data-other-db-0": func(*corev1.PersistentVolumeClaim) {},
		"backup-db-0":     func(*corev1.PersistentVolumeClaim) {},
		"data-db-10": func(c *corev1.PersistentVolumeClaim) {
			c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: b.Namespace, UID: "7d1c2c0e-0000-4000-8000-000000000000"}}
		},
	} {
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "db"}}, Spec: *want.Spec.DeepCopy()}
		claim.Spec.VolumeName = ""
		change(claim)
		if _, err := claims.Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	found, err := b.c.Volumes(t.Context(), id, entry)
	if err != nil || len(found) != 2 || found[0].Ref.Name != "data-db-0" || found[1].Ref.Name != "data-db-1" || found[1].Baseline.UID != string(want.UID) {
		t.Fatalf("found %+v, %v", found, err)
	}
	if live := b.get(found[1].Ref); !b.c.Still(live, id, found[1]) {
		t.Error("it is not the one that was found")
	}
	other := found[1]
	other.Baseline.UID = "another"
	if b.c.Still(b.get(found[1].Ref), id, other) {
		t.Error("another one of its name is taken for it")
	}
	for what, e := range map[string]Entry{
		"another object of its name": {Ref: entry.Ref, Baseline: Baseline{UID: "another"}},
		"one that is kept":           {Ref: entry.Ref, Baseline: entry.Baseline, Keep: true},
	} {
		if found, err := b.c.Volumes(t.Context(), id, e); err != nil || len(found) != 0 {
			t.Errorf("%s: found %+v, %v", what, found, err)
		}
	}
	if found, err := b.c.Volumes(t.Context(), releaseID("another"), entry); err != nil || len(found) != 0 {
		t.Errorf("of another resource: found %+v, %v", found, err)
	}
}

// A custom resource that claims belong to would take them with it: it is let go
// of instead, and not deleted by any other way either.
func TestWhatOwnsClaimsStays(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	group := b.customResource()
	id := releaseID("db")
	widget := func(name string) *unstructured.Unstructured {
		return b.manifest("{apiVersion: " + group + "/v1, kind: Widget, metadata: {name: " + name + "}, spec: {colour: red}}")
	}
	entries := b.own(id, widget("database"), widget("plain"))
	claim := b.manifest(`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`)
	claim.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: group + "/v1", Kind: "Widget", Name: "database", UID: types.UID(entries[0].Baseline.UID)}})
	b.create(claim, "operator")
	if err := b.c.Delete(t.Context(), entries[0].Ref, entries[0].Baseline.UID); reconcile.KindOf(err) != reconcile.Invalid || err == nil || !strings.Contains(err.Error(), "data") {
		t.Errorf("deleted: %v", err)
	}
	for i, want := range []Pruned{PrunedKept, PrunedDeleted} {
		if got, err := b.inventory().Prune(t.Context(), id, entries[i]); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", entries[i].Ref, got, err, want)
		}
	}
	if live := b.get(entries[0].Ref); live == nil || live.GetDeletionTimestamp() != nil || live.GetLabels()[LabelInstance] != "" {
		t.Errorf("left: %v", live)
	}
	if b.get(RefOf(claim)) == nil {
		t.Error("the claim is gone")
	}
}
