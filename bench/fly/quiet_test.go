package fly_test

import (
	"fmt"
	"testing"
	"time"
)

// renewals are the requests that leases cost: each is asked for again before it
// ends.
const renewals = "lease.create"

// TestQuiet: 200 apps with 600 machines, of which some are ours, or all.
func TestQuiet(t *testing.T) {
	apps := size(8, 200)
	for _, of := range []struct{ ours, ticks int }{
		{size(2, 10), size(100, 1000)},
		{apps, size(100, 300)},
	} {
		t.Run(fmt.Sprintf("%d of %d", of.ours, apps), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				all := w.environments(of.ours)
				w.strangers(apps-of.ours, 3)
				end := w.run(all)
				w.ready(3 * time.Hour)
				for _, e := range all {
					w.deploy(e.Resources[0].ID.Name, 3)
				}
				where := fmt.Sprintf("fly: quiet tick, %d apps, %d machines, %d of them ours", apps, 3*apps, of.ours)
				renewed := w.quiet(where, of.ticks)
				end()

				// Without leases nothing is left but the tick.
				w.alone = true
				w.run(all)
				looked := w.quiet(where+", no leases", of.ticks)
				tell(t, result{
					Name: where + ": renewal of a lease, processor time", Value: (renewed - looked).Seconds() * 1e6 / float64(of.ours), Unit: "µs",
				})
			})
		})
	}
}

// quiet measures so many ticks in which nothing happens, and returns the
// processor time of one.
func (w *world) quiet(where string, ticks int) time.Duration {
	w.t.Helper()
	w.ready(time.Hour)
	time.Sleep(2 * time.Hour) // certificates are issued, everything was looked at
	w.ready(time.Hour)
	before, cpu, began := w.meter.seen(), w.meter.spent(), time.Now()
	time.Sleep(time.Duration(ticks) * 30 * time.Second)
	spent, made := w.meter.spent()-cpu, w.meter.seen().since(before)
	looked := made["org.machines"]
	if looked < ticks*9/10 || looked > ticks*11/10 {
		w.t.Fatalf("%s: %d looks in %s: %s", where, looked, time.Since(began), made)
	}
	each := float64(made.total(renewals)) / float64(looked)
	took := spent / time.Duration(looked)
	tell(w.t, result{
		Name: where + ": requests", Value: each, Unit: "/tick", Target: "1 to 2 /tick", Met: each <= 2,
		Note: fmt.Sprintf("%d ticks: %s", looked, made),
	})
	tell(w.t, result{
		Name: where + ": processor time", Value: took.Seconds() * 1000, Unit: "ms", Target: "< 20 ms", Met: took < 20*time.Millisecond,
	})
	if each > 2 {
		w.t.Errorf("%s: %.2f requests a tick: %s", where, each, made)
	}
	return took
}
