package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/sandboxtest"
)

// restricted is a place with a ServiceAccount that has the rights of forged
// rbac and no others.
type restricted struct {
	*testing.T
	cluster  *sandboxtest.Env
	recorder *recorder
	dir      string
	granted  []right
	objects  dynamic.Interface // of somebody who may do everything
}

func newRestricted(t *testing.T, forgeText string) *restricted {
	t.Helper()
	cluster := sandboxtest.Cluster(t)
	cluster.CreateNamespace(t)
	r := &restricted{T: t, cluster: cluster, dir: t.TempDir()}
	r.write("forge.cue", forgeText)
	for name, text := range extraChart {
		r.write(name, text)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "forged", Namespace: cluster.Namespace}}
	if _, err := cluster.Client.CoreV1().ServiceAccounts(cluster.Namespace).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := cluster.Client.CoreV1().ServiceAccounts(cluster.Namespace).CreateToken(t.Context(), "forged", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.recorder = newRecorder(t, &rest.Config{
		Host: cluster.Config.Host, BearerToken: token.Status.Token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: cluster.Config.CAData, CAFile: cluster.Config.CAFile, Insecure: cluster.Config.Insecure},
	})
	text, err := os.ReadFile(r.recorder.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	r.write("kubeconfig", string(text))
	return r
}

func (r *restricted) write(name, text string) {
	r.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "$NAMESPACE", r.cluster.Namespace)), 0o600); err != nil {
		r.Fatal(err)
	}
}

// forged runs a command line.
func (r *restricted) forged(args ...string) (code int, stdout, stderr string) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "forged", append(args, "-c", filepath.Join(r.dir, "forge.cue"))...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			r.Fatal(err)
		}
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func (r *restricted) run(want int) string {
	r.Helper()
	code, out, errs := r.forged("run", "--once", "--instance", r.cluster.Instance)
	if code != want {
		r.Errorf("exit code %d, want %d\n%s\n%s", code, want, out, errs)
	}
	return out
}

// grant applies what forged rbac says.
func (r *restricted) grant(region string) {
	r.Helper()
	name := r.cluster.Namespace + region
	args := []string{"rbac", "prod", "--serviceaccount", r.cluster.Namespace + "/forged", "--name", name}
	if region != "" {
		args = append(args, "--region", region)
	}
	code, out, errs := r.forged(args...)
	if code != 0 {
		r.Fatalf("exit code %d: %s", code, errs)
	}
	api := r.cluster.Client.RbacV1()
	r.Cleanup(func() {
		ctx := context.Background()
		_ = api.ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{})
		_ = api.ClusterRoleBindings().Delete(ctx, name, metav1.DeleteOptions{})
	})
	for doc := range strings.SplitSeq(out, "---\n") {
		var meta metav1.TypeMeta
		decode(r.T, doc, &meta)
		var err error
		switch meta.Kind {
		case "ClusterRole":
			var o rbacv1.ClusterRole
			decode(r.T, doc, &o)
			r.note("", o.Rules)
			_, err = api.ClusterRoles().Create(r.Context(), &o, metav1.CreateOptions{})
		case "ClusterRoleBinding":
			var o rbacv1.ClusterRoleBinding
			decode(r.T, doc, &o)
			_, err = api.ClusterRoleBindings().Create(r.Context(), &o, metav1.CreateOptions{})
		case "Role":
			var o rbacv1.Role
			decode(r.T, doc, &o)
			r.note(o.Namespace, o.Rules)
			_, err = api.Roles(o.Namespace).Create(r.Context(), &o, metav1.CreateOptions{})
		case "RoleBinding":
			var o rbacv1.RoleBinding
			decode(r.T, doc, &o)
			_, err = api.RoleBindings(o.Namespace).Create(r.Context(), &o, metav1.CreateOptions{})
		default:
			r.Fatalf("a %s", meta.Kind)
		}
		if err != nil {
			r.Fatal(err)
		}
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		if err := yaml.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
}

// note takes down what is granted.
func (r *restricted) note(namespace string, rules []rbacv1.PolicyRule) {
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range names {
						r.granted = append(r.granted, right{verb, group, resource, namespace, name})
					}
				}
			}
		}
	}
}

// judge wants that nothing was refused, and that nothing is granted besides what
// was used or is taken rarely, and why.
func (r *restricted) judge(rare func(right) string) {
	r.Helper()
	for one := range r.recorder.refused {
		// To watch all namespaces, or to list what an environment has left in
		// others, is tried first, and done without.
		wide := one.namespace == "" && one.name == "" && (one.verb == "list" || one.verb == "watch")
		if !wide {
			r.Errorf("refused: %s", one)
		}
	}
	for _, one := range r.granted {
		if !r.used(one) && rare(one) == "" {
			r.Errorf("granted and not used: %s", one)
		}
	}
	r.Logf("granted %d, used %d", len(r.granted), len(r.recorder.used))
}

// used tells whether a right was.
func (r *restricted) used(one right) bool {
	for u := range r.recorder.used {
		if u.verb == one.verb && u.group == one.group && u.resource == one.resource && u.namespace == one.namespace && (one.name == "" || one.name == u.name) {
			return true
		}
	}
	return false
}

// rare says when a right is taken that no run of a minute takes.
func rare(one right) string {
	troubles := []string{"pods", "pods/log", "events", "replicasets", "controllerrevisions"}
	chain := []string{"orders", "challenges", "certificaterequests"}
	switch {
	case one.verb == "list":
		return "every half hour all is listed, to find what a watch has missed, and where a server has no lists by watch"
	case slices.Contains(troubles, one.resource):
		return "when pods do not become ready"
	case slices.Contains(chain, one.resource):
		return "while a certificate is not issued"
	case one.resource == "storageclasses":
		return "when a volume is to grow, or waits for its first pod"
	}
	return ""
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
