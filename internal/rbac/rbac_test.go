package rbac

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
)

// granted are the verbs on a kind in a namespace; name is empty for all objects.
func granted(r Rights, namespace, resource, name string) string {
	var verbs []string
	for _, right := range r.All {
		if right.Namespace == namespace && right.Resource == resource && (name == "" && len(right.Names) == 0 || slices.Contains(right.Names, name)) {
			verbs = append(verbs, right.Verbs...)
		}
	}
	return strings.Join(verbs, " ")
}

// What is granted on all objects, or in all namespaces, is not granted again.
// That it is enough and not too much is tried in cmd/forged.
func TestRightsAreGrantedOnce(t *testing.T) {
	id := forge.ID{Environment: "prod", Kind: forge.KindRelease, Name: "app"}
	place := Place{
		Prune: true,
		Resources: []forge.Resource{
			{ID: id, Spec: forge.ReleaseSpec{Name: "shop", Namespace: "shop"}},
			{Spec: forge.IssuerSpec{Kind: "ClusterIssuer", Name: "acme", Namespace: "shop", Create: true}},
			{Spec: forge.CertificateSpec{Namespace: "shop", Mode: forge.TLSSecret, Secret: "mine"}},
		},
		Objects: map[forge.ID][]Object{id: {
			{GVK: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Name: "shop"},
			{GVK: schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}, Name: "w"},
		}},
	}
	rights := Of(place)
	for _, tt := range []struct{ namespace, resource, name, want string }{
		{"", "deployments", "", "list watch"},
		{"shop", "deployments", "", "get create patch delete"},
		{"shop", "secrets", "", "get list watch create update delete"},
		{"shop", "secrets", "mine", ""},
		{"", "clusterissuers", "", "list watch create"},
		{"", "clusterissuers", "acme", "get patch"},
		{"shop", "leases", "forged-prod", "get update patch"},
		{"", "namespaces", "kube-system", "get"},
	} {
		if got := granted(rights, tt.namespace, tt.resource, tt.name); got != tt.want {
			t.Errorf("%s %s in %q: %q, want %q", tt.resource, tt.name, tt.namespace, got, tt.want)
		}
	}
	if !slices.ContainsFunc(rights.Notes, func(n string) bool { return strings.Contains(n, "kind Widget of example.com is not known here") }) {
		t.Errorf("notes %q", rights.Notes)
	}
	for _, o := range rights.Objects("forged", Subject{Group: "ops"}) {
		role, ok := o.(*rbacv1.Role)
		if !ok {
			continue
		}
		for _, rule := range role.Rules {
			if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.Resources, "*") || slices.Contains(rule.APIGroups, "*") {
				t.Errorf("everything is granted: %+v", rule)
			}
		}
	}
}
