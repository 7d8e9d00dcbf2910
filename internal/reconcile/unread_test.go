package reconcile_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// What is known of a place is not forgotten while the place cannot be read.
func TestWhatWasLeftIsKnownWhileItCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		kept := policy
		kept.Prune = false
		namespace, left := one("shop@@shop@old"), one("db@@shop@old")
		namespace.Target, left.Target = forge.Target{Context: "old"}, forge.Target{Context: "old"}
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, namespace, left, one("app"))); err != nil {
			t.Fatal(err)
		}
		l := y.listedBy()
		l.lists(nil, namespace, left, one("app"))
		y.running(func() {
			y.set(movedGen(2, kept, one("app")))
			namespace.Unread = true
			l.lists(nil, namespace, one("app"))
			y.engine.Recheck("")
			y.pass(time.Minute)
			if diff := cmp.Diff([]string{"app", "db@@shop@old", "shop@@shop@old"}, y.shown()); diff != "" {
				t.Errorf("shown (-want +got):\n%s", diff)
			}
			namespace.Unread = false
			l.lists(nil, namespace, one("app"))
			y.pass(10 * time.Minute)
			if diff := cmp.Diff([]string{"app", "shop@@shop@old"}, y.shown()); diff != "" {
				t.Errorf("shown (-want +got):\n%s", diff)
			}
		})
	})
}

// A place that only the list could not read is listed anew, not all the time, until
// it can be. What goes in the new place does not wait for that.
func TestUnreadPlaceIsListedAnew(t *testing.T) {
	for name, made := range map[string]bool{"a namespace of ours": true, "one of somebody else": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newYard(t)
				namespace, left := one("shop@@shop@old"), one("db@@shop@old")
				before := []forge.Resource{left, one("app"), one("worker")}
				shown := []string{"app", "db@@shop@old"}
				if made {
					before, shown = append(before, namespace), append(shown, namespace.ID.Name)
				}
				if _, err := y.engine.Converge(t.Context(), gen(1, policy, before...)); err != nil {
					t.Fatal(err)
				}
				l := y.listedBy()
				y.Fail("apply", left.ID, fail(reconcile.Unavailable))
				y.Fail("apply", namespace.ID, fail(reconcile.Unavailable))
				unread := namespace
				unread.Unread = true
				l.lists(nil, unread, one("app"), one("worker"))
				y.running(func() {
					y.set(movedGen(2, policy, one("app")))
					y.pass(time.Minute)
					if slices.Contains(y.shown(), "worker") {
						t.Error("a place that could not be read keeps what is elsewhere")
					}
					times := l.times()
					y.pass(time.Hour)
					if n := l.times() - times; n < 2 || n > 30 {
						t.Errorf("listed %d times in an hour", n)
					}
					l.lists(nil, append(before[:1:1], before[3:]...)...)
					y.pass(10 * time.Minute)
					if diff := cmp.Diff(shown, y.shown()); diff != "" {
						t.Errorf("shown (-want +got):\n%s", diff)
					}
					times = l.times()
					y.pass(time.Hour)
					if n := l.times() - times; n != 0 {
						t.Errorf("listed %d times more when all was known", n)
					}
				})
			})
		})
	}
}

// The plan does not say that nothing is in a place that could not be listed, be it
// that a look at it finds nothing.
func TestPlanOfUnreadPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		l := y.listedBy()
		unread := one("shop@@shop@old")
		unread.Target, unread.Unread = forge.Target{Context: "old"}, true
		l.lists(nil, unread)
		items := y.plan(movedGen(1, policy, one("app")), nil).Environments[0].Items
		if len(items) != 2 || items[1].ID != unread.ID || items[1].Left == nil || items[1].Error == nil || len(items[1].Steps) != 0 {
			t.Errorf("items %+v", items)
		}
	})
}
