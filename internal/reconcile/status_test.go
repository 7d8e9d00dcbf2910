package reconcile_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestStatusHoldsNoSecret(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.Rival(id("app"), "db", "canary-rival")
		y.set(gen(1, policy, fed("app", "db", "password"), one("db")))
		y.pass(time.Minute)
		if got := y.Live(id("app"))["pod"]; got != "1" {
			t.Fatal("nothing was applied")
		}
		if diff := cmp.Diff(map[string]string{"url": "world://db"}, y.status("db").Outputs); diff != "" {
			t.Errorf("outputs in the status (-want +got):\n%s", diff)
		}
		b, err := json.Marshal(y.engine.Status())
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{string(b), y.saw.lines(), fmt.Sprintf("%+v", y.engine.Status())} {
			if strings.Contains(text, "canary") {
				t.Errorf("a secret is in:\n%s", text)
			}
		}
	})
}

func TestStatusIsSharedUntilItChanges(t *testing.T) {
	run(t, func(y *forgeYard) {
		if s := y.engine.Status(); s.State != reconcile.StateWaiting {
			t.Errorf("before any generation: %s", s.State)
		}
		y.set(gen(1, policy, one("app")))
		a := y.engine.Status()
		changed := y.engine.Changed()
		if n := testing.AllocsPerRun(100, func() { _ = y.engine.Status() }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		y.SetHealth(id("app"), reconcile.Health{Status: reconcile.Failed, Message: "crash loop"})
		<-changed
		synctest.Wait()
		b := y.engine.Status()
		if a.Version >= b.Version || a.Environments[0].Resources[0].State != reconcile.StateReady || b.Environments[0].State != reconcile.StateFailed {
			t.Errorf("a: %d %s, b: %d %s", a.Version, a.State, b.Version, b.State)
		}
	})
}

// Nothing is called ready by what was seen under an older forge.cue: who
// reloads and then waits for ready would be told so before anything was done.
func TestNothingIsReadyUnseen(t *testing.T) {
	run(t, func(y *forgeYard) {
		rs := func(pod string) []forge.Resource {
			return []forge.Resource{res("db", map[string]any{"service": pod}), fed("app", "db", "url"), res("other", map[string]any{"pod": "1"})}
		}
		y.set(gen(1, policy, rs("1")...))
		y.wantState("app", reconcile.StateReady)
		// Looking takes its time from here on, so that there is a before.
		y.Fail("observe", id("db"), func() error { time.Sleep(time.Second); return nil })
		if err := y.engine.Set(gen(2, policy, rs("2")...)); err != nil {
			t.Fatal(err)
		}
		if s := y.engine.Status(); s.State == reconcile.StateReady || s.Generation != 2 {
			t.Errorf("generation %d is %s before anything was looked at", s.Generation, s.State)
		}
		y.wantState("db", reconcile.StateWaiting)
		y.wantState("other", reconcile.StateReady) // nothing has changed for it
		time.Sleep(10 * time.Second)
		synctest.Wait()
		y.wantState("app", reconcile.StateReady)
		// What is no longer asked for does not count as ready either.
		if err := y.engine.Set(gen(3, policy, res("other", map[string]any{"pod": "1"}))); err != nil {
			t.Fatal(err)
		}
		if s := y.engine.Status(); s.State == reconcile.StateReady {
			t.Error("ready, and there is something to remove")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := y.engine.Status(); s.State != reconcile.StateReady || len(s.Environments[0].Resources) != 1 {
			t.Errorf("in the end: %s, %d resources", s.State, len(s.Environments[0].Resources))
		}
	})
}

func TestHistoryIsBounded(t *testing.T) {
	run(t, func(y *forgeYard) {
		for n := range 300 {
			y.set(gen(n, policy, res("app", map[string]any{"pod": n})))
		}
		h := y.engine.Status().History
		if len(h) != 200 {
			t.Errorf("%d actions", len(h))
		}
	})
}

// Everything that may be called at any time is, while the engine works.
func TestConcurrentUse(t *testing.T) {
	run(t, func(y *forgeYard) {
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for n := range 50 {
					g := gen(n, policy, one("db"), fed("app", "db", "url"), res("x", map[string]any{"pod": n % 3}))
					switch (i + n) % 4 {
					case 0:
						if err := y.engine.Set(g); err != nil {
							t.Error(err)
						}
					case 1:
						y.engine.Recheck("")
					case 2:
						_ = y.engine.Status()
						y.Edit(id("x"), "pod", "evil", "kubectl")
					case 3:
						_ = y.engine.Changed()
						y.Event(id("db"), "health")
					}
				}
			})
		}
		all.Wait()
		y.set(gen(99, policy, one("db"), fed("app", "db", "url"), one("x")))
		y.pass(time.Hour)
		for _, name := range []string{"db", "app", "x"} {
			y.wantState(name, reconcile.StateReady)
		}
	})
}
