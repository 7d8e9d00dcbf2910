package fly_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

// attempt carries out what is planned once, whatever comes of it.
func (s *safe) attempt(r reconcile.Request) (whole bool) {
	s.Helper()
	o, err := s.p.Observe(s.Context(), r)
	s.clean(err)
	if err != nil {
		return false
	}
	steps, err := s.p.Plan(s.Context(), r, o)
	s.clean(err, steps)
	if err != nil {
		return false
	}
	for _, step := range steps {
		ctx, cancel := context.WithTimeout(s.Context(), 2*time.Minute)
		_, err := s.p.Apply(ctx, r, step)
		cancel()
		s.clean(err)
		if err != nil {
			return false
		}
	}
	return true
}

// Whatever request a process dies after, the next one ends with the same value
// wherever it is shared, nothing is blocked, and a value that was seen to be set
// is not made anew.
func TestSecretsSurviveACrashAtEveryRequest(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(s *safe)
		request func(s *safe) reconcile.Request
		renewed bool // the password is another one than that of before
	}{
		{"first", func(*safe) {}, func(s *safe) reconcile.Request { return s.stack(0) }, true},
		{"rotation", func(s *safe) { s.settled(s.stack(0)) }, func(s *safe) reconcile.Request { return s.stack(1) }, true},
		{"heal", func(s *safe) {
			s.settled(s.stack(0))
			s.restart()
			s.set("shop", "WORD", foreign)
			s.set("shop", "OTHER")
		}, func(s *safe) reconcile.Request { return s.stack(0) }, false},
		{"change", func(s *safe) {
			s.settled(s.stack(0))
			s.restart()
			s.env["WORD"] = canary + "-changed"
		}, func(s *safe) reconcile.Request { return s.stack(0) }, false},
		{"more", func(s *safe) {
			s.settled(s.request([]forge.SecretEntry{joinRedis("REDIS_URL", "shop-redis.internal"), generate("SESSION", 0)}, generate("REDIS_PASSWORD", 0)))
			s.restart()
		}, func(s *safe) reconcile.Request { return s.stack(0) }, false},
		{"less", func(s *safe) { s.settled(s.stack(0)); s.restart() }, func(s *safe) reconcile.Request {
			return s.request([]forge.SecretEntry{joinRedis("REDIS_URL", "shop-redis.internal"), generate("SESSION", 0)}, generate("REDIS_PASSWORD", 0))
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n, whole := 0, false; !whole; n++ {
				if n > 30 {
					t.Fatal("there is no end to it")
				}
				inSafe(t, flyemulator.Options{}, func(s *safe) {
					tt.prepare(s)
					session, password := s.values("shop")["SESSION"], s.values("shop-redis")["REDIS_PASSWORD"]
					r := tt.request(s)
					mend := s.Line.CutAfter(n)
					whole = s.attempt(r)
					mend()
					s.restart()
					s.settled(r)
					if now := s.shares(); (now != password) != tt.renewed {
						s.Errorf("after %d requests: another password: %t", n, now != password)
					}
					if session != "" && s.values("shop")["SESSION"] != session {
						s.Errorf("after %d requests: a value that nobody asked to be changed is another one", n)
					}
					for name, want := range map[string]string{"WORD": s.env["WORD"], "OTHER": s.env["OTHER"]} {
						if got := s.values("shop")[name]; got != want && (tt.name != "less" || got != "") {
							s.Errorf("after %d requests: %s is %q", n, name, got)
						}
					}
					if record := s.record(); record.Pending || strings.Contains(fmt.Sprint(record.Data), "writing") {
						s.Errorf("after %d requests: %v", n, record)
					}
				})
			}
		})
	}
}

// A request that is done and whose answer is lost is done again, with the same
// value.
func TestSecretsWithLostAnswers(t *testing.T) {
	for _, action := range []string{"secrets.update", "secrets.list", "machines.update", "machines.create"} {
		t.Run(action, func(t *testing.T) {
			inSafe(t, flyemulator.Options{}, func(s *safe) {
				mend := s.Fault(flyemulator.Fault{Action: action, App: "", Skip: 1, Count: 5, Drop: flyemulator.DropAfter})
				for range 6 {
					if s.attempt(s.stack(0)) {
						break
					}
					time.Sleep(time.Minute)
				}
				mend()
				s.settled(s.stack(0))
				password := s.shares()
				mend = s.Fault(flyemulator.Fault{Action: action, Count: 4, Drop: flyemulator.DropAfter})
				s.attempt(s.stack(1))
				mend()
				s.settled(s.stack(1))
				if s.shares() == password {
					s.Error("no new password")
				}
			})
		})
	}
}

// One app that refuses holds up no other, but for what they share: that is set
// in both or counts in neither.
func TestOneAppRefuses(t *testing.T) {
	for refuses, left := range map[string]int{"shop-redis": 3, "shop": 5} { // secrets that are left to do
		t.Run(refuses, func(t *testing.T) {
			inSafe(t, flyemulator.Options{}, func(s *safe) {
				mend := s.Fault(flyemulator.Fault{Action: "secrets.update", App: refuses, Status: 422, Text: "no"})
				r := s.request(
					[]forge.SecretEntry{variable("WORD", "WORD"), variable("OTHER", "OTHER"), joinRedis("REDIS_URL", "shop-redis.internal"), generate("SESSION", 0)},
					generate("REDIS_PASSWORD", 0), variable("WORD", "WORD"),
				)
				_, err := s.p.Apply(s.Context(), r, s.only(r))
				if reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(err.Error(), "app "+refuses) {
					s.Errorf("got %v", err)
				}
				for _, app := range []string{"shop", "shop-redis"} {
					if done := s.values(app)["WORD"] == s.env["WORD"]; done == (app == refuses) {
						s.Errorf("set in %s: %t", app, done)
					}
				}
				if step := s.only(r); step.Action != reconcile.ActionRepair || len(step.Changes) != left {
					s.Errorf("%s %v: want %d", step, step.Changes, left)
				}
				s.restart() // and the value that one app has is forgotten
				mend()
				s.settled(r)
				s.shares()
			})
		})
	}
}

func TestSecretsWithARevokedToken(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		s.settled(s.stack(0))
		password := s.shares()
		s.Revoke(flyemulator.DefaultToken)
		s.restart()
		o, err := s.p.Observe(s.Context(), s.stack(0))
		s.clean(err)
		if reconcile.KindOf(err) != reconcile.Denied || o.Exists || !strings.Contains(fmt.Sprint(err), "fly tokens create") {
			s.Errorf("got %v", err)
		}
		const another = "fm2_another"
		s.AddToken(flyemulator.Token{Value: another, Kind: flyemulator.OrgToken, Org: flytest.Org})
		s.SetToken(another)
		s.Somebody = s.ClientOf(another)
		time.Sleep(time.Minute)
		if _, steps := s.look(s.stack(0)); len(steps) != 0 || s.shares() != password {
			s.Errorf("planned %v", steps)
		}
	})
}

// What cannot be read is not called missing, and nothing is made anew.
func TestSecretsThatCannotBeRead(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		s.settled(s.stack(0))
		s.restart()
		for _, f := range []flyemulator.Fault{
			{Action: "secrets.list", Status: 500, Text: "no"},
			{Action: "secrets.list", Status: 403, Text: "no"},
			{Action: "secrets.list", Drop: flyemulator.DropBefore},
			{Action: "secrets.list", Status: 404, Text: "no such thing"},
		} {
			mend := s.Fault(f)
			ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
			o, err := s.p.Observe(ctx, s.stack(0))
			cancel()
			if err == nil || o.Exists {
				s.Errorf("%+v: read as %v, %v", f, o.Health, err)
			}
			mend()
		}
		if _, steps := s.look(s.stack(0)); len(steps) != 0 {
			s.Errorf("planned %v", steps)
		}
	})
}

// What was written is seen, however old what replicas know is.
func TestSecretsWithReplicasThatLag(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		s.SetLag(flyemulator.Lag{Replica: 4 * time.Second})
		r := s.stack(0)
		if _, err := s.p.Apply(s.Context(), r, s.only(r)); err != nil {
			s.Fatal(err)
		}
		if _, steps := s.look(r); len(steps) != 0 {
			s.Errorf("planned %v", steps)
		}
	})
}

// A process that knows an inventory of before writes over nothing that another
// one has written meanwhile.
func TestSecretsPlannedOnAnInventoryOfBefore(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		s.tick = time.Hour // it does not look at the listings
		s.restart()
		s.settled(s.request([]forge.SecretEntry{variable("WORD", "WORD")}))
		before, old := s.accounts, s.p
		s.tick = 0
		defer before.Close()
		late := s.stack(0)
		o, err := old.Observe(s.Context(), late)
		if err != nil {
			s.Fatal(err)
		}
		steps, err := old.Plan(s.Context(), late, o)
		if err != nil {
			s.Fatal(err)
		}
		s.accounts = nil
		s.restart()
		s.settled(s.stack(0))
		password := s.shares()
		if _, err := old.Apply(s.Context(), late, steps[0]); reconcile.KindOf(err) != reconcile.Stale {
			s.Errorf("got %v", err)
		}
		record := fly.Record{ID: secretsID, Data: map[string]string{"version/shop": "1"}}
		org, err := before.Open(s.Context(), s.Account())
		if err != nil {
			s.Fatal(err)
		}
		inv, err := org.Inventory(s.Context(), flytest.Environment, s.Account())
		if err != nil {
			s.Fatal(err)
		}
		if err := inv.Begin(s.Context(), record); reconcile.KindOf(err) != reconcile.Stale {
			s.Errorf("begin: %v", err)
		}
		record.ID.Name = "another"
		if err := inv.Begin(s.Context(), record); err != nil {
			s.Errorf("begin of another: %v", err)
		}
		time.Sleep(time.Minute)
		s.settled(s.stack(0))
		if s.shares() != password {
			s.Error("another password")
		}
	})
}

// An app that somebody has made anew under the name of ours gets nothing before
// it is forged's; its versions begin anew.
func TestSecretsOfAnAppThatWasMadeAnew(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		r := s.request([]forge.SecretEntry{variable("WORD", "WORD")})
		s.settled(r)
		for i := range 3 {
			s.env["WORD"] = fmt.Sprint(canary, i)
			s.settled(r)
		}
		s.deleteApp("shop")
		s.MakeApp("shop")
		time.Sleep(time.Minute)
		s.restart()
		step := s.only(r)
		if step.Reason.Code != reconcile.ReasonDeleted {
			s.Errorf("%s", step)
		}
		_, err := s.p.Apply(s.Context(), r, step)
		s.clean(err)
		if reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(fmt.Sprint(err), "another one than forged made") || len(s.values("shop")) > 0 {
			s.Errorf("got %v; it holds %q", err, s.values("shop"))
		}
		s.own("shop")
		s.settled(r)
		if v := s.version(r, "shop"); v != "1" {
			s.Errorf("version %s", v)
		}
	})
}

// What somebody has set in an app that they made under the name of ours is left
// to them, also when it is what forged had set.
func TestSecretsOfAnotherAppAreNotUnset(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		r := s.request([]forge.SecretEntry{variable("WORD", "WORD")})
		s.settled(r)
		s.deleteApp("shop")
		s.MakeApp("shop")
		s.set("shop", "WORD", s.env["WORD"])
		r.Remove = true
		s.settled(r)
		if s.values("shop")["WORD"] == "" {
			s.Error("it was unset")
		}
	})
}

// Nothing is asked of an app, and nothing is planned, as long as nothing changes.
func TestSecretsAreQuietForAThousandTicks(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		r := s.stack(0)
		s.settled(r)
		time.Sleep(10 * time.Minute)
		s.look(r)
		count := func() (n int) {
			for _, q := range s.Requests() {
				if strings.HasPrefix(q.Action, "secrets.") {
					n++
				}
			}
			return n
		}
		before, writes := count(), s.Line.Writes()
		for range 1000 {
			time.Sleep(30 * time.Second)
			if _, steps := s.look(r); len(steps) != 0 {
				s.Fatalf("planned %v", steps)
			}
		}
		if n := count() - before; n > 0 || s.Line.Writes() != writes {
			s.Errorf("%d requests about secrets, %d writes", n, s.Line.Writes()-writes)
		}
		if !s.p.Follows(r.Resource) {
			s.Error("it is not followed")
		}
		for _, q := range s.Requests() {
			if q.Status == 429 {
				s.Errorf("too many requests: %s", q.Path)
			}
		}
	})
}

// An app that is gone has no secrets; what was written down of them goes too.
func TestSecretsOfAnAppThatIsGone(t *testing.T) {
	inSafe(t, flyemulator.Options{}, func(s *safe) {
		s.settled(s.stack(0))
		s.deleteApp("shop-redis")
		r := s.request([]forge.SecretEntry{variable("WORD", "WORD"), variable("OTHER", "OTHER"), generate("SESSION", 0)})
		step := s.only(r)
		if step.Deletes != 1 || !strings.Contains(step.Reason.Text, "not there any more: REDIS_PASSWORD") {
			s.Errorf("%s", step)
		}
		s.settled(r)
	})
}
