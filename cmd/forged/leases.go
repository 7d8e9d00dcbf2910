package main

import (
	"context"

	"golang.org/x/sync/errgroup"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// leases are those of clusters and those of organizations on Fly. What is in
// both has a lease in each.
type leases struct{ clusters, fly reconcile.Leases }

// Hold implements reconcile.Leases.
func (l leases) Hold(ctx context.Context, environment string, r forge.Resource) (reconcile.Lease, error) {
	if r.Target.Org != "" {
		return l.fly.Hold(ctx, environment, r)
	}
	return l.clusters.Hold(ctx, environment, r)
}

// Keep implements reconcile.Leases.
func (l leases) Keep(environments []string) {
	l.clusters.Keep(environments)
	l.fly.Keep(environments)
}

// Release implements reconcile.Leases.
func (l leases) Release(environment string, target forge.Target) {
	if target.Org != "" {
		l.fly.Release(environment, target)
		return
	}
	l.clusters.Release(environment, target)
}

// Watch implements reconcile.Leases.
func (l leases) Watch(ctx context.Context, notify func(environment string)) error {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return l.clusters.Watch(ctx, notify) })
	both.Go(func() error { return l.fly.Watch(ctx, notify) })
	return both.Wait()
}
