package daemon

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		hanging, touched := false, 0
		check := Probe(5*time.Second, func() {
			touched++
			if hanging {
				<-hang
			}
		})
		must(t, check())
		must(t, check())
		hanging = true
		began := time.Now()
		for range 3 {
			if err := check(); err == nil {
				t.Fatal("a hanging scheduler passes for alive")
			}
		}
		if got := time.Since(began); got != 5*time.Second {
			t.Errorf("three checks took %s; those after the first know at once", got)
		}
		if touched != 3 {
			t.Errorf("touched %d times, want one for each answer and one that hangs", touched)
		}
		close(hang)
		synctest.Wait()
		hanging = false
		must(t, check())
		must(t, check())
		if touched != 4 {
			t.Errorf("touched %d times", touched)
		}
	})
}
