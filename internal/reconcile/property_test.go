package reconcile_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// FuzzHistory lets configs, rivals, failures, crashes of the engine and events
// come in any order. Whatever happened: what others own is never deleted, and
// once the trouble is over the world is what the last config asked for.
func FuzzHistory(f *testing.F) {
	for seed := range uint64(24) {
		f.Add(seed, uint8(40))
	}
	f.Fuzz(func(t *testing.T, seed uint64, length uint8) {
		synctest.Test(t, func(t *testing.T) { history(t, rand.New(rand.NewPCG(seed, 1)), int(length)) })
	})
}

var names = []string{"a", "b", "c", "d", "e"}

// wish is a random generation; needs only point backwards, so it is sound.
func wish(r *rand.Rand, n int, p forge.Policy) reconcile.Generation {
	var rs []forge.Resource
	for i, name := range names {
		if r.IntN(4) == 0 && i != 0 {
			continue // the first is always there: an empty wish removes nothing
		}
		objects := map[string]any{}
		for _, o := range []string{"x", "y", "z"}[:1+r.IntN(3)] {
			objects[o] = r.IntN(3)
		}
		res := res(name, objects)
		for _, before := range rs {
			if r.IntN(3) == 0 {
				res.Needs = append(res.Needs, before.ID)
			}
		}
		if len(res.Needs) > 0 && r.IntN(2) == 0 {
			spec := res.Spec.(forge.ReleaseSpec)
			spec.Inputs = []forge.Input{{Path: []string{"in"}, From: res.Needs[0], Output: "password"}}
			res.Spec = spec
		}
		rs = append(rs, res)
	}
	return gen(n, p, rs...)
}

func history(t *testing.T, r *rand.Rand, length int) {
	y := newYard(t)
	p := policy
	p.MaxDelete, p.Interval = 1000, 10*time.Minute
	foreign := forge.ID{Environment: "local", Kind: forge.KindRelease, Name: "foreign"}
	y.Edit(foreign, "precious", "data", "somebody")
	kinds := []reconcile.ErrorKind{reconcile.Unavailable, reconcile.Conflict, reconcile.Stale, reconcile.Denied, reconcile.Throttled, reconcile.Internal}

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	start := func() {
		ctx, cancel = context.WithCancel(t.Context())
		go func() { ended <- y.engine.Run(ctx) }()
	}
	stop := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	start()
	last := wish(r, 0, p)
	y.set(last)
	for n := range length {
		who := id(names[r.IntN(len(names))])
		what := []string{"x", "y", "z"}[r.IntN(3)]
		switch r.IntN(12) {
		case 0, 1:
			last = wish(r, n, p)
			if err := y.engine.Set(last); err != nil {
				t.Fatal(err)
			}
		case 2:
			if _, ours := y.Live(who)[what]; ours {
				y.Edit(who, what, "evil", "kubectl")
			}
		case 3:
			y.Delete(who, what)
		case 4:
			kind, times := kinds[r.IntN(len(kinds))], r.IntN(8)
			op := []string{"observe", "plan", "apply"}[r.IntN(3)]
			y.Fail(op, who, func() error {
				if times--; times < 0 {
					return nil
				}
				return fail(kind)()
			})
		case 5:
			y.Lose(who, 1)
		case 6:
			y.Slow(who, time.Duration(r.IntN(120))*time.Second)
		case 7:
			y.Event(who, "live")
		case 8:
			y.Interrupt(who)
			y.Event(who, "storage")
		case 9:
			stop()
			y.engine = engineOn(y.World, y.saw)
			if err := y.engine.Set(last); err != nil {
				t.Fatal(err)
			}
			start()
		case 10:
			y.pass(time.Duration(r.IntN(600)) * time.Second)
		case 11:
			synctest.Wait()
		}
	}
	y.pass(6 * time.Hour) // the trouble is over
	defer stop()

	if diff := cmp.Diff(map[string]string{"precious": "data"}, y.Live(foreign)); diff != "" {
		t.Errorf("somebody else's object (-want +got):\n%s", diff)
	}
	if wrong := y.Wrong(); wrong != "" {
		t.Error(wrong)
	}
	var ids []forge.ID
	for _, res := range last.Environments[0].Resources {
		ids = append(ids, res.ID)
		y.wantState(res.ID.Name, reconcile.StateReady)
		for name, v := range res.Spec.(forge.ReleaseSpec).Values {
			if got := y.Live(res.ID)[name]; got != string(rune('0'+v.(int))) {
				t.Errorf("%s %s is %q, want %v", res.ID, name, got, v)
			}
		}
	}
	slices.SortFunc(ids, forge.ID.Compare)
	if diff := cmp.Diff(ids, y.Inventory()); diff != "" {
		t.Errorf("inventory (-want +got):\n%s", diff)
	}
	y.Forget()
	y.pass(time.Hour)
	y.wantCount("apply", 0)
}
