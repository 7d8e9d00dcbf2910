package helm

import (
	"context"
	"fmt"
	"slices"
	"time"

	"helm.sh/helm/v3/pkg/release"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// defaultTimeout is how long a revision may take to become ready where the
// policy does not say.
const defaultTimeout = 10 * time.Minute

// seen is what Observe found, for Plan.
type seen struct {
	h        *handle
	desired  desired
	moved    string // what the chart would be told differently by the cluster now; empty: nothing
	revs     []revision
	newest   revision
	exists   bool // newest is one
	record   kubernetes.Record
	recorded bool
	notes    notes
	drifts   []kubernetes.Drift
	unready  string             // why the revision has failed to become ready; empty: it has not
	back     int                // the revision that a person goes back to
	limits   []reconcile.Notice // of objects that serve, and are not all that they should be
	unfit    bool               // what was rendered cannot be had in the cluster
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
	s.read()
	var err error
	if !h.req.Remove {
		if s.desired, err = h.desire(ctx, s.notes.Chart, h.req.Explain && !s.recorded); err != nil {
			return reconcile.Observed{}, err
		}
	}
	if s.revs, err = h.store.watched(ctx, h.release); err != nil {
		return reconcile.Observed{}, err
	}
	s.newest, s.exists = h.caughtUp(newestOf(s.revs))
	if s.recorded && !s.record.Pending {
		if s.drifts, err = h.inventory.Drifted(ctx, h.id); err != nil {
			return reconcile.Observed{}, err
		}
		if s.moved, err = s.listen(ctx); err != nil {
			return reconcile.Observed{}, err
		}
	}
	health, err := s.health(ctx)
	if err != nil {
		return reconcile.Observed{}, err
	}
	s.followRollout(health)
	return reconcile.Observed{
		Exists: s.recorded || s.exists && !h.req.Remove, Health: health,
		Objects: len(s.record.Entries), Notices: s.told(), Detail: s,
	}, nil
}

// told is what is worth knowing beside the steps.
func (s *seen) told() []reconcile.Notice {
	all := slices.Concat(s.record.Notices(), s.h.told(), s.limits)
	if s.applied() && s.h.fitted() {
		all = append(all, s.notes.Asked.Fit.Notices...)
	}
	if stale := s.desired.chart.stale; stale != nil {
		all = append(all, reconcile.Notice{
			Code: "chart-stale", Object: s.object(),
			Message: fmt.Sprintf("its chart could not be looked at, so that of before is used: %v", stale),
		})
	}
	return all
}

// read takes down what the inventory knows.
func (s *seen) read() {
	s.record, s.recorded = s.h.inventory.Record(s.h.id)
	s.notes = s.h.notesOf(s.record)
	if s.h.seal == nil && !s.recorded {
		s.h.seal = s.h.p.invented
	}
}

// listen asks again what the chart asked the cluster when the applied revision
// was rendered, where that could lead to anything.
func (s *seen) listen(ctx context.Context) (string, error) {
	switch {
	case s.h.req.Remove, s.desired.key == "", s.h.req.Policy.Mode == forge.ModeHeal:
		return "", nil
	case s.notes.Back > 0:
		return fmt.Sprintf("a person went back to revision %d", s.notes.Back), nil
	case !s.h.seal.made(s.notes.Key):
		return "what it was made of cannot be compared: the key of checksums is another one", nil
	case s.desired.key != s.notes.Key:
		return "", nil
	}
	s.h.looksUp(s.notes.Asked.Lookups)
	return s.h.moved(ctx, s.notes.Asked)
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
		s.newest.ours && s.newest.status == release.StatusDeployed && s.newest.number == s.record.Revision
}

func (s *seen) health(ctx context.Context) (reconcile.Health, error) {
	if !s.settled() {
		switch {
		case !s.exists:
			return reconcile.Health{Status: reconcile.Progressing, Message: "not installed"}, nil
		case s.newest.status == release.StatusFailed && s.newest.ours:
			message := fmt.Sprintf("revision %d failed", s.newest.number)
			if why := s.notes.Failed.Why; why != "" {
				message += ": " + why
			}
			return reconcile.Health{Status: reconcile.Failed, Message: message}, nil
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
		one := s.h.cluster.Health(ctx, s.h.id, e.Ref, live)
		switch {
		case e.Baseline.Vanished(live):
			one = reconcile.Health{Status: reconcile.Ready}
		case !live.Exists:
			one = reconcile.Health{Status: reconcile.Progressing, Message: "not there"}
		case one.Status == reconcile.Ready && one.Message != "":
			s.limits = append(s.limits, reconcile.Notice{Code: "limited", Object: e.Ref.String(), Message: one.Message})
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

// followRollout notes a revision that has become ready, and says of one that
// has not when it has failed to. A revision that was ready once is never given
// up: what is wrong with it came later, and an older one would not mend it.
func (s *seen) followRollout(health reconcile.Health) {
	if s.h.req.Remove || !s.settled() {
		return
	}
	number := s.record.Revision
	switch {
	case s.notes.Good.Revision == number:
	case health.Status == reconcile.Ready:
		s.notes.Good = good{Revision: number, Key: s.notes.Key, Source: s.notes.Source, Asked: s.notes.Asked}
		if s.notes.Failed.Key == s.notes.Key {
			s.notes.Failed = failure{}
		}
		s.h.inventory.Note(s.h.id, s.notes.raw())
	case health.Status == reconcile.Failed:
		s.unready = health.Message
	case health.Status == reconcile.Progressing:
		limit := s.h.req.Policy.Timeout
		if limit <= 0 {
			limit = defaultTimeout
		}
		if s.h.waitedFor(number) >= limit {
			s.unready = fmt.Sprintf("not ready within %s: %s", limit, health.Message)
		}
	}
}
