package fly

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// Times of a lease. A renewal is a request, so they are long. Fly alone counts
// how long a lease lasts: no clock is compared with another machine's.
const (
	leaseDuration = 90 * time.Second // after so long without renewal it is free
	leaseRenewal  = 30 * time.Second
	leaseLapse    = 60 * time.Second // after so long without renewal the holder stops writing
	leaseRetry    = 5 * time.Second  // after a renewal that failed
)

// Leases keeps one lease for each environment in an organization: that of the
// machine which holds its inventory. Fly refuses every write of the inventory by
// whoever does not hold it.
type Leases struct {
	accounts *Accounts
	holder   string
	watchers reconcile.LeaseWatchers

	mu     sync.Mutex
	leases map[string]*lease // by environment
}

var _ reconcile.Leases = (*Leases)(nil)

// NewLeases makes leases for this process. They are given back when the
// accounts are closed.
func NewLeases(a *Accounts) *Leases {
	ls := &Leases{accounts: a, holder: reconcile.LeaseHolder(), leases: map[string]*lease{}}
	a.atEnd(ls.release)
	return ls
}

// lease is one of them.
type lease struct {
	all *Leases
	org *Org
	inv *Inventory
	key placeKey

	turn chan struct{} // lock around requests
	wake chan struct{} // something is to be asked before its time
	gone chan struct{} // closed when nobody wants it any more

	mu      sync.Mutex
	machine string    // that it is a lease of
	nonce   string    // empty: it is not held
	renewed time.Time // when the last renewal that succeeded was sent
	asked   time.Time // when it was asked for last
	other   string    // who holds it, in words
	missing time.Time // since when there is no machine to hold, seen by who never held it
	given   bool      // given back: it is not asked for again
	told    bool      // that it is held: what everybody knows

	trouble reconcile.LeaseTrouble // of whoever has the turn
}

// held tells that it is held, and was renewed not long ago.
func (l *lease) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.valid()
}

// heldAs tells that it is held, and was all the time since it had this nonce.
func (l *lease) heldAs(nonce string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nonce == nonce && l.valid()
}

// valid is held. The caller holds mu.
func (l *lease) valid() bool { return l.nonce != "" && ago(l.renewed) < leaseLapse }

// nonce is what writes of the inventory are bound to; empty without a lease.
func (o *Org) nonce(environment string) string {
	f := &o.accounts.fence
	f.mu.Lock()
	l := f.leases[placeKey{o.key, environment}]
	f.mu.Unlock()
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nonce
}

// loseLease notes that Fly has refused a write for the sake of the lease.
func (o *Org) loseLease(environment string) {
	f := &o.accounts.fence
	f.mu.Lock()
	l := f.leases[placeKey{o.key, environment}]
	f.mu.Unlock()
	if l != nil {
		l.lose()
	}
}

func (l *lease) lose() {
	l.mu.Lock()
	was := l.nonce != ""
	l.nonce = ""
	l.mu.Unlock()
	if was {
		select {
		case l.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

func (l *lease) object() string { return "the lease of " + l.key.environment }

// Hold implements reconcile.Leases.
func (ls *Leases) Hold(ctx context.Context, environment string, r forge.Resource) (reconcile.Lease, error) {
	spec, ok := r.Spec.(forge.OnFly)
	if !ok {
		return reconcile.Lease{Held: true, None: true}, nil // it is not on Fly
	}
	account := spec.OnFly()
	ls.mu.Lock()
	l := ls.leases[environment]
	ls.mu.Unlock()
	if l != nil && !l.of(account) { // forge.cue names another place now
		ls.part(l)
		l.release(ctx)
		l = nil
	}
	if l != nil && l.held() {
		return reconcile.Lease{Held: true}, nil
	}
	if l == nil {
		org, err := ls.accounts.Open(ctx, account)
		if err != nil {
			return reconcile.Lease{}, err
		}
		inv, err := org.Inventory(ctx, environment, account)
		if err != nil {
			return reconcile.Lease{}, err
		}
		if l = ls.open(org, inv, environment); l == nil {
			return reconcile.Lease{}, &reconcile.Error{Kind: reconcile.Unavailable, Op: "take", Object: "the lease of " + environment, Err: errors.New("shutting down")}
		}
	}
	return l.ask(ctx)
}

// open begins to keep a lease; nil: there is no time for that any more.
func (ls *Leases) open(org *Org, inv *Inventory, environment string) *lease {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.leases[environment]; l != nil {
		return l // somebody was faster
	}
	l := &lease{
		all: ls, org: org, inv: inv, key: placeKey{org.key, environment},
		turn: make(chan struct{}, 1), wake: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	if !ls.accounts.start(l.run) {
		return nil
	}
	ls.leases[environment] = l
	f := &ls.accounts.fence
	f.mu.Lock()
	f.leases[l.key] = l
	f.mu.Unlock()
	return l
}

// of tells whether it is the lease of an account's environment: of the same
// inventory, seen with the same token.
func (l *lease) of(account forge.FlyAccount) bool {
	return l.key.org == orgKey(account) && l.inv.key.app == account.Inventory
}

// part ends the keeping of a lease. What is under way finds it gone.
func (ls *Leases) part(l *lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.leases[l.key.environment] == l {
		delete(ls.leases, l.key.environment)
		close(l.gone)
	}
}

// ask makes sure of the lease, with a request if need be.
func (l *lease) ask(ctx context.Context) (reconcile.Lease, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return reconcile.Lease{}, Classify("take", l.object(), ctx.Err())
	}
	l.mu.Lock()
	switch {
	case l.valid():
		l.mu.Unlock()
		return reconcile.Lease{Held: true}, nil
	case l.other != "" && time.Since(l.asked) < leaseRetry:
		other := l.other // asked a moment ago
		l.mu.Unlock()
		return reconcile.Lease{Holder: other}, nil
	}
	l.given = false
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	now, err := l.acquire(ctx)
	if err == nil {
		l.news(now.Held)
	}
	return now, err
}

// news tells whether it is news that the lease is held, or is not.
func (l *lease) news(held bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	news := l.told != held
	l.told = held
	return news
}

// run renews the lease while it is held, and looks whether it is free while it
// is not, until the accounts are closed.
func (l *lease) run(ctx context.Context) {
	timer := time.NewTimer(leaseRenewal)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-l.wake:
		case <-l.gone:
			return
		case <-ctx.Done():
			return
		}
		timer.Reset(l.tend(ctx))
	}
}

// tend renews or looks once, and says when to do so again.
func (l *lease) tend(ctx context.Context) time.Duration {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return leaseRenewal
	}
	l.mu.Lock()
	valid, given, never := l.valid(), l.given, l.asked.IsZero()
	l.mu.Unlock()
	if given || never {
		return leaseRenewal // nobody wants it
	}
	bounded, cancel := context.WithTimeout(ctx, leaseRenewal)
	defer cancel()
	now, err := l.renewOrAsk(bounded)
	if ctx.Err() != nil {
		return leaseRenewal
	}
	over := l.trouble.Tell(l.org.log, l.key.environment, now, err)
	held := now.Held || err != nil && l.held()
	if l.news(held) || over || held && !valid {
		l.all.watchers.Tell(l.key.environment)
	}
	if err != nil {
		return leaseRetry
	}
	return leaseRenewal
}

// renewOrAsk renews with one request what is held.
func (l *lease) renewOrAsk(ctx context.Context) (reconcile.Lease, error) {
	l.mu.Lock()
	machine, nonce := l.machine, l.nonce
	l.mu.Unlock()
	if nonce == "" {
		return l.acquire(ctx)
	}
	sent := time.Now()
	_, err := l.org.Client().RefreshLease(ctx, l.inv.key.app, machine, nonce, leaseDuration, l.description())
	switch k := api.KindOf(err); {
	case err == nil:
		l.mu.Lock()
		if l.nonce == nonce {
			l.renewed = sent
		}
		l.mu.Unlock()
		return reconcile.Lease{Held: true}, nil
	case k == api.NotFound || k == api.Gone:
		l.inv.doubt() // somebody has destroyed the machine
	case k == api.NoLease || k == api.Leased || k == api.Invalid || k == api.Conflict || k == api.Precondition:
	default:
		return reconcile.Lease{}, Classify("renew", l.object(), err)
	}
	l.mu.Lock()
	l.nonce = ""
	l.mu.Unlock()
	return l.acquire(ctx)
}

// release gives the lease back, so that nobody has to wait for it.
func (l *lease) release(ctx context.Context) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return
	}
	l.mu.Lock()
	machine, nonce := l.machine, l.nonce
	l.nonce, l.given = "", true
	l.mu.Unlock()
	if nonce != "" {
		l.giveUp(ctx, machine, nonce)
	}
}

// release gives back all of them.
func (ls *Leases) release(ctx context.Context) {
	ls.mu.Lock()
	all := slices.Collect(maps.Values(ls.leases))
	ls.mu.Unlock()
	var giving sync.WaitGroup
	for _, l := range all {
		giving.Go(func() { l.release(ctx) })
	}
	giving.Wait()
}

// Keep implements reconcile.Leases.
func (ls *Leases) Keep(environments []string) {
	ls.giveBack(func(l *lease) bool { return !slices.Contains(environments, l.key.environment) })
}

// Release implements reconcile.Leases.
func (ls *Leases) Release(environment string, target forge.Target) {
	ls.giveBack(func(l *lease) bool { return l.key.environment == environment && l.org.account.Org == target.Org })
}

// giveBack gives back leases in the background.
func (ls *Leases) giveBack(all func(*lease) bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for environment, l := range ls.leases {
		if !all(l) {
			continue
		}
		delete(ls.leases, environment)
		close(l.gone)
		ls.accounts.start(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, requestTimeout)
			defer cancel()
			l.release(ctx)
		})
	}
}

// Watch implements reconcile.Leases.
func (ls *Leases) Watch(ctx context.Context, notify func(environment string)) error {
	ls.watchers.Watch(ctx, ls.accounts.ctx.Done(), notify)
	return nil
}
