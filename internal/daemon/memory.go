package daemon

import (
	"context"
	"runtime/debug"
	"time"
)

// TrimMemory keeps the process small until ctx ends: each time the work that
// changed reports has rested for quiet, what it left behind is given back to
// the system. The collector itself is left alone: running it more often costs
// a rollout a third of its processor time. After the first time, which is the
// end of the start, the pages of the program are let go of as well.
func TrimMemory(ctx context.Context, quiet time.Duration, changed func() <-chan struct{}) error {
	for started := false; ; started = true {
		select {
		case <-changed():
		case <-ctx.Done():
			return nil
		}
		if !rested(ctx, quiet, changed) {
			return nil
		}
		debug.FreeOSMemory()
		if !started {
			_ = letGoOfProgram() // where that cannot be done they stay
		}
	}
}

// rested waits until nothing has changed for quiet; false when ctx ended.
func rested(ctx context.Context, quiet time.Duration, changed func() <-chan struct{}) bool {
	for {
		timer := time.NewTimer(quiet)
		select {
		case <-timer.C:
			return true
		case <-changed():
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}
