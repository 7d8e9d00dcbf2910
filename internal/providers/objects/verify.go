package objects

import (
	"context"
	"slices"

	"forged.dev/forged/internal/providers/kubernetes"
)

// verify checks one object by applying it again, without effect, as it was
// wanted at the last look.
func (p *Provider) verify(ctx context.Context, c *kubernetes.Cluster, _ string, r kubernetes.Record, e kubernetes.Entry) (kubernetes.Verdict, error) {
	p.mu.Lock()
	l := p.seen[r.ID]
	p.mu.Unlock()
	if l == nil || l.Cluster != c || l.hashes[e.Ref] != e.Desired {
		return kubernetes.VerdictUnknown, nil // not looked at yet, or a new one waits to be rolled out
	}
	i := slices.IndexFunc(l.Objects, func(o Object) bool { return o.Ref() == e.Ref })
	if i < 0 {
		return kubernetes.VerdictUnknown, nil
	}
	return c.Unchanged(ctx, l.manifest(l.Objects[i]), e)
}
