package fks

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/reconcile"
)

// occupied has somebody else's environment keep the cluster from going.
func (in *inside) occupied(t *testing.T) {
	removal := func() reconcile.Step {
		t.Helper()
		q := reconcile.Request{Resource: in.cluster(), Remove: true}
		o, err := in.provider.Observe(t.Context(), q)
		in.must(err)
		steps, err := in.provider.Plan(t.Context(), q, o)
		in.must(err)
		if len(steps) != 1 || steps[0].Action != reconcile.ActionDelete || len(steps[0].Destroys) != 1 {
			t.Fatalf("%+v", steps)
		}
		return steps[0]
	}
	if step := removal(); step.Blocked != "" { // what is of its own environment goes with it
		t.Error(step.Blocked)
	}
	theirs := in.client().CoreV1().ConfigMaps("default")
	_, err := theirs.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: "forged-inventory-staging", Labels: map[string]string{"forged.dev/inventory": "another"},
	}}, metav1.CreateOptions{})
	in.must(err)
	if step := removal(); !strings.Contains(step.Blocked, "staging of another (namespace default)") {
		t.Errorf("%q", step.Blocked)
	}
	in.must(theirs.Delete(t.Context(), "forged-inventory-staging", metav1.DeleteOptions{}))
	reach := in.provider.connect
	in.provider.connect = nowhere
	in.provider.ways[in.cluster().ID].connect = nowhere
	defer func() { in.provider.connect, in.provider.ways[in.cluster().ID].connect = reach, reach }()
	if step := removal(); !strings.Contains(step.Blocked, "could not be looked at") {
		t.Errorf("%q", step.Blocked)
	}
}
