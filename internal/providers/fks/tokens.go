package fks

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// What flyctl asks for, so that the tokens of both look alike to who lists them
// (flyctl's source).
const (
	tokenName = "FKS org deploy token"
	tokenLife = time.Hour
	scheme    = "FlyV1 " // in front of a token, for Fly's own API
)

// Times of a token. They are counted on this machine's clock since it was asked
// for, so that no clock is compared with another one.
const (
	tokenSpare   = 30 * time.Second // of its life is not used: a request is on its way for a while
	tokenRetry   = 30 * time.Second // between attempts while the old one is still good
	tokenPause   = 5 * time.Second  // between attempts while there is none
	tokenRefused = 30 * time.Second // one that is younger, and never was accepted, is not replaced: another would not help
	mintTimeout  = 30 * time.Second
	renewTimeout = 10 * time.Second // while the old one is still good
)

// tokens are the tokens that open one cluster, one after another. They are made
// when a request needs one: nothing runs in the background.
type tokens struct {
	mint func(ctx context.Context) (secret.Value, time.Duration, error)

	turn chan struct{} // lock around minting

	mu     sync.Mutex
	value  secret.Value // zero: none
	opens  bool         // it was accepted once
	minted time.Time
	life   time.Duration
	failed error // of the last attempt, unless it succeeded
	tried  time.Time
}

func newTokens(mint func(context.Context) (secret.Value, time.Duration, error)) *tokens {
	return &tokens{mint: mint, turn: make(chan struct{}, 1)}
}

// state is how a token stands.
type state int

const (
	missing state = iota // there is none that is good
	due                  // it is good, and to be renewed
	good
)

// current is the token there is. The caller holds mu.
func (t *tokens) current(now time.Time) (secret.Value, state) {
	age := now.Sub(t.minted)
	switch {
	case t.value.IsZero() || age >= t.life-tokenSpare:
		return secret.Value{}, missing
	case age >= t.life*4/5 && (t.failed == nil || now.Sub(t.tried) >= tokenRetry):
		return t.value, due
	}
	return t.value, good
}

// opened tells whether the token that there is was accepted.
func (t *tokens) opened() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, is := t.current(time.Now())
	return is != missing && t.opens
}

// get returns a token that is good. Whoever comes first when it is to be renewed
// does that; the others use the old one meanwhile, and wait where there is none.
func (t *tokens) get(ctx context.Context) (secret.Value, error) {
	t.mu.Lock()
	value, is := t.current(time.Now())
	t.mu.Unlock()
	switch is {
	case good:
		return value, nil
	case due:
		select {
		case t.turn <- struct{}{}:
		default:
			return value, nil // somebody is at it
		}
	case missing:
		select {
		case t.turn <- struct{}{}:
		case <-ctx.Done():
			return secret.Value{}, ctx.Err()
		}
	}
	defer func() { <-t.turn }()
	t.mu.Lock()
	now := time.Now()
	value, is = t.current(now)
	failed, lately := t.failed, now.Sub(t.tried) < tokenPause
	t.mu.Unlock()
	switch {
	case is == good:
		return value, nil
	case is == missing && failed != nil && lately:
		return secret.Value{}, failed
	}
	return t.renew(ctx, value, is)
}

// renew mints. The caller has the turn.
func (t *tokens) renew(ctx context.Context, old secret.Value, is state) (secret.Value, error) {
	timeout := mintTimeout
	if is == due {
		timeout = renewTimeout
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	asked := time.Now()
	value, life, err := t.mint(bounded)
	if err != nil && ctx.Err() != nil {
		return secret.Value{}, ctx.Err() // it says nothing about minting
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed = err; err == nil {
		t.value, t.opens, t.minted, t.life = value, false, asked, life
		return value, nil
	}
	t.tried = time.Now()
	if is == due {
		return old, nil
	}
	return secret.Value{}, err
}

// refused notes that a token does not open the cluster, and tells whether another
// one may.
func (t *tokens) refused(value secret.Value) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !bytes.Equal(t.value.Reveal(), value.Reveal()) {
		return true // it was replaced meanwhile
	}
	if !t.opens && time.Since(t.minted) < tokenRefused {
		return false
	}
	t.value = secret.Value{}
	return true
}

// accepted notes that a token opens the cluster.
func (t *tokens) accepted(value secret.Value) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.opens {
		t.opens = bytes.Equal(t.value.Reveal(), value.Reveal())
	}
}

// forget has the next request mint.
func (t *tokens) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.value, t.failed = secret.Value{}, nil
}

// mint asks Fly for a token of the organization, as flyctl does.
func (w *way) mint(ctx context.Context) (secret.Value, time.Duration, error) {
	w.mu.Lock()
	account, object := w.account, "cluster "+w.spec.Name
	w.mu.Unlock()
	const op = "get a token for"
	org, err := w.accounts.Open(ctx, account)
	if err != nil {
		return secret.Value{}, 0, err
	}
	known, err := org.Client().Organization(ctx, org.Slug())
	if err != nil {
		return secret.Value{}, 0, fly.Classify(op, object, err)
	}
	made, err := org.Client().CreateLimitedToken(ctx, api.CreateLimitedToken{
		Name: tokenName, OrgID: known.ID, Profile: api.TokenOfOrg, Expiry: tokenLife,
	})
	if err != nil {
		return secret.Value{}, 0, fly.Classify(op, object, err)
	}
	value := strings.TrimSpace(strings.TrimPrefix(string(made.Header.Reveal()), scheme))
	if value == "" || strings.ContainsAny(value, "\r\n") {
		return secret.Value{}, 0, &reconcile.Error{Kind: reconcile.Internal, Op: op, Object: object, Err: errors.New("none is in what Fly has answered")}
	}
	return secret.New([]byte(value)), tokenLife, nil
}
