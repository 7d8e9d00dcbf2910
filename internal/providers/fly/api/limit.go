package api

import (
	"context"
	"sync"
	"time"
)

// limit is how often something may be asked for.
type limit struct {
	every time.Duration // one request
	burst float64
}

// What Fly allows (Machines API docs, rate limits): one request a second for
// each action and identifier with bursts of three, five a second with bursts of
// ten for reading a machine, a hundred deletions of apps a minute. Clocks run
// differently, so the pace is a hundredth slower. Requests that left a second
// apart arrive closer together, so of each burst is left alone what falls due in
// that time.
var (
	usual       = limit{every: 1010 * time.Millisecond, burst: 2}
	readMachine = limit{every: 202 * time.Millisecond, burst: 6}
	deleteApp   = limit{every: 632 * time.Millisecond, burst: 3}
)

func limitOf(action string) limit {
	switch action {
	case "machine.get":
		return readMachine
	case "app.delete":
		return deleteApp
	default:
		return usual
	}
}

// limited is what has a limit of its own.
type limited struct{ action, ident string }

// limiter holds everybody to the limits, in the order in which they came.
type limiter struct {
	mu      sync.Mutex
	began   time.Time
	buckets map[limited]*bucket
	sweepAt int
}

// bucket holds what may be asked for at once. Who has its turn is the only one
// who takes from it; the others stand in line behind.
type bucket struct {
	limit limit
	turn  chan struct{}
	users int // who wait or take

	tokens float64
	at     time.Time // when there were so many tokens
	closed time.Time // nobody takes before
}

const sweepFrom = 1024

func newLimiter(now time.Time) *limiter {
	return &limiter{began: now, buckets: map[limited]*bucket{}, sweepAt: sweepFrom}
}

// wait returns when a request may be sent, or ctx ends.
func (l *limiter) wait(ctx context.Context, key limited) error {
	b := l.enter(key)
	defer l.leave(b)
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-b.turn }()
	for {
		delay := l.take(b)
		if delay <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (l *limiter) enter(key limited) *bucket {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[key]
	if !ok {
		l.sweep()
		// Somebody else, this program before it was started again perhaps,
		// may have used up what Fly allows just before this one began.
		b = &bucket{limit: limitOf(key.action), turn: make(chan struct{}, 1), tokens: 1, at: l.began}
		l.buckets[key] = b
	}
	b.users++
	return b
}

func (l *limiter) leave(b *bucket) {
	l.mu.Lock()
	b.users--
	l.mu.Unlock()
}

// take takes one token, or tells how long there will be none.
func (l *limiter) take(b *bucket) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if wait := b.closed.Sub(now); wait > 0 {
		return wait
	}
	b.fill(now)
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	return time.Duration((1-b.tokens)*float64(b.limit.every)) + time.Millisecond
}

func (b *bucket) fill(now time.Time) {
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(b.limit.burst, b.tokens+float64(passed)/float64(b.limit.every))
	}
	b.at = now
}

// refused is told when Fly refused a request in spite of all: others use the
// same limit. Nobody asks before the time is over.
func (l *limiter) refused(key limited, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[key]
	if !ok {
		return
	}
	now := time.Now()
	b.fill(now)
	b.tokens = 0
	if until := now.Add(after); until.After(b.closed) {
		b.closed = until
	}
}

// sweep forgets who has as many tokens as one who was never seen.
func (l *limiter) sweep() {
	if len(l.buckets) < l.sweepAt {
		return
	}
	now := time.Now()
	for key, b := range l.buckets {
		b.fill(now)
		fresh := bucket{limit: b.limit, tokens: 1, at: l.began}
		fresh.fill(now)
		if b.users == 0 && b.tokens >= fresh.tokens && now.After(b.closed) {
			delete(l.buckets, key)
		}
	}
	l.sweepAt = max(sweepFrom, 2*len(l.buckets))
}
