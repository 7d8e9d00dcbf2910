package objects

import (
	"context"
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// Apply implements reconcile.Provider.
func (p *Provider) Apply(ctx context.Context, r reconcile.Request, step reconcile.Step) (reconcile.Observed, error) {
	ch, ok := step.Detail.(*change)
	if !ok {
		return reconcile.Observed{}, reconcile.Errorf(reconcile.Internal, string(step.Action), "planned by another provider: %T", step.Detail)
	}
	id := r.Resource.ID
	if step.Blocked != "" {
		return reconcile.Observed{}, &reconcile.Error{Kind: reconcile.Invalid, ID: id, Object: step.Object, Op: string(step.Action), Err: errors.New(step.Blocked)}
	}
	// Look again, at what the inventory and the watches know: nothing of it is
	// asked of the server, and what is wanted is what was planned.
	l := *ch.look
	l.Request = r
	if err := l.refresh(ctx); err != nil {
		return reconcile.Observed{}, kubernetes.About(err, id)
	}
	now := l.token(ch.apply)
	if len(ch.remove) > 0 {
		now = l.tokenOf(ch.remove)
	}
	if now != step.Token {
		o, err := p.observed(ctx, &l)
		return o, errors.Join(&reconcile.Error{
			Kind: reconcile.Stale, ID: id, Object: step.Object, Op: string(step.Action),
			Err: errors.New("it has changed since the step was planned"),
		}, err)
	}
	var reason *reconcile.Reason
	var err error
	switch step.Action {
	case reconcile.ActionDelete, reconcile.ActionForget:
		err = p.delete(ctx, &l, ch)
	case reconcile.ActionHeal:
		reason, err = l.putBack(ctx, ch)
	default:
		err = l.roll(ctx, ch.apply)
	}
	if err == nil && ch.all {
		p.forget(&l)
		return reconcile.Observed{}, nil
	}
	o, observeErr := p.Observe(ctx, r)
	o.Reason = reason
	return o, kubernetes.About(errors.Join(err, observeErr), id)
}

// manifest is an object as it is sent.
func (l *Look) manifest(o Object) *unstructured.Unstructured {
	obj := o.Manifest.DeepCopy()
	l.Cluster.Stamp(obj, l.ID())
	return obj
}

func (l *Look) entry(o Object, a kubernetes.Applied) kubernetes.Entry {
	return kubernetes.Entry{Ref: o.Ref(), Desired: l.hashes[o.Ref()], Baseline: a.Baseline, Keep: o.Keep}
}

// putBack undoes what somebody else did to an object.
func (l *Look) putBack(ctx context.Context, ch *change) (*reconcile.Reason, error) {
	o := ch.apply[0]
	uid := types.UID(ch.uid)
	if ch.other || uid == "" {
		found, err := l.take(ctx, o.Ref())
		if err != nil {
			return nil, err
		}
		if uid == "" {
			uid = found
		}
	}
	obj := l.manifest(o)
	obj.SetUID(uid) // the server refuses another object under the same name
	a, err := l.Cluster.Apply(ctx, obj)
	if err != nil {
		return nil, err
	}
	l.Inventory.Rebase(l.ID(), l.entry(o, a))
	if ch.before == nil {
		return nil, nil
	}
	reason, _ := explained(o, ch.before, a.Object, ch.other, l.Cluster.Manager())
	return &reason, nil
}

// roll applies new or changed objects between two notes in the inventory.
func (l *Look) roll(ctx context.Context, objects []Object) error {
	var refs, keep []kubernetes.Ref
	for _, o := range objects {
		refs = append(refs, o.Ref())
		if o.Keep {
			keep = append(keep, o.Ref())
		}
	}
	if err := l.Inventory.Begin(ctx, l.ID(), refs, keep...); err != nil {
		return err
	}
	defer l.Inventory.Abort(l.ID()) // after a Commit there is nothing left to abort
	entries := make([]kubernetes.Entry, 0, len(objects))
	for _, o := range objects {
		entry, _ := l.Applied(o.Ref())
		uid := types.UID(entry.Baseline.UID)
		if d := l.Drift(o.Ref()); uid == "" || d != nil && d.State.UID != string(uid) {
			var err error
			if uid, err = l.take(ctx, o.Ref()); err != nil {
				return err
			}
		}
		obj := l.manifest(o)
		obj.SetUID(uid) // the server refuses another object under the same name
		a, err := l.Cluster.Apply(ctx, obj)
		if err != nil {
			return err
		}
		entries = append(entries, l.entry(o, a))
	}
	record, _ := l.Inventory.Record(l.ID())
	record.Pending, record.Needs = false, l.Request.Resource.Needs
	for _, e := range entries {
		record.Put(e)
	}
	// What was announced once, never made and is not wanted any more stays
	// listed: its removal finds out.
	return l.Inventory.Commit(ctx, record)
}

// take makes sure that nobody else's object is written over, and takes over
// what the policy says may be. It returns the uid of what is there.
func (l *Look) take(ctx context.Context, ref kubernetes.Ref) (types.UID, error) {
	a, err := l.admit(ctx, ref)
	if err == nil {
		err = a.Err("create")
	}
	if err != nil || a.Live == nil {
		return "", err
	}
	return a.Live.GetUID(), l.Cluster.TakeOver(ctx, a)
}

// delete deletes what is recorded, if it still is what was recorded, and lets
// go of what is to be kept.
func (p *Provider) delete(ctx context.Context, l *Look, ch *change) error {
	if err := l.Inventory.Begin(ctx, l.ID(), nil); err != nil {
		return err
	}
	defer l.Inventory.Abort(l.ID())
	for _, e := range ch.remove {
		var err error
		if p.kind.Data && !e.Keep {
			err = l.destroy(ctx, e) // the step has named it, and the policy let it through
		} else {
			_, err = l.Inventory.Prune(ctx, l.ID(), e)
		}
		if err != nil {
			return err
		}
	}
	if ch.all {
		return l.Inventory.Drop(ctx, l.ID())
	}
	p.mu.Lock()
	for _, e := range ch.remove {
		delete(p.verdicts, verdictKey{l.Request.Resource.Target, e.Ref})
	}
	p.mu.Unlock()
	record, _ := l.Inventory.Record(l.ID())
	record.Pending = false
	record.Entries = slices.DeleteFunc(record.Entries, func(e kubernetes.Entry) bool {
		return slices.ContainsFunc(ch.remove, func(gone kubernetes.Entry) bool { return gone.Ref == e.Ref })
	})
	return l.Inventory.Commit(ctx, record)
}

// destroy deletes an object together with the data that it holds.
func (l *Look) destroy(ctx context.Context, e kubernetes.Entry) error {
	live, err := l.Cluster.Get(ctx, e.Ref)
	if err != nil || live == nil || !l.Cluster.Still(live, l.ID(), e) {
		return err // gone, or another one, or somebody has taken it over
	}
	uid := string(live.GetUID())
	if kubernetes.Kept(live) {
		return l.Cluster.LetGo(ctx, e.Ref, uid, l.ID())
	}
	if err = l.Cluster.Delete(ctx, e.Ref, uid); reconcile.KindOf(err) == reconcile.Stale {
		return nil
	}
	return err
}

// forget drops what is remembered of a resource that is gone.
func (p *Provider) forget(l *Look) {
	p.mu.Lock()
	delete(p.seen, l.ID())
	for _, e := range l.Record.Entries {
		delete(p.verdicts, verdictKey{l.Request.Resource.Target, e.Ref})
	}
	p.mu.Unlock()
	if p.kind.Forget != nil {
		p.kind.Forget(l.Request.Resource)
	}
}
