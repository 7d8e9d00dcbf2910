package helm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// next is what a deed is to apply: what is wanted, or what a record of Helm's
// holds already.
func (p *Provider) next(ctx context.Context, s *seen, d deed) (*rendering, error) {
	from := func(number int, key, source string, a asked) (*rendering, error) {
		if number == 0 || !slices.ContainsFunc(s.revs, func(r revision) bool { return r.number == number }) {
			return nil, nil
		}
		rel, err := s.h.store.records(ctx, s.h.release, s.revs).Get(s.h.spec.Name, number)
		if err != nil {
			return nil, s.wrap(fmt.Sprintf("read revision %d of", number), err)
		}
		r := stored(rel, key, a)
		if r.source = source; source == "" && s.h.spec.Source != nil && rel.Chart != nil {
			r.source = rel.Chart.Name() + " " + rel.Chart.Metadata.Version
		}
		return r, nil
	}
	var r *rendering
	var err error
	switch t := s.notes.Trying; {
	case d == deedReturn:
		// Of what is asked for it is none; but how that was fitted has been shown.
		r, err = from(s.back, "", "", asked{Fit: fitting{Marks: s.notes.Asked.Fit.Marks}})
	case d == deedGoBack:
		r, err = from(s.notes.Good.Revision, s.notes.Good.Key, s.notes.Good.Source, s.notes.Good.Asked)
	case d == deedRestore, d == deedRepair && s.applied() && s.desired.key == s.notes.Key:
		r, err = from(s.record.Revision, s.notes.Key, s.notes.Source, s.notes.Asked)
	case d == deedRepair && t != nil && t.Key == s.desired.key && t.Revision == s.newest.number:
		var moved string
		if moved, err = s.h.moved(ctx, t.Asked); err == nil && moved == "" { // else that may be why it has failed
			r, err = from(t.Revision, t.Key, t.Source, t.Asked)
		}
	}
	if err != nil || r != nil {
		return r, err
	}
	switch {
	case d == deedReturn:
		return nil, s.lost(s.back)
	case d == deedGoBack:
		return nil, s.lost(s.notes.Good.Revision)
	case s.desired.missing != nil:
		return nil, s.desired.missing
	case d == deedRestore && s.desired.key != s.notes.Key && (s.h.req.Policy.Mode == forge.ModeHeal || s.notes.failures(s.desired.key) > 0):
		return nil, s.lost(s.record.Revision)
	}
	return s.renderOnce(ctx)
}

func (s *seen) lost(number int) error {
	return &reconcile.Error{
		Kind: reconcile.Invalid, ID: s.h.id, Object: s.object(), Op: "take back",
		Err:  fmt.Errorf("the record of revision %d in Helm's storage is gone", number),
		Hint: "set policy.mode to apply, so that what forge.cue asks for is installed",
	}
}

// roll brings the release to a new revision.
func (p *Provider) roll(ctx context.Context, s *seen, j *journal, step reconcile.Step) error {
	h, plan := s.h, step.Detail.(rollout)
	if h.seal != nil && h.seal.invents {
		return h.unsealed()
	}
	if s.desired.guessed != nil {
		return s.desired.guessed
	}
	var err error
	next := plan.next
	if next == nil {
		if next, err = p.next(ctx, s, plan.deed); err != nil {
			return err
		}
	}
	c := h.client(ctx)
	c.replace = plan.replace
	objs := plan.objects
	if objs == nil {
		if objs, err = h.prepare(c, next); err != nil {
			return err
		}
		if err := s.fits(next); err != nil {
			return err
		}
	} else if c.planned, err = readCRDs(next.crds); err != nil {
		return err
	}
	c.wanted = map[kubernetes.Ref]object{}
	for _, o := range objs {
		c.wanted[o.ref] = o
	}
	if c.among, err = definitionsIn(objs); err != nil {
		return err
	}
	if err := h.makeCRDs(ctx, c.planned); err != nil {
		return s.wrap("make definitions of", err)
	}
	run, events := s.method(plan.deed, next)
	over, err := h.preflight(ctx, c, objs, s, plan.checked)
	if err != nil {
		return err
	}
	if err := c.preflightHooks(ctx, next.hooks, events...); err != nil {
		return err
	}
	for _, a := range over {
		if err := h.cluster.TakeOver(ctx, a); err != nil {
			return err
		}
	}
	if err := s.announce(ctx, c, plan, next); err != nil {
		return err
	}
	caps, err := h.capabilities(ctx)
	if err != nil {
		h.inventory.Abort(h.id)
		return err
	}
	err = run(ctx, &action.Configuration{Releases: j.storage(), KubeClient: c, Capabilities: caps, Log: func(string, ...any) {}}, j)
	if err == nil {
		err = j.failed() // the SDK only logs it when its last write fails
	}
	if err == nil {
		err = h.prune(c)
	}
	if err != nil {
		return s.ended(c, j, plan, next, s.wrap(string(step.Action), cmp.Or(j.failed(), c.first(err))))
	}
	return s.commit(ctx, c, j, plan, next)
}

// announce writes down what is about to be applied, and from what.
func (s *seen) announce(ctx context.Context, c *client, plan rollout, next *rendering) error {
	h := s.h
	if plan.why != "" {
		s.notes = s.notes.failed(s.desired.key, plan.why)
	}
	s.notes.Name, s.notes.Trying = h.spec.Name, nil
	if next.key != "" && next.key == s.desired.key {
		s.notes.Trying = &trying{Revision: s.newest.number + 1, Key: next.key, Source: next.source, Asked: next.asked}
	}
	h.inventory.Note(h.id, s.notes.raw())
	refs := slices.SortedFunc(maps.Keys(c.wanted), kubernetes.Ref.Compare)
	if err := h.inventory.Begin(ctx, h.id, refs); err != nil {
		return err
	}
	h.inventory.Note(h.id, s.notes.raw()) // of a first install, which had no record until now
	return nil
}

// ended takes down that an action did not get to its end.
func (s *seen) ended(c *client, j *journal, plan rollout, next *rendering, err error) error {
	h := s.h
	defer h.inventory.Abort(h.id)
	var hook *hookFailure
	if j.made() == 0 || next.key == "" || next.key != s.desired.key || c.ctx.Err() != nil || plan.deed == deedRestore ||
		!errors.As(err, &hook) && !counts(err) {
		return err
	}
	s.notes = s.notes.failed(next.key, reason(err))
	h.inventory.Note(h.id, s.notes.raw())
	// What is wrong may pass, so it is tried again after a while, whatever kind
	// of error it is; decide knows when that is enough.
	return &reconcile.Error{
		Kind: reconcile.Unavailable, ID: h.id, Object: s.object(), Op: string(plan.deed), Err: err,
		Hint: fmt.Sprintf("failed %d times; it is tried %d times", s.notes.Failed.Times, s.facts().limit),
	}
}

// reason is why something failed, without the steps on the way.
func reason(err error) string {
	var hook *hookFailure
	if errors.As(err, &hook) {
		return hook.Error()
	}
	return err.Error()
}

// commit writes down what the release is made of now.
func (s *seen) commit(ctx context.Context, c *client, j *journal, plan rollout, next *rendering) error {
	h := s.h
	number := j.made()
	n := s.notes
	n.Back = s.back
	n.Trying, n.Key, n.Asked, n.Chart, n.Source = nil, next.key, next.asked, next.chart.Metadata.Version, next.source
	if plan.deed == deedGoBack || plan.deed == deedRestore && n.Good.Revision == s.record.Revision {
		n.Good = good{Revision: number, Key: next.key, Source: next.source, Asked: next.asked} // the same objects as were ready before
	}
	rec := kubernetes.Record{
		ID: h.id, Name: h.spec.Name, Needs: h.req.Resource.Needs, Revision: number, Detail: n.raw(),
		Entries: slices.SortedFunc(maps.Values(c.entries), func(a, b kubernetes.Entry) int { return a.Ref.Compare(b.Ref) }),
	}
	if err := h.inventory.Commit(ctx, rec); err != nil {
		h.inventory.Abort(h.id)
		return err
	}
	h.p.charts.keep(h.key(), pending{})
	h.mu.Lock()
	h.objects, h.revision = c.wanted, number
	h.wrote = revision{number: number, status: release.StatusDeployed, ours: true, written: time.Now()}
	clear(h.verdicts)
	h.mu.Unlock()
	return nil
}

// runner is one action of the SDK.
type runner func(context.Context, *action.Configuration, *journal) error

// method chooses the action of the SDK for a deed, and says which hooks it
// runs.
func (s *seen) method(d deed, next *rendering) (runner, []release.HookEvent) {
	h := s.h
	back := 0
	switch d {
	case deedReturn:
		back = s.back
	case deedGoBack:
		back = s.notes.Good.Revision
	case deedRestore:
		back = s.record.Revision
	}
	there := slices.ContainsFunc(s.revs, func(r revision) bool { return r.number == back })
	switch {
	case s.installs():
		return func(ctx context.Context, cfg *action.Configuration, j *journal) error {
			j.next = next
			in := action.NewInstall(cfg)
			in.ReleaseName, in.Namespace, in.Timeout = h.spec.Name, h.spec.Namespace, hookTimeout(ctx, h.req.Policy)
			in.SkipCRDs, in.DisableOpenAPIValidation, in.SkipSchemaValidation, in.TakeOwnership = true, true, true, true
			in.Replace, in.PostRenderer = s.exists, done(next.manifest)
			_, err := in.RunWithContext(context.WithoutCancel(ctx), bare(next.chart), map[string]any{})
			return err
		}, []release.HookEvent{release.HookPreInstall, release.HookPostInstall}
	case back > 0 && there:
		return func(ctx context.Context, cfg *action.Configuration, _ *journal) error {
			rb := action.NewRollback(cfg)
			rb.Version, rb.MaxHistory, rb.Timeout = back, maxHistory, hookTimeout(ctx, h.req.Policy)
			return rb.Run(h.spec.Name)
		}, []release.HookEvent{release.HookPreRollback, release.HookPostRollback}
	default:
		return func(ctx context.Context, cfg *action.Configuration, j *journal) error {
			j.next = next
			up := action.NewUpgrade(cfg)
			up.Namespace, up.MaxHistory, up.Timeout = h.spec.Namespace, maxHistory, hookTimeout(ctx, h.req.Policy)
			up.ResetValues, up.SkipCRDs, up.DisableOpenAPIValidation, up.SkipSchemaValidation, up.TakeOwnership = true, true, true, true, true
			up.PostRenderer = done(next.manifest)
			_, err := up.RunWithContext(context.WithoutCancel(ctx), h.spec.Name, bare(next.chart), map[string]any{})
			return err
		}, []release.HookEvent{release.HookPreUpgrade, release.HookPostUpgrade}
	}
}

// preflight refuses what would fail half way, before a revision is written: an
// object that somebody else made, and a change that the API server would not
// take. A refused upgrade changes nothing. It returns what is to be taken over.
func (h *handle) preflight(ctx context.Context, c *client, objs []object, s *seen, checked bool) ([]kubernetes.Admission, error) {
	admitted := make([]kubernetes.Admission, len(objs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, o := range objs {
		old, known := c.old[o.ref]
		g.Go(func() (err error) {
			if known && old.Baseline.UID != "" {
				admitted[i], err = h.undisturbed(gctx, old, o)
			} else {
				admitted[i], err = h.admit(gctx, o, "")
			}
			return err
		})
	}
	if err := g.Wait(); err != nil || checked || !s.recorded {
		return admitted, err
	}
	var step reconcile.Step
	found := rollout{replace: map[kubernetes.Ref]string{}}
	if err := h.check(ctx, c, objs, nil, &found, &step); err != nil {
		return nil, err
	}
	for ref := range found.replace {
		if c.replace[ref] == "" && step.Blocked == "" {
			step.Blocked = ref.String() + " would have to be made anew, which was not planned"
		}
	}
	if step.Blocked != "" {
		return nil, &reconcile.Error{Kind: reconcile.Invalid, ID: h.id, Object: s.object(), Op: "check", Err: errors.New(step.Blocked)}
	}
	return admitted, nil
}
