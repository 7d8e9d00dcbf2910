package fly

import (
	"context"
	"errors"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// Classify says what an error of Fly means to the engine, and to people what to
// do next. What is an Error of the engine already stays as it is.
func Classify(op, object string, err error) error {
	if err == nil {
		return nil
	}
	var ours *reconcile.Error
	if errors.As(err, &ours) {
		return err
	}
	e := &reconcile.Error{Kind: reconcile.Internal, Op: op, Object: object, Err: err}
	var fly *api.Error
	if !errors.As(err, &fly) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			e.Kind = reconcile.Unavailable
		}
		return e
	}
	switch fly.Kind {
	case api.Unauthenticated:
		e.Kind = reconcile.Denied
		e.Hint = "the token is wrong, revoked or expired: make another one with fly tokens create org, and put it where platform.token says; a file or a command is read again by itself, a variable when forged starts again"
	case api.Denied:
		e.Kind = reconcile.Denied
		e.Hint = "the token does not cover this, or it belongs to another organization: forged needs one of fly tokens create org"
	case api.NotFound, api.Gone:
		e.Kind = reconcile.Stale // it was there a moment ago
	case api.Taken, api.Leased:
		e.Kind = reconcile.Conflict
	case api.Conflict, api.Precondition:
		e.Kind = reconcile.Stale
	case api.NotYet, api.NoLease, api.Unavailable, api.Ambiguous, api.TimedOut:
		e.Kind = reconcile.Unavailable
	case api.NoImage:
		e.Kind = reconcile.Unavailable
		e.Hint = "push the image; one that was pushed a moment ago is found soon"
	case api.Capacity:
		e.Kind = reconcile.Unavailable
		e.Hint = "Fly has no room for it there now; it is tried again. Another region or a smaller size may have some"
	case api.Payment:
		e.Kind = reconcile.Denied
		e.Hint = "see the billing of the organization on Fly: it needs a payment method, or has reached a limit"
	case api.Throttled:
		e.Kind, e.After = reconcile.Throttled, fly.RetryAfter
	case api.Invalid:
		e.Kind = reconcile.Invalid
	case api.SchemaDrift:
		e.Hint = "Fly has changed its API: a newer forged may know it"
	}
	return e
}

// about says which resource an error is about.
func about(err error, id forge.ID) error {
	var e *reconcile.Error
	if errors.As(err, &e) && e.ID == (forge.ID{}) {
		of := *e
		of.ID = id
		return &of
	}
	return err
}
