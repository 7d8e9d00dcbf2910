package reconcile

import (
	"slices"
	"time"
	_ "time/tzdata" // time zones mean the same on machines that have none

	"forged.dev/forged/internal/forge"
)

// opens is when changes may be made: now itself while a window is open, or
// where there are none, and otherwise when the next one opens. A window is a
// matter of the wall clock of its zone, in summer as in winter.
func opens(windows []forge.Window, now time.Time) time.Time {
	if len(windows) == 0 {
		return now
	}
	var next time.Time
	for _, w := range windows {
		zone, err := time.LoadLocation(w.Zone)
		if err != nil {
			continue // the language knows no such zone; a window that cannot be read is closed
		}
		local := now.In(zone)
		for day := -1; day <= 7; day++ { // yesterday's may still be open
			from := clock(local, day, w.From)
			to := clock(local, day, w.To)
			if w.To <= w.From {
				to = clock(local, day+1, w.To)
			}
			if len(w.Days) > 0 && !slices.Contains(w.Days, from.Weekday()) || !now.Before(to) {
				continue
			}
			if !now.Before(from) {
				return now
			}
			if next.IsZero() || from.Before(next) {
				next = from
			}
		}
	}
	if next.IsZero() {
		return now.Add(24 * time.Hour) // none of them could be read: that is no permission
	}
	return next
}

// clock is a time of day, some days after that of t.
func clock(t time.Time, days int, at time.Duration) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day()+days, int(at/time.Hour), int(at%time.Hour/time.Minute), 0, 0, t.Location())
}
