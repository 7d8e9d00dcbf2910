package kubernetes

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// fakeClock goes on when it is told to.
type fakeClock struct {
	mu    sync.Mutex
	now   time.Time
	waits map[chan time.Time]time.Time
	asked chan struct{} // told about every wait
}

func newFakeClock() *fakeClock {
	return &fakeClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), waits: map[chan time.Time]time.Time{}, asked: make(chan struct{}, 1000)}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) After(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.waits[ch] = c.now.Add(d)
	select {
	case c.asked <- struct{}{}:
	default:
	}
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waits, ch)
	}
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for ch, at := range c.waits {
		if !at.After(c.now) {
			delete(c.waits, ch)
			ch <- c.now
		}
	}
}

// waiting is how many wait for a time.
func (c *fakeClock) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waits)
}

// stand waits until n wait for a time that is d from now.
func (c *fakeClock) stand(t testing.TB, d time.Duration, n int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		c.mu.Lock()
		found := 0
		for _, at := range c.waits {
			if at.Equal(c.now.Add(d)) {
				found++
			}
		}
		c.mu.Unlock()
		if found >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d wait for %s, want %d", found, d, n)
		}
		runtime.Gosched()
	}
}
