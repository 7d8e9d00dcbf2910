package kubernetes

import (
	"context"

	"forged.dev/forged/internal/reconcile"
)

// Namespaces is the provider of namespaces.
type Namespaces struct{ clusters *Clusters }

// NewNamespaces makes the provider of kind "namespace".
func NewNamespaces(clusters *Clusters) reconcile.Provider { return &Namespaces{clusters} }

// Observe implements reconcile.Provider.
func (p *Namespaces) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	return reconcile.Observed{}, reconcile.Errorf(reconcile.Internal, "observe", "not written yet")
}

// Plan implements reconcile.Provider.
func (p *Namespaces) Plan(ctx context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	return nil, reconcile.Errorf(reconcile.Internal, "plan", "not written yet")
}

// Apply implements reconcile.Provider.
func (p *Namespaces) Apply(ctx context.Context, r reconcile.Request, s reconcile.Step) (reconcile.Observed, error) {
	return reconcile.Observed{}, reconcile.Errorf(reconcile.Internal, "apply", "not written yet")
}

// Watch implements reconcile.Provider.
func (p *Namespaces) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	return p.clusters.Watch(ctx, "namespace", notify)
}
