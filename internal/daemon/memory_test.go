package daemon

import (
	"context"
	"runtime/debug"
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

func TestTrimMemoryRestoresTheCollector(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := TrimMemory(ctx, time.Second, func() <-chan struct{} { return nil }); err != nil {
		t.Fatal(err)
	}
	if now := debug.SetGCPercent(100); now != 100 {
		t.Errorf("GC percent %d afterwards", now)
	}
}
