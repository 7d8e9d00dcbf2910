package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/sandboxtest"
)

// rbacForge asks for something of every kind that needs nothing but Kubernetes.
const rbacForge = `forge: "v1"
app: {
	name: "shop"
	image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.2"}
	env: LOG_LEVEL: "INFO"
	secrets: SESSION: generate: {}
	configFiles: "/etc/shop/config.yaml": text: "a: 1\n"
	migrate: {run: "before-deploy", args: ["migrate"]}
}
environments: prod: {
	platform: {kind: "kubernetes", context: "recorded", kubeconfig: "kubeconfig", namespace: "$NAMESPACE"}
	domains: ["shop.example.com"]
	expose: {kind: "ingress", tls: mode: "none"}
	workers: mail: args: ["worker"]
	scaling: {min: 1, max: 3, cpuTarget: 70}
	volumes: uploads: {mount: "/uploads", size: "1Gi", access: "ReadWriteMany", storageClass: "standard"}
	services: {postgres: {storage: "1Gi", tls: true}, redis: storage: "1Gi"}
	charts: extra: {kind: "path", path: "extra"}
	policy: {mode: "apply", prune: "owned", maxDelete: 100}
}
`

// extraChart makes objects of further kinds.
var extraChart = map[string]string{
	"extra/Chart.yaml": "apiVersion: v2\nname: extra\nversion: 1.0.0\n",
	"extra/templates/all.yaml": `
apiVersion: batch/v1
kind: CronJob
metadata: {name: extra}
spec:
  schedule: "0 0 1 1 *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a/b:1}]}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: extra-hook, annotations: {helm.sh/hook: pre-install, helm.sh/hook-delete-policy: hook-succeeded}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: extra}
spec:
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}}, spec: {nodeSelector: {no: node}, containers: [{name: a, image: a/b:1}]}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: extra}
`,
}

// restricted is a place with a ServiceAccount that has the rights of forged
// rbac and no others.
type restricted struct {
	*testing.T
	cluster  *sandboxtest.Env
	recorder *recorder
	dir      string
	granted  []right
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

// forged runs a command line in this process.
func (r *restricted) forged(args ...string) (code int, stdout, stderr string) {
	r.Helper()
	var out, errs bytes.Buffer
	code = execute(r.Context(), append(args, "-c", filepath.Join(r.dir, "forge.cue")), streams{strings.NewReader(""), &out, &errs})
	return code, out.String(), errs.String()
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
func (r *restricted) grant() {
	r.Helper()
	code, out, errs := r.forged("rbac", "prod", "--serviceaccount", r.cluster.Namespace+"/forged", "--name", r.cluster.Namespace)
	if code != 0 {
		r.Fatalf("exit code %d: %s", code, errs)
	}
	api := r.cluster.Client.RbacV1()
	r.Cleanup(func() {
		ctx := context.Background()
		_ = api.ClusterRoles().Delete(ctx, r.cluster.Namespace, metav1.DeleteOptions{})
		_ = api.ClusterRoleBindings().Delete(ctx, r.cluster.Namespace, metav1.DeleteOptions{})
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

// TestRBAC: with the rights of forged rbac, and no others, everything works:
// installing, healing, updating and removing. Nothing is granted besides.
func TestRBAC(t *testing.T) {
	r := newRestricted(t, rbacForge)
	if out := r.run(exitError); !strings.Contains(out, "cannot get resource") {
		t.Errorf("without any right: %s", out)
	}
	r.recorder.used, r.recorder.refused = map[right]bool{}, map[right]bool{}
	r.grant()
	r.run(exitOK)
	if code, out, _ := r.forged("plan", "--instance", r.cluster.Instance); code != exitOK {
		t.Errorf("there is something left to do: %s", out)
	}

	// Somebody edits one object of each of some kinds, and deletes others.
	ctx, ns := t.Context(), r.cluster.Namespace
	client := r.cluster.Client
	label := []byte(`{"metadata":{"labels":{"app.kubernetes.io/part-of":"mine"}}}`)
	_, err := client.AppsV1().Deployments(ns).Patch(ctx, "shop", types.MergePatchType, label, metav1.PatchOptions{})
	check(t, err)
	check(t, client.CoreV1().ConfigMaps(ns).Delete(ctx, "shop-env", metav1.DeleteOptions{}))
	check(t, client.CoreV1().ConfigMaps(ns).Delete(ctx, "shop-config", metav1.DeleteOptions{}))
	_, err = client.CoreV1().Secrets(ns).Patch(ctx, "shop-env", types.MergePatchType, []byte(`{"stringData":{"SESSION":"by hand"}}`), metav1.PatchOptions{})
	check(t, err)
	r.run(exitOK)
	if d, err := client.AppsV1().Deployments(ns).Get(ctx, "shop", metav1.GetOptions{}); err != nil || d.Labels["app.kubernetes.io/part-of"] == "mine" {
		t.Error("an edit was not healed", err)
	}

	// What is not asked for any more goes.
	less := strings.NewReplacer(
		`	workers: mail: args: ["worker"]`+"\n", "", `, redis: storage: "1Gi"}`, `, redis: mode: "off"}`,
		`	charts: extra: {kind: "path", path: "extra"}`+"\n", "", `	configFiles: "/etc/shop/config.yaml": text: "a: 1\n"`+"\n", "",
		`	scaling: {min: 1, max: 3, cpuTarget: 70}`+"\n", "", `	domains: ["shop.example.com"]`+"\n", "", `expose: {kind: "ingress", tls: mode: "none"}`, `expose: kind: "none"`,
		`	migrate: {run: "before-deploy", args: ["migrate"]}`+"\n", "",
	).Replace(rbacForge)
	r.write("forge.cue", less)
	r.run(exitOK)
	if _, err := client.AppsV1().StatefulSets(ns).Get(ctx, "shop-redis", metav1.GetOptions{}); err == nil {
		t.Error("what is not asked for any more is still there")
	}

	t.Run("NothingRefused", func(t *testing.T) {
		for one := range r.recorder.refused {
			// To watch all namespaces, or to list what an environment has left in
			// others, is tried first, and done without.
			wide := one.namespace == "" && one.name == "" && (one.verb == "list" || one.verb == "watch")
			if !wide {
				t.Errorf("refused: %s", one)
			}
		}
	})
	t.Run("NothingBesides", func(t *testing.T) {
		for _, one := range r.granted {
			if !r.used(one) && rare(one) == "" {
				t.Errorf("granted and not used: %s", one)
			}
		}
	})
	t.Logf("granted %d, used %d", len(r.granted), len(r.recorder.used))
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
	switch {
	case one.verb == "list":
		return "every half hour all is listed, to find what a watch has missed, and where a server has no lists by watch"
	case slices.Contains(troubles, one.resource):
		return "when pods do not become ready"
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
