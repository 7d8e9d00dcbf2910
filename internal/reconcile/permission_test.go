package reconcile_test

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/world"
)

var tokenText = regexp.MustCompile(`forged approve ([0-9a-f]{12})`)

// Data goes only where the policy allows it, with the token of what was
// planned, and once.
func TestDestroysNeedPermission(t *testing.T) {
	withToken := policy
	withToken.DestroyData = "with-token"
	disk := res("db", map[string]any{world.Volume: "1", "pod": "1"})

	run(t, func(y *forgeYard) {
		never := policy
		never.DestroyData = "never"
		y.set(gen(1, never, disk, one("keep")))
		y.set(gen(2, never, one("keep")))
		y.wantState("db", reconcile.StateBlocked)
		if told := strings.Count(y.saw.lines(), "msg=blocked"); told != 1 {
			t.Errorf("told %d times that a person is needed:\n%s", told, y.saw.lines())
		}
		if blocked := y.status("db").Steps[0].Blocked; !strings.Contains(blocked, "destroys data: volume") || tokenText.MatchString(blocked) {
			t.Errorf("blocked: %s", blocked)
		}

		y.set(gen(3, withToken, one("keep")))
		token := tokenText.FindStringSubmatch(y.status("db").Steps[0].Blocked)
		if token == nil {
			t.Fatalf("no token is shown: %+v", y.status("db").Steps)
		}
		if err := y.engine.Approve("0123456789ab"); reconcile.KindOf(err) != reconcile.Invalid || err == nil {
			t.Errorf("another token: %v", err)
		}
		y.Edit(id("db"), "pod", "2", "kubectl") // what was planned on has moved
		y.engine.Recheck("")
		synctest.Wait()
		if err := y.engine.Approve(token[1]); err == nil {
			t.Error("an old token is good for what was planned since")
		}
		if len(y.Live(id("db"))) != 2 {
			t.Fatal("data is gone without permission")
		}
		token = tokenText.FindStringSubmatch(y.status("db").Steps[0].Blocked)
		if err := y.engine.Approve(token[1]); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if live := y.Live(id("db")); len(live) != 0 {
			t.Errorf("approved, and still there: %v", live)
		}
		if err := y.engine.Approve(token[1]); err == nil {
			t.Error("a token is good twice")
		}
	})
}

func TestWindowsHoldEverything(t *testing.T) {
	// The clock of the bubble begins on Saturday 2000-01-01 00:00 UTC.
	at := policy
	at.Windows = []forge.Window{{From: time.Hour, To: 2 * time.Hour, Zone: "UTC"}}
	run(t, func(y *forgeYard) {
		y.set(gen(1, at, one("app")))
		y.wantCount("apply", 0)
		y.wantState("app", reconcile.StateDrifted)
		if held := y.status("app").Steps[0].Held; held != "no change before 2000-01-01T01:00:00Z, by policy.windows" {
			t.Errorf("held: %q", held)
		}
		y.pass(time.Hour - time.Second)
		y.wantCount("apply", 0)
		y.pass(2 * time.Second)
		y.wantState("app", reconcile.StateReady)
		y.pass(time.Hour)
		y.Edit(id("app"), "pod", "2", "kubectl")
		y.pass(time.Minute)
		y.wantState("app", reconcile.StateDrifted)
		y.wantCount("apply", 1)
		y.pass(23 * time.Hour)
		y.wantState("app", reconcile.StateReady)
		y.wantCount("apply", 2)
	})
}

// A notice is told in the status and once in the log, and goes with its cause.
func TestNotices(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, one("app")))
		n := reconcile.Notice{Code: "mutated", Object: "pod", Message: "a webhook has changed spec.image"}
		y.SetNotices(id("app"), n)
		y.pass(time.Second)
		y.SetNotices(id("app"), n)
		y.pass(time.Second)
		if got := y.status("app").Notices; len(got) != 1 || got[0] != n {
			t.Errorf("notices: %v", got)
		}
		if told := strings.Count(y.saw.lines(), "a webhook has changed"); told != 1 {
			t.Errorf("told %d times:\n%s", told, y.saw.lines())
		}
		y.SetNotices(id("app"))
		y.pass(time.Second)
		if got := y.status("app").Notices; len(got) != 0 {
			t.Errorf("notices stay: %v", got)
		}
	})
}
