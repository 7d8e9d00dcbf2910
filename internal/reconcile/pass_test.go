package reconcile

import (
	"context"
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
