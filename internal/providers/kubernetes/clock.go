package kubernetes

import "time"

// clock is time as it is asked for; tests have one of their own.
type clock interface {
	Now() time.Time
	// After fires once after d; stop gives it up.
	After(d time.Duration) (fires <-chan time.Time, stop func())
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// since is how long ago t was, by the clock that shows more: the monotonic one
// stands still while a machine sleeps, and the one on the wall may be set back.
func since(c clock, t time.Time) time.Duration {
	now := c.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}
