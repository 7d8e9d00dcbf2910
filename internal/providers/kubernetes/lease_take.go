package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/reconcile"
)

// acquire reads the lease and takes it if it is free. The caller has the turn.
func (l *lease) acquire(ctx context.Context) (reconcile.Lease, error) {
	const op = "take"
	api := l.c.client.CoordinationV1().Leases(l.key.namespace)
	for range attemptsAgainstOthers {
		sent := l.c.clusters.clock.Now()
		live, err := api.Get(ctx, l.name(), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			live, err = api.Create(ctx, l.object(nil, sent), metav1.CreateOptions{FieldManager: l.c.manager})
			if apierrors.IsAlreadyExists(err) {
				continue
			}
			if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) ||
				apierrors.IsForbidden(err) && l.nowhere(ctx) {
				// The namespace is not there, or not for long: there is nothing
				// yet that two could do harm to.
				l.vanish()
				return reconcile.Lease{Held: true}, nil
			}
			if err != nil {
				return reconcile.Lease{}, l.denied(Classify(op, l.ref(), err))
			}
			return l.won(ctx, live, sent, false)
		case err != nil:
			return reconcile.Lease{}, l.denied(Classify(op, l.ref(), err))
		}
		if holder := l.holderOf(live, sent); holder != "" {
			return reconcile.Lease{Holder: holder}, nil
		}
		live, err = api.Update(ctx, l.object(live, sent), metav1.UpdateOptions{FieldManager: l.c.manager})
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return reconcile.Lease{}, l.denied(Classify(op, l.ref(), err))
		}
		return l.won(ctx, live, sent, true)
	}
	return reconcile.Lease{}, reconcile.Errorf(reconcile.Unavailable, op+" "+l.ref().String(), "others change it at the same time")
}

// vanish notes that there is no lease, since there is no place for one. Nothing
// is refused for its sake: it could not be renewed, and the namespace not be made.
func (l *lease) vanish() {
	l.mu.Lock()
	l.held, l.other = false, ""
	l.mu.Unlock()
	f := &l.c.fence
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leases[l.key.inventoryKey] == l {
		delete(f.leases, l.key.inventoryKey)
	}
}

// nowhere tells that the namespace is certain not to be there: rights are looked
// at before places.
func (l *lease) nowhere(ctx context.Context) bool {
	_, err := l.c.client.CoreV1().Namespaces().Get(ctx, l.key.namespace, metav1.GetOptions{})
	return apierrors.IsNotFound(err)
}

// denied says what is needed.
func (l *lease) denied(err error) error {
	var e *reconcile.Error
	if errors.As(err, &e) && e.Kind == reconcile.Denied {
		e.Hint = "forged needs the verbs get, create, update and patch on leases.coordination.k8s.io in namespace " + l.key.namespace
	}
	return err
}

// holderOf says who else has the lease; empty: nobody has, and it may be taken.
func (l *lease) holderOf(live *coordinationv1.Lease, now time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = now
	holder := ""
	if live.Spec.HolderIdentity != nil {
		holder = *live.Spec.HolderIdentity
	}
	if holder == "" || holder == l.all.holder {
		return ""
	}
	l.held = false
	if l.rv != live.ResourceVersion {
		l.rv, l.seen = live.ResourceVersion, now
	}
	duration := l.all.times.duration
	if s := live.Spec.LeaseDurationSeconds; s != nil && *s > 0 {
		duration = min(time.Duration(*s)*time.Second, 10*duration)
	}
	silent := since(l.c.clusters.clock, l.seen)
	if silent >= duration || dead(live.Annotations[annotationProcess]) {
		why := "it has ended"
		if silent >= duration {
			why = "it was silent for " + silent.Round(time.Second).String()
		}
		l.c.log.Info("taking over the lease of another forged", "environment", l.key.environment, "holder", holder, "why", why)
		return ""
	}
	l.other = holder
	return holder
}

// object is the Lease as this process holds it.
func (l *lease) object(live *coordinationv1.Lease, now time.Time) *coordinationv1.Lease {
	seconds := max(1, int32(l.all.times.duration/time.Second))
	stamp := metav1.NewMicroTime(now) // for people; forged compares it with nothing
	out := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: l.name(), Namespace: l.key.namespace}}
	var transitions int32
	if live != nil {
		out = live.DeepCopy()
		if t := live.Spec.LeaseTransitions; t != nil {
			transitions = *t
		}
	}
	mine := out.Spec.HolderIdentity != nil && *out.Spec.HolderIdentity == l.all.holder
	if !mine {
		out.Spec.AcquireTime = &stamp
		if live != nil {
			transitions++
		}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	out.Labels[managedByLabel] = managedByForged
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	out.Annotations[annotationProcess] = l.all.process
	out.Spec.HolderIdentity, out.Spec.LeaseDurationSeconds = &l.all.holder, &seconds
	out.Spec.RenewTime, out.Spec.LeaseTransitions = &stamp, &transitions
	return out
}

// won notes that the lease is held. Where somebody else may have held it, the
// inventory is read anew and written first: a write of theirs that is still
// under way is refused then, since it is based on another version.
func (l *lease) won(ctx context.Context, live *coordinationv1.Lease, sent time.Time, seize bool) (reconcile.Lease, error) {
	l.mu.Lock()
	was := l.held
	l.held, l.renewed, l.rv, l.seen, l.other = true, sent, live.ResourceVersion, sent, ""
	l.mu.Unlock()
	l.c.fence.mu.Lock()
	l.c.fence.leases[l.key.inventoryKey] = l
	l.c.fence.mu.Unlock()
	mark := fmt.Sprintf("%s, %d", l.all.holder, *live.Spec.LeaseTransitions)
	if err := l.c.seize(ctx, l.key.inventoryKey, mark, seize && !was); err != nil {
		l.mu.Lock()
		l.held = false
		l.mu.Unlock()
		return reconcile.Lease{}, err
	}
	return reconcile.Lease{Held: true}, nil
}

// seize makes an inventory this holder's. Where another may have written it, it
// is read again and written at once.
func (c *Cluster) seize(ctx context.Context, key inventoryKey, holder string, anew bool) error {
	inv, err := c.Inventory(ctx, key.environment, key.namespace)
	if err != nil {
		return err
	}
	c.mu.Lock()
	inv.holder = holder
	stale := anew && len(inv.busy) == 0
	if inv.dirty {
		select {
		case inv.wake <- struct{}{}: // what was noticed before may be written down now
		default: // it is awake
		}
	}
	c.mu.Unlock()
	if !stale {
		return nil
	}
	return inv.reread(ctx)
}

// reread takes the stored inventory for the truth and writes it as this
// holder's.
func (inv *Inventory) reread(ctx context.Context) error {
	read, at, err := inv.load(ctx)
	if err != nil {
		return err
	}
	inv.c.mu.Lock()
	inv.adopt(read, at)
	inv.c.mu.Unlock()
	return inv.update(ctx, func() func() { return func() {} })
}
