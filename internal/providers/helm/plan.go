package helm

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// verdict remembers why an object had drifted, so that a repeated look at the
// same live version costs nothing.
type verdict struct {
	uid, resourceVersion, desired string
	reason                        reconcile.Reason
	changes                       []reconcile.Change
}

// healing is the Detail of a step that puts one object back.
type healing struct {
	ref      kubernetes.Ref
	uid      string                     // live; empty: deleted
	before   *unstructured.Unstructured // live, when the reason is still to be found
	replaced bool                       // it is another object than the one applied last
}

// rollout is the Detail of a step that brings in something new.
type rollout struct {
	key     string // what it was rendered from
	objects []object
}

// Plan implements reconcile.Provider.
func (p *Provider) Plan(ctx context.Context, req reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	s, ok := o.Detail.(*seen)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "plan", "%s was observed as a %T", req.Resource.ID, o.Detail)
	}
	if req.Remove {
		return s.planRemove(), s.others()
	}
	if whole, _, _ := s.judge(); whole == "" && len(s.drifts) == 0 {
		return nil, nil
	}
	// Something is to be done: ask the API server itself what Helm's records
	// say before calling anything drift, and meanwhile why objects drifted.
	var heals []reconcile.Step
	var healErr error
	g, gctx := errgroup.WithContext(ctx)
	if s.settled() && len(s.drifts) > 0 {
		g.Go(func() error { heals, healErr = p.planHeal(gctx, s); return nil })
	}
	revs, err := s.h.store.certain(ctx, s.h.release)
	if werr := g.Wait(); err == nil {
		err = werr
	}
	if err != nil {
		return nil, err
	}
	s.newest, s.exists = newestOf(revs)
	whole, code, text := s.judge()
	if err := s.others(); err != nil {
		return nil, err
	}
	if s.foreign() && s.newest.status != release.StatusUninstalled {
		return nil, &reconcile.Error{
			Kind: reconcile.Conflict, ID: s.h.id, Object: s.object(), Op: "install",
			Err:  fmt.Errorf("a release of that name is there already (revision %d, %s) and this environment's forged did not make it", s.newest.number, s.newest.status),
			Hint: "uninstall it, or give the environment another namespace; forged takes nothing over unasked",
		}
	}
	if whole == "" {
		return heals, healErr
	}
	if !s.settled() || healErr != nil {
		heals = nil // the release as a whole comes first
	}
	if s.desired.missing != nil && whole != reconcile.ActionHeal {
		return nil, s.desired.missing
	}
	step := reconcile.Step{
		ID: s.h.id, Action: whole, Object: s.object(), Token: s.token(),
		Reason: reconcile.Reason{Code: code, Text: text},
	}
	if code == reconcile.ReasonForeign {
		step.Reason.Writer, step.Reason.At = "helm", s.newest.written
	}
	if whole != reconcile.ActionHeal {
		err := p.planChanges(ctx, s, &step)
		if err != nil && (len(heals) == 0 || req.Explain) {
			return nil, err
		}
		// Otherwise applying the step fails in the same way, after the heals.
	}
	// An update may have to wait, or may not be possible at all. What was
	// applied last is put back before it.
	return append(heals, step), nil
}

// others says that another actor's helm is at work on the release.
func (s *seen) others() error {
	if !s.exists || s.newest.terminal() || s.newest.ours {
		return nil
	}
	if time.Since(s.newest.written) >= foreignPendingLimit {
		return nil
	}
	return &reconcile.Error{
		Kind: reconcile.Throttled, After: foreignPendingPause, ID: s.h.id, Object: s.object(), Op: "plan",
		Err:  fmt.Errorf("another actor's helm is at work: revision %d is %s", s.newest.number, s.newest.status),
		Hint: "forged goes on when it has ended",
	}
}

// judge says what the release as a whole needs; an empty action means that
// only its objects matter.
func (s *seen) judge() (reconcile.Action, reconcile.ReasonCode, string) {
	current := s.recorded && s.desired.key == s.record.RenderKey // what was applied last is what is wanted
	restore := func(code reconcile.ReasonCode, text string) (reconcile.Action, reconcile.ReasonCode, string) {
		// In heal mode the last applied state comes back even when
		// forge.cue has moved on since.
		if current || (s.recorded && s.h.req.Policy.Mode == forge.ModeHeal) {
			return reconcile.ActionHeal, code, text
		}
		return reconcile.ActionUpdate, code, text
	}
	repair := func(text string) (reconcile.Action, reconcile.ReasonCode, string) {
		// In heal mode nothing new is begun, and what was cut is taken back.
		if s.applied() && s.h.req.Policy.Mode == forge.ModeHeal {
			return reconcile.ActionHeal, reconcile.ReasonInterrupted, text
		}
		return reconcile.ActionRepair, reconcile.ReasonInterrupted, text
	}
	switch {
	case !s.exists && !s.recorded:
		return reconcile.ActionCreate, reconcile.ReasonAbsent, ""
	case !s.exists && s.record.Revision == 0:
		return reconcile.ActionCreate, reconcile.ReasonInterrupted, "an install was cut before Helm's record was written"
	case !s.exists:
		return restore(reconcile.ReasonDeleted, "its Helm records are gone")
	case !s.newest.terminal():
		return repair(fmt.Sprintf("revision %d was left %s", s.newest.number, s.newest.status))
	case s.newest.status == release.StatusUninstalled && s.applied():
		return restore(reconcile.ReasonDeleted, fmt.Sprintf("revision %d was uninstalled by helm", s.newest.number))
	case !s.newest.ours && s.applied():
		return restore(reconcile.ReasonForeign, fmt.Sprintf("revision %d is not forged's, its own is %d", s.newest.number, s.record.Revision))
	case s.newest.status != release.StatusDeployed:
		return repair(fmt.Sprintf("revision %d is %s", s.newest.number, s.newest.status))
	case !s.recorded, s.record.Pending:
		return repair("the inventory was not brought up to date")
	case s.newest.number != s.record.Revision:
		return restore(reconcile.ReasonForeign, fmt.Sprintf("revision %d is not forged's, its own is %d", s.newest.number, s.record.Revision))
	case !current && s.h.req.Policy.Mode != forge.ModeHeal:
		if s.desired.missing != nil {
			return "", "", "" // nothing is known of what is wanted: only live can be judged
		}
		return reconcile.ActionUpdate, reconcile.ReasonConfig, ""
	}
	return "", "", ""
}

// applied tells whether there is something that was applied last.
func (s *seen) applied() bool { return s.recorded && s.record.Revision > 0 }

// foreign tells whether the release was made by another actor, and not just
// changed by one.
func (s *seen) foreign() bool { return s.exists && !s.newest.ours && !s.applied() }

func (s *seen) object() string { return "release " + s.h.spec.Namespace + "/" + s.h.spec.Name }

// token fences a step on the whole release: Helm's newest record and what is
// wanted must still be the same when it is applied.
func (s *seen) token() string {
	return fmt.Sprintf("%d/%s/%s", s.newest.number, s.newest.status, s.desired.key)
}

func (s *seen) planRemove() []reconcile.Step {
	if !s.recorded {
		return nil // what the inventory does not list is not ours to remove
	}
	deletes := 0
	for _, e := range s.record.Entries {
		if !e.Keep {
			deletes++
		}
	}
	return []reconcile.Step{{
		ID: s.h.id, Action: reconcile.ActionDelete, Object: s.object(), Deletes: deletes,
		Reason: reconcile.Reason{Code: reconcile.ReasonUnwanted, Text: "volumes and their claims stay"},
		Token:  s.token(),
	}}
}

// planHeal makes one step for each drifted object.
func (p *Provider) planHeal(ctx context.Context, s *seen) ([]reconcile.Step, error) {
	objects, err := p.applied(ctx, s.h)
	if err != nil {
		return nil, err
	}
	steps := make([]*reconcile.Step, len(s.drifts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, d := range s.drifts {
		o, ok := objects[d.Entry.Ref]
		if !ok {
			continue // of an older manifest; the next rollout prunes it
		}
		g.Go(func() error {
			step, err := s.h.healStep(ctx, d, o)
			steps[i] = step
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := make([]reconcile.Step, 0, len(steps))
	for _, st := range steps {
		if st != nil {
			out = append(out, *st)
		}
	}
	return out, nil
}

func (h *handle) healStep(ctx context.Context, d kubernetes.Drift, o object) (*reconcile.Step, error) {
	ref := d.Entry.Ref
	step := &reconcile.Step{
		ID: h.id, Action: reconcile.ActionHeal, Object: ref.String(),
		Reason: reconcile.Reason{Code: d.Code},
		Detail: healing{ref: ref},
	}
	if d.State.Deleting {
		step.Blocked = "it is being deleted; it is put back as soon as it is gone"
		return step, nil
	}
	h.mu.Lock()
	v, known := h.verdicts[ref]
	h.mu.Unlock()
	if known && d.State.Exists && v.uid == d.State.UID && v.resourceVersion == d.State.ResourceVersion && v.desired == o.hash {
		step.Reason, step.Changes, step.Detail = v.reason, v.changes, healing{ref: ref, uid: v.uid}
		return step, nil
	}
	u, err := o.unstructured()
	if err != nil {
		return nil, reconcile.Errorf(reconcile.Internal, "plan "+ref.String(), "%v", err)
	}
	// The dry run tells exactly which fields differ. When the object is about
	// to be put back, the answer to that tells the same, a request earlier.
	var before, after *unstructured.Unstructured
	var dryErr error
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { before, err = h.cluster.Get(gctx, ref); return err })
	if h.req.Explain {
		g.Go(func() error { after, dryErr = h.cluster.DryRun(gctx, u); return nil })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if before == nil {
		step.Reason = reconcile.Reason{Code: reconcile.ReasonDeleted}
		return step, nil
	}
	if owner := h.usurper(d.Entry, before); owner != "" {
		step.Reason = reconcile.Reason{Code: reconcile.ReasonReplaced}
		step.Blocked = "another object stands in its place and belongs to " + owner
		return step, nil
	}
	uid := string(before.GetUID())
	if !h.req.Explain {
		step.Detail = healing{ref: ref, uid: uid, before: before, replaced: d.Code == reconcile.ReasonReplaced}
		return step, nil
	}
	if dryErr != nil {
		return nil, dryErr
	}
	step.Reason, step.Changes = kubernetes.Explain(before, after, h.cluster.Manager())
	if d.Code == reconcile.ReasonReplaced {
		step.Reason.Code = reconcile.ReasonReplaced
	}
	step.Detail = healing{ref: ref, uid: uid}
	h.mu.Lock()
	h.verdicts[ref] = verdict{uid: uid, resourceVersion: before.GetResourceVersion(), desired: o.hash, reason: step.Reason, changes: step.Changes}
	h.mu.Unlock()
	return step, nil
}
