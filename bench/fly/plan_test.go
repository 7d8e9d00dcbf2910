package fly_test

import (
	"fmt"
	"testing"
	"time"

	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// TestPlan: what `forged plan` costs when nothing is made yet, and when
// everything is. Fly thinks for three seconds about an app that is missing.
func TestPlan(t *testing.T) {
	for _, n := range []int{1, size(3, 10)} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				all := w.environments(n)
				what := fmt.Sprintf("fly: plan of %d resources in %d environments, ", resourcesOf(all), n)
				w.plans(what+"nothing made", all, true)
				end := w.run(all)
				w.ready(time.Hour)
				time.Sleep(time.Hour)
				w.ready(time.Hour)
				end()
				time.Sleep(10 * time.Minute)
				w.plans(what+"everything made", all, false)
			})
		})
	}
}

// plans measures one plan of a process that knows nothing yet.
func (w *world) plans(what string, all []reconcile.Environment, changes bool) {
	w.t.Helper()
	defer w.forged()()
	before, began := w.meter.seen(), time.Now()
	p, err := w.engine.Plan(w.t.Context(), w.generation(all), nil)
	took, made := time.Since(began), w.meter.seen().since(before)
	if err != nil || p.Failed() || p.Changes() != changes {
		w.t.Fatalf("%s: %+v, %v", what, p, err)
	}
	tell(w.t, result{Name: what, Value: took.Seconds(), Unit: "s"})
	tell(w.t, result{Name: what + ": requests", Value: float64(made.total()), Note: made.String()})
}

// theirs are secrets as somebody else sets them.
func theirs() map[string]*secret.Value {
	v := secret.New([]byte("somebody's own"))
	return map[string]*secret.Value{"API_KEY": &v}
}
