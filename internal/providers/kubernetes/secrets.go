package kubernetes

import (
	"context"

	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// Secrets is the provider of Secrets.
type Secrets struct {
	clusters *Clusters
	resolver *secret.Resolver
}

// NewSecrets makes the provider of kind "secrets".
func NewSecrets(clusters *Clusters, resolver *secret.Resolver) reconcile.Provider {
	return &Secrets{clusters, resolver}
}

// Observe implements reconcile.Provider.
func (p *Secrets) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	return reconcile.Observed{}, reconcile.Errorf(reconcile.Internal, "observe", "not written yet")
}

// Plan implements reconcile.Provider.
func (p *Secrets) Plan(ctx context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	return nil, reconcile.Errorf(reconcile.Internal, "plan", "not written yet")
}

// Apply implements reconcile.Provider.
func (p *Secrets) Apply(ctx context.Context, r reconcile.Request, s reconcile.Step) (reconcile.Observed, error) {
	return reconcile.Observed{}, reconcile.Errorf(reconcile.Internal, "apply", "not written yet")
}

// Watch implements reconcile.Provider.
func (p *Secrets) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	return p.clusters.Watch(ctx, "secrets", notify)
}
