package kubernetes

import (
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// Who acts as somebody else may do what they may, and no more.
func TestImpersonation(t *testing.T) {
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	cs := newClusters(t)
	target := env.Target()
	target.Impersonate = "somebody-of-" + env.Instance
	_, err := cs.Cluster(t.Context(), target)
	wantError(t, err, reconcile.Denied, `User "`+target.Impersonate+`" cannot get resource "namespaces"`)

	// The same context without it is another target: nothing is shared.
	if _, err := cs.Cluster(t.Context(), env.Target()); err != nil {
		t.Fatal(err)
	}
	name := env.Namespace
	rule := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}}
	if _, err := env.Client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{rule}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: target.Impersonate}},
	}
	if _, err := env.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var c *Cluster
	deadline := time.Now().Add(patience) // a right is given within a moment
	for c, err = cs.Cluster(t.Context(), target); err != nil && time.Now().Before(deadline); {
		c, err = cs.Cluster(t.Context(), target)
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.REST().Impersonate.UserName != target.Impersonate {
		t.Error("those who make clients of their own act as somebody else")
	}
	_, err = c.Get(t.Context(), secretRef(env.Namespace, "anything"))
	wantError(t, err, reconcile.Denied, `cannot get resource "secrets"`)
}
