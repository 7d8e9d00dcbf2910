package endpoint

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// rollouts are releases that take a while to be rolled out, and what comes after
// them. What is asked for is the name of a chart.
type rollouts struct {
	mu     sync.Mutex
	is     map[forge.ID]string
	at     map[forge.ID]time.Time // when it was applied
	takes  time.Duration
	notify func(reconcile.Event)
}

func (r *rollouts) Observe(_ context.Context, q reconcile.Request) (reconcile.Observed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := q.Resource.ID
	o := reconcile.Observed{Exists: r.is[id] != "", Health: reconcile.Health{Status: reconcile.Ready}}
	if at, rolled := r.at[id]; rolled && time.Since(at) < r.takes {
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "rolls out"}
	}
	return o, nil
}

func (r *rollouts) Plan(_ context.Context, q reconcile.Request, _ reconcile.Observed) ([]reconcile.Step, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.is[q.Resource.ID] == q.Resource.Spec.(forge.ReleaseSpec).Chart {
		return nil, nil
	}
	return []reconcile.Step{{ID: q.Resource.ID, Action: reconcile.ActionUpdate, Reason: reconcile.Reason{Code: reconcile.ReasonConfig}}}, nil
}

func (r *rollouts) Apply(ctx context.Context, q reconcile.Request, _ reconcile.Step) (reconcile.Observed, error) {
	id := q.Resource.ID
	r.mu.Lock()
	r.is[id], r.at[id] = q.Resource.Spec.(forge.ReleaseSpec).Chart, time.Now()
	r.mu.Unlock()
	time.AfterFunc(r.takes, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.notify(reconcile.Event{ID: id})
	})
	return r.Observe(ctx, q)
}

func (r *rollouts) Watch(ctx context.Context, notify func(reconcile.Event)) error {
	r.mu.Lock()
	r.notify = notify
	r.mu.Unlock()
	<-ctx.Done()
	return nil
}

// An environment whose release is ready from inside is ready when the app
// answers, and what needs that comes then. That goes for an update too, also
// where the pods are not seen to change before the release says that they have.
func TestTheEnvironmentIsReadyWhenTheAppAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := &outside{v: verdict{trouble: "the connection is refused"}}
		p := newProvider(&ground{now: balanced()}, asking{app})
		r := &rollouts{is: map[forge.ID]string{}, at: map[forge.ID]time.Time{}, takes: 3 * time.Second}
		e := reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{forge.KindRelease: r, forge.KindEndpoint: p}})
		release := forge.ID{Environment: "prod", Kind: forge.KindRelease, Name: "app"}
		after := forge.ID{Environment: "prod", Kind: forge.KindRelease, Name: "after"}
		converge := func(chart string, answersAfter time.Duration) {
			t.Helper()
			began := time.Now()
			app.is(verdict{})
			down := time.AfterFunc(time.Second, func() { app.is(verdict{trouble: "it answers 503 Service Unavailable"}) })
			up := time.AfterFunc(answersAfter, func() { app.is(verdict{}) })
			defer down.Stop()
			defer up.Stop()
			status, err := e.Converge(t.Context(), reconcile.Generation{Environments: []reconcile.Environment{{
				Name: "prod", Policy: forge.Policy{Mode: forge.ModeApply, Timeout: 10 * time.Minute},
				Resources: []forge.Resource{
					{ID: release, Spec: forge.ReleaseSpec{Chart: chart}},
					{ID: appID, Spec: spec(), Needs: []forge.ID{release}},
					{ID: after, Spec: forge.ReleaseSpec{Chart: chart}, Needs: []forge.ID{release, appID}},
				},
			}}})
			if err != nil {
				t.Fatal(err)
			}
			for _, env := range status.Environments {
				for _, s := range env.Resources {
					if s.State != reconcile.StateReady {
						t.Errorf("%s is %s: %s", s.ID, s.State, s.Message)
					}
				}
			}
			if took := time.Since(began); took < answersAfter || took > answersAfter+30*time.Second {
				t.Errorf("ready after %s, and it answers after %s", took, answersAfter)
			}
			if gap := r.at[after].Sub(r.at[release]); gap < answersAfter {
				t.Errorf("what needs it came after %s, and it answers after %s", gap, answersAfter)
			}
		}
		converge("v1", 20*time.Second)
		converge("v2", 40*time.Second)
	})
}
