package evaluate

import (
	"context"
	"fmt"
	"time"

	"forged.dev/forged/internal/apart"
)

// Read waits for f, which reads the text called name, until ctx ends or limit
// is over; 0: there is no limit. Nothing ends a read that the system does not
// answer: after an error of Read's own, f may still be at it, and the process
// is to end soon.
func Read[T any](ctx context.Context, name string, limit time.Duration, f func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	var none T
	if ctx.Err() != nil {
		return none, fmt.Errorf("read %s: %w", name, context.Cause(ctx))
	}
	var late <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := f()
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		return none, fmt.Errorf("read %s: %w", name, context.Cause(ctx))
	case <-late:
		return none, fmt.Errorf("read %s: the system does not answer within %s; look at the disk or the network that it is on, or allow more with %s", name, limit, apart.TimeVariable)
	}
}
