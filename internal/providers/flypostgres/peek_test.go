package flypostgres_test

import (
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/flypostgres"
	"forged.dev/forged/internal/reconcile"
)

// What does not get well is looked at less and less often, and often again when
// it changes.
func TestTroubleIsLookedAtLessAndLess(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := flypostgres.NewManaged(r.accounts())
		q := r.managed()
		r.converge(p, q)
		events := make(chan reconcile.Event, 100)
		go func() {
			_ = p.Watch(r.t.Context(), func(ev reconcile.Event) { events <- ev }) // ends with the test
		}()
		r.must(r.Somebody.DeletePostgres(r.t.Context(), r.clusters(clusterName)[0]))
		time.Sleep(10 * time.Minute)
		looks := func() int {
			n := 0
			for _, q := range r.Requests() {
				if q.Action == "postgres.get" {
					n++
				}
			}
			return n
		}
		before := looks()
		for range 60 { // as often as the engine looks
			_, err := p.Observe(r.t.Context(), q)
			r.must(err)
			time.Sleep(2 * time.Minute)
		}
		if n := looks() - before; n < 60 || n > 60+40 {
			r.t.Errorf("looked at %d times in two hours", n)
		}
	})
}
