package kubernetes

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Fitter brings objects into the form that a cluster can run, before they are
// compared with what is live or sent there.
type Fitter interface {
	// Fit never changes the objects that it is given. An error of kind Invalid
	// names everything that cannot run there, and what to do about it.
	Fit(ctx context.Context, c *Cluster, rules forge.Rules, objects []*unstructured.Unstructured) (Fitted, error)
}

// Fitted are objects that a cluster can run.
type Fitted struct {
	Objects []*unstructured.Unstructured
	Changes []reconcile.Change // what was made of them: before and after
	Notices []reconcile.Notice // what a person should know of that

	// Digest changes when the same objects would be fitted in another way: with
	// the table, with what is allowed, and with what the cluster can do. It does
	// not depend on the objects: who fits none learns it, as often as he likes,
	// and that costs no request.
	Digest string
}
