package fly

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// defaultTick is how often an organization is looked at.
const defaultTick = 30 * time.Second

// requestTimeout bounds a read or a write of the inventory and of the lease,
// with all attempts.
const requestTimeout = 60 * time.Second

// Options say what Accounts are made of.
type Options struct {
	Instance  string // name of this forged
	Resolver  *secret.Resolver
	Endpoints api.Endpoints
	HTTP      *http.Client // nil: a new one
	Logger    *slog.Logger // nil: nobody is told
	OnRequest func(org, action string, status int, took time.Duration)
	Tick      time.Duration // 0: 30 s
}

// Accounts are the organizations on Fly that this process works in.
type Accounts struct {
	options Options
	log     *slog.Logger
	tick    time.Duration
	fence   fence

	ctx    context.Context // of everything that goes on in the background
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	orgs    map[string]*orgSlot
	follows map[forge.ID]*follow
	watches map[*watcher]struct{}
	ending  []func(context.Context) // what is done before the end
}

// orgSlot serialises the first use of an organization.
type orgSlot struct {
	turn  chan struct{}
	org   *Org
	first *Org // not opened yet; who has the turn uses it
}

// NewAccounts connects to nothing; an organization is connected at first use.
// Close it.
func NewAccounts(o Options) *Accounts {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Resolver == nil {
		o.Resolver = &secret.Resolver{}
	}
	if o.Tick == 0 {
		o.Tick = defaultTick
	}
	a := &Accounts{
		options: o, log: o.Logger, tick: o.Tick,
		orgs: map[string]*orgSlot{}, follows: map[forge.ID]*follow{}, watches: map[*watcher]struct{}{},
	}
	a.fence.leases = map[placeKey]*lease{}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// Instance is the name of this forged.
func (a *Accounts) Instance() string { return a.options.Instance }

// Close gives back the leases and ends everything that goes on in the
// background.
func (a *Accounts) Close() {
	a.mu.Lock()
	ending := a.ending
	a.closed, a.ending = true, nil
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(a.ctx, 10*time.Second)
	var all sync.WaitGroup
	for _, f := range ending {
		all.Go(func() { f(ctx) })
	}
	all.Wait()
	cancel()
	a.cancel()
	a.work.Wait()
}

// start runs f in the background until Close; false: that has begun.
func (a *Accounts) start(f func(context.Context)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.work.Go(func() { f(a.ctx) })
	return true
}

// orgKey tells accounts apart: by the organization, and by where the token is
// found.
func orgKey(account forge.FlyAccount) string {
	ref, _ := json.Marshal(account.Token) // plain data: it never fails
	return account.Org + " " + string(ref)
}

// Open returns the organization of an account. The first time, the token is
// resolved and looked at: what it is good for is known before anything is done
// with it. After that it costs no request.
func (a *Accounts) Open(ctx context.Context, account forge.FlyAccount) (*Org, error) {
	key := orgKey(account)
	a.mu.Lock()
	slot := a.orgs[key]
	if slot == nil {
		slot = &orgSlot{turn: make(chan struct{}, 1)}
		a.orgs[key] = slot
	}
	org := slot.org
	a.mu.Unlock()
	if org != nil && !org.rejected() {
		return org, nil
	}
	const op = "open"
	select {
	case slot.turn <- struct{}{}:
		defer func() { <-slot.turn }()
	case <-ctx.Done():
		return nil, Classify(op, "organization "+account.Org, ctx.Err())
	}
	a.mu.Lock()
	org = slot.org
	a.mu.Unlock()
	switch {
	case org == nil:
		if slot.first == nil {
			slot.first = newOrg(a, account)
		}
		org = slot.first
		if err := org.authenticate(ctx); err != nil {
			return nil, err
		}
		if !a.start(org.poll) {
			return nil, &reconcile.Error{Kind: reconcile.Unavailable, Op: op, Object: "organization " + account.Org, Err: errors.New("shutting down")}
		}
		a.mu.Lock()
		slot.org = org
		a.mu.Unlock()
	case org.rejected():
		if err := org.authenticate(ctx); err != nil {
			return nil, err
		}
	}
	return org, nil
}

// atEnd has f called when Close begins.
func (a *Accounts) atEnd(f func(context.Context)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ending = append(a.ending, f)
}

// someone is who changes what forged looks after: Fly does not say who it was.
const someone = "somebody on Fly"
