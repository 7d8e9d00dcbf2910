package charts_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/schema"
)

func TestMain(m *testing.M) { os.Exit(sandboxtest.Main(m)) }

// cluster is a namespace of a real API server that warns of every pod beyond
// the restricted standard, and everything it has warned of.
type cluster struct {
	client    dynamic.Interface
	namespace string

	mu       sync.Mutex
	warnings []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (c *cluster) HandleWarningHeader(_ int, _, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warnings = append(c.warnings, text)
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	env := sandboxtest.Cluster(t)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:   env.Namespace,
		Labels: map[string]string{"pod-security.kubernetes.io/warn": "restricted"},
	}}
	if _, err := env.Client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c := &cluster{namespace: env.Namespace}
	config := rest.CopyConfig(env.Config)
	config.WarningHandler = c
	var err error
	if c.client, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	return c
}

// apply sends every object by server-side apply and returns what is stored.
func (c *cluster) apply(t *testing.T, r rendering, options metav1.ApplyOptions) []*unstructured.Unstructured {
	t.Helper()
	options.FieldManager = "charts-test"
	r.namespace = c.namespace
	var stored []*unstructured.Unstructured
	for _, document := range strings.Split(r.render(t), "---\n") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(document), &object.Object); err != nil {
			t.Fatal(err)
		}
		resource, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
		got, err := c.client.Resource(resource).Namespace(c.namespace).Apply(t.Context(), object.GetName(), object, options)
		if err != nil {
			t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
			continue
		}
		stored = append(stored, got)
	}
	return stored
}

func (c *cluster) checkWarnings(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, warning := range c.warnings {
		t.Errorf("the API server warns: %s", warning)
	}
	c.warnings = nil
}

// TestServerAccepts: a real API server takes every object by server-side
// apply, which refuses more than a plain request does, and has no warning.
func TestServerAccepts(t *testing.T) {
	c := newCluster(t)
	for _, r := range renderings(t) {
		t.Run(r.name, func(t *testing.T) {
			if len(c.apply(t, r, metav1.ApplyOptions{DryRun: []string{metav1.DryRunAll}})) == 0 {
				t.Error("nothing was applied")
			}
			c.checkWarnings(t)
		})
	}
	t.Run("a warning is seen", func(t *testing.T) {
		pod := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "loose"},
			"spec": map[string]any{"containers": []any{map[string]any{"name": "a", "image": "a:1"}}},
		}}
		options := metav1.ApplyOptions{FieldManager: "charts-test", DryRun: []string{metav1.DryRunAll}}
		if _, err := c.client.Resource(corev1.SchemeGroupVersion.WithResource("pods")).Namespace(c.namespace).Apply(t.Context(), "loose", pod, options); err != nil {
			t.Fatal(err)
		}
		if len(c.warnings) == 0 {
			t.Error("none for a pod without any security context")
		}
	})
}

// TestApplyTwice: what was applied once is applied again without a change to
// what we own, so a healthy release costs its cluster nothing.
func TestApplyTwice(t *testing.T) {
	c := newCluster(t)
	for _, e := range environments(t) {
		if e.name != "full" {
			continue
		}
		for _, r := range e.releases {
			first := c.apply(t, r, metav1.ApplyOptions{})
			again := c.apply(t, r, metav1.ApplyOptions{})
			for i := range again {
				if first[i].GetGeneration() != again[i].GetGeneration() {
					t.Errorf("%s %s: generation %d became %d", again[i].GetKind(), again[i].GetName(), first[i].GetGeneration(), again[i].GetGeneration())
				}
				if before, after := owned(first[i]), owned(again[i]); before == "" || before != after {
					t.Errorf("%s %s: we owned %s, now %s", again[i].GetKind(), again[i].GetName(), before, after)
				}
			}
		}
	}
	c.checkWarnings(t)
}

// owned are the fields that the API server holds for ours, and since when.
func owned(object *unstructured.Unstructured) string {
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == "charts-test" && entry.Operation == metav1.ManagedFieldsOperationApply {
			return entry.FieldsV1.GetRawString() + entry.Time.String()
		}
	}
	return ""
}

// TestExample: the example that people read first compiles and renders.
func TestExample(t *testing.T) {
	source, err := schema.Read(filepath.Join("..", "examples", "forge.cue"))
	if err != nil {
		t.Fatal(err)
	}
	loaded, _, err := schema.Load(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	resources, err := compile.Forge(loaded)
	if err != nil {
		t.Fatal(err)
	}
	releases := 0
	for _, resource := range resources {
		spec, ok := resource.Spec.(forge.ReleaseSpec)
		if !ok {
			continue
		}
		releases++
		decode(t, mustRender(t, spec.Chart, spec.Name, spec.Namespace, withInputs(t, spec)))
	}
	if want := 3 * len(loaded.Environments); releases != want {
		t.Errorf("%d releases, want %d", releases, want)
	}
}
