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
		p := flypostgres.NewManaged(r.Accounts())
		q := r.managed()
		r.Converge(p, q)
		events := make(chan reconcile.Event, 100)
		go func() {
			_ = p.Watch(r.t.Context(), func(ev reconcile.Event) { events <- ev }) // ends with the test
		}()
		r.Must(r.Somebody.DeletePostgres(r.t.Context(), r.clusters(clusterName)[0]))
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
			r.Must(err)
			time.Sleep(2 * time.Minute)
		}
		if n := looks() - before; n < 60 || n > 60+40 {
			r.t.Errorf("looked at %d times in two hours", n)
		}
	})
}

// A cluster that was made a moment ago, and that no answer tells of yet, is not
// made again.
func TestYoungClusterIsNotMadeAgain(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p, q := flypostgres.NewManaged(r.Accounts()), r.managed()
		o, err := p.Observe(r.t.Context(), q)
		r.Must(err)
		steps, err := p.Plan(r.t.Context(), q, o)
		r.Must(err)
		_, err = p.Apply(r.t.Context(), q, steps[0])
		r.Must(err)
		mends := []func(){
			r.Fault(flyemulator.Fault{Action: "postgres.get", Status: 404, Text: "cluster not found"}),
			r.Fault(flyemulator.Fault{Action: "postgres.list", Status: 200, Text: `{"data":[]}`}),
		}
		for range 4 {
			if _, err := flypostgres.NewManaged(r.Accounts()).Observe(r.t.Context(), q); reconcile.KindOf(err) != reconcile.Unavailable {
				r.t.Errorf("%v", err)
			}
		}
		for _, mend := range mends {
			mend()
		}
		time.Sleep(5 * time.Minute)
		r.Converge(flypostgres.NewManaged(r.Accounts()), q)
		if all := r.clusters(clusterName); len(all) != 1 {
			r.t.Errorf("%d clusters", len(all))
		}
	})
}
