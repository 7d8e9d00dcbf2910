package reconcile

import (
	"errors"
	"math/rand/v2"
	"time"
)

// Numbers of the retries.
const (
	retryFirst  = time.Second
	deniedFirst = 30 * time.Second
	retryMost   = 5 * time.Minute
	retryJitter = 0.2 // share of the delay that chance takes away
	staleInRow  = 5   // immediate attempts before a stale answer backs off
	everyJitter = 0.1 // share of the interval, both ways
)

// reaction is what follows from an error.
type reaction struct {
	now   bool          // come back at once
	after time.Duration // come back then; 0: not by itself
	block time.Duration // events before that do not count
}

// react decides by the kind of an error. attempts and stales count the
// failures in a row, this one included.
func react(err error, attempts, stales int) reaction {
	switch kind := KindOf(err); kind {
	case Waiting:
		return reaction{}
	case Stale:
		if stales <= staleInRow {
			return reaction{now: true}
		}
		d := backoff(retryFirst, stales-staleInRow)
		return reaction{after: d, block: d}
	case Invalid:
		// Only the world or a new config can help. Events are let through,
		// but never faster than the retries of other errors.
		return reaction{block: backoff(retryFirst, attempts)}
	case Throttled:
		d := throttledFor(err)
		if d <= 0 {
			d = backoff(retryFirst, attempts)
		}
		return reaction{after: d, block: d}
	case Denied:
		d := backoff(deniedFirst, attempts)
		return reaction{after: d, block: d}
	default:
		d := backoff(retryFirst, attempts)
		return reaction{after: d, block: d}
	}
}

// throttledFor is how long the other side told us to wait.
func throttledFor(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.After
	}
	return 0
}

// backoff doubles from first up to retryMost; chance makes it a little less,
// so that what failed together does not come back together.
func backoff(first time.Duration, attempt int) time.Duration {
	d := first
	for i := 1; i < attempt && d < retryMost; i++ {
		d *= 2
	}
	d = min(d, retryMost)
	return d - time.Duration(rand.Float64()*retryJitter*float64(d))
}

// around moves an interval by up to everyJitter of it, both ways.
func around(d time.Duration) time.Duration {
	return d + time.Duration((2*rand.Float64()-1)*everyJitter*float64(d))
}
