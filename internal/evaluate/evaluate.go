// Package evaluate bounds what the evaluation of a forge may cost. CUE cannot
// be cancelled, and a short text can ask it for any amount of time and memory;
// the only sure end of an evaluation is that of its process.
//
// A command that reads a forge once evaluates it in its own process, under a
// watch, and ends with an error when a bound is passed. A process that is to
// go on evaluates in a child of the same binary, which leaves nothing behind.
package evaluate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"sync/atomic"

	"forged.dev/forged/internal/apart"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

// Load judges a source, as [schema.Load] does. It does no I/O, so it gives the
// same answer in every process of one binary.
type Load func(context.Context, schema.Source) (*forge.Forge, schema.Diagnostics, error)

// Evaluator runs a Load within bounds.
type Evaluator struct {
	Load   Load
	Bounds apart.Bounds // zero fields: those of DefaultBounds
	// Apart has every evaluation in a child process. Without it only those
	// that could bring down the process without a warning have one, because a
	// child costs as much as starting the program.
	Apart bool
	// Args are the arguments that make this binary call [Serve].
	Args []string

	abandoned atomic.Bool
	spawned   func(pid int) // for tests
	maxAnswer int           // for tests
}

// ExceededError says which bound an evaluation has passed.
type ExceededError struct {
	Name string // of the source
	Of   string // "time" or "memory"
	Most string // the bound
}

func (e *ExceededError) Error() string {
	const cause = "look for values that multiply, such as lists of lists or fields that refer to themselves"
	if e.Of == "time" {
		return fmt.Sprintf("read %s: its evaluation takes longer than %s; %s, or allow more with %s", e.Name, e.Most, cause, apart.TimeVariable)
	}
	return fmt.Sprintf("read %s: its evaluation needs more than %s of memory; %s, or allow more with %s", e.Name, e.Most, cause, apart.MemoryVariable)
}

// UnjudgedError says that a source was not judged for a reason that is not in
// its text and may be gone the next time.
type UnjudgedError struct {
	Name string // of the source
	Err  error
}

func (e *UnjudgedError) Error() string { return "read " + e.Name + ": " + e.Err.Error() }
func (e *UnjudgedError) Unwrap() error { return e.Err }

// Evaluate judges src. After an error that is no [schema.Diagnostics] the text
// was not judged. After an *ExceededError without Apart, what was begun may
// still go on in this process: the process is to end soon, and nothing else is
// begun in it.
func (e *Evaluator) Evaluate(ctx context.Context, src schema.Source) (*forge.Forge, schema.Diagnostics, error) {
	if e.Apart || !ordinary(src) {
		return e.apart(ctx, src, e.Bounds.Effective())
	}
	var a answer
	err := e.here(ctx, src, func(ctx context.Context) {
		a.forge, a.diagnostics, a.err = e.Load(ctx, src)
	})
	if err != nil {
		return nil, nil, err
	}
	return a.forge, a.diagnostics, a.err
}

// Within runs f, which evaluates src, within the bounds and in this process,
// whatever Apart says. It is for what cannot be carried from one process to
// another. An error means that f was left to itself.
func (e *Evaluator) Within(ctx context.Context, src schema.Source, f func(context.Context)) error {
	if !ordinary(src) {
		// In a child first: what is beyond the bounds does not get here.
		if _, _, err := e.apart(ctx, src, e.Bounds.Effective()); err != nil {
			if _, invalid := errors.AsType[schema.Diagnostics](err); !invalid {
				return err
			}
		}
	}
	return e.here(ctx, src, f)
}

func (e *Evaluator) here(ctx context.Context, src schema.Source, f func(context.Context)) error {
	if e.abandoned.Load() {
		return fmt.Errorf("read %s: not looked at, because what was read before it goes beyond all bounds", src.Name())
	}
	// A stack that overflows ends the process at once, with pages of text. It
	// is counted as memory, so let that bound be the first to be passed.
	before := debug.SetMaxStack(math.MaxInt32)
	defer debug.SetMaxStack(before)
	err := here(ctx, src, e.Bounds.Effective(), f)
	if err != nil {
		e.abandoned.Store(true)
	}
	return err
}

// answer is what an evaluation comes to.
type answer struct {
	forge       *forge.Forge
	diagnostics schema.Diagnostics
	err         error
}

// here runs an evaluation in this process. It returns an error when a bound is
// passed or ctx ends, and leaves the evaluation to itself then.
func here(ctx context.Context, src schema.Source, bounds apart.Bounds, f func(context.Context)) error {
	switch err := apart.Here(ctx, bounds, f); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("read %s: %w", src.Name(), err)
	case errors.Is(err, apart.ErrTime):
		return tooLong(src, bounds)
	}
	return tooLarge(src, bounds)
}

func tooLong(src schema.Source, b apart.Bounds) error {
	return &ExceededError{Name: src.Name(), Of: "time", Most: b.Time.String()}
}

func tooLarge(src schema.Source, b apart.Bounds) error {
	return &ExceededError{Name: src.Name(), Of: "memory", Most: apart.Size(b.Memory)}
}
