package helm

import (
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"forged.dev/forged/internal/reconcile"
)

// group is an API group of this test alone.
func (r *rig) group() string { return r.env.Instance + ".example.com" }

func (r *rig) crd(versions ...string) string {
	var list []string
	for i, v := range versions {
		list = append(list, fmt.Sprintf(`{name: %s, served: true, storage: %t, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}}`, v, i == 0))
	}
	return fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.%[1]s}
spec:
  group: %[1]s
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions: [%[2]s]
`, r.group(), strings.Join(list, ", "))
}

func (r *rig) widget() string {
	return fmt.Sprintf("---\napiVersion: %s/v1\nkind: Widget\nmetadata: {name: one}\nspec: {size: {{ .Values.size | default 1 }}}\n", r.group())
}

func (r *rig) dynamic() dynamic.Interface {
	r.t.Helper()
	d, err := dynamic.NewForConfig(r.env.Config)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		// A definition is shared by the cluster; the tests' are not left there.
		_ = d.Resource(crdResource).Delete(r.ctx(), "widgets."+r.group(), metav1.DeleteOptions{})
	})
	return d
}

func (r *rig) widgets(d dynamic.Interface) dynamic.ResourceInterface {
	return d.Resource(schema.GroupVersionResource{Group: r.group(), Version: "v1", Resource: "widgets"}).Namespace(r.env.Namespace)
}

// A chart may bring the definitions of the kinds it uses: they are made when
// they are missing, waited for, told as part of the plan, and left alone from
// then on: not changed by a newer chart, and not deleted with the release.
func TestDefinitionsOfAChart(t *testing.T) {
	r := newRig(t)
	d := r.dynamic()
	r.with(map[string]string{
		"crds/widget.yaml":      r.crd("v1"),
		"templates/widget.yaml": "{{- if .Capabilities.APIVersions.Has \"" + r.group() + "/v1\" }}\n" + r.widget() + "{{- end }}\n",
	})
	steps := r.converge()
	if len(steps) != 1 || len(steps[0].Changes) != 5 || !strings.HasPrefix(steps[0].Changes[0].Path, "CustomResourceDefinition widgets.") {
		t.Errorf("the plan says %v", steps[0].Changes)
	}
	if _, err := r.widgets(d).Get(t.Context(), "one", metav1.GetOptions{}); err != nil {
		t.Fatalf("the custom resource: %v", err)
	}
	// It is an object like any other.
	r.drain()
	if err := r.widgets(d).Delete(t.Context(), "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.changed("Widget " + r.env.Namespace + "/one")
	if steps := r.converge(); len(steps) != 1 || steps[0].Action != reconcile.ActionHeal {
		t.Errorf("steps %v", steps)
	}

	before, err := d.Resource(crdResource).Get(t.Context(), "widgets."+r.group(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.more["crds/widget.yaml"] = r.crd("v1", "v2")
	r.restart()
	r.converge()
	after, err := d.Resource(crdResource).Get(t.Context(), "widgets."+r.group(), metav1.GetOptions{})
	if err != nil || after.GetGeneration() != before.GetGeneration() {
		t.Errorf("a newer chart changed the definition, err %v", err)
	}
	o, err := r.p.Observe(t.Context(), r.request())
	if err != nil || len(o.Notices) != 1 || o.Notices[0].Code != "crd-outdated" || !strings.Contains(o.Notices[0].Message, "v2") {
		t.Errorf("notices %v, err %v", o.Notices, err)
	}

	req := r.request()
	req.Remove = true
	if _, err := r.pass(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Resource(crdResource).Get(t.Context(), "widgets."+r.group(), metav1.GetOptions{}); err != nil {
		t.Errorf("the definition went with the release: %v", err)
	}
	if _, err := r.widgets(d).Get(t.Context(), "one", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the custom resource stayed: %v", err)
	}
}

// A definition and a resource of it in the same templates: Helm gives up on
// them, although the order is clear.
func TestDefinitionAmongTheTemplates(t *testing.T) {
	r := newRig(t)
	d := r.dynamic()
	r.with(map[string]string{"templates/widget.yaml": r.crd("v1") + r.widget()})
	r.converge()
	if _, err := r.widgets(d).Get(t.Context(), "one", metav1.GetOptions{}); err != nil {
		t.Errorf("the custom resource: %v", err)
	}
	// Deleting a definition deletes everybody's resources of it.
	r.with(nil)
	steps := r.converge()
	if len(steps) != 1 || steps[0].Deletes != 1 {
		t.Errorf("steps %v", steps)
	}
	crd, err := d.Resource(crdResource).Get(t.Context(), "widgets."+r.group(), metav1.GetOptions{})
	if err != nil || crd.GetLabels()["forged.dev/instance"] != "" {
		t.Errorf("the definition, which others may use: labels %v, err %v", crd.GetLabels(), err)
	}
}

// A definition that is taken away takes its resources with it. They come back
// in order when it is ours to make, and are told about when it is not.
func TestDefinitionRemovedUnderUs(t *testing.T) {
	r := newRig(t)
	d := r.dynamic()
	r.with(map[string]string{"crds/widget.yaml": r.crd("v1"), "templates/widget.yaml": r.widget()})
	r.converge()
	r.drain()
	if err := d.Resource(crdResource).Delete(t.Context(), "widgets."+r.group(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.untilDefined(d, false)
	r.values = map[string]any{"level": "two"} // and something else is asked for meanwhile
	r.eventually("all is there again", func() bool {
		if _, err := r.pass(t.Context(), r.request()); err != nil {
			return false
		}
		_, err := r.widgets(d).Get(t.Context(), "one", metav1.GetOptions{})
		return err == nil
	})
	r.converge()
}

func (r *rig) untilDefined(d dynamic.Interface, there bool) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("the definition is there: %t", there), func() bool {
		_, err := d.Resource(crdResource).Get(r.t.Context(), "widgets."+r.group(), metav1.GetOptions{})
		return apierrors.IsNotFound(err) != there
	})
}

// A chart can drop the version of a kind that its last revision used, and the
// definition can have dropped it before.
func TestVersionOfAKindRemoved(t *testing.T) {
	r := newRig(t)
	d := r.dynamic()
	crd := func(versions ...string) {
		t.Helper()
		objs, err := parseManifest("---\n" + r.crd(versions...))
		if err != nil {
			t.Fatal(err)
		}
		u := objs[0].Unstructured
		live, err := d.Resource(crdResource).Get(t.Context(), u.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = d.Resource(crdResource).Create(t.Context(), u, metav1.CreateOptions{})
		} else if err == nil {
			if err = unstructured.SetNestedField(live.Object, u.Object["spec"], "spec"); err == nil {
				live, err = d.Resource(crdResource).Update(t.Context(), live, metav1.UpdateOptions{})
			}
			if err == nil && len(versions) == 1 {
				if err = unstructured.SetNestedStringSlice(live.Object, versions, "status", "storedVersions"); err == nil {
					_, err = d.Resource(crdResource).UpdateStatus(t.Context(), live, metav1.UpdateOptions{})
				}
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	crd("v2", "v1")
	at := func(v string) map[string]string {
		return map[string]string{"templates/widget.yaml": strings.Replace(r.widget(), "/v1", "/"+v, 1)}
	}
	r.with(at("v1"))
	r.eventually("v1 is served", func() bool {
		_, err := r.pass(t.Context(), r.request())
		return err == nil
	})
	r.converge()
	first, err := r.widgets(d).Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	crd("v2", "v1") // the storage version was v2 all along
	r.with(at("v2"))
	steps := r.converge()
	if len(steps) != 1 || steps[0].Deletes != 0 {
		t.Errorf("steps %v", steps)
	}
	again, err := r.widgets(d).Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil || again.GetUID() != first.GetUID() {
		t.Errorf("the resource was made anew: %v", err)
	}
}

// A hook that runs when everything is there may make a resource of a kind that
// the templates define, as Helm lets it.
func TestHookOfAKindAmongTheTemplates(t *testing.T) {
	r := newRig(t)
	d := r.dynamic()
	custom := strings.Replace(r.widget(), "metadata: {name: one}", `metadata: {name: one, annotations: {"helm.sh/hook": post-install}}`, 1)
	r.with(map[string]string{"templates/widget.yaml": r.crd("v1"), "templates/hook.yaml": custom})
	r.converge()
	if _, err := r.widgets(d).Get(t.Context(), "one", metav1.GetOptions{}); err != nil {
		t.Errorf("the custom resource: %v", err)
	}
}

// A chart brings a newer definition than the cluster has, which is left as it
// is: the chart is told what the cluster serves, and not what it will never
// serve. Otherwise it would be rendered anew with every look, for ever.
func TestChartIsToldWhatTheClusterServes(t *testing.T) {
	r := newRig(t)
	d := r.dynamic()
	asks := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: told}\ndata: {v2: '{{ .Capabilities.APIVersions.Has %q }}'}\n", r.group()+"/v2")
	r.with(map[string]string{"crds/widget.yaml": r.crd("v1")})
	r.converge()
	r.with(map[string]string{"crds/widget.yaml": r.crd("v1", "v2"), "templates/told.yaml": asks})
	r.converge()
	told, err := r.env.Client.CoreV1().ConfigMaps(r.env.Namespace).Get(t.Context(), "told", metav1.GetOptions{})
	if err != nil || told.Data["v2"] != "false" {
		t.Errorf("it was told %v, err %v", told.Data, err)
	}
	o, err := r.p.Observe(t.Context(), r.request())
	if err != nil || o.Detail.(*seen).moved != "" {
		t.Errorf("it is to be rendered anew: %q, err %v", o.Detail.(*seen).moved, err)
	}
	r.untilDefined(d, true)
}
