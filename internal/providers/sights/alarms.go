package sights

import (
	"context"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// longestSleep is how long a timer runs at most. A machine that was asleep
// itself, or whose clock was put right, notices then; nobody is asked anything.
const longestSleep = time.Hour

// Alarm makes a resource be looked at again at a time; the zero time: no more.
// A resource has one alarm.
func (s *Sights) Alarm(id forge.ID, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.IsZero() {
		delete(s.alarms, id)
		return
	}
	if s.alarms[id].Equal(at) {
		return
	}
	s.alarms[id] = at
	for w := range s.watching {
		if w.kind == id.Kind {
			select {
			case w.wake <- struct{}{}:
			default: // it is awake
			}
		}
	}
}

// due takes the alarms of a kind whose time has come, and says how long it is
// to the next one. The caller holds mu.
func (s *Sights) due(kind string) (ids []forge.ID, next time.Duration) {
	next = longestSleep
	now := s.now()
	for id, at := range s.alarms {
		switch {
		case id.Kind != kind:
		case !at.After(now):
			ids = append(ids, id)
			delete(s.alarms, id)
		default:
			next = min(next, at.Sub(now))
		}
	}
	return ids, next
}

// Watch reports what happens to the sights of resources of a kind, and their
// alarms, until ctx ends.
func (s *Sights) Watch(ctx context.Context, kind string, notify func(reconcile.Event)) {
	w := &watching{kind: kind, notify: notify, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	s.watching[w] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watching, w)
		s.mu.Unlock()
	}()
	for {
		s.mu.Lock()
		ids, next := s.due(kind)
		s.mu.Unlock()
		for _, id := range ids {
			notify(reconcile.Event{ID: id, Cause: causeTime, At: time.Now(), Retry: true})
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-w.wake:
			timer.Stop()
		}
	}
}
