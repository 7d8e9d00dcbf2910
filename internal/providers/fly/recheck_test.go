package fly_test

import (
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
)

// Whoever asks for a recheck does not wait for the listings: what is followed is
// told of, and read from Fly itself.
func TestRecheckReadsAnew(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		w := r.watch(a, forge.KindFlySecrets)
		org, err := a.Open(t.Context(), r.Account())
		r.must(err)
		r.MakeApp("one")
		th := &thing{id: numbered(0), topic: fly.Topic{App: "one", Section: fly.SectionSecrets}}
		a.Follow(th.id, r.Account(), th.topic)
		r.read(org, th)
		for range 30 {
			time.Sleep(30 * time.Second)
			r.read(org, th)
		}
		w.take()
		before := th.reads
		r.read(org, th)
		if th.reads != before {
			t.Fatal("read without a reason")
		}
		a.Recheck()
		if got := w.take(); got[th.id] == 0 {
			t.Errorf("told of %v", got)
		}
		r.read(org, th)
		if th.reads != before+1 {
			t.Errorf("read %d times after it was asked for", th.reads-before)
		}
	})
}
