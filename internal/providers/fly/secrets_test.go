package fly_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

func TestSecretsAreSet(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		r := s.stack(0)
		spec := r.Resource.Spec.(forge.FlySecretsSpec)
		spec.Apps[0].Entries = append(spec.Apps[0].Entries, forge.SecretEntry{Key: "X_FILE", Ref: &forge.SecretRef{Env: "PEM"}, MultiLine: true})
		o, steps := s.look(r)
		if o.Exists || len(steps) != 1 || steps[0].Action != reconcile.ActionCreate || len(steps[0].Changes) != 6 {
			s.Fatalf("exists %t, steps %v", o.Exists, steps)
		}
		s.settled(r)
		posts := map[string]int{}
		for _, q := range s.Requests() {
			if q.Action == "secrets.update" {
				posts[q.App]++
			}
		}
		if posts["shop"] != 1 || posts["shop-redis"] != 1 {
			s.Errorf("requests by app: %v", posts)
		}
		got := s.values("shop")
		if got["WORD"] != s.env["WORD"] || got["OTHER"] != s.env["OTHER"] || len(got["SESSION"]) != 24 {
			s.Errorf("got %q", got)
		}
		if raw, _ := base64.StdEncoding.DecodeString(got["X_FILE"]); string(raw) != s.env["PEM"] {
			s.Errorf("a file is %q", got["X_FILE"])
		}
		password := s.shares()
		o, _ = s.look(r)
		if o.Health.Status != reconcile.Ready || o.Objects != 6 || o.Outputs["version/shop"].Value == "" || o.Outputs["version/shop-redis"].Value == "" {
			s.Errorf("%+v", o)
		}
		if v := o.Outputs["value/shop-redis/REDIS_PASSWORD"].Secret; string(v.Reveal()) != password {
			s.Error("the password is not told")
		}

		// After a restart all is as before, but for what only Fly knows.
		before := s.Line.Writes()
		s.restart()
		o, steps = s.look(r)
		if len(steps) != 0 || s.Line.Writes() != before {
			s.Errorf("after a restart: %v", steps)
		}
		if _, told := o.Outputs["value/shop-redis/REDIS_PASSWORD"]; told || string(o.Outputs["value/shop/WORD"].Secret.Reveal()) != s.env["WORD"] {
			s.Errorf("outputs %v", o.Outputs)
		}
	})
}

// What is written down tells nobody a value, nor which values are the same.
func TestLedgerTellsNothing(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		r := s.request([]forge.SecretEntry{variable("A", "WORD"), variable("B", "WORD")}, variable("A", "WORD"))
		s.settled(r)
		record := s.record()
		hashes := map[string]bool{}
		for key, text := range record.Data {
			s.clean(text)
			if strings.HasPrefix(key, "secret/") {
				_, rest, _ := strings.Cut(text, `"hash":"`)
				hash, _, _ := strings.Cut(rest, `"`)
				hashes[hash] = true
			}
		}
		if len(hashes) != 3 || hashes[""] {
			s.Errorf("the same value in three places has these hashes: %v", hashes)
		}
		// They are independent of each other.
		s.env["WORD"] = canary + "-new"
		step := s.only(r)
		if step.Action != reconcile.ActionUpdate || len(step.Changes) != 3 {
			s.Errorf("%s %v", step, step.Changes)
		}
		s.settled(r)
		if s.values("shop")["A"] != s.env["WORD"] || s.values("shop")["B"] != s.env["WORD"] || s.values("shop-redis")["A"] != s.env["WORD"] {
			s.Error("not everywhere")
		}
	})
}

func TestSecretsSetByOthersAreHealed(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		r := s.stack(0)
		s.settled(r)
		version := s.version(r, "shop")
		session, password := s.values("shop")["SESSION"], s.shares()
		for _, name := range []string{"WORD", "SESSION", "REDIS_URL"} {
			s.set("shop", name, foreign)
		}
		step := s.only(r)
		if step.Rollout() || step.Object != "the secrets of app shop" || step.Reason.Code != reconcile.ReasonEdited || step.Reason.Writer == "" || len(step.Changes) != 3 || step.Reason.At.IsZero() {
			s.Errorf("%s %v", step, step.Changes)
		}
		s.settled(r)
		if got := s.values("shop"); got["WORD"] != s.env["WORD"] || got["SESSION"] != session {
			s.Errorf("got %q", got)
		}
		if s.shares() != password {
			s.Error("another password")
		}
		if v := s.version(r, "shop"); v == version {
			s.Errorf("machines that have started meanwhile would not be told: version %s", v)
		}

		// The same value is no change.
		s.set("shop", "WORD", s.env["WORD"])
		if _, steps := s.look(r); len(steps) != 0 {
			s.Errorf("the same value: %v", steps)
		}

		s.set("shop", "WORD")
		o, steps := s.look(r)
		if len(steps) != 1 || steps[0].Reason.Code != reconcile.ReasonDeleted || o.Health.Status != reconcile.Progressing {
			s.Errorf("%v %v", steps, o.Health)
		}
		s.settled(r)
	})
}

// What others have set stays, whatever happens.
func TestForeignSecretsAreLeftAlone(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		s.set("shop", "THEIRS", foreign)
		s.set("shop", "LATER", foreign)
		r := s.stack(0)
		s.settled(r)
		o, _ := s.look(r)
		if len(o.Notices) != 1 || !strings.Contains(o.Notices[0].Message, "LATER, THEIRS") {
			s.Errorf("notices %v", o.Notices)
		}
		later := s.stack(0)
		spec := later.Resource.Spec.(forge.FlySecretsSpec)
		spec.Apps[0].Entries = append([]forge.SecretEntry{variable("LATER", "WORD")}, spec.Apps[0].Entries...)
		blocked := s.converge(later)
		if len(blocked) != 1 || !strings.Contains(blocked[0].Blocked, "LATER") || !strings.Contains(blocked[0].Blocked, "if-unowned") {
			s.Errorf("blocked: %v", blocked)
		}
		if got := s.values("shop"); got["THEIRS"] != foreign || got["LATER"] != foreign {
			s.Errorf("got %q", got)
		}
		later.Policy.Adopt = forge.AdoptIfUnowned
		s.settled(later)
		gone := s.request(nil)
		gone.Remove = true
		s.settled(gone)
		if got := s.values("shop"); got["THEIRS"] != foreign || got["LATER"] != "" || got["WORD"] != "" {
			s.Errorf("got %q", got)
		}
	})
}

func TestUnwantedSecretsAreUnset(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		s.settled(s.request(
			[]forge.SecretEntry{variable("WORD", "WORD"), variable("OTHER", "OTHER"), variable("MOVED", "WORD"), generate("SESSION", 0)},
			variable("TOKEN", "WORD"),
		))
		version := s.version(s.stack(0), "shop")
		s.set("shop", "MOVED", foreign)
		r := s.request([]forge.SecretEntry{variable("WORD", "WORD")})
		step := s.only(r)
		if step.Action != reconcile.ActionDelete || !step.Late || step.Deletes != 2 || len(step.Changes) != 2 {
			s.Errorf("%s late %t %v", step, step.Late, step.Changes)
		}
		for _, want := range []string{"kept, since only Fly knows their values: SESSION of app shop", "left, since it is not forged that set them last: MOVED of app shop"} {
			if !strings.Contains(step.Reason.Text, want) {
				s.Errorf("%q is not said in %q", want, step.Reason.Text)
			}
		}
		keep := r
		keep.Policy.Prune = false
		if _, steps := s.look(keep); len(steps) != 0 {
			s.Errorf("without prune: %v", steps)
		}
		s.settled(r)
		got := s.values("shop")
		if got["OTHER"] != "" || got["MOVED"] != foreign || len(got["SESSION"]) != 24 || got["WORD"] != s.env["WORD"] || len(s.values("shop-redis")) != 0 {
			s.Errorf("got %q %q", got, s.values("shop-redis"))
		}
		if v := s.version(r, "shop"); v != version {
			s.Errorf("machines would be told to start anew: version %s, was %s", v, version)
		}
		if record := s.record(); record.Pending || len(record.Data) != 3 {
			s.Errorf("written down: %v", record.Data)
		}

		// What was kept is found again.
		s.restart()
		s.settled(s.request([]forge.SecretEntry{variable("WORD", "WORD"), generate("SESSION", 0)}))
		if now := s.values("shop")["SESSION"]; now != got["SESSION"] {
			s.Errorf("SESSION is another one")
		}
		s.settled(r)
		s.set("shop", "SESSION")
		if step := s.only(r); step.Action != reconcile.ActionForget {
			s.Errorf("%s", step)
		}
		s.settled(r)
	})
}

// A generated value that somebody has overwritten while forged did not run is
// lost. It is not made anew in silence.
func TestLostGeneratedSecrets(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		r := s.stack(0)
		s.settled(r)
		password := s.shares()
		s.restart()
		s.set("shop-redis", "REDIS_PASSWORD", foreign)
		s.set("shop", "REDIS_URL")
		s.set("shop", "WORD")
		blocked := s.converge(r)
		if len(blocked) != 2 {
			s.Fatalf("blocked: %v", blocked)
		}
		text := fmt.Sprint(blocked)
		for _, want := range []string{
			"generated values of REDIS_PASSWORD are lost", "fly secrets set --app shop-redis",
			"REDIS_URL must be set anew", "in forge.cue, environments.prod.redis_password: generate: rotation: 1",
		} {
			if !strings.Contains(text, want) {
				s.Errorf("%q is not said in %s", want, text)
			}
		}
		if s.values("shop")["WORD"] != s.env["WORD"] || s.values("shop-redis")["REDIS_PASSWORD"] != foreign {
			s.Error("what can be healed is, and nothing else")
		}

		// Whoever has the old one sets it again.
		s.set("shop-redis", "REDIS_PASSWORD", password)
		s.set("shop", "REDIS_URL", "redis://:"+password+"@shop-redis.internal:6379")
		s.settled(r)

		// Or a new one is asked for.
		s.set("shop-redis", "REDIS_PASSWORD", foreign)
		if blocked := s.converge(r); len(blocked) != 1 {
			s.Errorf("blocked: %v", blocked)
		}
		session := s.values("shop")["SESSION"]
		s.settled(s.stack(1))
		if s.shares() == password || s.values("shop")["SESSION"] != session {
			s.Error("a new password was asked for, and nothing else")
		}
		if v := s.version(s.stack(1), "shop-redis"); v == "" {
			s.Error("no version")
		}
	})
}

// What is joined from a generated value can be told to be as it was after a
// restart, but not joined anew.
func TestJoinedFromWhatOnlyFlyKnows(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		ask := func(host string, rotation int) reconcile.Request {
			return s.request([]forge.SecretEntry{joinRedis("REDIS_URL", host)}, generate("REDIS_PASSWORD", rotation))
		}
		s.settled(ask("a", 0))
		s.settled(ask("b", 0)) // this process has made it
		password := s.values("shop-redis")["REDIS_PASSWORD"]
		if url := s.values("shop")["REDIS_URL"]; url != "redis://:"+password+"@b:6379" {
			s.Errorf("the URL is %q", url)
		}
		s.restart()
		s.settled(ask("b", 0))
		blocked := s.converge(ask("c", 0))
		if len(blocked) != 1 || !blocked[0].Rollout() || !strings.Contains(blocked[0].Blocked, "rotation: 1") {
			s.Errorf("blocked: %v", blocked)
		}
		s.settled(ask("c", 1))
		fresh := s.values("shop-redis")["REDIS_PASSWORD"]
		if url := s.values("shop")["REDIS_URL"]; fresh == password || url != "redis://:"+fresh+"@c:6379" {
			s.Errorf("the URL is %q", url)
		}
	})
}

// A new value that cannot be set everywhere is set nowhere: nobody could tell it
// any more when the rest can be set.
func TestSharedValueIsSetEverywhereOrNowhere(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		s.set("shop", "REDIS_URL", foreign)
		r := s.stack(0)
		blocked := s.converge(r)
		if len(blocked) != 2 || len(s.values("shop-redis")) != 0 || s.values("shop")["WORD"] == "" {
			s.Errorf("blocked: %v; %q", blocked, s.values("shop-redis"))
		}
		if text := fmt.Sprint(blocked); !strings.Contains(text, "REDIS_PASSWORD: to be set together with REDIS_URL of app shop, which cannot be set") {
			s.Error(text)
		}
		r.Policy.Adopt = forge.AdoptIfUnowned
		s.settled(r)
		s.shares()
	})
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		s.set("shop-redis", "REDIS_PASSWORD", foreign)
		blocked := s.converge(s.stack(0))
		if text := fmt.Sprint(blocked); len(blocked) != 2 || !strings.Contains(text, "REDIS_URL: to be set together with REDIS_PASSWORD of app shop-redis") {
			s.Error(text)
		}
	})
}

// The inventory is lost with what it held: what is there is somebody else's,
// until a person says otherwise. Then values of one's own are written, and
// generated ones are what they were.
func TestLedgerIsLost(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		r := s.stack(0)
		s.settled(r)
		before, password := s.values("shop"), s.shares()
		s.accounts.Close()
		s.accounts = nil
		s.deleteApp(flytest.Inventory)
		s.restart()
		s.own("shop", "shop-redis")
		blocked := s.converge(r)
		if len(blocked) != 2 || fmt.Sprint(s.values("shop")) != fmt.Sprint(before) {
			s.Fatalf("blocked: %v", blocked)
		}
		r.Policy.Adopt = forge.AdoptIfUnowned
		s.settled(r)
		if fmt.Sprint(s.values("shop")) != fmt.Sprint(before) || s.shares() != password {
			s.Errorf("got %q, had %q", s.values("shop"), before)
		}
		o, _ := s.look(r)
		text := fmt.Sprint(o.Notices)
		if !strings.Contains(text, "REDIS_URL, SESSION") || !strings.Contains(text, "REDIS_PASSWORD") || o.Outputs["version/shop-redis"].Value != "0" {
			s.Errorf("notices %s, outputs %v", text, o.Outputs)
		}
		s.restart()
		if _, steps := s.look(r); len(steps) != 0 {
			s.Errorf("after a restart: %v", steps)
		}
		rotated := s.stack(1)
		rotated.Policy = r.Policy
		s.settled(rotated)
		if s.shares() == password || s.values("shop")["SESSION"] != before["SESSION"] {
			s.Error("a new password was asked for, and nothing else")
		}
		if o, _ := s.look(rotated); strings.Contains(fmt.Sprint(o.Notices), "REDIS") {
			s.Errorf("notices %v", o.Notices)
		}
	})
}

func TestRemovedSecrets(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		r := s.stack(0)
		s.settled(r)
		password := s.shares()
		s.restart()
		owned, err := s.p.Owned(s.Context(), "prod", []forge.Resource{{ID: forge.ID{Environment: "prod", Kind: forge.KindFlyApp, Name: "shop"}, Spec: forge.FlyAppSpec{Account: s.Account()}}})
		if err != nil || len(owned) != 1 {
			s.Fatalf("owned %v, %v", owned, err)
		}
		gone := reconcile.Request{Resource: owned[0], Policy: s.policy, Remove: true}
		step := s.only(gone)
		if step.Action != reconcile.ActionDelete || step.Deletes != 2 || !strings.Contains(step.Reason.Text, "kept, since only Fly knows their values: REDIS_URL of app shop, SESSION of app shop, REDIS_PASSWORD of app shop-redis") {
			s.Errorf("%s", step)
		}
		s.settled(gone)
		if got := s.values("shop"); got["WORD"] != "" || got["OTHER"] != "" || s.shares() != password {
			s.Errorf("got %q", got)
		}
		if o, _ := s.look(gone); o.Exists {
			s.Error("it still exists")
		}
		r.Policy.Adopt = forge.AdoptIfUnowned
		s.settled(r)
		if s.shares() != password {
			s.Error("another password")
		}
	})
}
