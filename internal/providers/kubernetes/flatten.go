package kubernetes

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Flatten turns a manifest of kind List into its items, lists among them into
// theirs; any other is itself. An item that is no object is an error.
func Flatten(obj *unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	items, ok := obj.Object["items"].([]any)
	if obj.Object["items"] == nil && obj.GetKind() == "List" && obj.GetAPIVersion() == "v1" {
		return nil, nil // a template that has put nothing into it
	}
	if !ok || !strings.HasSuffix(obj.GetKind(), "List") {
		return []*unstructured.Unstructured{obj}, nil
	}
	var flat []*unstructured.Unstructured
	for i, item := range items {
		m, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("item %d of the %s is a %s, and must be an object", i+1, obj.GetKind(), typeName(item))
		}
		if m["kind"] == nil && obj.GetKind() != "List" { // the list of one kind, as the API server shows it
			m["kind"], m["apiVersion"] = strings.TrimSuffix(obj.GetKind(), "List"), obj.GetAPIVersion()
		}
		more, err := Flatten(&unstructured.Unstructured{Object: m})
		if err != nil {
			return nil, err
		}
		flat = append(flat, more...)
	}
	return flat, nil
}
