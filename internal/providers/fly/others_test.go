package fly_test

import (
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
)

// What another forged has begun is in its records alone: who sees that they have
// changed looks at everything in that environment again, and at nothing else.
func TestWritesOfAnotherAreTold(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		one, other := r.forged(), r.forged()
		r.MakeApp("one")
		inventory := func(a *fly.Accounts) *fly.Inventory {
			org, err := a.Open(t.Context(), r.Account())
			r.must(err)
			inv, err := org.Inventory(t.Context(), "prod", r.Account())
			r.must(err)
			return inv
		}
		mine := inventory(one)
		id := forge.ID{Environment: "prod", Kind: forge.KindFlySecrets, Name: "one"}
		elsewhere := forge.ID{Environment: "staging", Kind: forge.KindFlySecrets, Name: "one"}
		r.must(mine.Commit(t.Context(), fly.Record{ID: id}))

		inventory(other)
		w := r.watch(other, forge.KindFlySecrets)
		for _, id := range []forge.ID{id, elsewhere} {
			other.Follow(id, r.Account(), fly.Topic{App: "one", Section: fly.SectionSecrets})
		}
		time.Sleep(15 * time.Minute)
		w.take()

		r.must(mine.Begin(t.Context(), fly.Record{ID: id}))
		time.Sleep(2 * time.Minute)
		if got := w.take(); got[id] == 0 || got[elsewhere] > 0 {
			t.Errorf("told of %v", got)
		}
		if record, _ := inventory(other).Record(id); !record.Pending {
			t.Errorf("known is %+v", record)
		}
	})
}
