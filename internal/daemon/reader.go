package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// maxRead is how long a read may take. What is read is bounded; what takes
// longer is a disk or a network that does not answer.
const maxRead = 30 * time.Second

// leave is how long what is under way may take to notice that it is to end.
const leave = time.Second

// errNoAnswer says the same every time: for a Watcher, other words are another
// reading.
var errNoAnswer = errors.New("the system does not answer; look at the disk or the network that it is on")

// reader reads one thing, and does not wait for ever. Nothing ends a read that
// the system does not answer, so it is left alone then, and the next one does
// not begin before it has ended: there is never more than one. It is used by
// one goroutine.
type reader struct {
	stuck <-chan Reading // what nobody waits for any more
}

func (r *reader) read(ctx context.Context, path string, f func() Reading) Reading {
	select {
	case <-r.stuck: // what it says is out of date
		r.stuck = nil
	default:
		if r.stuck != nil {
			return Reading{Err: fmt.Errorf("read %s: %w", path, errNoAnswer)}
		}
	}
	done := make(chan Reading, 1)
	go func() { done <- f() }()
	late := time.NewTimer(maxRead)
	defer late.Stop()
	select {
	case now := <-done:
		return now
	case <-late.C:
		r.stuck = done
		return Reading{Err: fmt.Errorf("read %s: %w", path, errNoAnswer)}
	case <-ctx.Done():
		r.stuck = done
		return Reading{Err: fmt.Errorf("read %s: %w", path, context.Cause(ctx))}
	}
}
