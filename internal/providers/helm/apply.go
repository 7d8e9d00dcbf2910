package helm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
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
	if d, ok := step.Detail.(healing); ok {
		reason, err = p.heal(ctx, h, d)
	} else {
		err = p.act(ctx, h, step)
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

// act installs, upgrades, repairs or uninstalls the release.
func (p *Provider) act(ctx context.Context, h *handle, step reconcile.Step) error {
	h.acting.Lock()
	defer h.acting.Unlock()

	s := &seen{h: h}
	var err error
	if !h.req.Remove {
		if s.desired, err = p.desire(h.req, h.spec); err != nil {
			return err
		}
	}
	revs, err := h.store.certain(ctx, h.release)
	if err != nil {
		return err
	}
	s.newest, s.exists = newestOf(revs)
	s.record, s.recorded = h.inventory.Record(h.id)
	if step.Token != s.token() {
		return &reconcile.Error{
			Kind: reconcile.Stale, ID: h.id, Object: s.object(), Op: string(step.Action),
			Err: fmt.Errorf("the Helm records moved on since the plan was made"),
		}
	}
	records := h.store.records(context.WithoutCancel(ctx), h.release, revs)
	if !s.foreign() {
		if err := h.repair(records, revs); err != nil {
			return s.wrap("repair", err)
		}
	}
	if step.Action == reconcile.ActionDelete {
		return p.uninstall(ctx, s, records)
	}
	return p.roll(ctx, s, records, revs, step)
}

// repair marks every record that no action can be working on as failed, by
// compare-and-swap, so that the SDK agrees to go on.
func (h *handle) repair(records *storage.Storage, revs []revision) error {
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

// roll brings the release to a new revision.
func (p *Provider) roll(ctx context.Context, s *seen, records *storage.Storage, revs []revision, step reconcile.Step) error {
	h := s.h
	ch, values, key, err := p.inputs(s, records, step)
	if err != nil {
		return err
	}
	caps, err := h.capabilities(ctx)
	if err != nil {
		return err
	}
	c := h.client(ctx)
	cfg := &action.Configuration{
		Releases: records, KubeClient: c, Capabilities: caps,
		Log: func(string, ...any) {},
	}
	var objs []object
	if planned, ok := step.Detail.(rollout); ok && planned.key == key {
		objs = planned.objects
	} else {
		manifest, err := s.render(ch, values, caps)
		if err != nil {
			return err
		}
		if objs, err = h.prepare(c, manifest); err != nil {
			return err
		}
	}
	if err := h.preflight(ctx, c, objs, s); err != nil {
		return err
	}
	labels := map[string]string{revisionLabel: h.release.label(strconv.Itoa(s.newest.number + 1))}
	var rel *release.Release
	if s.newest.status != release.StatusUninstalled && slices.ContainsFunc(revs, func(r revision) bool {
		return r.status == release.StatusDeployed || r.status == release.StatusSuperseded
	}) {
		up := action.NewUpgrade(cfg)
		up.Namespace, up.Labels, up.MaxHistory = h.spec.Namespace, labels, maxHistory
		up.ResetValues, up.SkipCRDs, up.DisableOpenAPIValidation = true, true, true
		up.SkipSchemaValidation = true // done when the manifest was rendered for the plan
		rel, err = up.RunWithContext(context.WithoutCancel(ctx), h.spec.Name, ch, values)
	} else {
		// Nothing was ever deployed, or it was uninstalled and its history
		// kept. Install, and not Upgrade, finishes an interrupted first
		// install: it renders and behaves as one.
		in := action.NewInstall(cfg)
		in.ReleaseName, in.Namespace, in.Labels = h.spec.Name, h.spec.Namespace, labels
		in.SkipCRDs, in.DisableOpenAPIValidation, in.SkipSchemaValidation = true, true, true
		in.Replace = s.exists
		rel, err = in.RunWithContext(context.WithoutCancel(ctx), ch, values)
	}
	if err == nil {
		err = h.prune(c)
	}
	if err != nil {
		h.inventory.Abort(h.id)
		return s.wrap(string(step.Action), c.first(err))
	}
	rec := kubernetes.Record{
		ID: h.id, Name: h.spec.Name, Needs: h.req.Resource.Needs, RenderKey: key, Revision: rel.Version,
		Entries: slices.SortedFunc(maps.Values(c.entries), func(a, b kubernetes.Entry) int { return a.Ref.Compare(b.Ref) }),
	}
	if err := h.inventory.Commit(ctx, rec); err != nil {
		h.inventory.Abort(h.id)
		return err
	}
	h.mu.Lock()
	h.objects, h.revision = c.objects, rel.Version
	h.wrote = revision{number: rel.Version, status: rel.Info.Status, ours: true, written: time.Now()}
	clear(h.verdicts)
	h.mu.Unlock()
	return nil
}

// inputs are the chart and values of the next revision: what is wanted, or,
// in heal mode, what was applied last.
func (p *Provider) inputs(s *seen, records *storage.Storage, step reconcile.Step) (*chart.Chart, map[string]any, string, error) {
	if step.Action == reconcile.ActionHeal && s.desired.key != s.record.RenderKey && s.h.req.Policy.Mode == forge.ModeHeal {
		rel, err := records.Get(s.h.spec.Name, s.record.Revision)
		if err != nil {
			return nil, nil, "", s.wrap("read what was applied last", err)
		}
		return rel.Chart, rel.Config, s.record.RenderKey, nil
	}
	if s.desired.missing != nil {
		return nil, nil, "", s.desired.missing
	}
	ch, err := s.desired.chart.load(s.h.spec.Chart)
	return ch, s.desired.values, s.desired.key, err
}

// preflight refuses what would fail half way, before a revision is written: an
// object that somebody else made, and a change that the API server would not
// take. A refused upgrade changes nothing.
func (h *handle) preflight(ctx context.Context, c *client, objs []object, s *seen) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, o := range objs {
		old, known := c.old[o.ref]
		g.Go(func() error {
			switch {
			case !known || old.Baseline.UID == "":
				if err := c.admit(ctx, o); err != nil {
					return err
				}
			default:
				if err := h.undisturbed(ctx, old); err != nil {
					return err
				}
			}
			if known && old.Desired == o.hash {
				return nil
			}
			if !s.recorded {
				return nil // a first install: nothing of ours can be harmed
			}
			u, err := o.unstructured()
			if err != nil {
				return reconcile.Errorf(reconcile.Internal, "check "+o.ref.String(), "%v", err)
			}
			_, err = h.cluster.DryRun(ctx, u)
			return err
		})
	}
	return g.Wait()
}

// prune deletes what the inventory still lists and the release no longer
// holds: a failed revision in between may have left it behind unseen by Helm.
func (h *handle) prune(c *client) error {
	rec, _ := h.inventory.Record(h.id)
	for _, e := range rec.Entries {
		if _, wanted := c.entries[e.Ref]; wanted || e.Keep || c.deleted[e.Ref] {
			continue
		}
		if err := c.removeOne(e.Ref); err != nil {
			return err
		}
	}
	return nil
}

func (p *Provider) uninstall(ctx context.Context, s *seen, records *storage.Storage) error {
	h := s.h
	c := h.client(ctx)
	if s.exists && !s.foreign() {
		caps, err := h.capabilities(ctx)
		if err != nil {
			return err
		}
		un := action.NewUninstall(&action.Configuration{
			Releases: records, KubeClient: c, Capabilities: caps,
			Log: func(string, ...any) {},
		})
		un.IgnoreNotFound = true
		if _, err := un.Run(h.spec.Name); err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
			return s.wrap("uninstall", c.first(err))
		}
	}
	if err := h.prune(c); err != nil {
		return err
	}
	if err := h.inventory.Drop(ctx, h.id); err != nil {
		return err
	}
	h.mu.Lock()
	h.objects, h.revision, h.wrote = nil, 0, revision{}
	clear(h.verdicts)
	h.mu.Unlock()
	return nil
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
	objs, err := h.prepare(h.client(ctx), rel.Manifest)
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
