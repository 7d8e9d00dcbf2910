package kubernetes

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
)

// What a person is told to delete with leads to the cluster that it is about,
// and to no other.
func TestStayNamesTheCluster(t *testing.T) {
	ref := Ref{GVK: schema.GroupVersionKind{Version: "v1", Kind: "Secret"}, Namespace: "shop-prod", Name: "shop-env"}
	for want, target := range map[string]forge.Target{
		"kubectl --context acme --namespace shop-prod delete secret shop-env": {Context: "acme"},
		"kubectl --kubeconfig acme-prod.kubeconfig.yml --namespace shop-prod delete secret shop-env": {
			Cluster: forge.ID{Environment: "prod", Kind: forge.KindFlyCluster, Name: "acme-prod"},
		},
	} {
		if got := (&Cluster{target: target}).Stay(ref); got.Remove != want {
			t.Errorf("%+v: %q, want %q", target, got.Remove, want)
		}
	}
}
