package reconcile_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// latecomer is a cluster whose output comes of what is made in it, which nothing
// tells.
type latecomer struct {
	mu    sync.Mutex
	made  map[forge.ID]bool
	known bool // what was made in it was looked at by this process
	looks int  // at the cluster
	never bool // there is no output
}

func (p *latecomer) Observe(_ context.Context, r reconcile.Request) (reconcile.Observed, error) {
	time.Sleep(time.Second)
	p.mu.Lock()
	defer p.mu.Unlock()
	o := reconcile.Observed{Exists: p.made[r.Resource.ID]}
	p.known = p.known || r.Resource.ID == id("web") && o.Exists
	if r.Resource.ID == id("cluster") {
		p.looks++
		o.Exists = true
		if p.known && !p.never {
			o.Outputs = reconcile.Outputs{"app": {Value: "fks-default-1"}}
		}
	}
	return o, nil
}

func (p *latecomer) Plan(_ context.Context, r reconcile.Request, o reconcile.Observed) ([]reconcile.Step, error) {
	if _, known := r.Inputs[id("cluster")]["app"]; r.Resource.ID == id("certificate") && !known {
		return nil, reconcile.WaitingFor(id("cluster"), "app")
	}
	if o.Exists {
		return nil, nil
	}
	return []reconcile.Step{{ID: r.Resource.ID, Action: reconcile.ActionCreate}}, nil
}

func (p *latecomer) Apply(ctx context.Context, r reconcile.Request, _ reconcile.Step) (reconcile.Observed, error) {
	p.mu.Lock()
	p.made[r.Resource.ID] = true
	p.mu.Unlock()
	return p.Observe(ctx, r)
}

func (p *latecomer) Watch(ctx context.Context, _ func(reconcile.Event)) error {
	<-ctx.Done()
	return nil
}

// What a resource gives may come of what was made since it was looked at. Who
// waits for it has it looked at again, once.
func TestOutputOfWhatWasMadeSince(t *testing.T) {
	for name, tt := range map[string]struct {
		never bool
		state reconcile.State
		looks int
	}{
		"it is there":     {state: reconcile.StateReady, looks: 2},
		"it is not there": {never: true, state: reconcile.StateWaiting, looks: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &latecomer{made: map[forge.ID]bool{}, never: tt.never}
				e := reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: p}})
				g := gen(1, policy, res("cluster", nil), res("web", nil, "cluster"), res("certificate", nil, "cluster", "web"))
				s, err := e.Converge(t.Context(), g)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range s.Environments[0].Resources {
					if r.ID == id("certificate") && r.State != tt.state {
						t.Errorf("%s: %s %s", r.ID, r.State, r.Message)
					}
				}
				if p.looks != tt.looks {
					t.Errorf("the cluster was looked at %d times, want %d", p.looks, tt.looks)
				}
				p.known = false // a process of its own
				plan, err := e.Plan(t.Context(), g, nil)
				if err != nil {
					t.Fatal(err)
				}
				if last := plan.Environments[0].Items[2]; last.ID != id("certificate") || (last.Waiting != "") != tt.never || last.Error != nil {
					t.Errorf("plan: %+v", last)
				}
			})
		})
	}
}
