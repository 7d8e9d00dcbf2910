package charts_test

import (
	"context"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// extensions are the kinds that our charts use and an API server does not know
// by itself, with the part of their definitions that our objects are of. A
// test installs them under a group of its own, since others share the cluster.
var extensions = map[string]map[string]any{
	"HTTPRoute": definition(`
type: object
required: [spec]
properties:
  spec:
    type: object
    properties:
      parentRefs:
        type: array
        items:
          type: object
          required: [name]
          properties:
            group: {type: string}
            kind: {type: string, minLength: 1}
            namespace: {type: string, minLength: 1}
            name: {type: string, minLength: 1}
            sectionName: {type: string}
            port: {type: integer}
      hostnames:
        type: array
        items: {type: string, minLength: 1}
      rules:
        type: array
        items:
          type: object
          properties:
            matches:
              type: array
              items:
                type: object
                properties:
                  path:
                    type: object
                    properties:
                      type: {type: string, enum: [Exact, PathPrefix, RegularExpression]}
                      value: {type: string}
            backendRefs:
              type: array
              items:
                type: object
                required: [name]
                properties:
                  group: {type: string}
                  kind: {type: string}
                  namespace: {type: string}
                  name: {type: string}
                  port: {type: integer, minimum: 1, maximum: 65535}
                  weight: {type: integer}
`),
	"FrontendConfig": definition(`
type: object
properties:
  spec:
    type: object
    properties:
      sslPolicy: {type: string}
      redirectToHttps:
        type: object
        required: [enabled]
        properties:
          enabled: {type: boolean}
          responseCodeName:
            type: string
            enum: [MOVED_PERMANENTLY_DEFAULT, FOUND, SEE_OTHER, TEMPORARY_REDIRECT, PERMANENT_REDIRECT]
`),
}

func definition(text string) map[string]any {
	var out map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
		panic(err)
	}
	return out
}

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// extend makes the API server know our extensions, in a group that is the
// test's own, and returns the group.
func extend(t *testing.T, client dynamic.Interface, namespace string) string {
	t.Helper()
	group := namespace + ".example"
	for kind, schema := range extensions {
		plural := strings.ToLower(kind) + "s"
		versions := []any{}
		for _, version := range []string{"v1", "v1beta1"} {
			versions = append(versions, map[string]any{
				"name": version, "served": true, "storage": version == "v1",
				"schema": map[string]any{"openAPIV3Schema": schema},
			})
		}
		definition := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": map[string]any{"name": plural + "." + group},
			"spec": map[string]any{
				"group": group, "scope": "Namespaced", "versions": versions,
				"names": map[string]any{"plural": plural, "singular": strings.ToLower(kind), "kind": kind, "listKind": kind + "List"},
			},
		}}
		if _, err := client.Resource(definitions).Create(t.Context(), definition, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := client.Resource(definitions).Delete(context.Background(), definition.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		})
		served := schemaResource(group, "v1", plural)
		err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, processTimeout, true, func(ctx context.Context) (bool, error) {
			_, err := client.Resource(served).Namespace(namespace).List(ctx, metav1.ListOptions{})
			return err == nil, nil
		})
		if err != nil {
			t.Fatalf("%s is not served: %v", definition.GetName(), err)
		}
	}
	return group
}

func schemaResource(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}
