package reconcile

import (
	"errors"
	"fmt"
	"time"

	"forged.dev/forged/internal/forge"
)

// ErrorKind decides how the engine reacts to an error; its text never does.
type ErrorKind string

// Error kinds.
const (
	Invalid     ErrorKind = "invalid"     // wait for new config
	Denied      ErrorKind = "denied"      // credentials or permissions: back off slowly
	Conflict    ErrorKind = "conflict"    // somebody else owns it: back off
	Stale       ErrorKind = "stale"       // the world has moved on: plan again now
	Throttled   ErrorKind = "throttled"   // told to wait: After says how long
	Unavailable ErrorKind = "unavailable" // back off
	Internal    ErrorKind = "internal"    // a bug or something nobody foresaw: back off
	Waiting     ErrorKind = "waiting"     // an input is not there yet: From and Output say which; no failure
)

// Error says what failed, on what, why, and what to do next.
type Error struct {
	Kind   ErrorKind
	ID     forge.ID      // zero when it is not about one resource
	Object string        // "Deployment shop/app"; may be empty
	Op     string        // what was being done, e.g. "apply"
	Err    error         // why
	Hint   string        // what to do next; may be empty
	After  time.Duration // Throttled only
	From   forge.ID      // Waiting only: the resource whose output is missing
	Output string        // Waiting only: the name of that output
}

func (e *Error) Error() string {
	s := e.Op
	if e.Object != "" {
		s += " " + e.Object
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap implements errors.Unwrap.
func (e *Error) Unwrap() error { return e.Err }

// ErrGone is in the chain of errors about a place that is gone for good, a cluster
// that was deleted for example: what was in it is gone with it, and its removal is
// done.
var ErrGone = errors.New("it is not there any more")

// KindOf is the kind of the first Error in err's chain, Internal when there
// is none.
func KindOf(err error) ErrorKind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// WaitingFor is what a provider answers when it needs an output that is not in
// Request.Inputs yet. It is no failure: the engine comes back when the outputs
// of from have changed, and does not poll for it.
func WaitingFor(from forge.ID, output string) *Error {
	return &Error{Kind: Waiting, Op: "wait", From: from, Output: output, Err: fmt.Errorf("output %q of %s is not known yet", output, from)}
}

// Errorf makes an Error of a kind without further context.
func Errorf(kind ErrorKind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Err: fmt.Errorf(format, args...)}
}
