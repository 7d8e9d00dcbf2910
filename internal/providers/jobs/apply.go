package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

const (
	endingWait = 2 * time.Second // for pods that are on their way out
	endingPoll = 100 * time.Millisecond
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
	l := *ch.look
	l.req = r
	if err := l.refresh(ctx); err != nil {
		return reconcile.Observed{}, kubernetes.About(err, id)
	}
	if l.token() != step.Token {
		return l.observed(ctx), staleError(step)
	}
	var reason *reconcile.Reason
	var err error
	switch {
	case !ch.run:
		err = l.remove(ctx, ch)
	case step.Action == reconcile.ActionHeal && step.Reason.Code == reconcile.ReasonEdited:
		reason, err = l.putBack(ctx)
	default:
		err = l.run(ctx)
	}
	if err == nil && ch.all {
		return reconcile.Observed{}, nil
	}
	o, observeErr := p.Observe(ctx, r)
	o.Reason = reason
	return o, kubernetes.About(errors.Join(err, observeErr), id)
}

// run makes what is wanted, when nothing else runs.
func (l *look) run(ctx context.Context) error {
	obj, err := l.stamped()
	if err != nil {
		return err
	}
	ref := kubernetes.RefOf(obj)
	a, err := l.admit(ctx)
	if err == nil {
		err = a.Err("run")
	}
	if err != nil {
		return err
	}
	same := "" // it is there already, if its making was cut
	if a.Live != nil {
		if a.Live.GetDeletionTimestamp() != nil {
			return &reconcile.Error{
				Kind: reconcile.Unavailable, ID: l.id(), Object: ref.String(), Op: "run",
				Err: errors.New("an earlier one of this name is being deleted"),
			}
		}
		same = string(a.Live.GetUID())
	}
	if err := l.alone(ctx, ref, same); err != nil {
		return err
	}
	if err := l.inv.Begin(ctx, l.id(), []kubernetes.Ref{ref}); err != nil {
		return err
	}
	defer l.inv.Abort(l.id()) // after a Commit there is nothing left to abort
	if err := l.cluster.TakeOver(ctx, a); err != nil {
		return err
	}
	applied, err := l.cluster.Apply(ctx, obj)
	if err != nil {
		return err
	}
	record, _ := l.inv.Record(l.id())
	record.Pending, record.Name, record.Needs = false, l.spec.Name, l.req.Resource.Needs
	next := l.next
	next.Fits = kubernetes.FitMarks(l.fitted.Changes)
	if record.Detail, err = next.write(); err != nil {
		return err
	}
	// What is over and gone needs no entry any more; this one is the last.
	record.Entries = slices.DeleteFunc(record.Entries, func(e kubernetes.Entry) bool {
		return e.Ref == ref || slices.ContainsFunc(l.jobs, func(j job) bool { return j.entry.Ref == e.Ref && !j.state.Exists })
	})
	record.Entries = append(record.Entries, l.entry(ref, applied))
	return l.inv.Commit(ctx, record)
}

// alone makes sure that no other pod of the resource is left. One that
// has not begun goes within moments, which are waited for.
func (l *look) alone(ctx context.Context, ref kubernetes.Ref, but string) error {
	tick := time.NewTicker(endingPoll)
	defer tick.Stop()
	for late := time.After(endingWait); ; {
		pods, _, err := l.pods(ctx, but)
		if err != nil || len(pods) == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return kubernetes.Classify("run", ref, ctx.Err())
		case <-late:
			return &reconcile.Error{
				Kind: reconcile.Unavailable, ID: l.id(), Object: ref.String(), Op: "run",
				Err: fmt.Errorf("pods of an earlier run have not ended: %s; two never run at a time", strings.Join(pods, ", ")),
			}
		}
	}
}

func (l *look) entry(ref kubernetes.Ref, a kubernetes.Applied) kubernetes.Entry {
	return kubernetes.Entry{Ref: ref, Desired: l.attempt + "/" + l.code, Baseline: a.Baseline}
}

// stamped is the object as it is sent.
func (l *look) stamped() (*unstructured.Unstructured, error) {
	if l.refused != nil {
		return nil, l.refused
	}
	obj := l.object.DeepCopy()
	obj.SetName(l.name)
	if _, err := kubernetes.Normalise(obj); err != nil {
		return nil, err
	}
	l.cluster.Stamp(obj, l.id())
	return obj, nil
}

// putBack undoes what somebody has done to what runs.
func (l *look) putBack(ctx context.Context) (*reconcile.Reason, error) {
	obj, err := l.stamped()
	if err != nil {
		return nil, err
	}
	ref := kubernetes.RefOf(obj)
	before, err := l.cluster.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if before == nil {
		return nil, reconcile.Errorf(reconcile.Stale, "put back "+ref.String(), "it was deleted since")
	}
	obj.SetUID(before.GetUID()) // the server refuses another object under the same name
	applied, err := l.cluster.Apply(ctx, obj)
	if err != nil {
		return nil, err
	}
	l.inv.Rebase(l.id(), l.entry(ref, applied))
	reason, _ := kubernetes.Explain(before, applied.Object, l.cluster.Manager())
	return &reason, nil
}

// remove deletes objects, and with them their pods. One that has begun since that
// was planned is not cut.
func (l *look) remove(ctx context.Context, ch *change) error {
	if slices.ContainsFunc(ch.remove, job.running) {
		_, begun, err := l.pods(ctx, "")
		if err != nil {
			return err
		}
		if begun {
			return reconcile.Errorf(reconcile.Stale, "remove", "it has begun since that was planned")
		}
	}
	if err := l.inv.Begin(ctx, l.id(), nil); err != nil {
		return err
	}
	defer l.inv.Abort(l.id())
	for _, j := range ch.remove {
		if _, err := l.inv.Prune(ctx, l.id(), j.entry); err != nil {
			return err
		}
	}
	if ch.all {
		return l.inv.Drop(ctx, l.id())
	}
	record, _ := l.inv.Record(l.id())
	record.Pending = false
	record.Entries = slices.DeleteFunc(record.Entries, func(e kubernetes.Entry) bool {
		return slices.ContainsFunc(ch.remove, func(j job) bool { return j.entry.Ref == e.Ref })
	})
	return l.inv.Commit(ctx, record)
}
