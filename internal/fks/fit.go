package fks

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type rewriting func()

// Fit brings objects into a form that Fly Kubernetes can run, and says what had
// to be done and what cannot be had. The objects are looked at together: what
// one of them says may change another. What is given is not changed, and what
// is returned has been copied. To fit again changes nothing.
func Fit(objects []*unstructured.Unstructured, _ Options) ([]*unstructured.Unstructured, []Finding) {
	out := make([]*unstructured.Unstructured, 0, len(objects))
	for _, o := range objects {
		out = append(out, o.DeepCopy())
	}
	return out, nil
}

// Rules are the table, in the order in which they are applied.
func Rules() []Rule { return nil }
