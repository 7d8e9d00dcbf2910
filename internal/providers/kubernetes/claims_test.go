package kubernetes

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
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
