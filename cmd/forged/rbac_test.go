package main

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

// TestRBAC: with the rights of forged rbac, and no others, everything works:
// installing, healing, updating and removing. Nothing is granted besides.
func TestRBAC(t *testing.T) {
	r := newRestricted(t, rbacForge)
	if out := r.run(exitError); !strings.Contains(out, "cannot get resource") {
		t.Errorf("without any right: %s", out)
	}
	r.recorder.used, r.recorder.refused = map[right]bool{}, map[right]bool{}
	r.grant("")
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

	r.judge(rare)
}
