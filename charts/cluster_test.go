package charts_test

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/schema"
)

func TestMain(m *testing.M) { os.Exit(sandboxtest.Main(m)) }

// cluster is a namespace of a real API server that refuses every pod beyond the
// restricted standard, warns of whatever would make one, and everything it has
// warned of.
type cluster struct {
	client    dynamic.Interface
	namespace string
	group     string // of extensions

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
		Name: env.Namespace,
		Labels: map[string]string{
			"pod-security.kubernetes.io/enforce": "restricted",
			"pod-security.kubernetes.io/warn":    "restricted",
		},
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
	c.group = extend(t, c.client, c.namespace)
	return c
}

// apply sends every object by server-side apply, which refuses fields that are
// unknown or there twice, and returns what is stored.
func (c *cluster) apply(t *testing.T, r rendering, dryRun ...string) []*unstructured.Unstructured {
	t.Helper()
	force := true
	options := metav1.PatchOptions{
		FieldManager: "charts-test", FieldValidation: metav1.FieldValidationStrict, DryRun: dryRun, Force: &force,
	}
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
		if extensions[object.GetKind()] != nil {
			object.SetAPIVersion(c.group + "/" + path.Base(object.GetAPIVersion()))
		}
		data, err := yaml.Marshal(object.Object)
		if err != nil {
			t.Fatal(err)
		}
		resource, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
		got, err := c.client.Resource(resource).Namespace(c.namespace).Patch(t.Context(), object.GetName(), types.ApplyPatchType, data, options)
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

// TestServerAccepts: a real API server takes every object by server-side apply
// and with strict validation, and has no warning. It takes the pods, too, into
// a namespace that enforces the restricted standard: no image of ours needs
// more than that.
func TestServerAccepts(t *testing.T) {
	c := newCluster(t)
	c.account(t, "default")
	pods := 0
	for _, r := range renderings(t) {
		t.Run(r.name, func(t *testing.T) {
			if len(c.apply(t, r, metav1.DryRunAll)) == 0 {
				t.Error("nothing was applied")
			}
			c.checkWarnings(t)
			for _, w := range workloadsOf(decode(t, r.render(t))) {
				pods++
				if account := w.template.Spec.ServiceAccountName; account != "" {
					c.account(t, account)
				}
				w.template.Name = w.name
				for _, claim := range w.claims { // as the StatefulSet will
					w.template.Spec.Volumes = append(w.template.Spec.Volumes, corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
						PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
					}})
				}
				if err := c.createPod(t, w.template); err != nil {
					t.Errorf("%s: %v", w.name, err)
				}
			}
			c.checkWarnings(t)
		})
	}
	if pods == 0 {
		t.Error("there was no pod")
	}
	t.Run("more than that is refused", func(t *testing.T) {
		loose := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a:1"}}}}
		loose.Name = "loose"
		if err := c.createPod(t, loose); !apierrors.IsForbidden(err) {
			t.Errorf("a pod without any security context: %v", err)
		}
	})
}

// TestLongestNames: Kubernetes adds to names, and to that of a CronJob the most.
func TestLongestNames(t *testing.T) {
	c := newCluster(t)
	for _, e := range environments(t) {
		if e.name != "strict" {
			continue
		}
		env := e.env
		env.App.Name = strings.Repeat("a", 40)
		env.Workers = slices.Clone(env.Workers)
		env.Workers[0].Name = strings.Repeat("w", 15) // 63 in all, which the language sees to
		resources, err := compile.Environment(env)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range resources {
			if spec, ok := resource.Spec.(forge.ReleaseSpec); ok {
				c.apply(t, rendering{spec.Name, spec.Chart, spec.Name, spec.Namespace, withInputs(t, spec)}, metav1.DryRunAll)
			}
		}
	}
	c.checkWarnings(t)
}

// createPod asks whether a pod would be let in.
func (c *cluster) createPod(t *testing.T, template corev1.PodTemplateSpec) error {
	t.Helper()
	pod := corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&pod)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.client.Resource(corev1.SchemeGroupVersion.WithResource("pods")).Namespace(c.namespace).Create(t.Context(),
		&unstructured.Unstructured{Object: object}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	return err
}

// account makes a service account, or waits for the one that comes by itself:
// no pod is let in without.
func (c *cluster) account(t *testing.T, name string) {
	t.Helper()
	accounts := c.client.Resource(corev1.SchemeGroupVersion.WithResource("serviceaccounts")).Namespace(c.namespace)
	account := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": name}}}
	if _, err := accounts.Create(t.Context(), account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

// TestApplyTwice: what was applied once is applied again without a change to
// what we own, so a healthy release costs its cluster nothing.
func TestApplyTwice(t *testing.T) {
	c := newCluster(t)
	for _, e := range environments(t) {
		if e.name != "full" && e.name != "strict" {
			continue
		}
		for _, r := range e.releases {
			first := c.apply(t, r)
			again := c.apply(t, r)
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
