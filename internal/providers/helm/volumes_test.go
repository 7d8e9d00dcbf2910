package helm

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/reconcile"
)

const database = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: "db:1"}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`

// The volumes that a StatefulSet's controller has made are in no manifest. They
// outlive the release, and go by the step that names them, with its token, when
// nothing tells any more whose they were but what was written down before.
func TestVolumesOfAStatefulSetGoByTheirToken(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/db.yaml": database})
	r.converge()
	claims := r.env.Client.CoreV1().PersistentVolumeClaims(r.env.Namespace)
	var before *corev1.PersistentVolumeClaim
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); before == nil; {
		if c, err := claims.Get(t.Context(), "data-db-0", metav1.GetOptions{}); err == nil {
			before = c
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("no claim is made")
		}
	}
	lives := func(when string) {
		t.Helper()
		if now, err := claims.Get(t.Context(), "data-db-0", metav1.GetOptions{}); err != nil || now.UID != before.UID || now.DeletionTimestamp != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	req := r.request()
	req.Remove = true
	plan := func(want int) []reconcile.Step {
		t.Helper()
		o, err := r.p.Observe(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := r.p.Plan(t.Context(), req, o)
		if err != nil || len(steps) != want {
			t.Fatalf("steps %+v, err %v", steps, err)
		}
		return steps
	}
	if steps := plan(1); len(steps[0].Destroys) != 0 {
		t.Errorf("without leave: %+v", steps)
	}
	r.policy.DestroyData = "with-token"
	req.Policy = r.policy
	steps := plan(2)
	name := "PersistentVolumeClaim " + r.env.Namespace + "/data-db-0"
	if len(steps[0].Destroys) != 0 || len(steps[1].Destroys) != 1 || steps[1].Destroys[0] != name || steps[1].Deletes != 1 {
		t.Fatalf("steps %+v", steps)
	}
	if _, err := r.p.Apply(t.Context(), req, steps[0]); err != nil {
		t.Fatal(err)
	}
	lives("after the removal of the release")
	r.restart()
	left := plan(1)
	if left[0].Token != steps[1].Token || left[0].Destroys[0] != name {
		t.Fatalf("steps %+v", left)
	}
	lives("before the step")
	if _, err := r.p.Apply(t.Context(), req, left[0]); err != nil {
		t.Fatal(err)
	}
	if now, err := claims.Get(t.Context(), "data-db-0", metav1.GetOptions{}); err == nil && now.DeletionTimestamp == nil {
		t.Error("the claim is not being deleted")
	}
	if o, err := r.p.Observe(t.Context(), req); err != nil || o.Exists {
		t.Errorf("exists %t, err %v", o.Exists, err)
	}
}

// A service that comes back before its data was let go finds it as it was.
func TestVolumesOfAServiceThatComesBackStay(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/db.yaml": database})
	r.policy.DestroyData = "with-token"
	r.converge()
	claims := r.env.Client.CoreV1().PersistentVolumeClaims(r.env.Namespace)
	uid := ""
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); uid == ""; {
		if c, err := claims.Get(t.Context(), "data-db-0", metav1.GetOptions{}); err == nil {
			uid = string(c.UID)
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("no claim is made")
		}
	}
	req := r.request()
	req.Remove = true
	o, err := r.p.Observe(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := r.p.Plan(t.Context(), req, o)
	if err != nil || len(steps) != 2 {
		t.Fatalf("steps %+v, err %v", steps, err)
	}
	if _, err := r.p.Apply(t.Context(), req, steps[0]); err != nil {
		t.Fatal(err)
	}
	r.converge()
	if now, err := claims.Get(t.Context(), "data-db-0", metav1.GetOptions{}); err != nil || string(now.UID) != uid || now.DeletionTimestamp != nil {
		t.Fatalf("it has not stayed: %v", err)
	}
	if _, err := r.p.Apply(t.Context(), req, steps[1]); err == nil {
		t.Error("the step of before was carried out")
	}
	if now, err := claims.Get(t.Context(), "data-db-0", metav1.GetOptions{}); err != nil || now.DeletionTimestamp != nil {
		t.Fatalf("it was deleted under the service that is back: %v", err)
	}
}
