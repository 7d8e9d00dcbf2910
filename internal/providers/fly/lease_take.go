package fly

import (
	"context"
	"errors"
	"strings"
	"time"

	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// acquire takes the lease if it is free, and makes the inventory before that
// where there is none. The caller has the turn.
func (l *lease) acquire(ctx context.Context) (reconcile.Lease, error) {
	const op = "take"
	l.mu.Lock()
	before := l.machine
	l.asked = time.Now()
	l.mu.Unlock()
	for attempt := 0; ; attempt++ {
		if other, err := l.bereft(ctx); other != "" || err != nil {
			return reconcile.Lease{Holder: other}, err
		}
		machine, err := l.inv.ensure(ctx)
		if err != nil {
			return reconcile.Lease{}, err
		}
		sent := time.Now()
		got, err := l.org.Client().AcquireLease(ctx, l.inv.key.app, machine, leaseDuration, l.description())
		switch k := api.KindOf(err); {
		case err == nil:
			return l.won(ctx, got, machine, sent)
		case k == api.Leased:
			return l.lost(ctx, machine, err)
		case (k == api.NotFound || k == api.Gone) && attempt == 0 && before != "":
			l.inv.doubt() // it has gone a moment ago
		default:
			// One whose answer was lost may be held by nobody who knows its nonce:
			// it runs out by itself.
			return reconcile.Lease{}, Classify(op, l.object(), err)
		}
	}
}

// bereft keeps a forged that does not act from making an inventory that has
// gone: who does act knows better what was in it, and makes it within a renewal.
// It says who that is while it may still be there.
func (l *lease) bereft(ctx context.Context) (other string, err error) {
	if err := l.inv.refresh(ctx); err != nil {
		return "", err
	}
	gone := l.inv.isGone()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !gone || l.other == "":
		l.missing = time.Time{}
		return "", nil
	case l.missing.IsZero():
		l.missing = time.Now()
	}
	if time.Since(l.missing) < leaseDuration {
		return l.other, nil
	}
	return "", nil
}

func (l *lease) description() string { return "forged " + l.org.Instance() + " on " + l.all.holder }

// won notes that the lease is held. Somebody else may have held it before: the
// inventory is read anew. What they still send is refused by Fly, since it bears
// another nonce.
func (l *lease) won(ctx context.Context, got api.Lease, machine string, sent time.Time) (reconcile.Lease, error) {
	l.inv.doubt()
	if err := l.inv.refresh(ctx); err != nil {
		l.giveUp(ctx, machine, got.Nonce)
		return reconcile.Lease{}, err
	}
	l.mu.Lock()
	l.machine, l.nonce, l.renewed, l.other, l.missing = machine, got.Nonce, sent, "", time.Time{}
	l.mu.Unlock()
	return reconcile.Lease{Held: true}, nil
}

func (l *lease) giveUp(ctx context.Context, machine, nonce string) {
	if err := l.org.Client().ReleaseLease(ctx, l.inv.key.app, machine, nonce); err != nil {
		l.org.log.WarnContext(ctx, "lease not given back; another forged waits until it has run out",
			"environment", l.key.environment, "error", Classify("release", l.object(), err))
	}
}

// lost notes that somebody else has the lease, and says who.
func (l *lease) lost(ctx context.Context, machine string, refused error) (reconcile.Lease, error) {
	other := ""
	switch held, err := l.org.Client().Lease(ctx, l.inv.key.app, machine); {
	case err == nil && held.Description != "":
		other = strings.TrimPrefix(held.Description, "forged "+l.org.Instance()+" on ")
	case err == nil:
		other = held.Owner
	}
	if strings.Contains(other, l.all.holder) {
		other = "this process, before an answer was lost; it is free again within " + leaseDuration.String()
	}
	if e := (*api.Error)(nil); other == "" && errors.As(refused, &e) {
		other = e.Holder
	}
	if other == "" {
		other = "somebody unknown"
	}
	l.mu.Lock()
	l.machine, l.nonce, l.other, l.missing = machine, "", other, time.Time{}
	l.mu.Unlock()
	return reconcile.Lease{Holder: other}, nil
}

// ago is how long ago t was, by the clock that shows more: the monotonic one
// stands still while a machine sleeps, and the other one can be set back.
func ago(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}
