package kubernetes

import (
	"slices"
	"testing"
	"time"

	"forged.dev/forged/internal/reconcile"
)

// BenchmarkHeal measures from the answer to an edit by hand until the answer
// to the apply that puts it back: event, lookup of the difference, apply. The
// floor is the same without inventory and lookup.
func BenchmarkHeal(b *testing.B) {
	for _, floor := range []bool{true, false} {
		name := "forged"
		if floor {
			name = "floor"
		}
		b.Run(name, func(b *testing.B) {
			bed := newBed(b)
			id := releaseID("bench")
			obj := bed.configMap("c", `{a: "1"}`)
			entry := bed.own(id, obj)[0]
			bed.c.Stamp(obj, id)
			var took []time.Duration
			for b.Loop() {
				bed.edit(entry.Ref, "kubectl-edit", merge, `{"data":{"a":"2"}}`)
				start := time.Now()
				bed.event(id, causeLive)
				if !floor {
					if d := bed.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonEdited {
						b.Fatalf("drifts %+v", d)
					}
				}
				a, err := bed.c.Apply(b.Context(), obj)
				if err != nil {
					b.Fatal(err)
				}
				entry.Baseline = a.Baseline
				bed.inventory().Rebase(id, entry)
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
		})
	}
}
