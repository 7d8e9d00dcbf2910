package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRestedWaitsForQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ticks := make(chan struct{})
		changed := func() <-chan struct{} { return ticks }
		began := time.Now()
		go func() {
			for range 3 {
				time.Sleep(4 * time.Second)
				ticks <- struct{}{}
			}
		}()
		if !rested(t.Context(), 5*time.Second, changed) {
			t.Fatal("not rested")
		}
		if took := time.Since(began); took != 17*time.Second {
			t.Errorf("rested after %s, want 5s after the last change at 12s", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if rested(ctx, time.Hour, changed) {
			t.Error("rested although the context ended")
		}
	})
}

func TestTrimMemoryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		ticks := make(chan struct{})
		go func() { ended <- TrimMemory(ctx, time.Second, func() <-chan struct{} { return ticks }) }()
		ticks <- struct{}{}
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
