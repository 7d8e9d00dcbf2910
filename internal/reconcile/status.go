package reconcile

import (
	"errors"
	"slices"
	"time"

	"forged.dev/forged/internal/forge"
)

// State is how a resource, an environment or everything is, in one word.
type State string

// States, from the best to the worst as far as an environment is concerned:
// its state is the worst of its resources'.
const (
	StateReady       State = "ready"       // as desired, and serving
	StatePaused      State = "paused"      // not looked at, by policy
	StateOrphaned    State = "orphaned"    // forge.cue no longer asks for it; says nothing about the environment
	StateWaiting     State = "waiting"     // for something it needs, or not looked at yet
	StateProgressing State = "progressing" // as desired, on its way to serving
	StateDrifted     State = "drifted"     // there are steps that are not carried out now
	StateBlocked     State = "blocked"     // there are steps that need a person
	StateUnknown     State = "unknown"     // could not be read
	StateFailed      State = "failed"
)

var stateOrder = [...]State{
	StateReady, StatePaused, StateOrphaned, StateWaiting, StateProgressing,
	StateDrifted, StateBlocked, StateUnknown, StateFailed,
}

// worse tells which of two states an environment shows.
func worse(a, b State) State {
	if slices.Index(stateOrder[:], a) >= slices.Index(stateOrder[:], b) {
		return a
	}
	return b
}

// Status is everything the engine knows, at one moment. It is shared: do not
// change what it points to. It holds no secret: only states, ids, paths and
// what providers say in words.
type Status struct {
	Version      uint64              `json:"version"` // grows with every change
	Generation   int                 `json:"generation"`
	Hash         string              `json:"hash"` // of the active config
	State        State               `json:"state"`
	Environments []EnvironmentStatus `json:"environments"`
	History      []ActionStatus      `json:"history"` // the newest last
}

// EnvironmentStatus is one environment.
type EnvironmentStatus struct {
	Name      string            `json:"name"`
	Platform  string            `json:"platform"`
	Target    string            `json:"target"`
	Mode      forge.Mode        `json:"mode"`
	State     State             `json:"state"`
	Error     *ErrorStatus      `json:"error,omitempty"` // what is owned could not be listed
	Lease     *LeaseStatus      `json:"lease,omitempty"` // who acts; nil while nobody has asked
	Resources []*ResourceStatus `json:"resources"`       // what is needed stands before what needs it
}

// ResourceStatus is one resource.
type ResourceStatus struct {
	ID         forge.ID          `json:"id"`
	State      State             `json:"state"`
	Message    string            `json:"message,omitempty"`
	Since      time.Time         `json:"since"` // when it came into this state
	Objects    int               `json:"objects"`
	Outputs    map[string]string `json:"outputs,omitempty"` // what it makes that others need and that is no secret
	Steps      []StepStatus      `json:"steps,omitempty"`   // outstanding
	WaitingFor string            `json:"waitingFor,omitempty"`
	Error      *ErrorStatus      `json:"error,omitempty"`
	NextRetry  time.Time         `json:"nextRetry,omitzero"`
	LastAction *ActionStatus     `json:"lastAction,omitempty"`
	Fight      string            `json:"fight,omitempty"`
	Notices    []Notice          `json:"notices,omitempty"`
	Expires    time.Time         `json:"expires,omitzero"` // of what it stands for
}

// ErrorStatus is an error as people see it.
type ErrorStatus struct {
	Kind ErrorKind `json:"kind"`
	Text string    `json:"text"`
	Hint string    `json:"hint,omitempty"`
}

// ActionStatus is a step that was carried out, or was tried.
type ActionStatus struct {
	ID      forge.ID  `json:"id"`
	Action  Action    `json:"action"`
	Object  string    `json:"object,omitempty"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
	Seconds float64   `json:"seconds"`
	Error   string    `json:"error,omitempty"`
}

const historyLen = 200

func errorStatus(err error) *ErrorStatus {
	if err == nil {
		return nil
	}
	s := &ErrorStatus{Kind: KindOf(err), Text: err.Error()}
	var e *Error
	if errors.As(err, &e) {
		s.Hint = e.Hint
	}
	return s
}

// Status is what the engine knows now. It costs next to nothing when nothing
// has changed since the last call.
func (e *Engine) Status() Status {
	if s := e.snapshot.Load(); s != nil && s.Version == e.version.Load() {
		return *s
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.assemble()
	e.snapshot.Store(s)
	return *s
}

// Changed is closed when the status is no longer the one that Status returned
// before the call, or becomes so. Ask for the channel first, then for the status.
func (e *Engine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.changed
}

// touch marks the status as changed. The caller holds mu.
func (e *Engine) touch() {
	e.version.Add(1)
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

// assemble makes a Status. The caller holds mu.
func (e *Engine) assemble() *Status {
	s := &Status{Version: e.version.Load(), State: StateReady, History: slices.Clone(e.history)}
	gen := e.gen.Load()
	if gen == nil {
		s.State = StateWaiting
		return s
	}
	s.Generation, s.Hash = gen.Number, gen.Hash
	orphans := map[string][]*ResourceStatus{}
	for _, id := range sortedKeys(e.units) {
		if u := e.units[id]; u.orphan {
			orphans[id.Environment] = append(orphans[id.Environment], u.status)
		}
	}
	for _, spec := range gen.Environments {
		env := gen.environments[spec.Name]
		es := EnvironmentStatus{
			Name: env.Name, Platform: env.Platform, Target: env.Target,
			Mode: env.Policy.Mode, State: StateReady, Lease: e.leaseOf(env.Name),
			Resources: make([]*ResourceStatus, 0, env.graph.Len()),
		}
		for _, id := range env.graph.order {
			es.Resources = append(es.Resources, e.units[id].status)
		}
		es.Resources = append(es.Resources, orphans[env.Name]...)
		for _, r := range es.Resources {
			if r.State != StateOrphaned {
				es.State = worse(es.State, r.State)
			}
		}
		if sw := e.sweeps[env.Name]; sw != nil && sw.err != nil && sw.waits == (forge.ID{}) {
			es.Error = errorStatus(sw.err)
			es.State = worse(es.State, StateUnknown)
		}
		if env.Policy.Mode == forge.ModePaused {
			es.State = StatePaused
		}
		s.State = worse(s.State, es.State)
		s.Environments = append(s.Environments, es)
	}
	return s
}

// remember adds to the history. The caller holds mu.
func (e *Engine) remember(a ActionStatus) {
	if len(e.history) >= historyLen {
		e.history = append(e.history[:0], e.history[1:]...)
	}
	e.history = append(e.history, a)
}
