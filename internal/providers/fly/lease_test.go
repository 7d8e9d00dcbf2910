package fly_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// party is one forged with a line and leases of its own.
type party struct {
	*fly.Accounts
	line   *flytest.Line
	leases *fly.Leases
	apps   *fly.Apps
}

func (r *rig) party() *party {
	line := flytest.NewLine(r.Emulator)
	a := r.forged(func(o *fly.Options) { o.HTTP = r.HTTPOver(line) })
	return &party{a, line, fly.NewLeases(a), fly.NewApps(a)}
}

func (r *rig) hold(p *party) reconcile.Lease {
	r.t.Helper()
	l, err := p.leases.Hold(r.t.Context(), flytest.Environment, r.app())
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

func TestTwoForgedOneLease(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a, b := r.party(), r.party()
		if l := r.hold(a); !l.Held {
			t.Fatalf("a free lease is not had: %+v", l)
		}
		l := r.hold(b)
		if l.Held || !strings.Contains(l.Holder, "process") {
			t.Fatalf("two hold it, or it is not said who does: %+v", l)
		}
		time.Sleep(10 * time.Minute)
		if !r.hold(a).Held || r.hold(b).Held {
			t.Error("it is not kept by who has it")
		}
		told := make(chan string, 10)
		go b.leases.Watch(t.Context(), func(environment string) { told <- environment })
		synctest.Wait() // until it watches
		a.Close()
		if got := <-told; got != flytest.Environment {
			t.Errorf("told of %q", got)
		}
		if !r.hold(b).Held {
			t.Error("what was given back is not had")
		}
		r.unthrottled()
	})
}

// A lease that is held costs one request each time it is renewed, and confirming
// it costs none.
func TestHeldLeaseCostsNothing(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.party()
		r.hold(a)
		before := r.count("leases.create", flytest.Inventory)
		for range 100 {
			if !r.hold(a).Held {
				t.Fatal("lost")
			}
			time.Sleep(3 * time.Second)
		}
		if n := r.count("leases.create", flytest.Inventory) - before; n < 9 || n > 11 {
			t.Errorf("renewed %d times in 5 minutes", n)
		}
	})
}

// A holder that was cut off for too long finds the environment taken over, and
// its writes refused: by itself in the middle of an action, and by Fly.
func TestStoppedHolderIsRefused(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a, b := r.party(), r.party()
		r.hold(a)
		r.must(r.apply(t.Context(), a.apps, reconcile.Request{Resource: r.app()}))
		org, err := a.Open(t.Context(), r.Account())
		r.must(err)
		middle := org.Acting(t.Context(), flytest.Environment) // of an action
		if r.hold(b).Held {
			t.Fatal("two hold it")
		}

		mend := a.line.Cut()
		time.Sleep(3 * time.Minute)
		if !r.hold(b).Held {
			t.Fatal("nobody takes over")
		}
		mend()
		value := secret.New([]byte("late"))
		if _, err := org.Client().SetSecrets(middle, flytest.App, map[string]*secret.Value{"LATE": &value}); err == nil {
			t.Error("who lost the lease still writes")
		} else if kind := reconcile.KindOf(fly.Classify("set", "secrets", err)); kind != reconcile.Unavailable {
			t.Errorf("the refusal is of kind %s: %v", kind, err)
		}
		record := fly.Record{ID: r.app().ID, Data: map[string]string{"by": "a"}}
		if err := r.inventory(a.Accounts).Commit(t.Context(), record); err == nil {
			t.Error("who lost the lease still writes the inventory")
		}
		if got, _ := r.inventory(b.Accounts).Record(r.app().ID); got.Data["by"] == "a" {
			t.Error("the inventory was written by who lost the lease")
		}
		if held, err := r.Somebody.Secrets(t.Context(), flytest.App, 0); err != nil || len(held) > 0 {
			t.Errorf("secrets %v, %v", held, err)
		}
	})
}

// Even one whose clock says that it still has the lease is refused by Fly: the
// nonce is another one.
func TestFlyRefusesAnOldNonce(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a, b := r.party(), r.party()
		r.hold(a)
		inv := r.inventory(a.Accounts)
		r.Advance(2 * time.Minute) // for Fly alone: a believes that it has it
		if !r.hold(b).Held {
			t.Fatal("a lease that has run out is not free")
		}
		err := inv.Begin(t.Context(), fly.Record{ID: r.app().ID})
		if err == nil {
			t.Fatal("written with an old nonce")
		}
		if kind := reconcile.KindOf(err); kind != reconcile.Unavailable {
			t.Errorf("kind %s: %v", kind, err)
		}
		if _, ok := r.inventory(b.Accounts).Record(r.app().ID); ok {
			t.Error("it was written")
		}
		if r.hold(a).Held {
			t.Error("who was refused believes that it holds the lease")
		}
	})
}

// When the inventory is destroyed by hand, who acts makes it again from memory.
func TestDestroyedInventoryIsWrittenFromMemory(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a, b := r.party(), r.party()
		r.hold(a)
		r.hold(b)
		r.must(r.apply(t.Context(), a.apps, reconcile.Request{Resource: r.app()}))
		r.destroyInventory()
		time.Sleep(2 * time.Minute)
		if !r.hold(a).Held || r.hold(b).Held {
			t.Error("another one acts now")
		}
		if got := len(r.inventories()); got != 1 {
			t.Fatalf("%d inventories", got)
		}
		fresh := r.forged()
		if record, ok := r.inventory(fresh).Record(r.app().ID); !ok || record.Pending || len(record.Entries) != 1 {
			t.Errorf("stored: %+v, %v", record, ok)
		}
		before := r.Line.Writes()
		steps, err := r.plan(fly.NewApps(fresh), reconcile.Request{Resource: r.app()})
		if err != nil || len(steps) > 0 || r.Line.Writes() != before {
			t.Errorf("steps %v, %v", steps, err)
		}
	})
}

// When nobody remembers it, what is there is adopted anew, and nothing is made
// twice or deleted.
func TestLostInventoryAdoptsAnew(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.party()
		r.hold(a)
		r.must(r.apply(t.Context(), a.apps, reconcile.Request{Resource: r.app()}))
		a.Close()
		r.destroyInventory()
		r.ForgetRequests()

		b := r.party()
		if owned, err := b.apps.Owned(t.Context(), flytest.Environment, resources(r.app())); err != nil || len(owned) > 0 {
			t.Errorf("owned %v, %v", owned, err)
		}
		if !r.hold(b).Held {
			t.Fatal("not held")
		}
		r.must(r.apply(t.Context(), b.apps, reconcile.Request{Resource: r.app()}))
		if made, deleted := r.count("apps.create", ""), r.count("apps.delete", "")+r.count("machines.destroy", ""); made+deleted > 0 {
			t.Errorf("%d apps made, %d things deleted", made, deleted)
		}
		if _, ok := r.inventory(b.Accounts).Record(r.app().ID); !ok {
			t.Error("not adopted")
		}
	})
}

// The answer to taking the lease was lost: nobody knows the nonce, so it runs out
// by itself, and is had after that.
func TestLostAnswerOfTheLease(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.party()
		r.Fault(flyemulator.Fault{Action: "leases.create", Drop: flyemulator.DropAfter, Count: 1})
		if l, err := a.leases.Hold(t.Context(), flytest.Environment, r.app()); err == nil && l.Held {
			t.Fatal("held without a nonce")
		}
		time.Sleep(6 * time.Second)
		if l := r.hold(a); l.Held || !strings.Contains(l.Holder, "this process") {
			t.Errorf("%+v", l)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		for !r.hold(a).Held {
			if ctx.Err() != nil {
				t.Fatal("never had again")
			}
			time.Sleep(5 * time.Second)
		}
	})
}

// lockedLines may be read while something is logged.
type lockedLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// While Fly is out of reach that is told once; and whoever watches is told when
// the lease may not be counted on any more, before another one can have it.
func TestLeaseOutOfReach(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		lines := &lockedLines{}
		line := flytest.NewLine(r.Emulator)
		accounts := r.forged(func(o *fly.Options) {
			o.HTTP, o.Logger = r.HTTPOver(line), slog.New(slog.NewTextHandler(lines, nil))
		})
		a := &party{accounts, line, fly.NewLeases(accounts), fly.NewApps(accounts)}
		r.hold(a)
		told := make(chan time.Time, 10)
		go a.leases.Watch(t.Context(), func(string) { told <- time.Now() })
		time.Sleep(time.Minute)
		if len(told) != 0 {
			t.Errorf("told %d times of nothing", len(told))
		}
		cut := time.Now()
		mend := a.line.Cut()
		time.Sleep(10 * time.Minute)
		if n := len(told); n != 1 {
			t.Fatalf("told %d times", n)
		}
		if after := (<-told).Sub(cut); after > 100*time.Second {
			t.Errorf("told after %s", after)
		}
		mend()
		time.Sleep(time.Minute)
		if len(told) != 1 || !r.hold(a).Held {
			t.Errorf("told %d times that it is had again", len(told))
		}
		a.Close()
		synctest.Wait()
		if not, again := strings.Count(lines.String(), "lease not renewed"), strings.Count(lines.String(), "lease renewed again"); not != 1 || again != 1 {
			t.Errorf("told %d and %d times:\n%s", not, again, lines.String())
		}
	})
}

// Who was cut off is told when that is over, also if another one has the lease
// by then.
func TestLeaseInReachAgain(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a, b := r.party(), r.party()
		r.hold(a)
		told := make(chan string, 10)
		go a.leases.Watch(t.Context(), func(environment string) { told <- environment })
		mend := a.line.Cut()
		time.Sleep(3 * time.Minute)
		if !r.hold(b).Held || len(told) != 1 {
			t.Fatalf("told %d times that it cannot be counted on", len(told))
		}
		mend()
		time.Sleep(time.Minute)
		if len(told) != 2 || r.hold(a).Held {
			t.Errorf("told %d times", len(told))
		}
	})
}

func TestLeaseIsGivenBackAndHadAgain(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a, b := r.party(), r.party()
		r.hold(a)
		a.leases.Release("another", r.app().Target)
		time.Sleep(time.Minute)
		if r.hold(b).Held {
			t.Fatal("given back for another environment")
		}
		a.leases.Release(flytest.Environment, forge.Target{Org: "another"})
		time.Sleep(time.Minute)
		if r.hold(b).Held {
			t.Fatal("given back for another organization, where the environment was before")
		}
		a.leases.Release(flytest.Environment, r.app().Target)
		time.Sleep(10 * time.Second)
		if !r.hold(b).Held || r.hold(a).Held {
			t.Error("not given back")
		}
	})
}
