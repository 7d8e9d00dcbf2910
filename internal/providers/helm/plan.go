package helm

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	"helm.sh/helm/v3/pkg/release"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// rollout is the Detail of a step that concerns the release as a whole.
type rollout struct {
	deed    deed
	state   state
	why     string                    // why the revision before is given up: of deedGoBack
	next    *rendering                // what is to be applied; nil: find it
	objects []object                  // of next
	replace map[kubernetes.Ref]string // uids of objects to be made anew
	checked bool                      // the API server would take the objects as they are
}

// Plan implements reconcile.Provider.
func (p *Provider) Plan(ctx context.Context, req reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	s, ok := o.Detail.(*seen)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "plan", "%s was observed as a %T", req.Resource.ID, o.Detail)
	}
	if req.Remove {
		return s.planRemove(ctx)
	}
	if d := decide(s.facts()); d.deed == deedNothing || d.state == stateInSync {
		return s.unloaded(), s.unknown()
	}
	// Something is to be done: ask the API server itself what Helm's records
	// say before calling anything drift, and meanwhile why objects drifted.
	var heals []reconcile.Step
	var healErr error
	g, gctx := errgroup.WithContext(ctx)
	if s.settled() && len(s.drifts) > 0 {
		g.Go(func() error { heals, healErr = p.planHeal(gctx, s); return nil })
	}
	err := s.ask(ctx)
	if werr := g.Wait(); err == nil {
		err = werr
	}
	if err != nil {
		return nil, err
	}
	d := decide(s.facts())
	if err := s.wait(d); err != nil {
		return nil, err
	}
	if d.deed == deedNothing || d.deed == deedHeal {
		if len(heals) == 0 && healErr == nil {
			return s.unloaded(), s.unknown()
		}
		return append(heals, s.unloaded()...), healErr
	}
	if !s.settled() || healErr != nil {
		heals = nil // the release as a whole comes first
	}
	step, err := p.planWhole(ctx, s, d)
	if s.unfit && req.Explain && len(heals) == 0 {
		return nil, err // what is wrong with it is known before all that it is made of
	}
	if guessed := s.desired.guessed; guessed != nil {
		if err != nil || step == nil {
			return nil, guessed // what stands for a value may be what is wrong
		}
		return []reconcile.Step{*step}, guessed
	}
	if err != nil && (len(heals) == 0 || req.Explain || step == nil) {
		return heals, err
	}
	if step == nil {
		return heals, nil
	}
	// An update may have to wait, or may not be possible at all. What was
	// applied last is put back before it; applying the update fails in the
	// same way as planning it, after that.
	return append(heals, *step), nil
}

// ask puts what the API server knows of Helm's records in the place of what the
// watch says.
func (s *seen) ask(ctx context.Context) error {
	revs, err := s.h.store.certain(ctx, s.h.release)
	if err != nil {
		return err
	}
	s.revs = revs
	s.newest, s.exists = newestOf(revs)
	return nil
}

// unknown is the error of a release of which nobody knows yet what it is to be:
// as it was applied last it is in order, but it is not what is asked for before
// its inputs have said so.
func (s *seen) unknown() error {
	if s.desired.unloaded || s.h.req.Policy.Mode == forge.ModeHeal {
		return nil
	}
	return s.desired.missing
}

// wait says why nothing can be done to a release now.
func (s *seen) wait(d decision) error {
	switch d.deed {
	case deedWait:
		return &reconcile.Error{
			Kind: reconcile.Throttled, After: s.h.pause(), ID: s.h.id, Object: s.object(), Op: "plan",
			Err:  fmt.Errorf("%s", d.text),
			Hint: "forged goes on when it has ended",
		}
	case deedRefuse:
		if s.h.req.Remove {
			return nil
		}
		by := "this environment's forged did not make it"
		hint := `uninstall it, give the environment another namespace, or set policy.adopt to "force" to take it over`
		if s.newest.rival {
			by, hint = "another forged, or another environment of this one, made it", "uninstall it there, or give the environment another namespace; forged takes nothing over unasked"
		}
		return &reconcile.Error{
			Kind: reconcile.Conflict, ID: s.h.id, Object: s.object(), Op: "install",
			Err:  fmt.Errorf("a release of that name is there already (%s) and %s", d.text, by),
			Hint: hint,
		}
	}
	return nil
}

// facts are what decide goes by.
func (s *seen) facts() facts {
	policy := s.h.req.Policy
	f := facts{
		exists: s.exists, status: s.newest.status, number: s.newest.number, ours: s.newest.ours,
		busy:     s.exists && !s.newest.terminal() && !s.newest.ours && s.h.alive(s.newest),
		adopt:    policy.Adopt == forge.AdoptForce && !s.newest.rival,
		recorded: s.recorded, pending: s.record.Pending, applied: s.record.Revision,
		waiting: s.desired.missing != nil, heal: policy.Mode == forge.ModeHeal, drifted: len(s.drifts) > 0,
		current:  s.recorded && s.desired.key != "" && s.desired.key == s.notes.Key && s.moved == "",
		failures: s.notes.failures(s.desired.key), limit: mostFailures,
		unready: s.unready,
	}
	if slices.ContainsFunc(s.revs, func(r revision) bool { return r.number == s.notes.Good.Revision }) {
		f.good = s.notes.Good.Revision
	}
	if f.goBack = policy.Rollback; f.goBack && f.good > 0 {
		f.limit = mostFailuresWithRollback
	}
	return f
}

// planWhole makes the step that concerns the release as a whole; none when a
// closer look shows that there is nothing to do.
func (p *Provider) planWhole(ctx context.Context, s *seen, d decision) (*reconcile.Step, error) {
	step := &reconcile.Step{
		ID: s.h.id, Object: s.object(), Token: s.token(d.deed),
		Reason: reconcile.Reason{Text: d.text},
	}
	switch d.state {
	case stateAbsent:
		step.Reason.Code = reconcile.ReasonAbsent
	case stateInterrupted:
		step.Reason.Code = reconcile.ReasonInterrupted
	case stateLost, stateUninstalled:
		step.Reason.Code = reconcile.ReasonDeleted
	case stateForeign, stateUnmanaged:
		step.Reason.Code, step.Reason.Writer, step.Reason.At = reconcile.ReasonForeign, "helm", s.newest.written
	case stateFailed, stateUnready, stateRefused:
		step.Reason.Code = reconcile.ReasonFailed
	default:
		step.Reason.Code = reconcile.ReasonConfig
		if step.Reason.Text == "" {
			step.Reason.Text = s.moved
		}
	}
	switch d.deed {
	case deedInstall:
		step.Action = reconcile.ActionCreate
	case deedUpgrade:
		step.Action = reconcile.ActionUpdate
	case deedRestore:
		step.Action = reconcile.ActionHeal
		step.Detail = rollout{deed: d.deed, state: d.state}
		applied := make([]kubernetes.Ref, len(s.record.Entries))
		for i, e := range s.record.Entries {
			applied[i] = e.Ref
		}
		return step, s.listLeaving(ctx, s.compared(d.deed), applied, step)
	case deedGoBack:
		step.Action = reconcile.ActionRepair
		step.Reason.Text = fmt.Sprintf("%s; back to revision %d", cmp.Or(s.unready, s.notes.Failed.Why, d.text), s.notes.Good.Revision)
	case deedBlock:
		step.Action = reconcile.ActionUpdate
		step.Reason.Text = cmp.Or(s.notes.Failed.Why, d.text)
		step.Blocked = s.refusal()
		return step, nil
	default:
		step.Action = reconcile.ActionRepair
	}
	step.Detail = rollout{deed: d.deed, state: d.state}
	if s.desired.missing != nil && d.deed != deedGoBack {
		return nil, s.desired.missing
	}
	same, err := p.planChanges(ctx, s, d, step)
	if same {
		return nil, nil
	}
	return step, err
}

// refusal says what a person can do about something that does not work.
func (s *seen) refusal() string {
	times := "once"
	if n := s.notes.Failed.Times; n > 1 {
		times = fmt.Sprintf("%d times", n)
	}
	text := "it has failed " + times + " and is not tried again as it is; change forge.cue or the chart"
	if s.settled() {
		return text + fmt.Sprintf(". What runs is revision %d", s.newest.number)
	}
	return text
}

// applied tells whether there is something that was applied last.
func (s *seen) applied() bool { return s.recorded && s.record.Revision > 0 }

// foreign tells whether the release was made by another actor, and not just
// changed by one.
func (s *seen) foreign() bool { return s.exists && !s.newest.ours && !s.applied() }

func (s *seen) object() string { return "release " + s.h.spec.Namespace + "/" + s.h.spec.Name }

// token fences a step on the whole release: Helm's newest record, what is
// wanted and what was applied last must still be the same when it is applied.
func (s *seen) token(d deed) string {
	return fmt.Sprintf("%d/%s/%s/%d/%s", s.newest.number, s.newest.status, s.desired.key, s.record.Revision, d)
}

// installs tells whether the next revision is an install: nothing was ever
// deployed, or it was uninstalled and its history kept. An interrupted first
// install is finished by one too, so that its hooks run.
func (s *seen) installs() bool {
	return !s.exists || s.newest.status == release.StatusUninstalled || !slices.ContainsFunc(s.revs, func(r revision) bool {
		return r.status == release.StatusDeployed || r.status == release.StatusSuperseded
	})
}
