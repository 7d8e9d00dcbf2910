package chartsource

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// maxLooks is how many sources are looked at side by side.
const maxLooks = 4

// Recheck has every chart of this machine, and every source that has failed,
// looked at again: somebody says that something has changed.
func (s *Source) Recheck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.known {
		if e.req.Kind == kindPath || e.err != nil {
			e.again = true
		}
	}
	s.poke()
}

// poke says that a look may be due. The caller holds the mutex.
func (s *Source) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Watch looks at sources when it is time to, until ctx ends, and calls changed
// when one stands for another chart than before, or fails otherwise. While it
// runs, Load never waits for a source that it has an answer of.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	s.mu.Lock()
	s.watching++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.watching--
		s.mu.Unlock()
	}()
	for {
		due, next := s.next()
		if len(due) > 0 {
			if s.lookAll(ctx, due) {
				changed()
			}
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// next are the sources that are due, or how long it is until one is. A source
// that nobody has looked at yet is its caller's.
func (s *Source) next() (due []*entry, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	after = time.Hour
	now := s.now()
	for _, e := range s.known {
		if e.looked.IsZero() {
			continue
		}
		if wait := s.due(e).Sub(now); wait <= 0 {
			due = append(due, e)
		} else {
			after = min(after, wait)
		}
	}
	return due, after
}

func (s *Source) lookAll(ctx context.Context, due []*entry) (changed bool) {
	before := s.states(due)
	var g errgroup.Group
	g.SetLimit(maxLooks)
	for _, e := range due {
		g.Go(func() error {
			_ = s.look(ctx, e) // it has ended, and so do we
			return nil
		})
	}
	_ = g.Wait()
	for i, now := range s.states(due) {
		changed = changed || now != before[i]
	}
	return changed
}

// states are what Load would answer, comparable.
func (s *Source) states(entries []*entry) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var states []string
	for _, e := range entries {
		state := ""
		if e.loaded != nil {
			state = e.loaded.chart.Digest + e.loaded.chart.Lock
		}
		if e.err != nil {
			state += "!" + e.err.Error()
		}
		states = append(states, state)
	}
	return states
}
