package daemon

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		var hanging atomic.Bool
		var touched atomic.Int32
		check := Probe(5*time.Second, func() {
			touched.Add(1)
			if hanging.Load() {
				<-hang
			}
		})
		must(t, check())
		must(t, check())
		hanging.Store(true)
		began := time.Now()
		for range 3 {
			if err := check(); err == nil {
				t.Fatal("a hanging scheduler passes for alive")
			}
		}
		if got := time.Since(began); got != 5*time.Second {
			t.Errorf("three checks took %s; those after the first know at once", got)
		}
		if n := touched.Load(); n != 3 {
			t.Errorf("touched %d times, want one for each answer and one that hangs", n)
		}
		close(hang)
		synctest.Wait()
		hanging.Store(false)
		must(t, check())
		must(t, check())
		if n := touched.Load(); n < 4 {
			t.Errorf("touched %d times", n)
		}
	})
}
