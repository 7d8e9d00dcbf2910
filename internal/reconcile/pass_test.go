package reconcile

import (
	"context"
	"runtime"
	"testing"

	"forged.dev/forged/internal/forge"
)

// still is a provider for which everything is always as desired.
type still struct{ outputs Outputs }

func (s still) Observe(context.Context, Request) (Observed, error) {
	return Observed{Exists: true, Health: Health{Status: Ready}, Outputs: s.outputs, Objects: 3}, nil
}
func (still) Plan(context.Context, Request, Observed) ([]Step, error) { return nil, nil }
func (still) Apply(context.Context, Request, Step) (Observed, error)  { panic("nothing to apply") }
func (still) Watch(ctx context.Context, _ func(Event)) error          { <-ctx.Done(); return ctx.Err() }

func stillEngine(t testing.TB) (*Engine, forge.ID) {
	db := forge.ID{Environment: "local", Kind: "release", Name: "db"}
	app := forge.ID{Environment: "local", Kind: "release", Name: "app"}
	e := New(Options{Providers: map[string]Provider{"release": &still{Outputs{"host": {Value: "db.local"}}}}})
	err := e.Set(Generation{Number: 1, Environments: []Environment{{
		Name: "local", Policy: forge.Policy{Mode: forge.ModeApply},
		Resources: []forge.Resource{{ID: db}, {ID: app, Needs: []forge.ID{db}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []forge.ID{db, app} {
		e.pass(context.Background(), context.Background(), id)
	}
	return e, app
}

// What a pass over a resource allocates when nothing is to be done: the
// deadline of Observe and Plan, nothing of the engine's own.
func TestPassAllocates(t *testing.T) {
	e, app := stillEngine(t)
	got := testing.AllocsPerRun(1000, func() { e.pass(t.Context(), t.Context(), app) })
	if most := 4.0; got > most {
		t.Errorf("%v allocations, at most %v", got, most)
	}
}

func BenchmarkPass(b *testing.B) {
	e, app := stillEngine(b)
	b.ReportAllocs()
	for b.Loop() {
		e.pass(b.Context(), b.Context(), app)
	}
}

// drifting is a provider with steps to do, always the same.
type drifting struct {
	still
	steps   []Step
	applied chan Step
	refuse  map[string]ErrorKind // by object
}

func (d *drifting) Plan(context.Context, Request, Observed) ([]Step, error) { return d.steps, nil }

func (d *drifting) Apply(_ context.Context, _ Request, s Step) (Observed, error) {
	d.applied <- s
	if kind, ok := d.refuse[s.Object]; ok {
		return Observed{Exists: true}, Errorf(kind, "apply", "no")
	}
	return Observed{Exists: true}, nil
}

// A rollout does not overtake a step before it that is held; a heal may.
func TestRolloutsKeepTheirOrder(t *testing.T) {
	p := &drifting{applied: make(chan Step, 10), steps: []Step{
		{Action: ActionUpdate, Object: "first", Blocked: "needs a person"},
		{Action: ActionUpdate, Object: "second"},
		{Action: ActionHeal, Object: "third"},
	}}
	e := New(Options{Providers: map[string]Provider{"release": p}})
	id := forge.ID{Environment: "local", Kind: "release", Name: "app"}
	if err := e.Set(Generation{Environments: []Environment{{
		Name: "local", Policy: forge.Policy{Mode: forge.ModeApply}, Resources: []forge.Resource{{ID: id}},
	}}}); err != nil {
		t.Fatal(err)
	}
	e.pass(t.Context(), t.Context(), id)
	if n := len(p.applied); n != 1 {
		t.Fatalf("%d steps applied, want one", n)
	}
	if s := <-p.applied; s.Object != "third" {
		t.Errorf("applied %s", s)
	}
	steps := e.Status().Environments[0].Resources[0].Steps
	if len(steps) != 2 || steps[0].Blocked == "" || steps[1].Held != "after first" {
		t.Errorf("outstanding %+v", steps)
	}
}

// An object that cannot be put back holds up neither the others nor the
// rollout that may mend it; a cluster that is away holds up everything.
func TestRefusedHealDelaysNoOtherStep(t *testing.T) {
	steps := []Step{
		{Action: ActionHeal, Object: "first"},
		{Action: ActionHeal, Object: "second"},
		{Action: ActionUpdate, Object: "third"},
	}
	for name, tt := range map[string]struct {
		refuse  map[string]ErrorKind
		applied int
		state   State
		left    int
	}{
		"invalid":             {map[string]ErrorKind{"first": Invalid}, 3, StateProgressing, 1},
		"denied":              {map[string]ErrorKind{"second": Denied}, 3, StateProgressing, 1},
		"the rollout as well": {map[string]ErrorKind{"first": Conflict, "third": Invalid}, 3, StateFailed, 2},
		"unavailable":         {map[string]ErrorKind{"first": Unavailable}, 1, StateFailed, 3},
		"stale":               {map[string]ErrorKind{"first": Stale}, 1, StateWaiting, 0}, // planned again, nothing is told
	} {
		t.Run(name, func(t *testing.T) {
			p := &drifting{applied: make(chan Step, 10), steps: steps, refuse: tt.refuse}
			e := New(Options{Providers: map[string]Provider{"release": p}})
			id := forge.ID{Environment: "local", Kind: "release", Name: "app"}
			if err := e.Set(Generation{Environments: []Environment{{
				Name: "local", Policy: forge.Policy{Mode: forge.ModeApply}, Resources: []forge.Resource{{ID: id}},
			}}}); err != nil {
				t.Fatal(err)
			}
			e.pass(t.Context(), t.Context(), id)
			if n := len(p.applied); n != tt.applied {
				t.Errorf("%d steps applied, want %d", n, tt.applied)
			}
			r := e.Status().Environments[0].Resources[0]
			if r.State != tt.state || len(r.Steps) != tt.left {
				t.Errorf("%s with %d steps outstanding, want %s with %d", r.State, len(r.Steps), tt.state, tt.left)
			}
		})
	}
}

// From the event to the call of Apply, through the queue, and to the end of
// the pass.
func BenchmarkEventToApply(b *testing.B) {
	p := &drifting{applied: make(chan Step), steps: []Step{{Action: ActionHeal, Object: "pod"}}}
	e := New(Options{Providers: map[string]Provider{"release": p}})
	id := forge.ID{Environment: "local", Kind: "release", Name: "app"}
	if err := e.Set(Generation{Environments: []Environment{{
		Name: "local", Policy: forge.Policy{Mode: forge.ModeApply}, Resources: []forge.Resource{{ID: id}},
	}}}); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	for b.Loop() {
		e.notify(Event{ID: id})
		<-p.applied
		for !e.units[id].atPeace(e) {
			runtime.Gosched()
		}
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// atPeace waits for the end of the pass and forgets its heal: no fight here.
func (u *unit) atPeace(e *Engine) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !u.busy {
		u.bouts = nil
	}
	return !u.busy
}
