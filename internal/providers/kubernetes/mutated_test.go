package kubernetes

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// mutate has the API server change objects of one resource in the test's
// namespace: expression is CEL that makes an object to be applied over them.
func (b *bed) mutate(group, version, resource, expression string) {
	b.t.Helper()
	name := b.Instance + "-" + resource
	expression = strings.ReplaceAll(expression, "\n", " ")
	for kind, text := range map[string]string{
		"mutatingadmissionpolicies": `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: NAME}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{apiGroups: ["GROUP"], apiVersions: ["VERSION"], resources: ["RESOURCE"], operations: [CREATE, UPDATE]}]
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: 'EXPRESSION'}`,
		"mutatingadmissionpolicybindings": `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: NAME}
spec:
  policyName: NAME
  matchResources:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAMESPACE}}`,
	} {
		text = strings.NewReplacer("NAMESPACE", b.Namespace, "NAME", name, "GROUP", group, "VERSION", version, "RESOURCE", resource, "EXPRESSION", expression).Replace(text)
		client := b.c.Dynamic().Resource(schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: kind})
		if _, err := client.Create(b.t.Context(), parse(b.t, text), metav1.CreateOptions{}); err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() {
			ctx, cancel := contextForCleanup()
			defer cancel()
			if err := client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
				b.t.Error(err)
			}
		})
	}
}

func (b *bed) notices(id forge.ID) []reconcile.Notice {
	b.t.Helper()
	r, ok := b.inventory().Record(id)
	if !ok {
		b.t.Fatalf("no record of %s", id)
	}
	return r.Notices()
}

// Admission that rewrites a field we send makes tools that compare values
// fight for ever. Here it is quiet, and told once.
func TestMutatingAdmissionIsQuietAndTold(t *testing.T) {
	b := newBed(t)
	b.mutate("apps", "v1", "deployments", `Object{metadata: Object.metadata{labels: {"injected": "yes"}},
		spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers:
			object.spec.template.spec.containers.map(c, Object.spec.template.spec.containers{name: c.name, image: c.image.startsWith("mirror/") ? c.image : "mirror/" + c.image})}}}}`)
	probe := b.manifest(strings.ReplaceAll(twoContainers, "{name: web}", "{name: probe}"))
	b.await("the policy to be in force", func() bool {
		live, err := b.c.DryRun(t.Context(), probe)
		if err != nil {
			t.Fatal(err)
		}
		return live.GetLabels()["injected"] == "yes"
	})

	id := releaseID("mutated")
	obj := b.manifest(twoContainers)
	ref := RefOf(obj)
	first := b.own(id, obj)[0]
	if got := b.field(ref, `spec.template.spec.containers["app"].image`); got != "mirror/shop:1" {
		t.Fatalf("image %s", got)
	}
	want := []string{`spec.template.spec.containers["app"].image`, `spec.template.spec.containers["proxy"].image`}
	if got := strings.Split(first.Baseline.Mutated, "\n"); !slices.Equal(got, want) {
		t.Errorf("mutated %q, want %q", got, want)
	}
	notices := b.notices(id)
	if len(notices) != 1 || notices[0].Code != "mutated" || notices[0].Object != ref.String() || !strings.Contains(notices[0].Message, want[0]) {
		t.Errorf("notices %+v", notices)
	}
	b.still(id, "after the first apply")
	again := b.apply(id, obj)
	if again.Baseline.Digest != first.Baseline.Digest || again.Object.GetGeneration() != 1 {
		t.Errorf("applying again changed something: %+v, first %+v", again.Baseline, first.Baseline)
	}
	b.seen(ref, again.Baseline.ResourceVersion)
	b.still(id, "after the second apply")
	b.quiet(id, causeLive)
	b.restart()
	b.still(id, "after a restart")
	if len(b.notices(id)) != 1 {
		t.Error("the notice did not survive a restart")
	}

	// Somebody's edit, through the same admission, is drift none the less.
	b.edit(ref, "kubectl-edit", strategic, `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"shop:2"}]}}}}`)
	b.event(id, causeLive)
	if d := b.drifted(id); len(d) != 1 {
		t.Fatalf("drifts %+v", d)
	}
	b.heal(id, obj)
	b.still(id, "after the heal")
}

// Some objects get a new resource version with every apply, whatever it says.
// That alone is neither drift nor an event.
func TestResourceVersionsThatMoveAreNoDrift(t *testing.T) {
	b := newBed(t)
	b.mutate("", "v1", "configmaps", `Object{metadata: Object.metadata{annotations: {"touched":
		(has(object.metadata.annotations) && "touched" in object.metadata.annotations ? object.metadata.annotations["touched"] : "") + "x"}}}`)
	b.await("the policy to be in force", func() bool {
		live, err := b.c.DryRun(t.Context(), b.configMap("probe", `{a: "1"}`))
		if err != nil {
			t.Fatal(err)
		}
		return live.GetAnnotations()["touched"] != ""
	})
	id := releaseID("restless")
	obj := b.configMap("c", `{a: "1"}`)
	first := b.own(id, obj)[0].Baseline
	for range 3 {
		again := b.apply(id, obj)
		if again.Baseline.ResourceVersion == first.ResourceVersion {
			t.Fatal("the resource version does not move: the test proves nothing")
		}
		if again.Baseline.Digest != first.Digest {
			t.Errorf("digest %s became %s", first.Digest, again.Baseline.Digest)
		}
		b.seen(RefOf(obj), again.Baseline.ResourceVersion)
		b.quiet(id, causeLive)
		b.still(id, "after an apply that changed nothing")
	}
	if n := b.notices(id); len(n) != 0 {
		t.Errorf("notices of fields that are not ours: %+v", n)
	}
}

func TestStoredFormsAreNoMutation(t *testing.T) {
	for _, tt := range []struct {
		sent, stored any
		same         bool
	}{
		{"0.5", "500m", true},
		{"1.5Gi", "1536Mi", true},
		{int64(1), "1", true},
		{int64(1), float64(1), true},
		{"shop:1", "mirror/shop:1", false},
		{map[string]any{"a": "1"}, map[string]any{"a": "1", "b": "default"}, true},
		{map[string]any{"a": "1", "b": map[string]any{}}, map[string]any{"a": "1"}, true},
		{map[string]any{"a": "1"}, map[string]any{"b": "1"}, false},
		{[]any{"a", "b"}, []any{"a", "b"}, true},
		{[]any{"a"}, []any{"a", "b"}, false},
		{true, false, false},
	} {
		if got := means(tt.sent, tt.stored); got != tt.same {
			t.Errorf("%v stored as %v: %t", tt.sent, tt.stored, got)
		}
	}
}

// A chart that renders an empty map gets nothing back for it: nobody has
// changed anything.
func TestEmptyIsNotMutated(t *testing.T) {
	sent := parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, annotations: {}}, data: {x: "1"}}`)
	live := sent.DeepCopy()
	live.SetAnnotations(nil)
	live.SetManagedFields([]metav1.ManagedFieldsEntry{{
		Manager: "forged", Operation: metav1.ManagedFieldsOperationApply, APIVersion: "v1", FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{}},"f:data":{"f:x":{}}}`),
	}})
	if got := mutated(sent, live, "forged"); got != "" {
		t.Errorf("mutated: %s", got)
	}
	live.Object["data"] = map[string]any{}
	if got := mutated(sent, live, "forged"); got != "data.x" {
		t.Errorf("a value that is gone: %q", got)
	}
}
