package reconcile_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// What is held back because forge.cue has changed is told from what others did.
func TestNewConfigIsNoDrift(t *testing.T) {
	run(t, func(y *forgeYard) {
		heal := policy
		heal.Mode = forge.ModeHeal
		y.set(gen(1, policy, one("app")))
		y.set(gen(2, heal, res("app", map[string]any{"pod": "2"})))
		s := y.status("app")
		if s.State != reconcile.StateDrifted || s.Message != "not drift: what forge.cue asks for has changed; mode is heal" {
			t.Errorf("%s: %s", s.State, s.Message)
		}
		if len(s.Steps) != 1 || s.Steps[0].Drift || s.Steps[0].Cause.Code != reconcile.ReasonConfig {
			t.Errorf("%+v", s.Steps)
		}
	})
}

// Every line of the log says something with each of its attributes.
func TestNothingEmptyIsLogged(t *testing.T) {
	run(t, func(y *forgeYard) {
		y.set(gen(1, policy, one("app"), res("data", map[string]any{"volume-1": 1})))
		y.SetNotices(id("app"), reconcile.Notice{Code: "dns", Message: "does not resolve"})
		y.Delete(id("app"), "pod")
		y.Rival(id("app"), "pod", "3")
		y.Edit(id("app"), "pod", "2", "")
		y.Fail("observe", id("data"), fail(reconcile.Unavailable))
		y.Event(id("data"), "live")
		synctest.Wait()
		y.Fail("observe", id("data"), nil)
		y.set(gen(2, policy, one("app")))
		lines := y.saw.lines()
		for _, want := range []string{"msg=create", "msg=heal", "msg=fight", "msg=failed", "msg=notice", "msg=blocked"} {
			if !strings.Contains(lines, want) {
				t.Errorf("no line with %s", want)
			}
		}
		if m := regexp.MustCompile(`(?m)^.* [a-z]+=""( .*)?$`).FindString(lines); m != "" {
			t.Errorf("an attribute that says nothing: %s", m)
		}
	})
}

// The token of a step that destroys data has a field of its own.
func TestTokenInJSON(t *testing.T) {
	run(t, func(y *forgeYard) {
		p := policy
		p.DestroyData = "with-token"
		y.set(gen(1, p, one("app"), res("data", map[string]any{"volume-1": 1})))
		y.set(gen(2, p, one("app")))
		s := y.status("data")
		if len(s.Steps) != 1 || len(s.Steps[0].Approve) != 12 || !strings.Contains(s.Steps[0].Blocked, "forged approve "+s.Steps[0].Approve) {
			t.Fatalf("%+v", s.Steps)
		}
		var plan struct {
			Steps        map[string]int
			Environments []struct {
				Items []struct{ Steps []struct{ Approve string } }
			}
		}
		text, err := json.Marshal(y.plan(gen(2, p, one("app")), nil))
		if err == nil {
			err = json.Unmarshal(text, &plan)
		}
		if err != nil || plan.Environments[0].Items[1].Steps[0].Approve != s.Steps[0].Approve || plan.Steps["delete"] != 1 {
			t.Fatalf("%v\n%s", err, text)
		}
		if err := y.engine.Approve(s.Steps[0].Approve); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := y.saw.count(reconcile.ActionDelete); n != 1 {
			t.Errorf("%d deletes told", n)
		}
	})
}
