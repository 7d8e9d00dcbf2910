package helm

import (
	"context"
	"fmt"
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/reconcile"
)

// mirror has the API server rewrite the images of the test's Deployments, and
// say so in a label.
const mirror = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: NAME}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{apiGroups: [apps], apiVersions: [v1], resources: [deployments], operations: [CREATE, UPDATE]}]
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >-
        Object{metadata: Object.metadata{labels: {"mirrored": "yes"}},
          spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers:
            object.spec.template.spec.containers.map(c, Object.spec.template.spec.containers{name: c.name,
              image: c.image.startsWith("mirror/") ? c.image : "mirror/" + c.image})}}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: NAME}
spec:
  policyName: NAME
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAMESPACE}}}
`

// mirrored puts the policy in force.
func (h *hazard) mirrored() {
	h.t.Helper()
	name := h.env.Namespace + "-mirror"
	cluster := h.dynamic()
	for text := range strings.SplitSeq(strings.NewReplacer("NAMESPACE", h.env.Namespace, "NAME", name).Replace(mirror), "---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			h.t.Fatal(err)
		}
		resource := "mutatingadmissionpolicies"
		if u.GetKind() != "MutatingAdmissionPolicy" {
			resource = "mutatingadmissionpolicybindings"
		}
		client := cluster.Resource(schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: resource})
		if _, err := client.Create(h.t.Context(), u, metav1.CreateOptions{}); err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(func() {
			if err := client.Delete(h.ctx(), name, metav1.DeleteOptions{}); err != nil {
				h.t.Error(err)
			}
		})
	}
	probe := &unstructured.Unstructured{}
	err := yaml.Unmarshal([]byte(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: probe}, spec: {selector: {matchLabels: {a: b}},
		template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: "a:1"}]}}}}`), &probe.Object)
	if err != nil {
		h.t.Fatal(err)
	}
	deployments := cluster.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(h.env.Namespace)
	h.eventually("the policy is in force", func() bool {
		made, err := deployments.Create(h.t.Context(), probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			h.t.Fatal(err)
		}
		return made.GetLabels()["mirrored"] == "yes"
	})
}

// A chart is not alone in a cluster: admission rewrites what it sends, an
// autoscaler changes the number of its pods, and somebody injects the bundle of
// a certificate authority. All that is theirs to do, and nothing comes of it.
func TestHazardsInCompany(t *testing.T) {
	t.Run("an autoscaler and a policy that rewrites", func(t *testing.T) {
		t.Parallel()
		h := newHazard(t, "storefront", nil)
		h.mirrored()
		h.settle()
		deployments := h.env.Client.AppsV1().Deployments(h.env.Namespace)
		const name = releaseName + "-web"
		h.meanwhile = func(cycle int) {
			if cycle%10 != 0 {
				return
			}
			replicas := int32(2 + cycle/10%4)
			scale := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: h.env.Namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: replicas}}
			if _, err := deployments.UpdateScale(t.Context(), name, scale, metav1.UpdateOptions{FieldManager: "kube-controller-manager"}); err != nil {
				t.Fatal(err)
			}
		}
		h.quiet(100)
		d, err := deployments.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Spec.Template.Spec.Containers[0].Image; *d.Spec.Replicas != 3 || !strings.HasPrefix(got, "mirror/") || d.Labels["mirrored"] != "yes" {
			t.Errorf("replicas %d, image %s, labels %v", *d.Spec.Replicas, got, d.Labels)
		}
		o, err := h.p.Observe(t.Context(), h.request())
		if err != nil {
			t.Fatal(err)
		}
		if n := noticeOf(o.Notices, "mutated"); !strings.HasSuffix(n.Object, "/"+name) || !strings.Contains(n.Message, "image") {
			t.Errorf("the rewriting is not told: %v", o.Notices)
		}
		// The next rollout does not set the number of pods back.
		h.values = map[string]any{"config": "changed: true\n"}
		h.settle()
		if d, err := deployments.Get(t.Context(), name, metav1.GetOptions{}); err != nil || *d.Spec.Replicas != 3 {
			t.Errorf("after a rollout: %v, %v", d.Spec.Replicas, err)
		}
	})
	t.Run("an injector", func(t *testing.T) {
		t.Parallel()
		h := newHazard(t, "admission", nil)
		h.settle()
		hooks := h.env.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
		name := h.env.Namespace + "-injected"
		h.meanwhile = func(cycle int) {
			if cycle%10 != 0 {
				return
			}
			patch := fmt.Appendf(nil, `[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":%q}]`, bundles[cycle/10%2])
			if _, err := hooks.Patch(context.WithoutCancel(t.Context()), name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: "cainjector"}); err != nil {
				t.Fatal(err)
			}
		}
		h.quiet(100)
		if w, err := hooks.Get(t.Context(), name, metav1.GetOptions{}); err != nil || len(w.Webhooks[0].ClientConfig.CABundle) == 0 {
			t.Errorf("the bundle is gone: %v", err)
		}
	})
}

// bundles are no certificates; nothing here reads them.
var bundles = []string{"Zmlyc3Q=", "c2Vjb25k"}

func noticeOf(all []reconcile.Notice, code string) reconcile.Notice {
	for _, n := range all {
		if n.Code == code {
			return n
		}
	}
	return reconcile.Notice{}
}
