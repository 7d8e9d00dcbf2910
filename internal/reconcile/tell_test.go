package reconcile_test

import (
	"encoding/json"
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
