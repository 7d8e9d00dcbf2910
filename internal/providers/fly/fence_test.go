package fly_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// journal is what is logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), text)
}

// Who lost the lease in the middle of an action, and has it again before it goes
// on, knows nothing of what was done meanwhile: the action ends.
func TestActionEndsWithItsLease(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a, b := r.party(), r.party()
		r.hold(a)
		r.must(r.apply(t.Context(), a.apps, reconcile.Request{Resource: r.app()}))
		org, err := a.Open(t.Context(), r.Account())
		r.must(err)
		inv := r.inventory(a.Accounts)
		middle := org.Acting(t.Context(), flytest.Environment) // of an action
		old, _ := inv.Record(r.app().ID)

		mend := a.line.Cut()
		time.Sleep(3 * time.Minute)
		if !r.hold(b).Held {
			t.Fatal("nobody takes over")
		}
		theirs := old
		theirs.Data = map[string]string{"by": "b"}
		r.must(r.inventory(b.Accounts).Commit(t.Context(), theirs))
		b.Close()
		mend()
		time.Sleep(2 * time.Minute)
		if !r.hold(a).Held {
			t.Fatal("it does not get the lease again")
		}

		value := secret.New([]byte("late"))
		if _, err := org.Client().SetSecrets(middle, flytest.App, map[string]*secret.Value{"LATE": &value}); err == nil {
			t.Error("an action goes on under another lease than it began with")
		}
		old.Data = map[string]string{"by": "a"}
		if err := inv.Commit(middle, old); err == nil {
			t.Error("an action writes what it read under another lease")
		} else {
			r.refused(err, reconcile.Unavailable, "lost the lease")
		}
		if got, _ := inv.Record(r.app().ID); got.Data["by"] != "b" {
			t.Errorf("what was written meanwhile is buried: %v", got.Data)
		}
		r.must(inv.Commit(org.Acting(t.Context(), flytest.Environment), old)) // the next action
	})
}

// What the fence refuses was not sent: it is not looked for, and not asked again.
func TestRefusedIsNotSent(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.party()
		r.hold(a)
		r.must(r.apply(t.Context(), a.apps, reconcile.Request{Resource: r.app()}))
		org, err := a.Open(t.Context(), r.Account())
		r.must(err)
		middle := org.Acting(t.Context(), flytest.Environment)
		a.leases.Keep(nil)
		time.Sleep(time.Minute)
		began := time.Now()
		_, err = org.Client().AssignIP(middle, flytest.App, api.AssignIP{Type: api.IPv6})
		if api.KindOf(err) == api.Ambiguous || err == nil {
			t.Errorf("it may have happened: %v", err)
		}
		if _, err := org.Client().SetSecrets(middle, flytest.App, nil); err == nil || time.Since(began) > 3*time.Second {
			t.Errorf("asked again for %s: %v", time.Since(began), err)
		}
		var ours *reconcile.Error
		if !errors.As(err, &ours) || ours.Hint == "" {
			t.Errorf("nothing to do about it: %v", err)
		}
	})
}

// The lease follows the account: with another reference to the token it is the
// lease of the same machine, and with another inventory that of another one.
func TestLeaseFollowsTheAccount(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(flyemulator.DefaultToken), 0o600); err != nil {
		t.Fatal(err)
	}
	change := map[string]func(*forge.FlyAccount){
		"token":     func(a *forge.FlyAccount) { a.Token = forge.SecretRef{File: file} },
		"inventory": func(a *forge.FlyAccount) { a.Inventory = "forged-another" },
	}
	for name, change := range change {
		t.Run(name, func(t *testing.T) {
			inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
				a := r.party()
				r.hold(a)
				account := r.Account()
				change(&account)
				moved := r.app()
				moved.Spec = forge.FlyAppSpec{Account: account, Name: flytest.App}
				var l reconcile.Lease
				for range 24 {
					var err error
					l, err = a.leases.Hold(t.Context(), flytest.Environment, moved)
					r.must(err)
					if l.Held {
						break
					}
					time.Sleep(5 * time.Second)
				}
				if !l.Held {
					t.Fatalf("held by %s", l.Holder)
				}
				time.Sleep(5 * time.Minute) // the old one is not renewed
				r.must(r.apply(t.Context(), a.apps, reconcile.Request{Resource: moved, Policy: forge.Policy{Adopt: forge.AdoptIfUnowned}}))
				if l, err := a.leases.Hold(t.Context(), flytest.Environment, moved); err != nil || !l.Held {
					t.Errorf("not kept: %+v, %v", l, err)
				}
				org, err := a.Open(t.Context(), account)
				r.must(err)
				inv, err := org.Inventory(t.Context(), flytest.Environment, account)
				r.must(err)
				if _, ok := inv.Record(moved.ID); !ok {
					t.Error("not in the inventory")
				}
				if name == "inventory" {
					machines := r.inventories()
					if _, err := r.Somebody.Lease(t.Context(), flytest.Inventory, machines[0].ID); api.KindOf(err) != api.NoLease {
						t.Errorf("the old lease is still held: %v", err)
					}
				}
			})
		})
	}
}

// An inventory that nobody reads any more, because platform.inventory names
// another app, is told of: what it lists is looked after by nobody.
func TestAnotherInventoryIsTold(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.party()
		r.hold(a)
		r.must(r.apply(t.Context(), a.apps, reconcile.Request{Resource: r.app()}))
		a.Close()

		var log journal
		b := r.forged(func(o *fly.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		account := r.Account()
		account.Inventory = "forged-another"
		moved := r.app()
		moved.Spec = forge.FlyAppSpec{Account: account, Name: flytest.App}
		apps := fly.NewApps(b)
		_, err := apps.Observe(t.Context(), reconcile.Request{Resource: moved})
		r.must(err)
		time.Sleep(10 * time.Minute)
		if n := log.count("another inventory"); n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}
