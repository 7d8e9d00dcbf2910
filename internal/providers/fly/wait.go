package fly

import (
	"context"
	"time"
)

// Pause waits; an error means that ctx ended before.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unseen is how long what was asked for without an answer is looked for before it
// is asked for again: the request may still be under way.
const Unseen = 30 * time.Second

// lookEvery is how often.
const lookEvery = 5 * time.Second

// LookFor looks for something until it is there or a time has come; there tells
// which. It looks once at least.
func LookFor[T any](ctx context.Context, until time.Time, look func(context.Context) (found T, there bool, err error)) (found T, there bool, err error) {
	for {
		if found, there, err = look(ctx); err != nil || there {
			return found, there, err
		}
		left := min(time.Until(until), lookEvery)
		if left <= 0 {
			return found, false, nil
		}
		if err := Pause(ctx, left); err != nil {
			return found, false, err
		}
	}
}
