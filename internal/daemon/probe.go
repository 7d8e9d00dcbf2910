package daemon

import (
	"fmt"
	"sync"
	"time"
)

// Probe makes a check out of something that hangs when all is not well: touch
// must come back within limit. One touch at a time is under way, however often
// the check is asked, so that a hanging one costs one goroutine.
func Probe(limit time.Duration, touch func()) func() error {
	var mu sync.Mutex
	var done chan struct{} // of the touch under way
	var since time.Time
	return func() error {
		mu.Lock()
		if done == nil {
			done, since = make(chan struct{}), time.Now()
			go func(done chan struct{}) { touch(); close(done) }(done)
		}
		mine, began := done, since
		mu.Unlock()
		timer := time.NewTimer(limit - time.Since(began))
		defer timer.Stop()
		select {
		case <-mine:
		case <-timer.C:
			select {
			case <-mine:
			default:
				return fmt.Errorf("the scheduler has not answered for %s", time.Since(began).Round(time.Second))
			}
		}
		mu.Lock()
		if done == mine {
			done = nil
		}
		mu.Unlock()
		return nil
	}
}
