package endpoint

import (
	"context"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// causeAnswer is the cause of events about another answer than before.
const causeAnswer = "answer"

// An endpoint that nobody has looked at for so long is brought to mind; one that
// nobody looks at then is not asked for any more.
const (
	remind    = 10 * time.Minute
	forgotten = 2 * remind
)

const longestSleep = time.Hour

// Watch implements reconcile.Provider: it asks when it is time to, and tells of
// answers that differ.
func (p *Provider) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	p.count(1)
	defer p.count(-1)
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { p.run(ctx, &all, notify) })
	return p.place.watch(ctx, notify)
}

func (p *Provider) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers += n
}

// stir has whoever watches look what is due.
func (p *Provider) stir() {
	select {
	case p.wake <- struct{}{}:
	default: // it is awake
	}
}

// run asks whoever is due, each by itself, until ctx ends.
func (p *Provider) run(ctx context.Context, all *sync.WaitGroup, notify func(reconcile.Event)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		ids, silent, next := p.due(time.Now())
		for _, id := range silent {
			notify(reconcile.Event{ID: id, Cause: causeAnswer, At: time.Now()})
		}
		for id, m := range ids {
			all.Go(func() {
				if p.begin(id, m, false) {
					p.ask(ctx, m)
					p.tell(id, m, notify)
					p.stir()
				}
			})
		}
		timer.Reset(next)
	}
}

// due takes those that are to be asked now, and those that nobody has looked at
// for long; it says when there are more.
func (p *Provider) due(now time.Time) (ids map[forge.ID]*memory, silent []forge.ID, next time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids, next = map[forge.ID]*memory{}, longestSleep
	for id, m := range p.known {
		idle := now.Sub(m.looked)
		switch {
		case idle >= forgotten:
			delete(p.known, id)
			p.place.forget(id)
			continue
		case idle < remind:
			next = min(next, remind-idle)
		default:
			next = min(next, forgotten-idle)
			if !m.reminded.After(m.looked) {
				m.reminded = now
				silent = append(silent, id)
			}
		}
		switch wait := m.due.Sub(now); {
		case m.asking || m.sight.host == "":
		case wait > 0:
			next = min(next, wait)
		default:
			ids[id] = m
		}
	}
	return ids, silent, next
}

// tell tells of an answer if it differs from what was said last.
func (p *Provider) tell(id forge.ID, m *memory, notify func(reconcile.Event)) {
	p.mu.Lock()
	now := time.Now()
	o := m.observed(now)
	quiet := p.known[id] != m || m.told == print(o)
	p.mu.Unlock()
	if !quiet {
		notify(reconcile.Event{ID: id, Cause: causeAnswer, At: now, Retry: o.Health.Status == reconcile.Ready})
	}
}
