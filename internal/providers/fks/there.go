package fks

import (
	"context"
	"slices"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
)

// There tells whether an organization has a cluster of a name, whoever made it.
// It changes nothing, and has no way into it known.
func (p *Provider) There(ctx context.Context, spec forge.FlyClusterSpec) (bool, error) {
	org, err := p.Accounts.Open(ctx, spec.Account)
	if err != nil {
		return false, err
	}
	all, err := fly.Read(ctx, org, fly.Topic{Section: fly.SectionClusters}, func(ctx context.Context) ([]api.AddOn, error) {
		return org.Client().AddOns(ctx, org.Slug(), api.AddOnKubernetes)
	})
	return slices.ContainsFunc(all, func(a api.AddOn) bool { return a.Name == spec.Name }), fly.Classify("list", "the clusters of organization "+org.Slug(), err)
}
