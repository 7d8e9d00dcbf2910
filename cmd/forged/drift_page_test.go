package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDriftPage does what docs/drift.md says of its example.
func TestDriftPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/drift.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(page), "```cue\n")
	example, _, ended := strings.Cut(example, "```\n")
	if !found || !ended {
		t.Fatal("there is no example")
	}
	h := newHome(t)
	h.write("forge.cue", strings.NewReplacer(`"acme-prod"`, `"proxied"`, `namespace: "shop"`, `namespace: "$NAMESPACE"`).Replace(example))
	if _, errs, code := h.command("run", "--once", "--instance", h.Instance); code != 0 {
		t.Fatalf("exit code %d\n%s", code, errs)
	}
	deployments := h.Client.AppsV1().Deployments(h.Namespace)
	d, err := deployments.Get(t.Context(), "shop", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	replicas := int32(5)
	d.Spec.Replicas = &replicas
	c := &d.Spec.Template.Spec.Containers[0]
	image := c.Image
	c.Image = "ghcr.io/acme/shop-api:by-hand"
	c.Env = append(c.Env, corev1.EnvVar{Name: "DEBUG", Value: "1"})
	if _, err := deployments.Update(t.Context(), d, metav1.UpdateOptions{FieldManager: "a-person"}); err != nil {
		t.Fatal(err)
	}
	out, errs, code := h.command("plan", "--instance", h.Instance)
	if code != 2 || !strings.Contains(out, "edited by a-person") || strings.Contains(out, "spec.replicas") ||
		!strings.Contains(out, `spec.template.spec.containers["app"].image`) || !strings.Contains(out, `containers["app"].env["DEBUG"]`) {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if _, errs, code := h.command("run", "--once", "--instance", h.Instance); code != 0 {
		t.Fatalf("exit code %d\n%s", code, errs)
	}
	if d, err = deployments.Get(t.Context(), "shop", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	c = &d.Spec.Template.Spec.Containers[0]
	debug := slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == "DEBUG" })
	if *d.Spec.Replicas != 5 || c.Image != image || debug {
		t.Errorf("%d replicas of %s, DEBUG: %v", *d.Spec.Replicas, c.Image, debug)
	}
}
