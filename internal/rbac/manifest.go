package rbac

import (
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Subject is who gets rights.
type Subject struct{ User, Group, ServiceAccountNamespace, ServiceAccount string }

func (s Subject) rbac() rbacv1.Subject {
	switch {
	case s.ServiceAccount != "":
		return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: s.ServiceAccountNamespace, Name: s.ServiceAccount}
	case s.Group != "":
		return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: s.Group}
	default:
		return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: s.User}
	}
}

// Objects are roles with the rights, and their bindings to a subject. name is
// theirs; roles of two environments bear two names.
func (r Rights) Objects(name string, to Subject) []any {
	var all []any
	meta := func(namespace string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app.kubernetes.io/part-of": "forged"}}
	}
	var namespaces []string
	for _, right := range r.All {
		if !slices.Contains(namespaces, right.Namespace) {
			namespaces = append(namespaces, right.Namespace)
		}
	}
	for _, namespace := range namespaces {
		kind, bound := "Role", "RoleBinding"
		if namespace == "" {
			kind, bound = "ClusterRole", "ClusterRoleBinding"
		}
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
		rules, subjects := r.rules(namespace), []rbacv1.Subject{to.rbac()}
		version := rbacv1.SchemeGroupVersion.String()
		if namespace == "" {
			all = append(all,
				&rbacv1.ClusterRole{TypeMeta: metav1.TypeMeta{APIVersion: version, Kind: kind}, ObjectMeta: meta(""), Rules: rules},
				&rbacv1.ClusterRoleBinding{TypeMeta: metav1.TypeMeta{APIVersion: version, Kind: bound}, ObjectMeta: meta(""), RoleRef: ref, Subjects: subjects})
			continue
		}
		all = append(all,
			&rbacv1.Role{TypeMeta: metav1.TypeMeta{APIVersion: version, Kind: kind}, ObjectMeta: meta(namespace), Rules: rules},
			&rbacv1.RoleBinding{TypeMeta: metav1.TypeMeta{APIVersion: version, Kind: bound}, ObjectMeta: meta(namespace), RoleRef: ref, Subjects: subjects})
	}
	return all
}

// rules are the rights in a namespace; those with the same verbs stand together.
func (r Rights) rules(namespace string) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for _, right := range r.All {
		if right.Namespace != namespace {
			continue
		}
		i := slices.IndexFunc(rules, func(rule rbacv1.PolicyRule) bool {
			return rule.APIGroups[0] == right.Group && slices.Equal(rule.Verbs, right.Verbs) && slices.Equal(rule.ResourceNames, right.Names)
		})
		if i >= 0 {
			rules[i].Resources = append(rules[i].Resources, right.Resource)
			continue
		}
		rules = append(rules, rbacv1.PolicyRule{
			APIGroups: []string{right.Group}, Resources: []string{right.Resource}, ResourceNames: right.Names, Verbs: right.Verbs,
		})
	}
	return rules
}

// String names a right: "get, list pods of apps in shop".
func (r Right) String() string {
	return fmt.Sprintf("%v %s %v in %q", r.Verbs, r.GroupResource, r.Names, r.Namespace)
}
