package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/reconcile"
)

// A command that ends one reason is not given the words of the next one: pasted,
// they would be names of more to delete.
func TestReasonsAreApart(t *testing.T) {
	const stuck = "something is left in it; look, then: kubectl --context old delete namespace shop-prod"
	for want, step := range map[string]reconcile.StepStatus{
		"not now: " + stuck + "; policy.prune is none": {Blocked: stuck, Held: "policy.prune is none"},
		"not now: " + stuck:                            {Blocked: stuck},
		"not now: policy.prune is none":                {Held: "policy.prune is none"},
	} {
		step.Action, step.Object, step.Reason = reconcile.ActionDelete, "Namespace shop-prod", "forge.cue no longer asks for it"
		var b bytes.Buffer
		showDetail(newPrinter(&b), &reconcile.ResourceStatus{ID: id("prod/namespace/shop-prod"), Steps: []reconcile.StepStatus{step}}, time.Now())
		if !strings.HasSuffix(strings.Join(strings.Fields(b.String()), " "), want) {
			t.Errorf("want %q at the end of:\n%s", want, b.String())
		}
	}
}

// A command that takes a kubeconfig which somebody has to fetch says once how.
func TestWhereKubeconfigsComeFrom(t *testing.T) {
	var b bytes.Buffer
	p := newPrinter(&b)
	for _, text := range []string{
		"look: kubectl --kubeconfig acme-prod.kubeconfig.yml get pods", "kubectl --context here get pods",
		"look: kubectl --kubeconfig acme-prod.kubeconfig.yml get namespaces",
		"try: fly ext kubernetes save-kubeconfig other, and kubectl --kubeconfig other.kubeconfig.yml get pods",
	} {
		p.wrapped(plain, "", text)
	}
	b.Reset()
	p.whence()
	p.whence()
	const want = "  hint: acme-prod.kubeconfig.yml is written by: fly ext kubernetes save-kubeconfig acme-prod\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
