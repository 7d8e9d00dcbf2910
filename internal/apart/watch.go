package apart

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
)

// percent is how much garbage the work may leave beside what it keeps, of which
// there is much. The evaluation of a thousand environments takes a tenth less
// time with it than with the usual 100, and no more memory.
const percent = 150

// tune sets the collector up for the work; what it returns undoes that.
func tune() func() {
	before := debug.SetGCPercent(percent)
	if 0 <= before && before < percent {
		return func() { debug.SetGCPercent(before) }
	}
	debug.SetGCPercent(before) // somebody wants even less of it
	return func() {}
}

// watch looks at the memory of this process.
type watch struct {
	samples [2]metrics.Sample
	restore []func()
}

func newWatch(b Bounds) *watch {
	w := &watch{}
	w.samples[0].Name = "/memory/classes/total:bytes"
	w.samples[1].Name = "/memory/classes/heap/released:bytes"
	// Close to the bound the collector works harder, so that what passes the
	// bound is needed and not just left lying about.
	soft := int64(min(b.Memory/8*7, math.MaxInt64))
	if before := debug.SetMemoryLimit(-1); before > soft {
		debug.SetMemoryLimit(soft)
		w.restore = append(w.restore, func() { debug.SetMemoryLimit(before) })
	}
	// Should all of this be too slow, the system refuses more. That is no way
	// to end in the normal case: Go's runtime does not always say what it died
	// of then.
	w.restore = append(w.restore, limitMemory(hard(b)))
	return w
}

// memory is what the Go runtime holds of the system's memory, in bytes.
func (w *watch) memory() uint64 {
	metrics.Read(w.samples[:])
	return w.samples[0].Value.Uint64() - w.samples[1].Value.Uint64()
}

// hard is what the system is asked to refuse. What Go maps and does not touch
// counts as well.
func hard(b Bounds) uint64 { return 3 * b.Memory }

// stop undoes what newWatch has set up.
func (w *watch) stop() {
	for _, restore := range w.restore {
		restore()
	}
}
