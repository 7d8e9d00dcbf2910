package process

import (
	"os"
	"sync"
	"time"
)

// WatchParent calls gone once when the process that started this one ends. The
// function it returns ends the watch and waits until it has ended.
//
// A parent that is killed cannot say goodbye, so this asks the kernel: for a
// signal where there is one, and now and then for the parent's id, which
// changes when the parent ends.
func WatchParent(gone func()) (stop func()) {
	parent := os.Getppid()
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		signals, release := parentSignals()
		defer release()
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for os.Getppid() == parent {
			select {
			case <-signals:
			case <-ticker.C:
			case <-done:
				return
			}
		}
		gone()
	})
	return func() {
		close(done)
		watch.Wait()
	}
}
