package helm

import (
	"context"
	"fmt"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// seen is what Observe found, for Plan.
type seen struct {
	h        *handle
	desired  desired
	newest   revision
	exists   bool // newest is one
	record   kubernetes.Record
	recorded bool
	drifts   []kubernetes.Drift
}

// Observe implements reconcile.Provider. Once the watches are up it costs no
// request.
func (p *Provider) Observe(ctx context.Context, req reconcile.Request) (reconcile.Observed, error) {
	h, err := p.open(ctx, req)
	if err != nil {
		return reconcile.Observed{}, err
	}
	return p.observe(ctx, h)
}

func (p *Provider) observe(ctx context.Context, h *handle) (reconcile.Observed, error) {
	s := &seen{h: h}
	var err error
	if !h.req.Remove {
		if s.desired, err = p.desire(h.req, h.spec); err != nil {
			return reconcile.Observed{}, err
		}
	}
	revs, err := h.store.watched(ctx, h.release)
	if err != nil {
		return reconcile.Observed{}, err
	}
	s.newest, s.exists = h.caughtUp(newestOf(revs))
	s.record, s.recorded = h.inventory.Record(h.id)
	if s.recorded && !s.record.Pending {
		if s.drifts, err = h.inventory.Drifted(ctx, h.id); err != nil {
			return reconcile.Observed{}, err
		}
	}
	health, err := s.health(ctx)
	if err != nil {
		return reconcile.Observed{}, err
	}
	return reconcile.Observed{
		Exists: s.recorded || s.exists && !h.req.Remove, Health: health,
		Objects: len(s.record.Entries), Detail: s,
	}, nil
}

// caughtUp puts the record of the last action here in the place of what the
// watch still shows from before it.
func (u *unit) caughtUp(newest revision, exists bool) (revision, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.wrote.number == 0 {
		return newest, exists
	}
	if newest.number > u.wrote.number || newest.number == u.wrote.number && (newest.terminal() || !newest.ours) {
		u.wrote = revision{}
		return newest, exists
	}
	return u.wrote, true
}

// settled tells whether the newest revision is one of ours that ended well.
func (s *seen) settled() bool {
	return s.exists && s.recorded && !s.record.Pending &&
		s.newest.ours && s.newest.status == "deployed" && s.newest.number == s.record.Revision
}

func (s *seen) health(ctx context.Context) (reconcile.Health, error) {
	if !s.settled() {
		switch {
		case !s.exists:
			return reconcile.Health{Status: reconcile.Progressing, Message: "not installed"}, nil
		default:
			return reconcile.Health{
				Status:  reconcile.Progressing,
				Message: fmt.Sprintf("revision %d is %s", s.newest.number, s.newest.status),
			}, nil
		}
	}
	health := reconcile.Health{Status: reconcile.Ready}
	for _, e := range s.record.Entries {
		live, err := s.h.cluster.Live(ctx, e.Ref)
		if err != nil {
			return reconcile.Health{}, err
		}
		one := live.Health
		if !live.Exists {
			one = reconcile.Health{Status: reconcile.Progressing, Message: "not there"}
		}
		if worse(one.Status, health.Status) {
			health = reconcile.Health{Status: one.Status, Message: e.Ref.String() + ": " + one.Message}
		}
	}
	return health, nil
}

func worse(a, b reconcile.HealthStatus) bool {
	rank := map[reconcile.HealthStatus]int{reconcile.Ready: 0, reconcile.Unknown: 1, reconcile.Progressing: 2, reconcile.Failed: 3}
	return rank[a] > rank[b]
}

// Owned implements reconcile.Owner: the releases that the inventories of an
// environment list.
func (p *Provider) Owned(ctx context.Context, environment string, wanted []forge.Resource) ([]forge.Resource, error) {
	type place struct {
		target    forge.Target
		namespace string
	}
	seen := map[place]bool{}
	var out []forge.Resource
	for _, r := range wanted {
		spec, ok := r.Spec.(forge.ReleaseSpec)
		at := place{r.Target, spec.Namespace}
		if !ok || seen[at] {
			continue
		}
		seen[at] = true
		c, err := p.clusters.Cluster(ctx, at.target)
		if err != nil {
			return nil, err
		}
		inv, err := c.Inventory(ctx, environment, at.namespace)
		if err != nil {
			return nil, err
		}
		for _, id := range inv.IDs() {
			if rec, ok := inv.Record(id); ok && id.Kind == forge.KindRelease {
				out = append(out, forge.Resource{
					ID: id, Target: at.target, Needs: rec.Needs,
					Spec: forge.ReleaseSpec{Name: rec.Name, Namespace: at.namespace},
				})
			}
		}
	}
	return out, nil
}
