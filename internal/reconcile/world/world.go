// Package world is a small simulated place for resources to live in, with a
// provider for it. It has objects with an owner, outputs, health that takes
// its time, failures, lost answers and rivals that can be scripted. The tests
// of the engine, and of what is built on the engine, run against it.
//
// A resource of the world is a forge.ReleaseSpec whose Values map the names of
// its objects to their contents, all strings. Every resource has the outputs
// "url", which is known once it is ready, and "password", which is secret.
package world

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// Us is the writer that the provider is.
const Us = "forged"

// Volume is how the names of objects begin that hold data.
const Volume = "volume"

// Object is one thing that lives in the world.
type Object struct {
	Value  string
	Writer string // who wrote it last
	UID    int    // another one after it was deleted and made again
}

// Call is one call of a provider method that reached the world.
type Call struct {
	Op string // observe, plan, apply, follows
	ID forge.ID
	At time.Time
}

// World holds the objects and is the provider for them. Make it with New; its
// methods may be called from any goroutine.
type World struct {
	mu      sync.Mutex
	live    map[forge.ID]map[string]Object
	owned   map[forge.ID]*record // the inventory
	health  map[forge.ID]reconcile.Health
	notices map[forge.ID][]reconcile.Notice
	slow    map[forge.ID]time.Duration
	rev     map[forge.ID]int
	uids    int
	busy    map[forge.ID]bool
	calls   []Call
	counts  map[string]int
	notify  func(reconcile.Event)
	early   []reconcile.Event
	deaf    bool // its events are lost
	follows bool
	faults  map[string]func() error
	lost    map[forge.ID]int
	cut     int               // writes until every call fails; negative: never
	rivals  map[string]string // "id object" → the value the rival wants
	wrong   []string          // what must never happen and did
}

// record is the inventory entry of one resource.
type record struct {
	resource forge.Resource
	values   map[string]string // as applied last
	uids     map[string]int
	ready    time.Time
	pending  bool // an apply has begun and not ended
}

// New makes an empty world.
func New() *World {
	return &World{
		live: map[forge.ID]map[string]Object{}, owned: map[forge.ID]*record{},
		health: map[forge.ID]reconcile.Health{}, notices: map[forge.ID][]reconcile.Notice{}, slow: map[forge.ID]time.Duration{},
		rev: map[forge.ID]int{}, busy: map[forge.ID]bool{}, counts: map[string]int{},
		faults: map[string]func() error{}, lost: map[forge.ID]int{}, cut: -1, rivals: map[string]string{},
	}
}

var (
	_ reconcile.Provider = (*World)(nil)
	_ reconcile.Owner    = (*World)(nil)
	_ reconcile.Follower = (*World)(nil)
)

// values is what a request asks for, with its inputs put in.
func values(r reconcile.Request) (map[string]string, error) {
	spec, ok := r.Resource.Spec.(forge.ReleaseSpec)
	if !ok {
		return nil, reconcile.Errorf(reconcile.Invalid, "plan", "the world knows no %T", r.Resource.Spec)
	}
	out := make(map[string]string, len(spec.Values))
	for name, v := range spec.Values {
		out[name] = fmt.Sprint(v)
	}
	for _, in := range spec.Inputs {
		o, ok := r.Inputs[in.From][in.Output]
		if !ok {
			return nil, reconcile.WaitingFor(in.From, in.Output)
		}
		if !o.Secret.IsZero() {
			o.Value = string(o.Secret.Reveal())
		}
		out[in.Path[0]] = o.Value
	}
	return out, nil
}

// Observe implements reconcile.Provider.
func (w *World) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	id := r.Resource.ID
	if err := w.enter("observe", id); err != nil {
		return reconcile.Observed{}, err
	}
	defer w.leave(id)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.observed(id), ctx.Err()
}

func (w *World) observed(id forge.ID) reconcile.Observed {
	rec := w.owned[id]
	if rec == nil {
		return reconcile.Observed{Health: reconcile.Health{Status: reconcile.Progressing, Message: "not there"}}
	}
	o := reconcile.Observed{
		Exists: true, Objects: len(rec.values),
		Health: reconcile.Health{Status: reconcile.Ready}, Notices: w.notices[id],
	}
	switch h, set := w.health[id]; {
	case set:
		o.Health = h
	case rec.ready.After(time.Now()):
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "starting"}
	}
	if o.Health.Status == reconcile.Ready {
		o.Outputs = reconcile.Outputs{
			"url":      {Value: "world://" + id.Name},
			"password": {Secret: secret.New([]byte(Password(id)))},
		}
	}
	return o
}

// Password is the secret output of a resource.
func Password(id forge.ID) string { return "canary-" + id.Name }

// Plan implements reconcile.Provider.
func (w *World) Plan(ctx context.Context, r reconcile.Request, _ reconcile.Observed) ([]reconcile.Step, error) {
	id := r.Resource.ID
	if err := w.enter("plan", id); err != nil {
		return nil, err
	}
	defer w.leave(id)
	w.mu.Lock()
	defer w.mu.Unlock()
	rec := w.owned[id]
	step := reconcile.Step{ID: id, Token: fmt.Sprint(w.rev[id])}
	if r.Remove {
		if rec == nil {
			return nil, nil
		}
		step.Action, step.Deletes = reconcile.ActionDelete, max(1, len(rec.values))
		step.Reason.Code = reconcile.ReasonUnwanted
		for _, name := range slices.Sorted(maps.Keys(rec.values)) {
			if strings.HasPrefix(name, Volume) {
				step.Destroys = append(step.Destroys, name)
			}
		}
		return []reconcile.Step{step}, nil
	}
	want, err := values(r)
	if err != nil {
		if rec != nil && !rec.pending {
			if steps := w.heals(id, rec, step); len(steps) > 0 {
				return steps, nil // what was applied last can be put back without them
			}
		}
		return nil, err
	}
	switch {
	case rec == nil:
		step.Action, step.Reason.Code = reconcile.ActionCreate, reconcile.ReasonAbsent
		return []reconcile.Step{step}, nil
	case rec.pending:
		step.Action, step.Reason.Code = reconcile.ActionRepair, reconcile.ReasonInterrupted
		return []reconcile.Step{step}, nil
	case !maps.Equal(rec.values, want):
		step.Action, step.Reason.Code = reconcile.ActionUpdate, reconcile.ReasonConfig
		for _, name := range slices.Sorted(maps.Keys(rec.values)) {
			if _, kept := want[name]; !kept {
				step.Deletes++
			}
		}
		return []reconcile.Step{step}, ctx.Err()
	}
	return w.heals(id, rec, step), ctx.Err()
}

// heals finds where live is not what was applied last.
func (w *World) heals(id forge.ID, rec *record, step reconcile.Step) (steps []reconcile.Step) {
	for _, name := range slices.Sorted(maps.Keys(rec.values)) {
		live, there := w.live[id][name]
		s := step
		s.Action, s.Object = reconcile.ActionHeal, name
		s.Reason.Writer = live.Writer
		switch {
		case !there:
			s.Reason.Code = reconcile.ReasonDeleted
		case live.UID != rec.uids[name]:
			s.Reason.Code = reconcile.ReasonReplaced
		case live.Value != rec.values[name]:
			s.Reason.Code, s.Reason.Paths = reconcile.ReasonEdited, []string{"value"}
			s.Changes = []reconcile.Change{{Path: "value"}} // could be secret: no values
		default:
			continue
		}
		steps = append(steps, s)
	}
	return steps
}

// Apply implements reconcile.Provider.
func (w *World) Apply(ctx context.Context, r reconcile.Request, s reconcile.Step) (reconcile.Observed, error) {
	id := r.Resource.ID
	if err := w.enter("apply", id); err != nil {
		return reconcile.Observed{}, err
	}
	defer w.leave(id)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return w.observed(id), err
	}
	rec := w.owned[id]
	// One pass may hold several heals computed against one revision: only
	// somebody else's change makes a step stale.
	if s.Token != fmt.Sprint(w.rev[id]) {
		return w.observed(id), reconcile.Errorf(reconcile.Stale, "apply", "revision is %d, planned against %s", w.rev[id], s.Token)
	}
	switch s.Action {
	case reconcile.ActionDelete:
		if rec == nil {
			break
		}
		for _, name := range slices.Sorted(maps.Keys(rec.values)) {
			if !w.spend() {
				return w.observed(id), errCut
			}
			w.remove(id, name, rec)
		}
		delete(w.owned, id)
	case reconcile.ActionHeal:
		if rec == nil || !w.spend() {
			return w.observed(id), errCut
		}
		w.write(id, s.Object, rec.values[s.Object], rec)
	default:
		want, err := values(r)
		if err != nil {
			return w.observed(id), err
		}
		if !w.rollout(id, r.Resource, want) {
			return w.observed(id), errCut
		}
	}
	if w.lost[id] > 0 {
		w.lost[id]--
		return reconcile.Observed{}, reconcile.Errorf(reconcile.Unavailable, "apply", "connection cut before the answer")
	}
	return w.observed(id), nil
}

// errCut is what every call gets once the connection is cut.
var errCut = reconcile.Errorf(reconcile.Unavailable, "call", "connection cut")

// spend takes one write of those left before the cut.
func (w *World) spend() bool {
	if w.cut > 0 {
		w.cut--
		return true
	}
	return w.cut < 0
}

// rollout makes live what is wanted, and tells whether it came to its end. The
// inventory knows of it before the first object is touched.
func (w *World) rollout(id forge.ID, r forge.Resource, want map[string]string) bool {
	rec := w.owned[id]
	if rec == nil {
		if !w.spend() {
			return false
		}
		rec = &record{uids: map[string]int{}}
		w.owned[id] = rec
	}
	old := rec.values
	rec.resource, rec.pending = r, true
	rec.values = maps.Clone(want)
	maps.Copy(rec.values, old) // what is there and what is to come: all of it is ours
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if _, kept := want[name]; !kept {
			if !w.spend() {
				return false
			}
			w.remove(id, name, rec)
			delete(rec.values, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		live, there := w.live[id][name]
		if !there || live.Value != want[name] || live.UID != rec.uids[name] {
			if !w.spend() {
				return false
			}
			w.write(id, name, want[name], rec)
		}
	}
	rec.values, rec.pending = want, false
	rec.ready = time.Now().Add(w.slow[id])
	if d := w.slow[id]; d > 0 {
		time.AfterFunc(d, func() { w.Event(id, "health") })
	}
	return true
}

// write is one of our own writes.
func (w *World) write(id forge.ID, name, value string, rec *record) {
	o := w.live[id][name]
	if o.UID == 0 {
		w.uids++
		o.UID = w.uids
	}
	o.Value, o.Writer = value, Us
	w.put(id, name, o)
	rec.uids[name] = o.UID
	w.counts["write"]++
	if rival, ok := w.rivals[id.String()+" "+name]; ok {
		o.Value, o.Writer = rival, "rival"
		w.put(id, name, o)
		w.rev[id]++
		w.tell(reconcile.Event{ID: id, Cause: "live", At: time.Now(), Object: name})
	}
}

func (w *World) put(id forge.ID, name string, o Object) {
	if w.live[id] == nil {
		w.live[id] = map[string]Object{}
	}
	w.live[id][name] = o
}

// remove is one of our own deletes; it must only hit what is ours.
func (w *World) remove(id forge.ID, name string, rec *record) {
	o, there := w.live[id][name]
	if !there {
		return
	}
	if o.UID != rec.uids[name] {
		return // another object of that name: not ours
	}
	delete(w.live[id], name)
	w.counts["delete"]++
}

// Owned implements reconcile.Owner.
func (w *World) Owned(ctx context.Context, environment string, _ []forge.Resource) ([]forge.Resource, error) {
	if err := w.enter("owned", forge.ID{Environment: environment}); err != nil {
		return nil, err
	}
	defer w.leave(forge.ID{Environment: environment})
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []forge.Resource
	for id, rec := range w.owned {
		if id.Environment == environment {
			out = append(out, rec.resource)
		}
	}
	slices.SortFunc(out, func(a, b forge.Resource) int { return a.ID.Compare(b.ID) })
	return out, ctx.Err()
}

// Follows implements reconcile.Follower.
func (w *World) Follows(r forge.Resource) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, Call{Op: "follows", ID: r.ID, At: time.Now()})
	return w.follows
}

// Watch implements reconcile.Provider.
func (w *World) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	if err := w.fault("watch", forge.ID{}); err != nil {
		return err
	}
	w.mu.Lock()
	w.notify = notify
	for _, ev := range w.early {
		notify(ev)
	}
	w.early = nil
	w.mu.Unlock()
	<-ctx.Done()
	w.mu.Lock()
	w.notify = nil
	w.mu.Unlock()
	return ctx.Err()
}

// tell sends an event, or keeps it until somebody watches. The caller holds mu.
func (w *World) tell(ev reconcile.Event) {
	if w.deaf {
		return
	}
	if w.notify == nil {
		w.early = append(w.early, ev)
		return
	}
	w.notify(ev)
}

// enter counts a call, fails it as scripted, and sees that no two calls about
// one resource overlap.
func (w *World) enter(op string, id forge.ID) error {
	if err := w.fault(op, id); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut == 0 {
		return errCut
	}
	if w.busy[id] {
		w.wrong = append(w.wrong, "two calls at once about "+id.String())
	}
	w.busy[id] = true
	return nil
}

func (w *World) leave(id forge.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, id)
}

// fault runs the scripts for an operation, the narrowest first.
func (w *World) fault(op string, id forge.ID) error {
	w.mu.Lock()
	w.calls = append(w.calls, Call{op, id, time.Now()})
	w.counts[op]++
	var scripts []func() error
	for _, key := range []string{op + " " + id.String(), op} {
		if f := w.faults[key]; f != nil {
			scripts = append(scripts, f)
		}
	}
	w.mu.Unlock()
	for _, f := range scripts {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// Wrong lists what must never happen and did.
func (w *World) Wrong() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.wrong, "\n")
}
