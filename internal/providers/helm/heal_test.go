package helm

import (
	"slices"
	"testing"

	"forged.dev/forged/internal/reconcile"
)

// What a heal costs is what a burst of a thousand edits costs, a thousand times:
// who wrote what comes with the event, so that the object is not read before it
// is put back.
func TestHealIsThreeRequests(t *testing.T) {
	r := newRig(t)
	r.converge()
	r.untilReady() // nobody looks after pods any more
	r.caughtUp()
	r.eventually("all is written down", r.written)
	r.drain()
	r.patchMap(`{"data":{"level":"x"}}`)
	r.changed("ConfigMap " + r.env.Namespace + "/settings")
	before := r.requests.Load()
	steps, err := r.pass(t.Context(), r.request())
	if err != nil || len(steps) != 1 {
		t.Fatalf("steps %v, err %v", steps, err)
	}
	if n := r.requests.Load() - before; n != 3 {
		t.Errorf("%d requests, want two reads of Helm's records and an apply", n)
	}
	if s := steps[0]; s.Reason.Code != reconcile.ReasonEdited || s.Reason.Writer != "alice" || !slices.Equal(s.Reason.Paths, []string{"data.level"}) || s.Reason.At.IsZero() {
		t.Errorf("reason %+v", s.Reason)
	}
}

// A look that finds nothing happens for each release in each interval: a
// mapper, a hash or a document that is read anew each time adds up.
func TestQuietPassAllocates(t *testing.T) {
	r := newRig(t)
	r.converge()
	r.untilReady()
	req := r.request()
	got := testing.AllocsPerRun(200, func() {
		o, err := r.p.Observe(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if steps, err := r.p.Plan(t.Context(), req, o); err != nil || len(steps) > 0 {
			t.Fatalf("steps %v, err %v", steps, err)
		}
	})
	if most := 40.0; got > most {
		t.Errorf("%v allocations, at most %v", got, most)
	}
}
