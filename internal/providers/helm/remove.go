package helm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// removal is the Detail of a step that removes the release, or what of its
// data is left.
type removal struct{ data bool }

func (s *seen) planRemove(ctx context.Context) ([]reconcile.Step, error) {
	if !s.recorded {
		return nil, nil // what the inventory does not list is not ours to remove
	}
	// Somebody's helm may have added what goes with it, or be at work.
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	if err := s.wait(decide(s.facts())); err != nil {
		return nil, err
	}
	deletes, kept := 0, 0
	var data []string
	if err := s.findVolumes(ctx); err != nil {
		return nil, err
	}
	for _, e := range s.record.Entries {
		switch {
		case holdsData(e.Ref):
			data = append(data, e.Ref.String())
		case e.Keep:
			kept++
		default:
			deletes++
		}
	}
	destroy := s.h.destroysData() && len(data) > 0
	var steps []reconcile.Step
	if !destroy || !s.onlyData() {
		step := reconcile.Step{
			ID: s.h.id, Action: reconcile.ActionDelete, Object: s.object(), Deletes: deletes,
			Reason: reconcile.Reason{Code: reconcile.ReasonUnwanted, Text: "volumes and their claims stay"},
			Token:  s.token("remove"), Detail: removal{},
		}
		if kept > 0 {
			step.Reason.Text += fmt.Sprintf(", and %d that ask for it", kept)
		}
		if destroy {
			step.Reason.Text = ""
		}
		if !destroy && !s.exists && deletes == 0 && kept+len(data) > 0 {
			step.Action = reconcile.ActionForget
		}
		if s.exists && !s.foreign() {
			if err := s.listLeaving(ctx, s.newest.number, nil, &step); err != nil {
				return nil, err
			}
		}
		if s.h.req.Explain {
			var err error
			if step.Stays, err = s.staying(ctx); err != nil {
				return nil, err
			}
		}
		steps = append(steps, step)
	}
	if destroy {
		steps = append(steps, reconcile.Step{
			ID: s.h.id, Action: reconcile.ActionDelete, Object: "data of " + s.object(), Deletes: len(data), Destroys: data,
			Reason: reconcile.Reason{Code: reconcile.ReasonUnwanted}, Token: s.dataToken(), Detail: removal{data: true},
		})
	}
	return steps, nil
}

// staying is what is left when the release is gone: what is to be kept, and where
// no data may be destroyed also what holds it.
func (s *seen) staying(ctx context.Context) (all []reconcile.Stay, err error) {
	keeps := !s.h.destroysData()
	for _, e := range s.record.Entries {
		if e.Keep || keeps && holdsData(e.Ref) {
			all = append(all, s.h.cluster.Stay(e.Ref))
		}
		if !keeps {
			continue
		}
		volumes, err := s.h.cluster.Volumes(ctx, s.h.id, e)
		if err != nil {
			return nil, err
		}
		for _, v := range volumes {
			all = append(all, s.h.cluster.Stay(v.Ref))
		}
	}
	return all, nil
}

// findVolumes adds to the record the claims that were made for the pods of the
// release's StatefulSets, where their data may go with it.
func (s *seen) findVolumes(ctx context.Context) error {
	if !s.h.destroysData() {
		return nil
	}
	entries := slices.Clone(s.record.Entries)
	for _, e := range s.record.Entries {
		volumes, err := s.h.cluster.Volumes(ctx, s.h.id, e)
		if err != nil {
			return err
		}
		for _, v := range volumes {
			if !slices.ContainsFunc(entries, func(o kubernetes.Entry) bool { return o.Ref == v.Ref }) {
				entries = append(entries, v)
			}
		}
	}
	s.record.Entries = entries
	return nil
}

// onlyData tells whether a release is removed but for what holds data.
func (s *seen) onlyData() bool {
	return !s.exists && s.record.Revision == 0 && len(s.record.Entries) > 0 &&
		!slices.ContainsFunc(s.record.Entries, func(e kubernetes.Entry) bool { return !holdsData(e.Ref) })
}

// dataToken changes with the objects that hold data.
func (s *seen) dataToken() string {
	var ids []string
	for _, e := range s.record.Entries {
		if holdsData(e.Ref) {
			ids = append(ids, e.Ref.String()+" "+e.Baseline.UID)
		}
	}
	slices.Sort(ids)
	return digestOf(ids)
}

// destroysData tells whether data may be deleted, with a token.
func (h *handle) destroysData() bool { return h.req.Policy.DestroyData == "with-token" }

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
	known := len(s.record.Entries)
	if err := s.findVolumes(ctx); err != nil {
		return err
	}
	if len(s.record.Entries) > known {
		// When the StatefulSets are gone nobody could tell any more whose they are.
		s.record.Pending = true
		if err := h.inventory.Commit(ctx, s.record); err != nil {
			return err
		}
	}
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
	h.p.charts.keep(h.key(), pending{})
	h.looksUp(nil)
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
		if live == nil || string(live.GetUID()) != e.Baseline.UID || kubernetes.Kept(live) || !h.cluster.Still(live, h.id, e) {
			continue // it is gone, or not what was planned
		}
		if err := h.cluster.Delete(ctx, e.Ref, e.Baseline.UID); err != nil {
			return err
		}
	}
	return h.inventory.Drop(ctx, h.id)
}

func (c *client) remove(list kube.ResourceList) error {
	var all []error
	for _, info := range list {
		u, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		ref := kubernetes.RefOf(u)
		if info.Namespaced() {
			ref.Namespace = info.Namespace
		}
		if err := c.removeOne(ref); err != nil {
			all = append(all, err)
		}
	}
	if err := errors.Join(all...); err != nil {
		return c.fail(err)
	}
	return nil
}

// removeOne removes an object that is not wanted any more: by the rules of the
// inventory if it lists it, and otherwise if it bears the marks of this release
// and of nobody else, as what somebody's helm has made.
func (c *client) removeOne(ref kubernetes.Ref) error {
	if c.spare && holdsData(ref) {
		return nil
	}
	live, err := c.h.cluster.Get(c.ctx, ref)
	if kubernetes.UnknownKind(err) {
		err, live = nil, nil // its kind has gone, and all of it
	}
	if err != nil {
		return err
	}
	if live == nil {
		c.forget(ref)
		return nil
	}
	if c.applied(string(live.GetUID())) {
		return nil // it is one of the new ones under another version
	}
	e, known := c.old[ref]
	switch {
	case known:
		_, err = c.h.inventory.Prune(c.ctx, c.h.id, e)
	case !c.h.leaves(ref, live):
		return nil
	default:
		err = c.h.cluster.Delete(c.ctx, ref, string(live.GetUID()))
	}
	if err == nil {
		c.forget(ref)
	}
	return err
}

// applied tells whether this action has written the object of a uid.
func (c *client) applied(uid string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		if e.Baseline.UID == uid {
			return true
		}
	}
	return false
}

func (c *client) forget(ref kubernetes.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deleted[ref] = true
}
