package api

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind is what an error means to who asked.
type Kind string

// Kinds of errors.
const (
	NotFound        Kind = "not found"       // Fly says that it is not there
	Gone            Kind = "gone"            // it was there, and is deleted
	Denied          Kind = "denied"          // the token does not cover it, or it belongs to somebody else
	Unauthenticated Kind = "unauthenticated" // the token is wrong, revoked or expired
	Taken           Kind = "taken"           // the name, or the place, is in use
	Conflict        Kind = "conflict"        // somebody else changes it or has changed it: read it again
	Precondition    Kind = "precondition"    // its state does not allow it
	NotYet          Kind = "not yet"         // its state does not allow it now, and will by itself
	Leased          Kind = "leased"          // somebody else holds the lease: Holder and Until
	NoLease         Kind = "no lease"        // there is none, or it has run out
	Capacity        Kind = "capacity"        // there is no room for it now
	Payment         Kind = "payment"         // the organization must pay, or ask for more
	NoImage         Kind = "no image"        // the registry does not know the image, perhaps not yet
	Throttled       Kind = "throttled"       // too many requests: RetryAfter
	Invalid         Kind = "invalid"         // Fly does not take what is asked for
	TimedOut        Kind = "timed out"       // what was waited for has not come
	Unavailable     Kind = "unavailable"     // Fly cannot be reached, or answers nonsense
	Ambiguous       Kind = "ambiguous"       // no answer to a write: it may have happened or not
	SchemaDrift     Kind = "schema drift"    // the API is not what it was
)

// Error is a request that failed.
type Error struct {
	Kind      Kind
	Action    string // "machine.create"
	Method    string
	Path      string // without the query
	Status    int    // 0: there was no answer
	Code      string // Fly's word for it, e.g. "insufficient_capacity"; may be empty
	Text      string // what Fly says; may be empty
	RequestID string // what Fly's support asks for

	RetryAfter time.Duration // Throttled
	Holder     string        // Leased: an e-mail address, or one that stands for a token
	Until      time.Time     // Leased: when the lease runs out; may be zero
	Field      string        // SchemaDrift: what is not known any more; may be empty

	Err error // of the network, of ctx, of decoding; may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Action)
	switch {
	case e.Text != "":
		b.WriteString(": " + e.Text)
	case e.Err != nil:
		b.WriteString(": " + e.Err.Error())
	default:
		b.WriteString(": " + string(e.Kind))
	}
	if e.Kind == Ambiguous {
		b.WriteString("; it may have happened all the same")
	}
	var notes []string
	if e.Status != 0 {
		notes = append(notes, fmt.Sprintf("status %d", e.Status))
	}
	if e.Code != "" {
		notes = append(notes, e.Code)
	}
	if e.RequestID != "" {
		notes = append(notes, "request "+e.RequestID)
	}
	if len(notes) > 0 {
		b.WriteString(" (" + strings.Join(notes, ", ") + ")")
	}
	return b.String()
}

// Unwrap implements errors.Unwrap.
func (e *Error) Unwrap() error { return e.Err }

// NotSent is the answer of a transport that did not send a request, for a reason
// that stays: nothing has happened, and it is not asked again.
type NotSent struct{ Err error }

func (e *NotSent) Error() string { return e.Err.Error() }

// Unwrap implements errors.Unwrap.
func (e *NotSent) Unwrap() error { return e.Err }

// KindOf is the kind of the first Error in err's chain; empty when there is
// none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}
