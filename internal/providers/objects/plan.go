package objects

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// change is what one step does; it travels in Step.Detail.
type change struct {
	look   *Look
	apply  []Object
	before *unstructured.Unstructured // live, when the reason is still to be found
	uid    string                     // that a heal must find; empty: any or none
	other  bool                       // it is another object than the one applied last
	remove []kubernetes.Entry         // to delete, or to let go of
	all    bool                       // the resource itself goes
}

// verdict remembers why an object had drifted, so that a repeated look at the
// same live version costs nothing.
type verdict struct {
	uid, resourceVersion, desired string
	reason                        reconcile.Reason
	changes                       []reconcile.Change
	blocked                       string
}

type verdictKey struct {
	target forge.Target
	ref    kubernetes.Ref
}

// Plan implements reconcile.Provider.
func (p *Provider) Plan(ctx context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	l, ok := o.Detail.(*Look)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Internal, "plan", "observed by another provider: %T", o.Detail)
	}
	steps, err := p.plan(ctx, r, l)
	return steps, kubernetes.About(err, l.ID())
}

func (p *Provider) plan(ctx context.Context, r reconcile.Request, l *Look) ([]reconcile.Step, error) {
	if r.Remove {
		if !l.Recorded {
			return nil, nil
		}
		remove, keep := l.unwanted()
		step := p.removal(l, append(keep, remove...))
		step.Detail.(*change).all = true
		return []reconcile.Step{step}, nil
	}
	if l.waiting != nil {
		return nil, l.waiting
	}
	var creates, updates []Object
	var steps []reconcile.Step
	for _, want := range l.Objects {
		ref := want.Ref()
		entry, applied := l.Applied(ref)
		d := l.Drift(ref)
		refused, there := "", kubernetes.Admission{}
		if !applied || d != nil && d.Code == reconcile.ReasonReplaced {
			a, err := l.admit(ctx, ref)
			if err != nil {
				return nil, err
			}
			refused, there = a.Blocked(), a
		} else if d != nil && l.Request.Policy.Adopt != forge.AdoptForce {
			refused = d.State.Taken(l.ID())
		}
		current := entry.Desired == l.hashes[ref]
		switch {
		case d != nil && d.State.Deleting:
			steps = append(steps, reconcile.Step{
				ID: l.ID(), Action: reconcile.ActionHeal, Object: ref.String(),
				Reason:  reconcile.Reason{Code: reconcile.ReasonDeleted},
				Blocked: "it " + d.State.Health.Message + "; it is put back as soon as it is gone", Detail: &change{look: l},
			})
		case refused != "":
			step := reconcile.Step{
				ID: l.ID(), Action: reconcile.ActionCreate, Object: ref.String(),
				Reason:  reconcile.Reason{Code: reconcile.ReasonAbsent},
				Blocked: refused, Detail: &change{look: l},
			}
			if applied {
				step.Action, step.Reason.Code = reconcile.ActionHeal, d.Code
			}
			steps = append(steps, step)
		case !applied && there.Live != nil && !l.Record.Pending:
			step, err := p.takeUp(ctx, l, want, there)
			if err != nil {
				return nil, err
			}
			steps = append(steps, step)
		case !applied:
			creates = append(creates, want)
		case !current:
			updates = append(updates, want)
		case d != nil:
			step, err := p.heal(ctx, l, want, *d)
			if err != nil {
				return nil, err
			}
			steps = append(steps, step)
		}
	}
	if len(creates) > 0 {
		step, err := p.rollout(ctx, l, reconcile.ActionCreate, reconcile.ReasonAbsent, creates)
		if err != nil {
			return nil, err
		}
		if l.Record.Pending {
			step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
		}
		steps = append(steps, step)
	}
	if len(updates) > 0 {
		step, err := p.rollout(ctx, l, reconcile.ActionUpdate, reconcile.ReasonConfig, updates)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	if len(creates)+len(updates) == 0 && l.Record.Pending {
		steps = append(steps, reconcile.Step{
			ID: l.ID(), Action: reconcile.ActionRepair, Reason: reconcile.Reason{
				Code: reconcile.ReasonInterrupted, Text: "the inventory was not brought up to date",
			},
			Token: l.token(nil), Detail: &change{look: l},
		})
	}
	if remove, keep := l.unwanted(); r.Policy.Prune && len(remove)+len(keep) > 0 {
		step := p.removal(l, append(keep, remove...))
		step.Late = true // what ran before the rollout may use them
		steps = append(steps, step)
	}
	return steps, nil
}

// admit decides about an object that is about to be made, or that was replaced:
// what is there may be somebody else's.
func (l *Look) admit(ctx context.Context, ref kubernetes.Ref) (kubernetes.Admission, error) {
	entry, _ := l.Applied(ref)
	return l.Cluster.Admit(ctx, kubernetes.Claim{
		Ref: ref, Owner: l.ID(), Adopt: l.Request.Policy.Adopt, UID: entry.Baseline.UID,
	})
}

// takeUp makes what is there ours: it was kept when it was let go of, for example.
func (p *Provider) takeUp(ctx context.Context, l *Look, want Object, there kubernetes.Admission) (reconcile.Step, error) {
	objects := []Object{want}
	step := reconcile.Step{
		ID: l.ID(), Action: reconcile.ActionUpdate, Object: want.Ref().String(),
		Reason: reconcile.Reason{Code: reconcile.ReasonOwnership, Text: there.Told()},
		Detail: &change{look: l, apply: objects}, Token: l.token(objects),
	}
	return step, p.review(ctx, l, want, there.Live, &step)
}

func (p *Provider) rollout(ctx context.Context, l *Look, action reconcile.Action, code reconcile.ReasonCode, objects []Object) (reconcile.Step, error) {
	step := reconcile.Step{
		ID: l.ID(), Action: action, Reason: reconcile.Reason{Code: code},
		Detail: &change{look: l, apply: objects}, Token: l.token(objects),
	}
	if len(objects) == 1 {
		step.Object = objects[0].Ref().String()
	}
	for _, o := range objects {
		if len(objects) > 1 {
			step.Changes = append(step.Changes, reconcile.Change{Path: o.Ref().String()})
		}
		if action != reconcile.ActionUpdate || !l.Request.Explain && p.kind.Review == nil {
			continue
		}
		before, err := l.Cluster.Get(ctx, o.Ref())
		if err != nil {
			return step, err
		}
		if err := p.review(ctx, l, o, before, &step); err != nil {
			return step, err
		}
		if !l.Request.Explain || step.Blocked != "" {
			continue
		}
		after, err := l.Cluster.DryRun(ctx, l.manifest(o))
		if err != nil {
			return step, err
		}
		_, changes := kubernetes.Explain(before, after, l.Cluster.Manager())
		step.Changes = append(step.Changes, shown(o, changes)...)
	}
	return step, nil
}

func (p *Provider) review(ctx context.Context, l *Look, o Object, live *unstructured.Unstructured, step *reconcile.Step) error {
	if p.kind.Review == nil || live == nil {
		return nil
	}
	return p.kind.Review(ctx, l, o, live, step)
}

func (p *Provider) heal(ctx context.Context, l *Look, want Object, d kubernetes.Drift) (reconcile.Step, error) {
	ref := d.Entry.Ref
	ch := &change{look: l, apply: []Object{want}, other: d.Code == reconcile.ReasonReplaced}
	step := reconcile.Step{
		ID: l.ID(), Action: reconcile.ActionHeal, Object: ref.String(),
		Reason: reconcile.Reason{Code: d.Code}, Detail: ch, Token: l.token(ch.apply),
	}
	if d.Blocked != "" {
		step.Blocked = d.Blocked
		return step, nil
	}
	if d.Code == reconcile.ReasonDeleted {
		if p.kind.Data {
			step.Reason.Text = "what it held is not in the new one"
		}
		return step, nil
	}
	key := verdictKey{l.Request.Resource.Target, ref}
	p.mu.Lock()
	v, known := p.verdicts[key]
	p.mu.Unlock()
	if known && v.uid == d.State.UID && v.resourceVersion == d.State.ResourceVersion && v.desired == l.hashes[ref] {
		step.Reason, step.Changes, step.Blocked, ch.uid = v.reason, v.changes, v.blocked, v.uid
		return step, nil
	}
	before, err := l.Cluster.Get(ctx, ref)
	if err != nil {
		return step, err
	}
	if before == nil {
		step.Reason.Code = reconcile.ReasonDeleted
		return step, nil
	}
	ch.uid = string(before.GetUID())
	if err := p.review(ctx, l, want, before, &step); err != nil {
		return step, err
	}
	if !l.Request.Explain && step.Blocked == "" {
		ch.before = before // the answer to the apply tells the rest
		return step, nil
	}
	after, err := l.Cluster.DryRun(ctx, l.manifest(want))
	switch {
	case err == nil:
		step.Reason, step.Changes = explained(want, before, after, ch.other, l.Cluster.Manager())
	case step.Blocked == "": // what is blocked the server may well refuse
		return step, err
	}
	p.mu.Lock()
	p.verdicts[key] = verdict{
		uid: ch.uid, resourceVersion: before.GetResourceVersion(), desired: l.hashes[ref],
		reason: step.Reason, changes: step.Changes, blocked: step.Blocked,
	}
	p.mu.Unlock()
	return step, nil
}

func explained(o Object, before, after *unstructured.Unstructured, other bool, manager string) (reconcile.Reason, []reconcile.Change) {
	reason, changes := kubernetes.Explain(before, after, manager)
	if other {
		reason.Code = reconcile.ReasonReplaced
	}
	return reason, shown(o, changes)
}

// shown leaves out the values that are not to be seen.
func shown(o Object, changes []reconcile.Change) []reconcile.Change {
	if o.Hidden {
		for i := range changes {
			changes[i].From, changes[i].To = "", ""
		}
	}
	return changes
}

// removal deletes entries, or lets go of those that are to be kept.
func (p *Provider) removal(l *Look, entries []kubernetes.Entry) reconcile.Step {
	step := reconcile.Step{
		ID: l.ID(), Action: reconcile.ActionDelete,
		Reason: reconcile.Reason{Code: reconcile.ReasonUnwanted},
		Detail: &change{look: l, remove: entries}, Token: l.tokenOf(entries),
	}
	for _, e := range entries {
		c := reconcile.Change{Path: e.Ref.String()}
		if e.Keep {
			c.To = "stays; forged lets go of it"
			step.Stays = append(step.Stays, l.Cluster.Stay(e.Ref))
		} else {
			step.Deletes++
			if p.kind.Data {
				step.Destroys = append(step.Destroys, e.Ref.String())
			}
		}
		step.Changes = append(step.Changes, c)
	}
	if len(entries) == 1 {
		step.Object = entries[0].Ref.String()
		if entries[0].Keep {
			step.Reason.Text = "it stays; forged lets go of it"
		}
	}
	if step.Deletes == 0 && len(entries) > 0 {
		step.Action = reconcile.ActionForget
	}
	return step
}

// token fences the objects a step is about: what was recorded of them, and how
// they differed from that.
func (l *Look) token(objects []Object) string {
	var b strings.Builder
	for _, o := range objects {
		e, _ := l.Applied(o.Ref())
		l.fence(&b, e)
	}
	return b.String()
}

func (l *Look) tokenOf(entries []kubernetes.Entry) string {
	var b strings.Builder
	for _, e := range entries {
		now, _ := l.Applied(e.Ref)
		l.fence(&b, now)
	}
	return b.String()
}

func (l *Look) fence(b *strings.Builder, e kubernetes.Entry) {
	fmt.Fprintf(b, "%s %s %s", e.Ref, e.Desired, e.Baseline.Digest)
	if d := l.Drift(e.Ref); d != nil {
		s := d.State
		fmt.Fprintf(b, " %t %t %s %s", s.Exists, s.Deleting, s.UID, s.Digest)
	}
	b.WriteByte('\n')
}
