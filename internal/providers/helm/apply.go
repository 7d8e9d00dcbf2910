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
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/apimachinery/pkg/types"

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

// heal puts one object back by one server-side apply from the manifest that
// was applied last.
func (p *Provider) heal(ctx context.Context, h *handle, d healing) (*reconcile.Reason, error) {
	// Several heals follow one plan: somebody's helm may have begun since.
	s := &seen{h: h}
	s.record, s.recorded = h.inventory.Record(h.id)
	revs, err := h.store.watched(ctx, h.release)
	if err != nil {
		return nil, err
	}
	if s.newest, s.exists = h.caughtUp(newestOf(revs)); !s.settled() {
		return nil, reconcile.Errorf(reconcile.Stale, "heal "+d.ref.String(), "the release changed since the plan was made")
	}
	objects, err := p.applied(ctx, h)
	if err != nil {
		return nil, err
	}
	o, ok := objects[d.ref]
	if !ok {
		return nil, reconcile.Errorf(reconcile.Stale, "heal "+d.ref.String(), "it is no longer in the manifest")
	}
	u, err := o.unstructured()
	if err != nil {
		return nil, reconcile.Errorf(reconcile.Internal, "heal "+d.ref.String(), "%v", err)
	}
	if d.uid != "" {
		u.SetUID(types.UID(d.uid)) // the server refuses another object under the same name
	}
	applied, err := h.cluster.Apply(ctx, u)
	if err != nil {
		return nil, err
	}
	h.inventory.Rebase(h.id, kubernetes.Entry{Ref: d.ref, Desired: o.hash, Baseline: applied.Baseline, Keep: o.keep})
	if d.before == nil {
		return nil, nil
	}
	reason, _ := kubernetes.Explain(d.before, applied.Object, h.cluster.Manager())
	if d.replaced {
		reason.Code = reconcile.ReasonReplaced
	}
	return &reason, nil
}

// act installs, upgrades, repairs, takes back or uninstalls the release.
func (p *Provider) act(ctx context.Context, h *handle, step reconcile.Step) error {
	h.acting.Lock()
	defer h.acting.Unlock()

	s := &seen{h: h}
	var err error
	if !h.req.Remove {
		if s.desired, err = p.desire(ctx, h.req, h.spec); err != nil {
			return err
		}
	}
	if s.revs, err = h.store.certain(ctx, h.release); err != nil {
		return err
	}
	s.newest, s.exists = newestOf(s.revs)
	s.read()
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
	if step.Action == reconcile.ActionDelete {
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

// next is what a deed is to apply: what is wanted, or what a record of Helm's
// holds already.
func (p *Provider) next(ctx context.Context, s *seen, d deed) (*rendering, error) {
	from := func(number int, key string, a asked) (*rendering, error) {
		if number == 0 || !slices.ContainsFunc(s.revs, func(r revision) bool { return r.number == number }) {
			return nil, nil
		}
		rel, err := s.h.store.records(ctx, s.h.release, s.revs).Get(s.h.spec.Name, number)
		if err != nil {
			return nil, s.wrap(fmt.Sprintf("read revision %d of", number), err)
		}
		return stored(rel, key, a), nil
	}
	var r *rendering
	var err error
	switch t := s.notes.Trying; {
	case d == deedGoBack:
		r, err = from(s.notes.Good.Revision, s.notes.Good.Key, s.notes.Good.Asked)
	case d == deedRestore, d == deedRepair && s.applied() && s.desired.key == s.record.RenderKey:
		r, err = from(s.record.Revision, s.record.RenderKey, s.notes.Asked)
	case d == deedRepair && t != nil && t.Key == s.desired.key && t.Revision == s.newest.number:
		r, err = from(t.Revision, t.Key, t.Asked)
	}
	if err != nil || r != nil {
		return r, err
	}
	switch {
	case d == deedGoBack:
		return nil, s.lost(s.notes.Good.Revision)
	case s.desired.missing != nil:
		return nil, s.desired.missing
	case d == deedRestore && s.desired.key != s.record.RenderKey && (s.h.req.Policy.Mode == forge.ModeHeal || s.notes.failures(s.desired.key) > 0):
		return nil, s.lost(s.record.Revision)
	}
	return s.render(ctx)
}

func (s *seen) lost(number int) error {
	return &reconcile.Error{
		Kind: reconcile.Invalid, ID: s.h.id, Object: s.object(), Op: "take back",
		Err:  fmt.Errorf("Helm's record of revision %d is gone", number),
		Hint: "set policy.mode to apply, so that what forge.cue asks for is installed",
	}
}

// roll brings the release to a new revision.
func (p *Provider) roll(ctx context.Context, s *seen, j *journal, step reconcile.Step) error {
	h, plan := s.h, step.Detail.(rollout)
	next, err := plan.next, error(nil)
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
	s.notes.Trying = nil
	if next.key != "" && next.key == s.desired.key {
		s.notes.Trying = &trying{Revision: s.newest.number + 1, Key: next.key, Asked: next.asked}
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
	n.Trying, n.Asked = nil, next.asked
	if plan.deed == deedGoBack || plan.deed == deedRestore && n.Good.Revision == s.record.Revision {
		n.Good = good{Revision: number, Key: next.key, Asked: next.asked} // the same objects as were ready before
	}
	rec := kubernetes.Record{
		ID: h.id, Name: h.spec.Name, Needs: h.req.Resource.Needs, RenderKey: next.key, Revision: number, Detail: n.raw(),
		Entries: slices.SortedFunc(maps.Values(c.entries), func(a, b kubernetes.Entry) int { return a.Ref.Compare(b.Ref) }),
	}
	if err := h.inventory.Commit(ctx, rec); err != nil {
		h.inventory.Abort(h.id)
		return err
	}
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
	if err := h.check(ctx, c, objs, nil, &rollout{replace: map[kubernetes.Ref]string{}}, &step); err != nil {
		return nil, err
	}
	if step.Blocked != "" {
		return nil, &reconcile.Error{Kind: reconcile.Invalid, ID: h.id, Object: s.object(), Op: "check", Err: errors.New(step.Blocked)}
	}
	return admitted, nil
}

// prune deletes what the inventory still lists and the release no longer
// holds: a failed revision in between may have left it behind unseen by Helm.
func (h *handle) prune(c *client) error {
	rec, _ := h.inventory.Record(h.id)
	for _, e := range rec.Entries {
		if _, wanted := c.entries[e.Ref]; wanted || c.deleted[e.Ref] {
			continue
		}
		if err := c.removeOne(e.Ref); err != nil {
			return err
		}
	}
	return nil
}

func (p *Provider) uninstall(ctx context.Context, s *seen, j *journal) error {
	h := s.h
	c := h.client(ctx)
	c.spare = h.destroysData()
	if s.exists && !s.foreign() {
		rel, err := j.storage().Get(h.spec.Name, s.newest.number)
		if err != nil {
			return s.wrap("read revision of", err)
		}
		if err := c.preflightHooks(ctx, rel.Hooks, release.HookPreDelete, release.HookPostDelete); err != nil {
			return err
		}
		caps, err := h.capabilities(ctx)
		if err != nil {
			return err
		}
		un := action.NewUninstall(&action.Configuration{
			Releases: j.storage(), KubeClient: c, Capabilities: caps,
			Log: func(string, ...any) {},
		})
		un.IgnoreNotFound, un.Timeout = true, hookTimeout(ctx, h.req.Policy)
		if _, err := un.Run(h.spec.Name); err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
			return s.wrap("uninstall", cmp.Or(j.failed(), c.first(err)))
		}
	}
	if err := h.prune(c); err != nil {
		return err
	}
	h.mu.Lock()
	h.objects, h.revision, h.wrote = nil, 0, revision{}
	clear(h.verdicts)
	h.mu.Unlock()
	if data := slices.DeleteFunc(s.record.Entries, func(e kubernetes.Entry) bool { return !holdsData(e.Ref) }); c.spare && len(data) > 0 {
		return h.inventory.Commit(ctx, kubernetes.Record{
			ID: h.id, Name: h.spec.Name, Needs: s.record.Needs, Pending: true, Entries: data,
		})
	}
	return h.inventory.Drop(ctx, h.id)
}

// destroy deletes what holds data, when the release is gone.
func (s *seen) destroy(ctx context.Context, step reconcile.Step) error {
	if step.Token != s.dataToken() || !s.onlyData() {
		return s.stale(step)
	}
	h := s.h
	for _, e := range s.record.Entries {
		live, err := h.cluster.Get(ctx, e.Ref)
		if err != nil {
			return err
		}
		if live == nil || string(live.GetUID()) != e.Baseline.UID || kubernetes.Kept(live) || live.GetLabels()[kubernetes.LabelInstance] != h.cluster.Instance() {
			continue // it is gone, or not what was planned
		}
		if err := h.cluster.Delete(ctx, e.Ref, e.Baseline.UID); err != nil {
			return err
		}
	}
	return h.inventory.Drop(ctx, h.id)
}

// applied are the objects of the revision that was applied last, from memory
// or else from Helm's storage.
func (p *Provider) applied(ctx context.Context, h *handle) (map[kubernetes.Ref]object, error) {
	rec, ok := h.inventory.Record(h.id)
	if !ok || rec.Revision == 0 {
		return nil, reconcile.Errorf(reconcile.Stale, "read what was applied last", "%s has no applied revision", h.id)
	}
	h.mu.Lock()
	if h.objects != nil && h.revision == rec.Revision {
		defer h.mu.Unlock()
		return h.objects, nil
	}
	h.mu.Unlock()
	rel, err := h.store.records(ctx, h.release, nil).Get(h.spec.Name, rec.Revision)
	if err != nil {
		return nil, (&seen{h: h}).wrap("read what was applied last", err)
	}
	objs, err := h.prepare(h.client(ctx), stored(rel, "", asked{}))
	if err != nil {
		return nil, err
	}
	m := make(map[kubernetes.Ref]object, len(objs))
	for _, o := range objs {
		m[o.ref] = o
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.objects, h.revision = m, rec.Revision
	return m, nil
}

// wrap gives errors of the SDK a kind. Those of our own client have one.
func (s *seen) wrap(op string, err error) error {
	var typed *reconcile.Error
	if errors.As(err, &typed) {
		return err
	}
	return kubernetes.Classify(op+" "+s.object(), kubernetes.Ref{}, err)
}
