package fly_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

func numbered(n int) forge.ID {
	return forge.ID{Environment: flytest.Environment, Kind: forge.KindFlySecrets, Name: fmt.Sprintf("s%02d", n)}
}

func TestInventoryLife(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		inv := r.inventory(r.forged())
		if len(inv.IDs()) != 0 || inv.HashKey() != nil {
			t.Fatal("an inventory that does not exist is not empty")
		}
		if r.Line.Writes() != 0 {
			t.Fatal("looking makes it")
		}
		want := fly.Record{
			ID: numbered(1), Needs: []forge.ID{r.app().ID}, Spec: fly.EncodeSpec(r.app().Spec),
			Entries: []fly.Entry{{Kind: "app", Name: "x", Identity: "7"}}, Data: map[string]string{"k": "v"},
		}
		r.must(inv.Begin(t.Context(), want))
		again := r.inventory(r.forged())
		pending := want
		pending.Pending = true
		if got, ok := again.Record(want.ID); !ok || cmp.Diff(pending, got) != "" {
			t.Errorf("after a crash (-want +got):\n%s", cmp.Diff(pending, got))
		}
		r.must(again.Commit(t.Context(), want))
		if got, _ := r.inventory(r.forged()).Record(want.ID); cmp.Diff(want, got) != "" {
			t.Errorf("after a restart (-want +got):\n%s", cmp.Diff(want, got))
		}
		if cmp.Diff(inv.HashKey(), again.HashKey()) != "" || len(again.HashKey()) != 32 {
			t.Error("the key of hashes moves")
		}
		before := r.Line.Writes()
		r.must(again.Commit(t.Context(), want))
		time.Sleep(time.Minute) // nobody follows anything: what is stored is read again
		r.must(again.Commit(t.Context(), want))
		if r.Line.Writes() != before {
			t.Error("what is written already is written again")
		}
		r.must(again.Drop(t.Context(), want.ID))
		if ids := r.inventory(r.forged()).IDs(); len(ids) != 0 {
			t.Errorf("left: %v", ids)
		}
	})
}

// What is seen of the machine: it bears our marks, nothing runs in it, and fly
// deploy does not know it.
func TestInventoryMachine(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.must(r.inventory(r.forged()).Begin(t.Context(), fly.Record{ID: numbered(1)}))
		time.Sleep(time.Minute)
		all := r.inventories()
		if len(all) != 1 {
			t.Fatalf("%d machines", len(all))
		}
		m := all[0]
		if m.State == "started" || len(m.Config.Services) > 0 {
			t.Errorf("it is %s, with services %v", m.State, m.Config.Services)
		}
		want := map[string]string{fly.MarkInstance: "shop", fly.MarkEnvironment: "prod", fly.MarkKind: "inventory"}
		if diff := cmp.Diff(want, m.Config.Metadata); diff != "" {
			t.Errorf("metadata (-want +got):\n%s", diff)
		}
	})
}

// Many that write at once share a few writes, and Fly never has to say that there
// are too many.
func TestGroupCommit(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		inv := r.inventory(r.forged())
		r.must(inv.Begin(t.Context(), fly.Record{ID: r.app().ID}))
		time.Sleep(time.Minute)
		before, began := r.count("machines.update", flytest.Inventory), time.Now()
		var all sync.WaitGroup
		for n := range 50 {
			all.Go(func() {
				record := fly.Record{ID: numbered(n)}
				if err := inv.Begin(t.Context(), record); err != nil {
					t.Error(err)
				}
				if err := inv.Commit(t.Context(), record); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := r.count("machines.update", flytest.Inventory) - before; n > 6 {
			t.Errorf("%d writes", n)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
		if n := len(r.inventory(r.forged()).IDs()); n != 51 {
			t.Errorf("%d records", n)
		}
		r.unthrottled()
	})
}

// What comes while the machine takes in the write before goes into one: it would
// refuse another one for seconds.
func TestWritesWaitForEachOther(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		inv := r.inventory(r.forged())
		r.must(inv.Begin(t.Context(), fly.Record{ID: r.app().ID}))
		time.Sleep(time.Minute)
		r.must(inv.Begin(t.Context(), fly.Record{ID: numbered(1)}))
		before := r.count("machines.update", flytest.Inventory)
		var all sync.WaitGroup
		for n := range 3 {
			all.Go(func() { r.must(inv.Begin(t.Context(), fly.Record{ID: numbered(2 + n)})) })
			time.Sleep(time.Second)
		}
		all.Wait()
		if n := r.count("machines.update", flytest.Inventory) - before; n != 1 {
			t.Errorf("%d writes", n)
		}
	})
}

// Whatever happens to a write, in the end it is there, once.
func TestTroubleWithWrites(t *testing.T) {
	for name, fault := range map[string]flyemulator.Fault{
		"the answer of an update is lost":          {Action: "machines.update", Drop: flyemulator.DropAfter, Count: 1},
		"an update is lost":                        {Action: "machines.update", Drop: flyemulator.DropBefore, Count: 1},
		"an update is done and answered by a 502":  {Action: "machines.update", Status: http.StatusBadGateway, Commit: true, Count: 1},
		"two updates meet":                         {Action: "machines.update", Status: http.StatusConflict, Text: "aborted: machine update failed due to concurrent update", Count: 1},
		"the answer of making the machine is lost": {Action: "machines.create", Drop: flyemulator.DropAfter, Count: 1},
		"making the machine is lost":               {Action: "machines.create", Drop: flyemulator.DropBefore, Count: 1},
		"the answer of making the app is lost":     {Action: "apps.create", Drop: flyemulator.DropAfter, Count: 1},
		"making the app is lost":                   {Action: "apps.create", Drop: flyemulator.DropBefore, Count: 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
				a := r.forged()
				p := fly.NewApps(a)
				r.Fault(fault)
				for range 5 { // as the engine does
					err := r.apply(t.Context(), p, reconcile.Request{Resource: r.app()})
					if err == nil {
						break
					}
					if kind := reconcile.KindOf(err); kind == reconcile.Invalid || kind == reconcile.Denied {
						t.Fatalf("it would not be tried again: %v", err)
					}
				}
				// Of a write that is based on what somebody else has just written.
				r.must(r.inventory(a).Begin(t.Context(), fly.Record{ID: numbered(1)}))
				if n := len(r.inventories()); n != 1 {
					t.Errorf("%d inventories", n)
				}
				fresh := r.forged()
				if steps, err := r.plan(fly.NewApps(fresh), reconcile.Request{Resource: r.app()}); err != nil || len(steps) > 0 {
					t.Errorf("after a restart: %v, %v", steps, err)
				}
				if n := len(r.inventory(fresh).IDs()); n != 2 {
					t.Errorf("%d records", n)
				}
			})
		})
	}
}

// A write that is based on what is no longer there takes in what came between.
func TestWritesOfTwoAreBothKept(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a, b := r.inventory(r.forged()), r.inventory(r.forged())
		r.must(a.Commit(t.Context(), fly.Record{ID: numbered(1)}))
		r.must(b.Commit(t.Context(), fly.Record{ID: numbered(2)}))
		r.must(a.Commit(t.Context(), fly.Record{ID: numbered(3)}))
		if ids := r.inventory(r.forged()).IDs(); len(ids) != 3 {
			t.Errorf("stored: %v", ids)
		}
	})
}

// What another one has written is noticed without a request of its own.
func TestForeignWriteIsNoticed(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a, b := r.forged(), r.forged()
		r.must(r.inventory(a).Commit(t.Context(), fly.Record{ID: numbered(1)}))
		if _, ok := r.inventory(b).Record(numbered(1)); !ok {
			t.Fatal("not read")
		}
		r.must(r.inventory(a).Commit(t.Context(), fly.Record{ID: numbered(2)}))
		time.Sleep(2 * time.Minute)
		if _, ok := r.inventory(b).Record(numbered(2)); !ok {
			t.Error("what another one wrote is not noticed")
		}
	})
}

// The app that is to keep the inventory may be somebody else's in several ways.
// Each is named, with the way out; nothing is changed in it.
func TestInventoryOfSomebodyElse(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options flyemulator.Options
		before  func(r *rig)
		want    string
	}{
		{
			name: "in another organization", options: flyemulator.Options{Foreign: []string{flytest.Inventory}},
			want: "platform.inventory",
		},
		{
			name: "of an app that runs",
			before: func(r *rig) {
				r.MakeApp(flytest.Inventory)
				r.MakeMachine(flytest.Inventory, nil)
			},
			want: "forged did not make it",
		},
		{
			name: "of another forged",
			before: func(r *rig) {
				other := r.forged(func(o *fly.Options) { o.Instance = "blog" })
				r.must(r.inventory(other).Begin(r.t.Context(), fly.Record{ID: numbered(1)}))
			},
			want: "another forged, blog",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, tt.options, func(t *testing.T, r *rig) {
				if tt.before != nil {
					tt.before(r)
				}
				time.Sleep(time.Minute)
				a := r.forged()
				before := r.Line.Writes()
				_, err := r.plan(fly.NewApps(a), reconcile.Request{Resource: r.app()})
				if err == nil {
					err = r.apply(t.Context(), fly.NewApps(a), reconcile.Request{Resource: r.app()})
				}
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "platform.inventory") {
					t.Errorf("want %q and the way out: %v", tt.want, err)
				}
				if r.Line.Writes() > before+1 { // to make an app of that name may be tried
					t.Errorf("%d changing requests", r.Line.Writes()-before)
				}
			})
		})
	}
}

// The host of the inventory is lost: nothing is known, nothing is done, and it is
// said which machine it is.
func TestInventoryOnALostHost(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.must(r.apply(t.Context(), fly.NewApps(r.forged()), reconcile.Request{Resource: r.app()}))
		m := r.inventories()[0]
		r.SetHost(flytest.Inventory, m.ID, "unreachable", false)
		p := fly.NewApps(r.forged())
		_, err := r.plan(p, reconcile.Request{Resource: r.app()})
		if reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(fmt.Sprint(err), m.ID) {
			t.Errorf("%v", err)
		}
		if owned, err := p.Owned(t.Context(), flytest.Environment, resources(r.app())); err == nil {
			t.Errorf("it is known what is owned: %v", owned)
		}
		r.SetHost(flytest.Inventory, m.ID, "ok", false)
		if steps, err := r.plan(p, reconcile.Request{Resource: r.app()}); err != nil || len(steps) > 0 {
			t.Errorf("when it is back: %v, %v", steps, err)
		}
	})
}

// A write is given up with who waits for it, and what was under way does no harm.
func TestWriteHeedsItsContext(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		inv := r.inventory(r.forged())
		r.must(inv.Begin(t.Context(), fly.Record{ID: numbered(1)}))
		r.Fault(flyemulator.Fault{Action: "machines.update", Delay: flyemulator.Duration(20 * time.Second), Count: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := inv.Commit(ctx, fly.Record{ID: numbered(2)}); err == nil {
			t.Error("written in no time")
		}
		r.must(inv.Commit(t.Context(), fly.Record{ID: numbered(2)}))
		if n := len(r.inventory(r.forged()).IDs()); n != 2 {
			t.Errorf("%d records", n)
		}
	})
}

// Fly moves the machine of the inventory to another host, and fly deploy or a
// person writes into its metadata: it is the same inventory, and no second one is
// made.
func TestInventoryThatWasMovedAndMarked(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewApps(r.forged())
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: r.app()}))
		at := "/v1/apps/" + flytest.Inventory + "/machines/" + r.inventories()[0].ID
		for _, disturb := range []func(){
			func() { r.Migrate(flytest.Inventory, r.inventories()[0].ID) },
			func() {
				r.drift(http.MethodPost, at+"/metadata/fly_flyctl_version", `{"value":"0.3.1"}`)
				r.drift(http.MethodPost, at+"/metadata/fly_platform_version", `{"value":"v2"}`)
			},
			func() { r.drift(http.MethodPatch, at+"/metadata", `{"metadata":{"`+fly.MarkKind+`":null}}`) },
		} {
			disturb()
			time.Sleep(5 * time.Minute)
			for _, p := range []*fly.Apps{p, fly.NewApps(r.forged())} { // and a process that begins
				if steps, err := r.plan(p, reconcile.Request{Resource: r.app()}); err != nil || len(steps) > 0 {
					t.Errorf("planned %v, %v", steps, err)
				}
			}
		}
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: r.appNamed("another")}))
		if n := len(r.inventories()); n != 1 {
			t.Errorf("%d inventories", n)
		}
	})
}
