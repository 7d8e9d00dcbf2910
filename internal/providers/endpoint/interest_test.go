package endpoint

import (
	"testing"
	"time"

	"forged.dev/forged/internal/reconcile"
)

// What somebody wants to know is kept up to date, however seldom it is asked, and
// also while there is nobody to ask.
func TestItGoesOnWithTheInterest(t *testing.T) {
	bubble(t, func(s *scene) {
		s.set(func(now *sight) { *now = sight{there: true, balanced: true} })
		s.wants(reconcile.Progressing, "has no address yet")
		seldom := spec()
		seldom.Interval = 2 * time.Hour
		s.change(func(r *reconcile.Request) { r.Resource.Spec = seldom })
		time.Sleep(24 * time.Hour)
		if s.dropped > 0 {
			t.Error("it was forgotten before it had an address")
		}
		s.set(func(now *sight) { *now = balanced() })
		time.Sleep(time.Second)
		s.wants(reconcile.Ready, "")
		before := s.app.times()
		time.Sleep(24 * time.Hour)
		if n := s.app.times() - before; n < 11 || n > 13 || s.dropped > 0 {
			t.Errorf("asked %d times in a day, forgotten %d times", n, s.dropped)
		}
	})
}
