package helm

import (
	"context"
	"errors"
	"fmt"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// Apply implements reconcile.Provider.
func (p *Provider) Apply(ctx context.Context, req reconcile.Request, step reconcile.Step) (reconcile.Observed, error) {
	h, err := p.open(ctx, req)
	if err != nil {
		return reconcile.Observed{}, err
	}
	var reason *reconcile.Reason
	switch d := step.Detail.(type) {
	case healing:
		reason, err = p.heal(ctx, h, d)
	case rollout, removal:
		err = p.act(ctx, h, step)
	default:
		err = reconcile.Errorf(reconcile.Internal, string(step.Action), "planned by another provider: %T", step.Detail)
	}
	o, oerr := p.observe(ctx, h)
	o.Reason = reason
	return o, errors.Join(err, oerr)
}

// act installs, upgrades, repairs, takes back or uninstalls the release.
func (p *Provider) act(ctx context.Context, h *handle, step reconcile.Step) error {
	h.acting.Lock()
	defer h.acting.Unlock()

	s := &seen{h: h}
	s.read()
	if !h.req.Remove {
		var err error
		if s.desired, err = h.desire(ctx, s.notes.Chart, false); err != nil {
			return err
		}
	}
	if err := s.ask(ctx); err != nil {
		return err
	}
	token := s.token("remove")
	switch d := step.Detail.(type) {
	case rollout:
		token = s.token(d.deed)
	case removal:
		if d.data {
			return s.destroy(ctx, step)
		}
	}
	if step.Token != token {
		return s.stale(step)
	}
	j := h.journal(ctx, s.revs)
	if !s.foreign() || h.req.Policy.Adopt == forge.AdoptForce && !s.newest.rival {
		if err := h.repair(j, s.revs); err != nil {
			return s.wrap("repair", err)
		}
	}
	if step.Action == reconcile.ActionDelete || step.Action == reconcile.ActionForget {
		return p.uninstall(ctx, s, j)
	}
	return p.roll(ctx, s, j, step)
}

func (s *seen) stale(step reconcile.Step) error {
	return &reconcile.Error{
		Kind: reconcile.Stale, ID: s.h.id, Object: step.Object, Op: string(step.Action),
		Err: fmt.Errorf("the release has moved on since the plan was made"),
	}
}

// journal opens Helm's storage for one action.
func (h *handle) journal(ctx context.Context, revs []revision) *journal {
	return &journal{
		Driver:  h.store.records(context.WithoutCancel(ctx), h.release, revs).Driver,
		release: h.release,
	}
}

// storage is Helm's storage through a journal.
func (j *journal) storage() *storage.Storage {
	st := storage.Init(j)
	st.MaxHistory = maxHistory
	return st
}

// repair marks every record that no action can be working on as failed, by
// compare-and-swap, so that the SDK agrees to go on.
func (h *handle) repair(j *journal, revs []revision) error {
	records := j.storage()
	for _, r := range revs {
		if r.terminal() || (r.status == release.StatusUninstalling && h.req.Remove) {
			continue
		}
		rel, err := records.Get(h.spec.Name, r.number)
		if err != nil {
			return err
		}
		rel.SetStatus(release.StatusFailed, "interrupted; taken up again by forged")
		if err := records.Update(rel); err != nil {
			return err
		}
	}
	return nil
}

// wrap gives errors of the SDK a kind. Those of our own client have one.
func (s *seen) wrap(op string, err error) error {
	var typed *reconcile.Error
	if errors.As(err, &typed) {
		return err
	}
	return kubernetes.Classify(op+" "+s.object(), kubernetes.Ref{}, err)
}
