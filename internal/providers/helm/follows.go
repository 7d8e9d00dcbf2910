package helm

import (
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

var _ reconcile.Follower = (*Provider)(nil)

// Follows implements reconcile.Follower. Charts tell of what is new by
// themselves.
func (p *Provider) Follows(r forge.Resource) bool {
	p.mu.Lock()
	h := p.handles[r.ID]
	p.mu.Unlock()
	return h != nil && h.store.informer.HasSynced() && p.clusters.Follows(r.Target)
}
