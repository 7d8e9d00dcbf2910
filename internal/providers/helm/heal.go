package helm

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

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
	uid      string                      // live; empty: deleted
	before   *unstructured.Unstructured  // live, when the reason is still to be found
	writers  []metav1.ManagedFieldsEntry // the same, where they tell enough
	replaced bool                        // it is another object than the one applied last
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
	for _, definitions := range []bool{true, false} {
		for i, st := range steps {
			if st != nil && (s.drifts[i].Entry.Ref.GVK.Kind == crdKind) == definitions {
				out = append(out, *st)
			}
		}
	}
	return out, nil
}

// kindGone plans for an object whose kind the cluster does not know any more:
// its definition was deleted, and all resources with it. It comes back with the
// definition where that is the release's to make.
func (p *Provider) kindGone(ctx context.Context, h *handle, ref kubernetes.Ref) (*reconcile.Step, error) {
	step := &reconcile.Step{
		ID: h.id, Action: reconcile.ActionHeal, Object: ref.String(),
		Reason: reconcile.Reason{Code: reconcile.ReasonDeleted, Text: "with the definition of its kind"},
		Detail: healing{ref: ref},
	}
	beside, among, err := p.definitions(ctx, h)
	if err != nil {
		return nil, err
	}
	if beside.mapping(ref.GVK) == nil && among.mapping(ref.GVK) == nil {
		step.Blocked = fmt.Sprintf("the cluster does not know %s any more, and the chart does not bring its definition: install it again, or take the object out of the chart",
			ref.GVK.GroupVersion().WithKind(ref.GVK.Kind))
	}
	return step, nil
}

// definitions are those that came with the applied revision: beside its
// templates, and among them. They are read when they are needed, which is
// next to never.
func (p *Provider) definitions(ctx context.Context, h *handle) (beside, among crds, err error) {
	rec, _ := h.inventory.Record(h.id)
	rel, err := h.store.records(ctx, h.release, nil).Get(h.spec.Name, rec.Revision)
	if err != nil {
		return nil, nil, (&seen{h: h}).wrap("read what was applied last", err)
	}
	if rel.Chart != nil {
		if beside, err = readCRDs(rel.Chart.CRDObjects()); err != nil {
			return nil, nil, err
		}
	}
	objs, err := parseManifest(rel.Manifest)
	if err != nil {
		return nil, nil, err
	}
	return beside, definedBy(objs), nil
}

// bringKind makes the definition of a kind that has gone, or waits for it.
func (p *Provider) bringKind(ctx context.Context, h *handle, ref kubernetes.Ref) error {
	_, err := h.cluster.Mapping(ctx, ref.GVK)
	if !kubernetes.UnknownKind(err) {
		return err
	}
	beside, among, err := p.definitions(ctx, h)
	if err != nil {
		return err
	}
	of := func(all crds) crds {
		return slices.DeleteFunc(all, func(d *unstructured.Unstructured) bool { return crds{d}.mapping(ref.GVK) == nil })
	}
	if err := h.makeCRDs(ctx, of(beside)); err != nil {
		return err
	}
	return h.served(ctx, of(among))
}

func (h *handle) healStep(ctx context.Context, d kubernetes.Drift, o object) (*reconcile.Step, error) {
	ref := d.Entry.Ref
	step := &reconcile.Step{
		ID: h.id, Action: reconcile.ActionHeal, Object: ref.String(),
		Reason: reconcile.Reason{Code: d.Code},
		Detail: healing{ref: ref},
	}
	if _, err := h.cluster.Mapping(ctx, ref.GVK); kubernetes.UnknownKind(err) {
		return h.p.kindGone(ctx, h, ref)
	}
	if d.State.Deleting {
		step.Blocked = "it " + d.State.Health.Message + "; it is put back as soon as it is gone"
		return step, nil
	}
	if taken := d.State.Taken(h.id); taken != "" && d.Code == reconcile.ReasonEdited {
		step.Blocked = taken
		return step, nil
	}
	h.mu.Lock()
	v, known := h.verdicts[ref]
	h.mu.Unlock()
	if known && d.State.Exists && v.uid == d.State.UID && v.resourceVersion == d.State.ResourceVersion && v.desired == d.Entry.Desired {
		step.Reason, step.Changes, step.Detail = v.reason, v.changes, healing{ref: ref, uid: v.uid}
		return step, nil
	}
	if !h.req.Explain && d.Code == reconcile.ReasonEdited && kubernetes.TellsWhy(d.State, h.cluster.Manager()) {
		step.Detail = healing{ref: ref, uid: d.State.UID, writers: d.State.Writers}
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
	h.verdicts[ref] = verdict{uid: uid, resourceVersion: before.GetResourceVersion(), desired: d.Entry.Desired, reason: step.Reason, changes: step.Changes}
	h.mu.Unlock()
	return step, nil
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
	if err := p.bringKind(ctx, h, d.ref); err != nil {
		return nil, err
	}
	applied, err := h.cluster.Apply(ctx, u)
	if err != nil {
		return nil, err
	}
	h.inventory.Rebase(h.id, kubernetes.Entry{Ref: d.ref, Desired: s.desiredOf(o), Baseline: applied.Baseline, Keep: o.keep})
	switch {
	case d.writers != nil:
		reason := kubernetes.ExplainWriters(d.writers, applied.Object, h.cluster.Manager())
		return &reason, nil
	case d.before == nil:
		return nil, nil
	}
	reason, _ := kubernetes.Explain(d.before, applied.Object, h.cluster.Manager())
	if d.replaced {
		reason.Code = reconcile.ReasonReplaced
	}
	return &reason, nil
}

// desiredOf is the hash of an object of the revision that was applied last:
// where the key of hashes is not known, the one that was written then.
func (s *seen) desiredOf(o object) string {
	for _, e := range s.record.Entries {
		if s.h.seal == nil && e.Ref == o.ref {
			return e.Desired
		}
	}
	return s.h.seal.hash(o.json)
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
