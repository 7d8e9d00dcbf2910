package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"time"
)

// gcPercent trades a little processor time for memory: a daemon that sleeps
// most of its life beside others should be small.
const gcPercent = 50

// TrimMemory keeps the process small until ctx ends: the collector works
// earlier than by default, and each time the work that changed reports has
// rested for quiet, what it left behind is given back to the system. A GOGC in
// the environment is respected.
func TrimMemory(ctx context.Context, quiet time.Duration, changed func() <-chan struct{}) error {
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	}
	for {
		select {
		case <-changed():
		case <-ctx.Done():
			return nil
		}
		if !rested(ctx, quiet, changed) {
			return nil
		}
		debug.FreeOSMemory()
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
