package helm

import (
	"cmp"
	"context"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
)

// Owned implements reconcile.Owner: the releases that the inventories of an
// environment list.
func (p *Provider) Owned(ctx context.Context, environment string, wanted []forge.Resource) ([]forge.Resource, error) {
	return p.clusters.OwnedRecords(ctx, environment, forge.KindRelease, wanted, func(namespace string, r kubernetes.Record) forge.Spec {
		return forge.ReleaseSpec{Name: cmp.Or(r.Name, notesOf(r).Name), Namespace: namespace}
	})
}

// verify checks one object by applying it again, without effect, as it is in the
// manifest that was applied last.
func (p *Provider) verify(ctx context.Context, c *kubernetes.Cluster, namespace string, r kubernetes.Record, e kubernetes.Entry) (kubernetes.Verdict, error) {
	p.mu.Lock()
	h := p.handles[r.ID]
	p.mu.Unlock()
	if h == nil || h.cluster != c || h.spec.Namespace != namespace || h.spec.Name != r.Name {
		return kubernetes.VerdictUnknown, nil // it was not looked at yet
	}
	objects, err := p.applied(ctx, h)
	if err != nil {
		return kubernetes.VerdictUnknown, err
	}
	o, ok := objects[e.Ref]
	if !ok || !h.sealed(e, o) {
		return kubernetes.VerdictUnknown, nil
	}
	u, err := o.unstructured()
	if err != nil {
		return kubernetes.VerdictUnknown, err
	}
	return c.Unchanged(ctx, u, e)
}
