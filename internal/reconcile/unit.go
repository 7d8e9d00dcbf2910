package reconcile

import (
	"bytes"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
)

// unit is what the engine remembers of one resource. Engine.mu guards it.
type unit struct {
	id       forge.ID
	resource forge.Resource
	provider Provider
	orphan   bool // no longer wanted: to be removed

	dirty bool      // in the queue
	busy  bool      // a pass is under way
	event time.Time // when the oldest event not yet handled was seen
	epoch int       // grows with every reset: what a pass of an older one says of failures is void

	lookedAt  time.Time // when the last pass ended
	lookBegan time.Time // and when it began
	still     bool      // it found all as it is to be, and time alone changes nothing of that
	looked    bool      // a pass has come to its end since the last reset
	seen      bool      // was read at least once
	recorded  bool      // an inventory lists it: it is there, or was
	ready     bool      // in sync and serving, but for late steps: what needs it may roll out
	readyAt   time.Time // when it last came to be ready
	late      bool      // there are late steps outstanding
	outputs   Outputs
	told      map[string]string // those of them that the status shows

	inputs      map[forge.ID]Outputs // outputs of what it needs
	inputsFresh bool
	moved       bool // they have changed since its pass began

	attempts    int // failures in a row
	stales      int // stale answers in a row
	notBefore   time.Time
	retryAt     time.Time // for people; zero when nothing is scheduled but the interval
	progressing time.Time // since when it has not been ready; zero when it is
	bouts       map[string]*bout
	drifts      []driftKey // seen and reported
	permits     []string   // tokens of its outstanding steps that destroy data
	deletes     []string   // what its outstanding steps would delete
	deleteCount int        // objects, of these
	failedAt    time.Time  // the last failure
	lastError   string     // logged already

	last   *ActionStatus
	status *ResourceStatus
}

// driftKey tells one drift of a resource from another.
type driftKey struct {
	object string
	code   ReasonCode
	writer string
	at     time.Time
}

func keyOf(s Step) driftKey {
	return driftKey{s.Object, s.Reason.Code, s.Reason.Writer, s.Reason.At}
}

func newUnit(id forge.ID, now time.Time) *unit {
	return &unit{id: id, status: &ResourceStatus{
		ID: id, State: StateWaiting, Message: "not looked at yet", Since: now,
	}}
}

// reset forgets all failures: there is new config, or a new mode. What needs
// the unit waits until it has been looked at under them.
func (u *unit) reset(now time.Time) {
	u.epoch++
	u.attempts, u.stales = 0, 0
	u.notBefore, u.retryAt, u.progressing = time.Time{}, time.Time{}, time.Time{}
	u.bouts, u.lastError = nil, ""
	u.looked = false
	u.unsettle("not looked at since forge.cue has changed", now)
}

// retryNow ends a delay. What keeps saying so, a config that keeps changing or
// an event, must not defeat the backoff: not more than once a second.
func (u *unit) retryNow(now time.Time) {
	u.notBefore = time.Time{}
	if floor := u.failedAt.Add(retryFirst); now.Before(floor) {
		u.notBefore = floor
	}
}

// unsettle says that a unit has to be looked at before it may be called ready
// again. What is wrong with it stays said until then.
func (u *unit) unsettle(why string, now time.Time) {
	u.ready = false
	if u.status.State == StateReady {
		s := *u.status
		s.State, s.Message, s.Since = StateWaiting, why, now
		u.status = &s
	}
}

// plain are the outputs that a person may see and wants to: none that is secret,
// and none that only says that something else has changed.
func plain(outputs Outputs) map[string]string {
	var all map[string]string
	for name, o := range outputs {
		kind, _, _ := strings.Cut(name, "/")
		if !o.Secret.IsZero() || o.Value == "" || kind == forge.OutputChecksum || kind == "version" {
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = o.Value
	}
	return all
}

// equalOutputs compares values too, secret ones included.
func equalOutputs(a, b Outputs) bool {
	if len(a) != len(b) {
		return false
	}
	for name, x := range a {
		y, ok := b[name]
		if !ok || x.Value != y.Value || x.Secret.IsZero() != y.Secret.IsZero() {
			return false
		}
		if !x.Secret.IsZero() && !bytes.Equal(x.Secret.Reveal(), y.Secret.Reveal()) {
			return false
		}
	}
	return true
}
