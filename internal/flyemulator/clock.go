package flyemulator

import (
	"container/heap"
	"time"
)

// clock is virtual time: it runs with real time, at its own speed, and jumps.
type clock struct {
	base   time.Time // virtual, when it was started
	begun  time.Time // real, when it was started
	factor float64
	pinned time.Time // while a transition happens: its own time
}

func (c *clock) start(at time.Time, factor float64) {
	c.base, c.begun, c.factor = at.UTC().Round(0), time.Now(), factor
}

// now is virtual. It has no monotonic part, so that it survives being saved.
func (e *Emulator) now() time.Time {
	if !e.clock.pinned.IsZero() {
		return e.clock.pinned
	}
	return e.clock.now()
}

func (c *clock) now() time.Time {
	return c.base.Add(time.Duration(float64(time.Since(c.begun)) * c.factor))
}

// Now is the virtual time.
func (e *Emulator) Now() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now()
}

// Advance jumps: everything that was to happen in d happens, in its order.
func (e *Emulator) Advance(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.advance(d)
}

func (e *Emulator) advance(d time.Duration) {
	e.clock.base = e.clock.base.Add(d)
	e.runDue()
	e.arm()
	e.wake()
}

// event is a transition that is yet to happen. Kind names the function; Turn
// lets it notice that something else happened meanwhile.
type event struct {
	At   time.Time
	Seq  uint64
	Kind string
	App  string `json:",omitempty"`
	ID   string `json:",omitempty"`
	Turn int    `json:",omitempty"`
	Data string `json:",omitempty"`
}

// agenda is a heap of events, the next one first.
type agenda []event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	if !a[i].At.Equal(a[j].At) {
		return a[i].At.Before(a[j].At)
	}
	return a[i].Seq < a[j].Seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(event)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// schedule has ev happen at a virtual time. It is called under e.mu.
func (e *Emulator) schedule(at time.Time, ev event) {
	ev.At, ev.Seq = at, e.next()
	heap.Push(&e.state.Agenda, ev)
	if e.state.Agenda[0].Seq == ev.Seq && e.clock.pinned.IsZero() {
		e.arm()
	}
}

// after is schedule from now on.
func (e *Emulator) after(d time.Duration, ev event) {
	e.schedule(e.now().Add(time.Duration(float64(d)/e.o.Pace)), ev)
}

// runDue has everything happen whose time has come.
func (e *Emulator) runDue() {
	if !e.clock.pinned.IsZero() {
		return
	}
	ran := false
	for len(e.state.Agenda) > 0 && !e.state.Agenda[0].At.After(e.now()) {
		ev := heap.Pop(&e.state.Agenda).(event)
		if !e.longPast(ev.At) {
			e.noteUnnoted()
		}
		e.clock.pinned = ev.At
		if f := e.kinds[ev.Kind]; f != nil {
			f(ev)
		}
		e.remember(ev.App)
		e.clock.pinned = time.Time{}
		ran = true
	}
	e.noteUnnoted()
	if ran {
		e.wake()
		e.arm()
	}
}

// arm sets the timer to the next event.
func (e *Emulator) arm() {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	if e.closed || len(e.state.Agenda) == 0 {
		return
	}
	e.timer = time.AfterFunc(e.real(e.state.Agenda[0].At.Sub(e.now())), func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.closed {
			e.runDue()
			e.arm()
		}
	})
}

// real is how long a virtual time takes.
func (e *Emulator) real(d time.Duration) time.Duration {
	d = time.Duration(float64(d) / e.clock.factor)
	if d < 0 {
		return 0
	}
	return d + 1 // never early by rounding
}

// wake lets everybody who waits look again.
func (e *Emulator) wake() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// await gives e.mu up until cond holds, and says whether it does: not when the
// virtual time until has come, the request was given up, or the emulator was
// closed. What c knew of the state before may have gone: look it up again.
func (e *Emulator) await(c *call, until time.Time, cond func() bool) bool {
	for {
		e.runDue()
		if c.r.Context().Err() != nil || e.closed {
			return false
		}
		if cond() {
			return true
		}
		left := until.Sub(e.now())
		if left <= 0 {
			return false
		}
		e.pause(c, left)
	}
}

// pause gives e.mu up until something happens, or for d.
func (e *Emulator) pause(c *call, d time.Duration) {
	changed, timer := e.changed, time.NewTimer(e.real(d))
	e.mu.Unlock()
	defer e.mu.Lock()
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-c.r.Context().Done():
	case <-e.done:
	}
}

// sleep lets d pass.
func (e *Emulator) sleep(c *call, d time.Duration) {
	e.await(c, e.now().Add(d), func() bool { return false })
}
