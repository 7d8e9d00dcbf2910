package helm

import (
	"slices"
	"time"

	"forged.dev/forged/internal/reconcile"
)

const (
	// deadAfter is how long a record of another actor that is not terminal is
	// believed to belong to a running helm, counted from when it was seen to
	// change last. Helm's own default timeout is 5 minutes; after twice that
	// its process is taken for dead.
	deadAfter = 10 * time.Minute
	// While another actor's helm is at work, forged looks again after a pause
	// that grows from the first to the second.
	shortestPause = 250 * time.Millisecond
	longestPause  = 5 * time.Second
)

// sighting is since when something has been seen as it is, by the clock of
// this process: clocks of others may go wrong, or just differently.
type sighting struct {
	number int
	record revision
	since  time.Time
}

// alive tells whether the helm that wrote a record may still be at work on it.
// What is seen for the first time was written just now, for all we know.
func (u *unit) alive(r revision) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.foreign.record != r {
		u.foreign = sighting{record: r, since: time.Now()}
	}
	return time.Since(u.foreign.since) < u.dead
}

// pause is how long to stand aside before looking again.
func (u *unit) pause() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	return min(max(time.Since(u.foreign.since)/4, shortestPause), longestPause)
}

// waitedFor is how long a revision has been known here without being ready.
func (u *unit) waitedFor(number int) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.unready.number != number {
		u.unready = sighting{number: number, since: time.Now()}
	}
	return time.Since(u.unready.since)
}

// tell keeps the notices of the last rendering.
func (u *unit) tell(notices []reconcile.Notice) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.notices = notices
}

// told are the notices of the last rendering.
func (u *unit) told() []reconcile.Notice {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.notices)
}
