package kubernetes

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/reconcile"
)

// Normalise brings a manifest to the form that is safe to apply.
func Normalise(obj *unstructured.Unstructured) (warnings []string, err error) { return nil, nil }

// Explain tells why an object had drifted.
func Explain(before, after *unstructured.Unstructured, manager string) (reconcile.Reason, []reconcile.Change) {
	return reconcile.Reason{Code: reconcile.ReasonEdited}, nil
}
