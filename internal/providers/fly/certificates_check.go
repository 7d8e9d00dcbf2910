package fly

import (
	"context"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// Fly looks at DNS when it is asked to, and by itself now and then. Who waits
// for somebody to change DNS asks soon, then less and less often.
const (
	againFirst = 10 * time.Second
	againMost  = 10 * time.Minute

	checkTimeout = time.Minute
)

// checks has Fly look at DNS for certificates that are not there yet. That
// changes nothing of what was asked for, but it is no look from aside either:
// it is done for what is acted on, and while somebody watches.
type checks struct {
	mu      sync.Mutex
	waiting map[forge.ID]*check
	wake    chan struct{}
}

// check is what is asked about one certificate.
type check struct {
	ask    func(context.Context) (api.Certificate, error)
	next   time.Time
	misses int       // in a row
	looked time.Time // when the engine did last
	found  *api.DNSRecords
}

func newChecks() *checks {
	return &checks{waiting: map[forge.ID]*check{}, wake: make(chan struct{}, 1)}
}

// found is what Fly has found in DNS when it was asked last; nil: it was not.
func (c *checks) found(id forge.ID) *api.DNSRecords {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.waiting[id]; w != nil {
		return w.found
	}
	return nil
}

// expect has Fly asked about a certificate from now on, not before a time.
func (c *checks) expect(id forge.ID, now, notBefore time.Time, ask func(context.Context) (api.Certificate, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waiting[id]
	if w == nil {
		w = &check{next: now.Add(againFirst)}
		c.waiting[id] = w
	}
	w.ask, w.looked = ask, now
	if w.next.Before(notBefore) {
		w.next = notBefore
	}
	select {
	case c.wake <- struct{}{}:
	default: // it is awake
	}
}

// done ends that.
func (c *checks) done(id forge.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

// due is the certificate that is asked about next, and when.
func (c *checks) due() (id forge.ID, ask func(context.Context) (api.Certificate, error), at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for one, w := range c.waiting {
		if time.Since(w.looked) > forgotten { // nobody wants it any more
			delete(c.waiting, one)
			continue
		}
		if at.IsZero() || w.next.Before(at) || w.next.Equal(at) && one.Compare(id) < 0 {
			id, ask, at = one, w.ask, w.next
		}
	}
	return id, ask, at
}

// run asks when it is time, until ctx ends.
func (c *checks) run(ctx context.Context, notify func(reconcile.Event)) {
	for {
		id, ask, at := c.due()
		if at.IsZero() {
			select {
			case <-c.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		if wait := time.Until(at); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-c.wake:
			case <-ctx.Done():
			}
			timer.Stop()
			if ctx.Err() != nil {
				return
			}
			continue // meanwhile nobody may wait any more
		}
		limited, cancel := context.WithTimeout(ctx, checkTimeout)
		answer, err := ask(limited)
		cancel()
		if c.asked(id, answer, err, time.Now()) {
			notify(reconcile.Event{ID: id, Cause: causeLive, At: time.Now(), Retry: true})
		}
	}
}

// asked takes down an answer, and tells whether somebody still waits for it.
func (c *checks) asked(id forge.ID, answer api.Certificate, err error, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waiting[id]
	if w == nil {
		return false
	}
	w.next = now.Add(min(againFirst<<min(w.misses, 10), againMost))
	w.misses++
	if err != nil {
		return false // whoever looks meets the same error, and tells it
	}
	if until := answer.RateLimitedUntil.Time; until.After(w.next) {
		w.next = until
	}
	w.found = answer.Found
	return true
}

// ask has Fly look at DNS now and then, as long as the certificate waits for
// something; it leaves that to whoever acts.
func (s *certificate) ask() {
	mode := s.Request.Policy.Mode
	acts := mode == forge.ModeApply || mode == forge.ModeHeal
	q := standing{host: s.spec.Hostname, own: s.kind() == entryCustom, live: s.live}
	if s.Request.Remove || !acts || s.live == nil || !s.has(s.kind(), s.app) || q.active() {
		s.provider.checks.done(s.ID())
		return
	}
	org, app, host, topic := s.Org, s.app, s.spec.Hostname, s.topic()
	s.provider.checks.expect(s.ID(), s.now, s.live.RateLimitedUntil.Time, func(ctx context.Context) (api.Certificate, error) {
		answer, err := org.Client().CheckCertificate(ctx, app, host)
		if err == nil {
			org.Touch(topic)
		}
		return answer, err
	})
}
