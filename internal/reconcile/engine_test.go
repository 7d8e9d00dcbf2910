package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestOutputsFlowInOrder(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.Slow(id("db"), 30*time.Second)
		y.set(gen(1, policy, fed("worker", "app", "url"), fed("app", "db", "password"), res("db", map[string]any{"pod": "1"})))
		y.wantState("db", reconcile.StateProgressing)
		y.wantState("app", reconcile.StateWaiting)
		if got := y.status("app").WaitingFor; got != "local/release/db" {
			t.Errorf("app waits for %q", got)
		}
		if got := applied(y.Calls("observe")); len(got) == 0 || got[0] != "db" || cmp.Diff(got[1:], []string{"db"}) != "" {
			t.Errorf("observed %v: what waits must not be read", got)
		}
		y.pass(31 * time.Second)
		for _, name := range []string{"db", "app", "worker"} {
			y.wantState(name, reconcile.StateReady)
		}
		if diff := cmp.Diff([]string{"db", "app", "worker"}, applied(y.Calls("apply"))); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
		if got := y.Live(id("worker"))["db"]; got != "world://app" {
			t.Errorf("worker got %q", got)
		}
		if s := y.engine.Status(); s.State != reconcile.StateReady || s.Hash != "hash-1" {
			t.Errorf("status is %s of %s", s.State, s.Hash)
		}
	})
}

// What was ready under the old config does not count under the new one, even
// when the dependant is looked at first.
func TestUpdatesGoInOrder(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, one("db"), one("app", "db")))
		y.Forget()
		late := make(chan struct{})
		y.Fail("observe", id("db"), func() error { <-late; return nil })
		y.set(gen(2, policy, res("db", map[string]any{"pod": "2"}), res("app", map[string]any{"pod": "2"}, "db")))
		y.wantCount("apply", 0)
		y.wantState("app", reconcile.StateWaiting)
		close(late)
		synctest.Wait()
		if diff := cmp.Diff([]string{"db", "app"}, applied(y.Calls("apply"))); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
	})
}

func TestChangedOutputReachesDependants(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, fed("app", "db", "url"), res("db", map[string]any{"pod": "1"})))
		y.Forget()
		// A need that is gone for a while takes its output along, and brings it back.
		y.SetHealth(id("db"), reconcile.Health{Status: reconcile.Progressing, Message: "restarting"})
		synctest.Wait()
		y.wantState("app", reconcile.StateWaiting)
		if got := y.status("app").Message; !strings.Contains(got, `output "url" of local/release/db`) {
			t.Errorf("message %q", got)
		}
		y.SetHealth(id("db"), reconcile.Health{})
		synctest.Wait()
		y.wantState("app", reconcile.StateReady)
		y.wantCount("write", 0)
	})
}

func TestSteadyStateIsSilent(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, fed("app", "db", "url"), res("db", map[string]any{"pod": "1"})))
		logged, version := y.saw.lines(), y.engine.Status().Version
		y.Forget()
		y.pass(24 * time.Hour)
		for _, what := range []string{"observe", "plan", "apply", "owned"} {
			y.wantCount(what, 0)
		}
		y.engine.Recheck("")
		synctest.Wait()
		y.wantCount("write", 0)
		if got := y.saw.lines(); got != logged {
			t.Errorf("logged in the steady state:\n%s", strings.TrimPrefix(got, logged))
		}
		if v := y.engine.Status().Version; v != version {
			t.Errorf("status moved from version %d to %d", version, v)
		}
	})
}

func TestIntervalLooksAgain(t *testing.T) {
	run(t, func(y *forgeYard) {
		p := policy
		p.Interval = 10 * time.Minute
		y.set(gen(1, p, res("app", map[string]any{"pod": "1"})))
		y.Forget()
		y.pass(10 * time.Hour)
		// ±10 %: 54 to 67 times in ten hours.
		if n := y.Count("observe"); n < 54 || n > 67 {
			t.Errorf("looked %d times in ten hours", n)
		}
		y.wantCount("write", 0)
	})
}

func TestModes(t *testing.T) {
	tests := []struct {
		mode               forge.Mode
		heals, rolls, look bool
		drifted, changed   reconcile.State
	}{
		{forge.ModePaused, false, false, false, reconcile.StatePaused, reconcile.StatePaused},
		{forge.ModeObserve, false, false, true, reconcile.StateDrifted, reconcile.StateDrifted},
		{forge.ModeHeal, true, false, true, reconcile.StateReady, reconcile.StateDrifted},
		{forge.ModeApply, true, true, true, reconcile.StateReady, reconcile.StateReady},
	}
	for _, tt := range tests {
		t.Run(string(tt.mode), func(t *testing.T) {
			run(t, func(y *forgeYard) {
				y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
				p := policy
				p.Mode = tt.mode
				y.set(gen(2, p, res("app", map[string]any{"pod": "1"})))
				y.Forget()

				y.Edit(id("app"), "pod", "evil", "kubectl")
				synctest.Wait()
				y.wantState("app", tt.drifted)
				if got := y.Live(id("app"))["pod"] == "1"; got != tt.heals {
					t.Errorf("healed: %v, want %v", got, tt.heals)
				}
				if got := y.Count("observe") > 0; got != tt.look {
					t.Errorf("looked: %v, want %v", got, tt.look)
				}
				y.Edit(id("app"), "pod", "1", "kubectl")

				y.set(gen(3, p, res("app", map[string]any{"pod": "2"})))
				y.wantState("app", tt.changed)
				if got := y.Live(id("app"))["pod"] == "2"; got != tt.rolls {
					t.Errorf("rolled out: %v, want %v", got, tt.rolls)
				}
				if !tt.heals && y.Count("apply") != 0 {
					t.Errorf("mode %s applied", tt.mode)
				}

				y.set(gen(4, policy, res("app", map[string]any{"pod": "2"})))
				y.wantState("app", reconcile.StateReady)
				if got := y.Live(id("app"))["pod"]; got != "2" {
					t.Errorf("pod is %q in the end", got)
				}
			})
		})
	}
}

func TestHealIsTold(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
		y.Edit(id("app"), "pod", "evil", "kubectl-edit")
		synctest.Wait()
		if len(y.saw.drifts) != 1 || y.saw.drifts[0].Writer != "kubectl-edit" {
			t.Errorf("drifts %v", y.saw.drifts)
		}
		if len(y.saw.healed) != 1 || y.saw.healed[0] != 0 {
			t.Errorf("heals took %v; the engine must not add a delay", y.saw.healed)
		}
		for _, want := range []string{"msg=heal", "environment=local", "resource=local/release/app", "object=pod", "writer=kubectl-edit", "duration="} {
			if !strings.Contains(y.saw.lines(), want) {
				t.Errorf("log lacks %s:\n%s", want, y.saw.lines())
			}
		}
		a := y.status("app").LastAction
		if a == nil || a.Action != reconcile.ActionHeal || a.Object != "pod" {
			t.Errorf("last action %+v", a)
		}
		if h := y.engine.Status().History; len(h) != 2 || h[0].Action != reconcile.ActionCreate || h[1].Action != reconcile.ActionHeal {
			t.Errorf("history %+v", h)
		}
	})
}

func TestDriftIsToldOnce(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
		p := policy
		p.Mode = forge.ModeObserve
		y.set(gen(2, p, res("app", map[string]any{"pod": "1"})))
		y.Edit(id("app"), "pod", "evil", "kubectl")
		for range 5 {
			y.Event(id("app"), "live")
			synctest.Wait()
		}
		if n := len(y.saw.drifts); n != 1 {
			t.Errorf("told %d times", n)
		}
		s := y.status("app")
		if len(s.Steps) != 1 || !s.Steps[0].Drift || s.Steps[0].Held != "mode is observe" {
			t.Errorf("steps %+v", s.Steps)
		}
	})
}

func TestHealDoesNotWaitForNeeds(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, res("db", map[string]any{"pod": "1"}), res("app", map[string]any{"pod": "1"}, "db")))
		y.SetHealth(id("db"), reconcile.Health{Status: reconcile.Failed, Message: "crash loop"})
		y.Edit(id("app"), "pod", "evil", "kubectl")
		synctest.Wait()
		y.wantState("db", reconcile.StateFailed)
		if got := y.Live(id("app"))["pod"]; got != "1" {
			t.Errorf("pod is %q: a heal waited", got)
		}
		// A rollout does wait.
		y.set(gen(2, policy, res("db", map[string]any{"pod": "1"}), res("app", map[string]any{"pod": "2"}, "db")))
		y.wantState("app", reconcile.StateWaiting)
		if got := y.Live(id("app"))["pod"]; got != "1" {
			t.Errorf("pod is %q: a rollout did not wait", got)
		}
		y.SetHealth(id("db"), reconcile.Health{})
		synctest.Wait()
		y.wantState("app", reconcile.StateReady)
	})
}

func TestNotReadyInTime(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.SetHealth(id("app"), reconcile.Health{Status: reconcile.Progressing, Message: "0 of 1 replicas"})
		y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
		y.wantState("app", reconcile.StateProgressing)
		y.pass(10*time.Minute + time.Second)
		y.wantState("app", reconcile.StateFailed)
		if got := y.status("app").Message; got != "not ready within 10m: 0 of 1 replicas" {
			t.Errorf("message %q", got)
		}
		y.SetHealth(id("app"), reconcile.Health{})
		synctest.Wait()
		y.wantState("app", reconcile.StateReady)
	})
}

func TestUnknownNeverPlans(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, res("db", map[string]any{"pod": "1"}), res("app", map[string]any{"pod": "1"}, "db"), res("other", map[string]any{"pod": "1"})))
		y.Fail("observe", id("db"), func() error { return reconcile.Errorf(reconcile.Unavailable, "list", "connection refused") })
		y.Forget()
		y.Delete(id("db"), "pod")
		y.set(gen(2, policy, res("db", map[string]any{"pod": "2"}), res("app", map[string]any{"pod": "2"}, "db"), res("other", map[string]any{"pod": "2"})))
		y.pass(time.Hour)
		for _, c := range y.Calls("plan") {
			if c.ID == id("db") {
				t.Fatal("planned what could not be read")
			}
		}
		y.wantState("db", reconcile.StateUnknown)
		y.wantState("app", reconcile.StateWaiting)
		y.wantState("other", reconcile.StateReady)
		if e := y.status("db").Error; e == nil || e.Kind != reconcile.Unavailable {
			t.Errorf("error %+v", e)
		}
		if got := y.Live(id("app"))["pod"]; got != "1" {
			t.Errorf("app was rolled out to %q though its need is unknown", got)
		}
		y.Fail("observe", id("db"), nil)
		y.pass(6 * time.Minute)
		y.wantState("db", reconcile.StateReady)
		y.wantState("app", reconcile.StateReady)
	})
}

func TestStepsEndWithTheirGeneration(t *testing.T) {
	run(t, func(y *forgeYard) {
		one, two := map[string]any{"a": "1", "b": "1", "c": "1"}, map[string]any{"a": "2", "b": "2", "c": "2"}
		y.set(gen(1, policy, res("app", one)))
		y.Forget()
		begun, go1 := make(chan struct{}), make(chan struct{})
		y.Fail("apply", id("app"), func() error {
			y.Fail("apply", id("app"), nil)
			close(begun)
			<-go1
			return nil
		})
		for _, o := range []string{"a", "b", "c"} {
			y.Delete(id("app"), o)
		}
		<-begun // the first heal is under way
		if err := y.engine.Set(gen(2, policy, res("app", two))); err != nil {
			t.Fatal(err)
		}
		close(go1)
		synctest.Wait()
		if diff := cmp.Diff(map[string]string{"a": "2", "b": "2", "c": "2"}, y.Live(id("app"))); diff != "" {
			t.Errorf("live (-want +got):\n%s", diff)
		}
		// One heal of the old generation, then one rollout: not three heals.
		y.wantCount("apply", 2)
	})
}

func TestInvalidGenerationChangesNothing(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, res("app", map[string]any{"pod": "1"})))
		y.Forget()
		err := y.engine.Set(gen(2, policy, res("app", map[string]any{"pod": "2"}, "nothing")))
		if reconcile.KindOf(err) != reconcile.Invalid || err == nil {
			t.Errorf("error %v, want one of kind invalid", err)
		}
		bad := forge.Resource{ID: forge.ID{Environment: "local", Kind: "alien", Name: "x"}}
		if err := y.engine.Set(gen(2, policy, bad)); err == nil || !strings.Contains(err.Error(), `kind "alien"`) {
			t.Errorf("error %v, want one about the kind", err)
		}
		y.pass(time.Hour)
		y.wantCount("observe", 0)
		if s := y.engine.Status(); s.Generation != 1 {
			t.Errorf("generation %d is active", s.Generation)
		}
	})
}

func TestPanicIsOneResourcesProblem(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.Fail("plan", id("bad"), func() error { panic("canary-secret") })
		y.set(gen(1, policy, res("bad", map[string]any{"pod": "1"}), res("good", map[string]any{"pod": "1"})))
		y.wantState("good", reconcile.StateReady)
		y.wantState("bad", reconcile.StateFailed)
		s := y.status("bad")
		if s.Error == nil || s.Error.Kind != reconcile.Internal || strings.Contains(s.Error.Text, "canary") {
			t.Errorf("error %+v", s.Error)
		}
		if y.saw.panics == 0 || strings.Contains(y.saw.lines(), "canary") {
			t.Errorf("%d panics, log:\n%s", y.saw.panics, y.saw.lines())
		}
		y.Fail("plan", id("bad"), nil)
		y.pass(6 * time.Minute)
		y.wantState("bad", reconcile.StateReady)
	})
}

func TestFailureDelaysOnlyDependants(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.Fail("apply", id("db"), func() error { return reconcile.Errorf(reconcile.Denied, "apply", "forbidden") })
		y.set(gen(1, policy, res("db", map[string]any{"p": "1"}), res("app", map[string]any{"p": "1"}, "db"),
			res("cache", map[string]any{"p": "1"}), res("web", map[string]any{"p": "1"}, "cache")))
		y.wantState("db", reconcile.StateFailed)
		y.wantState("app", reconcile.StateWaiting)
		y.wantState("cache", reconcile.StateReady)
		y.wantState("web", reconcile.StateReady)
	})
}

// A whole environment that hangs must not keep the workers from another.
func TestHangingEnvironmentDelaysNoOther(t *testing.T) {
	run(t, func(y *forgeYard) {
		hang := make(chan struct{})
		var stuck, fine []forge.Resource
		for _, n := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			r := res(n, map[string]any{"p": "1"})
			fine = append(fine, r)
			r.ID.Environment = "stuck"
			stuck = append(stuck, r)
			y.Fail("observe", r.ID, func() error { <-hang; return errors.New("too late") })
		}
		g := gen(1, policy, fine...)
		g.Environments = append(g.Environments, reconcile.Environment{Name: "stuck", Policy: policy, Resources: stuck})
		y.set(g)
		for _, env := range y.engine.Status().Environments {
			if want := map[string]reconcile.State{"local": reconcile.StateReady, "stuck": reconcile.StateWaiting}[env.Name]; env.State != want {
				t.Errorf("%s is %s, want %s", env.Name, env.State, want)
			}
		}
		close(hang)
		synctest.Wait()
	})
}

func TestWorkersOfAnEnvironment(t *testing.T) {
	run(t, func(y *forgeYard) { passesAtATime(t, y, 0, 4) })
	run(t, func(y *forgeYard) { passesAtATime(t, y, 10, 10) })
}

func passesAtATime(t *testing.T, y *forgeYard, workers, want int) {
	t.Helper()
	var rs []forge.Resource
	for i := range 20 {
		rs = append(rs, one(string(rune('a'+i))))
	}
	var now, most atomic.Int32
	y.Fail("observe", forge.ID{}, func() error {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-time.After(time.Second)
		now.Add(-1)
		return nil
	})
	g := gen(1, policy, rs...)
	g.Environments[0].Workers = workers
	y.set(g)
	y.pass(time.Minute)
	if got := most.Load(); got != int32(want) {
		t.Errorf("%d passes at a time, want %d", got, want)
	}
	for _, r := range rs {
		y.wantState(r.ID.Name, reconcile.StateReady)
	}
}

// A failure under the old config, seen after the new one came, delays nothing.
func TestOldFailureIsVoid(t *testing.T) {
	run(t, func(y *forgeYard) {
		late := make(chan struct{})
		y.Fail("plan", id("app"), func() error { <-late; return fail(reconcile.Denied)() })
		y.set(gen(1, policy, one("app")))
		y.set(gen(2, policy, res("app", map[string]any{"pod": "2"})))
		y.Fail("plan", id("app"), nil)
		close(late)
		synctest.Wait()
		y.wantState("app", reconcile.StateReady)
	})
}

func TestBrokenWatchComesBack(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.wantCount("watch", 1) // one provider under two kinds is watched once
	})
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		fails := 3
		y.Fail("watch", forge.ID{}, func() error {
			if fails--; fails >= 0 {
				return errors.New("cut")
			}
			return nil
		})
		if err := y.engine.Set(gen(1, policy, res("app", map[string]any{"pod": "1"}))); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- y.engine.Run(ctx) }()
		synctest.Wait()
		y.wantState("app", reconcile.StateReady)
		y.Edit(id("app"), "pod", "evil", "kubectl")
		y.DropEvents() // nobody watched
		y.pass(time.Minute)
		y.wantCount("watch", 4)
		if got := y.Live(id("app"))["pod"]; got != "1" {
			t.Errorf("pod is %q: what happened while the watch was broken was missed", got)
		}
		y.Edit(id("app"), "pod", "evil", "kubectl")
		synctest.Wait()
		y.wantState("app", reconcile.StateReady)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownFinishesTheStep(t *testing.T) {
	tests := []struct {
		name     string
		takes    time.Duration
		finished bool
	}{
		{"in time", 10 * time.Second, true},
		{"too slow", time.Hour, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newYard(t)
				y.Fail("apply", id("app"), func() error { <-time.After(tt.takes); return nil })
				if err := y.engine.Set(gen(1, policy, res("app", map[string]any{"pod": "1"}), res("next", map[string]any{"pod": "1"}, "app"))); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- y.engine.Run(ctx) }()
				synctest.Wait()
				began := time.Now()
				cancel()
				err := <-ended
				if got := err == nil; got != tt.finished {
					t.Errorf("run ended with %v", err)
				}
				if d := time.Since(began); d > 32*time.Second {
					t.Errorf("took %s to end", d)
				}
				if got := len(y.Live(id("app"))) == 1; got != tt.finished {
					t.Errorf("applied: %v, want %v", got, tt.finished)
				}
				if n := len(y.Live(id("next"))); n != 0 {
					t.Error("something new was begun")
				}
				<-time.After(2 * time.Hour) // let the slow one run out
			})
		})
	}
}

func TestRunCanBeRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		for n := 1; n <= 2; n++ {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- y.engine.Run(ctx) }()
			synctest.Wait()
			y.set(gen(n, policy, res("app", map[string]any{"pod": n})))
			y.wantState("app", reconcile.StateReady)
			if err := y.engine.Run(ctx); err == nil {
				t.Error("ran twice at the same time")
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}

// After a restart, what was applied before is healed although what it needs is
// in trouble; only what is new waits for that.
func TestHealAfterRestartDoesNotWaitForNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, one("db"), one("app", "db"))); err != nil {
			t.Fatal(err)
		}
		y.Fail("observe", id("db"), func() error { return reconcile.Errorf(reconcile.Denied, "read", "no rights") })
		y.Edit(id("app"), "pod", "2", "kubectl")
		y.engine = engineOn(y.World, y.saw)
		if _, err := y.engine.Converge(t.Context(), gen(2, policy, one("db"), one("app", "db"), one("new", "db"))); err != nil {
			t.Fatal(err)
		}
		if live := y.Live(id("app")); live["pod"] != "1" {
			t.Errorf("not healed: %v", live)
		}
		if live := y.Live(id("new")); len(live) != 0 {
			t.Errorf("rolled out before what it needs: %v", live)
		}
	})
}
