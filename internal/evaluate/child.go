package evaluate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"forged.dev/forged/internal/apart"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

// maxAnswer bounds what a child may say, in bytes: a thousand environments are a
// tenth of it.
const maxAnswer = 64 << 20

// apart evaluates in a child process.
func (e *Evaluator) apart(ctx context.Context, src schema.Source, bounds apart.Bounds) (*forge.Forge, schema.Diagnostics, error) {
	child := apart.Process{Args: e.Args, Bounds: bounds, Started: e.spawned}
	most := cmp.Or(e.maxAnswer, maxAnswer)
	var text []byte
	err := child.Talk(ctx, func(in io.Writer, out io.Reader) error {
		asked := ask(in, question{Source: src, Bounds: bounds})
		var err error
		if text, err = apart.ReadAll(out, most); err != nil {
			return err
		}
		return asked
	})
	if err == nil {
		a, sense := parseAnswer(text)
		if sense == nil {
			return a.forge, a.diagnostics, a.err
		}
		err = sense
	}
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("read %s: %w", src.Name(), context.Cause(ctx))
	}
	start, _ := errors.AsType[*apart.StartError](err)
	end, _ := errors.AsType[*apart.EndError](err)
	switch {
	case errors.Is(err, apart.ErrTime):
		err = tooLong(src, bounds)
	case errors.Is(err, apart.ErrMemory):
		err = tooLarge(src, bounds)
	case errors.Is(err, apart.ErrDepth):
		err = fmt.Errorf("read %s: its evaluation nests too deep; look for fields that refer to each other in a long chain, and for templates with many levels", src.Name())
	case errors.Is(err, apart.ErrAnswer):
		err = fmt.Errorf("read %s: it comes to more than %s", src.Name(), apart.Size(uint64(most)))
	case start != nil:
		err = &UnjudgedError{src.Name(), fmt.Errorf("start a process for its evaluation: %w", start)}
	case end != nil:
		err = &UnjudgedError{src.Name(), fmt.Errorf("the process that evaluates it %w", end)}
	default:
		err = &UnjudgedError{src.Name(), fmt.Errorf("the process that evaluates it made no sense: %w", err)}
	}
	return nil, nil, err
}
