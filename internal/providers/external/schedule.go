package external

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// pace is how often somebody else's service is asked.
type pace struct {
	fine   time.Duration // while it answers as it should
	first  time.Duration // after the first bad answer; twice as long each time, at most as long as fine
	again  time.Duration // at least between two questions, whoever looks
	limit  time.Duration // for one question
	forget time.Duration // an answer that nobody has looked at for so long is not kept up to date
}

func usualPace() pace {
	return pace{fine: 5 * time.Minute, first: 30 * time.Second, again: 10 * time.Second, limit: 10 * time.Second, forget: 30 * time.Minute}
}

// schedule keeps answers of somebody else's services, so that looking costs
// nothing, and asks for them again when it is time. A is the answer.
type schedule[A any] struct {
	pace  pace
	cause string
	good  func(A) bool

	mu    sync.Mutex
	kept  map[forge.ID]*kept[A]
	moved chan struct{} // holds one when there may be something due earlier
}

// kept is the answer to one question.
type kept[A any] struct {
	print    [sha256.Size]byte // of the question
	ask      func(context.Context) A
	answer   A
	asked    time.Time
	due      time.Time
	looked   time.Time // when somebody last wanted to know
	failures int
	asking   bool
}

// mostAsked is how many services are asked at a time.
const mostAsked = 8

func newSchedule[A any](p pace, cause string, good func(A) bool) *schedule[A] {
	return &schedule[A]{pace: p, cause: cause, good: good, kept: map[forge.ID]*kept[A]{}, moved: make(chan struct{}, 1)}
}

// get is the answer to a question, which has this fingerprint. It asks if it
// has none, if a bad one is not quite new, or if nobody has asked when it was
// time. An error is about ctx.
func (s *schedule[A]) get(ctx context.Context, id forge.ID, print [sha256.Size]byte, ask func(context.Context) A) (A, error) {
	s.mu.Lock()
	k := s.kept[id]
	at := time.Now()
	if k != nil && k.print == print {
		k.ask, k.looked = ask, at
		stale := at.After(k.due.Add(s.pace.limit)) || !s.good(k.answer) && at.Sub(k.asked) >= s.pace.again
		if !stale || k.asking {
			defer s.mu.Unlock()
			return k.answer, nil
		}
	}
	s.mu.Unlock()

	a, err := s.question(ctx, ask)
	if err != nil {
		return a, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k = s.kept[id]; k == nil || k.print != print {
		k = &kept[A]{print: print}
		s.kept[id] = k
	}
	k.ask, k.looked = ask, time.Now()
	s.settle(k, a)
	select {
	case s.moved <- struct{}{}:
	default:
	}
	return a, nil
}

// question asks once. What is cut off by the end of ctx is no answer.
func (s *schedule[A]) question(ctx context.Context, ask func(context.Context) A) (A, error) {
	limited, cancel := context.WithTimeout(ctx, s.pace.limit)
	defer cancel()
	a := ask(limited)
	return a, ctx.Err()
}

// settle takes down an answer. The caller holds mu.
func (s *schedule[A]) settle(k *kept[A], a A) {
	wait := s.pace.fine
	if s.good(a) {
		k.failures = 0
	} else {
		wait = min(s.pace.first<<min(k.failures, 10), s.pace.fine)
		k.failures++
	}
	// A little less each time, so that what began together does not go on so.
	wait -= time.Duration(rand.Float64() * 0.1 * float64(wait))
	k.answer, k.asked, k.asking = a, time.Now(), false
	k.due = k.asked.Add(wait)
}

// forget drops an answer.
func (s *schedule[A]) forget(id forge.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, id)
}

// watch asks when it is time, and has whoever is concerned look, until ctx
// ends.
func (s *schedule[A]) watch(ctx context.Context, notify func(reconcile.Event)) error {
	var all sync.WaitGroup
	defer all.Wait()
	slots := make(chan struct{}, mostAsked)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.moved:
		case <-timer.C:
		}
		ids, next := s.due()
		for _, id := range ids {
			all.Go(func() {
				select {
				case slots <- struct{}{}:
					defer func() { <-slots }()
				case <-ctx.Done():
				}
				s.renew(ctx, id, notify)
			})
		}
		timer.Reset(next)
	}
}

// due takes what is to be asked now, and says when there is more.
func (s *schedule[A]) due() (ids []forge.ID, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now()
	next = s.pace.fine
	for id, k := range s.kept {
		switch wait := k.due.Sub(at); {
		case k.asking:
		case wait > 0:
			next = min(next, wait)
		case at.Sub(k.looked) > s.pace.forget:
			delete(s.kept, id)
		default:
			k.asking = true
			ids = append(ids, id)
		}
	}
	return ids, next
}

// renew asks again, and tells.
func (s *schedule[A]) renew(ctx context.Context, id forge.ID, notify func(reconcile.Event)) {
	s.mu.Lock()
	k := s.kept[id]
	if k == nil {
		s.mu.Unlock()
		return
	}
	print, ask := k.print, k.ask
	s.mu.Unlock()

	a, err := s.question(ctx, ask)

	s.mu.Lock()
	same := s.kept[id] == k && k.print == print
	if k.asking = false; same && err == nil {
		s.settle(k, a)
	}
	s.mu.Unlock()
	select {
	case s.moved <- struct{}{}:
	default:
	}
	if same && err == nil {
		notify(reconcile.Event{ID: id, Cause: s.cause, At: time.Now(), Retry: s.good(a)})
	}
}
