package kubernetes

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Secrets and namespaces are verified too, and their values are not kept for it.
func TestSecretsAreVerified(t *testing.T) {
	v := newVault(t)
	r := v.stack(0)
	v.converge(r)
	c, err := v.clusters.Cluster(t.Context(), v.Target())
	if err != nil {
		t.Fatal(err)
	}
	inv, err := c.Inventory(t.Context(), "prod", v.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	record, _ := inv.Record(r.Resource.ID)
	verify := c.clusters.verifier(forge.KindSecrets)
	for _, e := range record.Entries {
		if verdict, err := verify(t.Context(), c, v.Namespace, record, e); err != nil || verdict != VerdictSame {
			t.Errorf("%s: %d, %v", e.Ref, verdict, err)
		}
	}
	if _, err := v.Client.CoreV1().Secrets(v.Namespace).Patch(t.Context(), "app", merge, []byte(`{"stringData":{"URL":"`+canary+`"}}`), metav1.PatchOptions{FieldManager: c.manager}); err != nil {
		t.Fatal(err)
	}
	for _, e := range record.Entries {
		want := VerdictSame
		if e.Ref.Name == "app" {
			want = VerdictDiffers
		}
		if verdict, err := verify(t.Context(), c, v.Namespace, record, e); err != nil || verdict != want {
			t.Errorf("%s: %d, %v, want %d", e.Ref, verdict, err, want)
		}
	}

	ns := NewNamespaces(v.clusters)
	req := namespaceRequest(v.Env, true)
	req.Resource.Spec = forge.NamespaceSpec{Name: v.Namespace + "-n", Create: true}
	req.Resource.ID.Name = v.Namespace + "-n"
	do(t, ns, req, reconcile.ActionCreate, reconcile.ReasonAbsent)
	t.Cleanup(func() {
		_ = v.Client.CoreV1().Namespaces().Delete(context.Background(), v.Namespace+"-n", metav1.DeleteOptions{})
	})
	inv, err = c.Inventory(t.Context(), "prod", v.Namespace+"-n")
	if err != nil {
		t.Fatal(err)
	}
	record, _ = inv.Record(req.Resource.ID)
	verify = c.clusters.verifier(forge.KindNamespace)
	if verdict, err := verify(t.Context(), c, "", record, record.Entries[0]); err != nil || verdict != VerdictSame {
		t.Errorf("namespace: %d, %v", verdict, err)
	}
	v.log.mu.Lock()
	defer v.log.mu.Unlock()
	if strings.Contains(v.log.b.String(), canary) {
		t.Error("a value is in the log")
	}
}
