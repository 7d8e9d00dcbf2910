// Package apart bounds what work may cost that cannot be cancelled and may ask
// for any amount of time and memory. The only sure end of such work is that of
// its process: here a child of the same binary, which leaves nothing behind.
package apart

import (
	"context"
	"errors"
	"math"
	"runtime/debug"
	"time"
)

// What work can exceed.
var (
	ErrTime   = errors.New("it takes too long")
	ErrMemory = errors.New("it needs too much memory")
	ErrDepth  = errors.New("it nests too deep")
	ErrAnswer = errors.New("it comes to too much")
)

// look is the time between two looks at work. What needs less than one is not
// looked at.
const look = 10 * time.Millisecond

// Here does work in this process. It returns ErrTime or ErrMemory when a bound
// is passed, and the cause when ctx ends, and leaves the work to itself then.
func Here(ctx context.Context, b Bounds, work func(context.Context)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	defer tune()()
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(context.WithoutCancel(ctx))
	}()
	late := time.NewTimer(b.Time)
	defer late.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	var w *watch
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return ErrTime
		case <-tick.C:
			if w == nil {
				w = newWatch(b)
				defer w.stop()
			}
			if w.memory() > b.Memory {
				return ErrMemory
			}
		}
	}
}

// Confine prepares a child for its work, within bounds that the system and the
// runtime keep; what it returns undoes what stands in the way of an answer.
func Confine(b Bounds) func() {
	debug.SetGCPercent(100) // environment has turned it off
	debug.SetMaxStack(int(min(b.Memory, math.MaxInt32)))
	return limitMemory(hard(b))
}

// Volunteer has the system end this process before others when it runs out of
// memory.
func Volunteer() { volunteer() }
