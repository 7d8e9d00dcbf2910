package reconcile

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
)

// asked is a provider that notes what it was asked with, and says what health
// it is told.
type asked struct {
	still
	health  map[forge.ID]HealthStatus
	settled map[forge.ID]time.Time
}

func (a *asked) Observe(_ context.Context, r Request) (Observed, error) {
	a.settled[r.Resource.ID] = r.Settled
	return Observed{Exists: true, Health: Health{Status: a.health[r.Resource.ID]}}, nil
}

// Who needs something is told since when that is ready, so that what was seen
// through it before is not taken for what it is now.
func TestSinceWhenNeedsAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := func(name string) forge.ID { return forge.ID{Environment: "local", Kind: "release", Name: name} }
		db, cache, app := name("db"), name("cache"), name("app")
		p := &asked{health: map[forge.ID]HealthStatus{db: Progressing, cache: Ready, app: Ready}, settled: map[forge.ID]time.Time{}}
		e := New(Options{Providers: map[string]Provider{"release": p}})
		err := e.Set(Generation{Number: 1, Environments: []Environment{{
			Name: "local", Policy: forge.Policy{Mode: forge.ModeObserve},
			Resources: []forge.Resource{{ID: db}, {ID: cache}, {ID: app, Needs: []forge.ID{db, cache}}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		look := func(ids ...forge.ID) time.Time {
			t.Helper()
			for _, id := range append(ids, app) {
				time.Sleep(time.Second)
				e.pass(t.Context(), t.Context(), id)
			}
			return p.settled[app]
		}
		if at := look(cache, db); !at.IsZero() {
			t.Errorf("one is not ready, and all are since %s", at)
		}
		p.health[db] = Ready
		first := look(db)
		if want := time.Now().Add(-time.Second); !first.Equal(want) {
			t.Errorf("all are ready since %s, want %s", first, want)
		}
		if at := look(cache, db); !at.Equal(first) {
			t.Errorf("nothing has changed, and since %s it is %s", first, at)
		}
		p.health[cache] = Failed
		if at := look(cache); !at.IsZero() {
			t.Errorf("one has failed, and all are ready since %s", at)
		}
		p.health[cache] = Ready
		if at := look(cache); !at.After(first) {
			t.Errorf("one was away, and all are ready since %s", at)
		}
		if at := p.settled[db]; !at.IsZero() {
			t.Errorf("nothing is needed, and ready since %s", at)
		}
	})
}
