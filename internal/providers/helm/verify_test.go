package helm

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// Every object of a release can be verified by a dry run, after a restart too,
// and a change shows.
func TestReleasesAreVerified(t *testing.T) {
	r := newRig(t)
	r.converge()
	for restarted := range 2 {
		if restarted == 1 {
			r.restart()
			r.converge()
		}
		c, err := r.clusters.Cluster(t.Context(), r.target)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := c.Inventory(t.Context(), "test", r.env.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		record, _ := inv.Record(r.request().Resource.ID)
		for _, e := range record.Entries {
			verdict, err := r.p.verify(t.Context(), c, r.env.Namespace, record, e)
			if err != nil || verdict != kubernetes.VerdictSame {
				t.Errorf("%s: %d, %v", e.Ref, verdict, err)
			}
		}
		if len(record.Entries) == 0 {
			t.Error("nothing to verify")
		}
	}
}

// A release that stays behind in a namespace which its environment has left is
// found under an id of its own and uninstalled there, and not where it is wanted
// now.
func TestReleaseLeftBehindIsUninstalled(t *testing.T) {
	r := newRig(t)
	old := r.env.Namespace
	r.converge()
	r.stop()
	r.start()
	r.env.Namespace = old + "-new"
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.env.Namespace}}
	if _, err := r.env.Client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.env.Client.CoreV1().Namespaces().Delete(r.ctx(), old, metav1.DeleteOptions{})
	})
	r.converge()
	owned, err := r.p.Owned(t.Context(), "test", []forge.Resource{r.request().Resource})
	if err != nil || len(owned) != 2 {
		t.Fatalf("owned %+v, %v", owned, err)
	}
	left := owned[1]
	if left.ID.Name != "app@@"+old || left.Spec.(forge.ReleaseSpec).Namespace != old {
		t.Fatalf("left %+v", left)
	}
	req := reconcile.Request{Resource: left, Remove: true, Policy: forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10}}
	for range 4 {
		if steps, err := r.pass(t.Context(), req); err == nil && len(steps) == 0 {
			break
		}
	}
	if o, err := r.p.Observe(t.Context(), req); err != nil || o.Exists {
		t.Errorf("it still exists: %+v, %v", o, err)
	}
	records, err := r.env.Client.CoreV1().Secrets(old).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil || len(records.Items) != 0 {
		t.Errorf("%d records of Helm are left, %v", len(records.Items), err)
	}
	if steps := r.converge(); len(steps) != 0 {
		t.Errorf("what is wanted was touched: %v", steps)
	}
}
