package charts_test

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/charts"
)

// load reads an embedded chart the way its installer does.
func load(t *testing.T, name string) *chart.Chart {
	t.Helper()
	files, err := charts.Files(name)
	if err != nil {
		t.Fatal(err)
	}
	var buffered []*loader.BufferedFile
	for _, file := range files {
		buffered = append(buffered, &loader.BufferedFile{Name: file.Name, Data: file.Data})
	}
	loaded, err := loader.LoadFiles(buffered)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// render renders a chart as `helm template` does, its values checked against
// the chart's schema. Objects come in the order of the files.
func render(chart *chart.Chart, release, namespace string, values map[string]any) (string, error) {
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, options, nil)
	if err != nil {
		return "", err
	}
	rendered, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if path.Ext(name) != ".yaml" {
			continue
		}
		for _, document := range strings.Split(rendered[name], "\n---") {
			if document = strings.TrimSpace(strings.TrimPrefix(document, "---")); document != "" {
				fmt.Fprintf(&out, "---\n# %s\n%s\n", name, document)
			}
		}
	}
	return out.String(), nil
}

func mustRender(t *testing.T, name, release, namespace string, values map[string]any) string {
	t.Helper()
	out, err := render(load(t, name), release, namespace, values)
	if err != nil {
		t.Fatalf("render %s: %v", name, err)
	}
	return out
}

// decode reads rendered objects into their Kubernetes types. Unknown fields,
// duplicate keys and wrong scalar types are errors, as they are for
// server-side apply.
func decode(t *testing.T, rendered string) []runtime.Object {
	t.Helper()
	var objects []runtime.Object
	for _, document := range strings.Split(rendered, "---\n") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		var header struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(document), &header); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if extensions[header.Kind] != nil {
			// The API server's own types know nothing of it: TestServerAccepts
			// has a definition.
			object := &unstructured.Unstructured{}
			if err := yaml.UnmarshalStrict([]byte(document), &object.Object); err != nil {
				t.Fatalf("%v in\n%s", err, document)
			}
			objects = append(objects, object)
			continue
		}
		object, err := scheme.Scheme.New(schema.FromAPIVersionAndKind(header.APIVersion, header.Kind))
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		objects = append(objects, object)
	}
	return objects
}

// clone is a deep copy of JSON-shaped values.
func clone(values map[string]any) map[string]any {
	return runtime.DeepCopyJSON(values)
}
