package flyemulator

import (
	"encoding/json"
	"time"
)

// Lag is how old what is read may be.
type Lag struct {
	Replica time.Duration // of what hangs on an app, for requests without the cookie fly_flaps_affinity
	Listing time.Duration // of the listings of an organization
}

// SetLag changes how old what is read may be.
func (e *Emulator) SetLag(l Lag) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.setLag(l)
}

func (e *Emulator) setLag(l Lag) {
	e.o.Lag = l
	clear(e.past)
	clear(e.listed)
	e.rememberAll()
}

// past is an app as it was from a time on.
type past struct {
	at  time.Time
	raw []byte // nil: there was none
}

// remember notes what an app is now, while replicas lag. Whoever changes an
// app outside of a request that names it in its path calls it.
func (e *Emulator) remember(name string) {
	if e.o.Lag.Replica <= 0 || name == "" {
		return
	}
	if e.longPast(e.now()) {
		e.unnoted[name] = e.now() // of a jump in time only the end is ever seen
		return
	}
	e.noteAt(name, e.now())
}

// longPast says whether every replica knows what happened at a time.
func (e *Emulator) longPast(at time.Time) bool {
	return at.Before(e.clock.now().Add(-e.o.Lag.Replica))
}

// noteUnnoted notes what the long past has come to.
func (e *Emulator) noteUnnoted() {
	for name, at := range e.unnoted {
		e.noteAt(name, at)
	}
	clear(e.unnoted)
}

func (e *Emulator) noteAt(name string, at time.Time) {
	var raw []byte
	if a := e.state.Apps[name]; a != nil {
		raw, _ = json.Marshal(a)
	}
	all := append(e.past[name], past{at, raw})
	old := 0 // the newest that everybody has seen stays; what is before it goes
	for i, p := range all {
		if e.longPast(p.at) {
			old = i
		}
	}
	e.past[name] = all[old:]
}

func (e *Emulator) rememberAll() {
	for name := range e.state.Apps {
		e.remember(name)
	}
}

// replica is the app as the request sees it: as it is with the cookie of one
// who has been here, and as it was without.
func (e *Emulator) replica(c *call, a *app) *app {
	if e.o.Lag.Replica <= 0 {
		return a
	}
	if k, err := c.r.Cookie("fly_flaps_affinity"); err == nil && k.Value == a.Affinity {
		return a
	}
	all := e.past[a.Name]
	seen := -1
	for i, p := range all {
		if !p.at.After(e.now().Add(-e.o.Lag.Replica)) {
			seen = i
		}
	}
	switch {
	case seen < 0 && a.Created.After(e.now().Add(-e.o.Lag.Replica)):
		return nil // not yet heard of
	case seen < 0 && len(all) > 0:
		seen = 0
	case seen < 0:
		return a
	}
	if all[seen].raw == nil {
		return nil
	}
	old := new(app)
	if err := json.Unmarshal(all[seen].raw, old); err != nil {
		panic("flyemulator: an app does not read back: " + err.Error())
	}
	return old
}
