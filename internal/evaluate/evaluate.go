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
	"fmt"
	"math"
	"runtime/debug"
	"sync/atomic"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

// Load judges a source, as [schema.Load] does. It does no I/O, so it gives the
// same answer in every process of one binary.
type Load func(context.Context, schema.Source) (*forge.Forge, schema.Diagnostics, error)

// Evaluator runs a Load within bounds.
type Evaluator struct {
	Load   Load
	Bounds Bounds // zero fields: those of DefaultBounds
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
		return fmt.Sprintf("read %s: its evaluation takes longer than %s; %s, or allow more with %s", e.Name, e.Most, cause, TimeVariable)
	}
	return fmt.Sprintf("read %s: its evaluation needs more than %s of memory; %s, or allow more with %s", e.Name, e.Most, cause, MemoryVariable)
}

// Evaluate judges src. After an error that is no [schema.Diagnostics] the text
// was not judged. After an *ExceededError without Apart, what was begun may
// still go on in this process: the process is to end soon, and Evaluate
// refuses to begin anything else.
func (e *Evaluator) Evaluate(ctx context.Context, src schema.Source) (*forge.Forge, schema.Diagnostics, error) {
	bounds := e.Bounds.effective()
	if e.Apart || !ordinary(src) {
		return e.apart(ctx, src, bounds)
	}
	if e.abandoned.Load() {
		return nil, nil, fmt.Errorf("read %s: not looked at, because what was read before it goes beyond all bounds", src.Name())
	}
	// A stack that overflows ends the process at once, with pages of text. It
	// is counted as memory, so let that bound be the first to be passed.
	before := debug.SetMaxStack(math.MaxInt32)
	defer debug.SetMaxStack(before)
	f, d, err := here(ctx, src, bounds, e.Load)
	if exceeded(err) || ctx.Err() != nil {
		e.abandoned.Store(true)
	}
	return f, d, err
}

// answer is what an evaluation comes to.
type answer struct {
	forge       *forge.Forge
	diagnostics schema.Diagnostics
	err         error
}

// look is the time between two looks at an evaluation. What needs less than
// one is not looked at.
const look = 10 * time.Millisecond

// here evaluates in this process. It returns when a bound is passed or ctx
// ends, and leaves the evaluation to itself then.
func here(ctx context.Context, src schema.Source, bounds Bounds, load Load) (*forge.Forge, schema.Diagnostics, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", src.Name(), context.Cause(ctx))
	}
	defer tune()()
	done := make(chan answer, 1)
	go func() {
		var a answer
		a.forge, a.diagnostics, a.err = load(context.WithoutCancel(ctx), src)
		done <- a
	}()
	late := time.NewTimer(bounds.Time)
	defer late.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	var w *watch
	for {
		select {
		case a := <-done:
			return a.forge, a.diagnostics, a.err
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("read %s: %w", src.Name(), context.Cause(ctx))
		case <-late.C:
			return nil, nil, tooLong(src, bounds)
		case <-tick.C:
			if w == nil {
				w = newWatch(bounds)
				defer w.stop()
			}
			if w.memory() > bounds.Memory {
				return nil, nil, tooLarge(src, bounds)
			}
		}
	}
}

func tooLong(src schema.Source, b Bounds) error {
	return &ExceededError{Name: src.Name(), Of: "time", Most: b.Time.String()}
}

func tooLarge(src schema.Source, b Bounds) error {
	return &ExceededError{Name: src.Name(), Of: "memory", Most: size(b.Memory)}
}
