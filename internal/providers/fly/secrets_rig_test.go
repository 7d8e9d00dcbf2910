package fly_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
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

// safe is a place with two apps, "shop" and "shop-redis", and with a provider of
// secrets at work on it.
type safe struct {
	*testing.T
	*flytest.Place
	accounts *fly.Accounts
	p        *fly.Secrets
	env      map[string]string
	policy   forge.Policy
	others   int                          // how often somebody else has changed something
	saved    map[string]map[string]string // what Fly holds, by app
	savedAt  [2]int                       // after so many writes of forged's, and of others
	tick     time.Duration                // of the processes that begin from now on; 0: the usual
}

// canary is in every value that is secret.
const canary = "c4n4ry"

// foreign is a value that somebody else sets.
const foreign = canary + "-theirs"

// inSafe runs a test in a bubble, in which no time is real.
func inSafe(t *testing.T, o flyemulator.Options, f func(s *safe)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSafe(t, o)
		defer func() { s.accounts.Close() }()
		f(s)
		s.Unharmed(t)
	})
}

func newSafe(t *testing.T, o flyemulator.Options) *safe {
	t.Helper()
	s := &safe{
		T: t, Place: flytest.New(t, o),
		env:    map[string]string{"WORD": canary + "-word", "OTHER": canary + "-other", "PEM": canary + "\nlines"},
		policy: forge.Policy{Adopt: forge.AdoptMustMatch, Prune: true},
	}
	s.MakeApp("shop")
	s.MakeApp("shop-redis")
	time.Sleep(time.Minute) // until they are there
	s.restart()
	s.own("shop", "shop-redis")
	return s
}

// own has the inventory list apps as forged's, as when it has made them.
func (s *safe) own(apps ...string) {
	s.Helper()
	inv := s.inventory()
	for _, name := range apps {
		app, err := s.Somebody.App(s.Context(), name)
		if err != nil {
			s.Fatal(err)
		}
		spec := forge.FlyAppSpec{Account: s.Account(), Name: name}
		record := fly.Record{
			ID:   forge.ID{Environment: "prod", Kind: forge.KindFlyApp, Name: name},
			Spec: fly.EncodeSpec(spec), Entries: []fly.Entry{{Kind: "app", Name: name, Identity: fmt.Sprint(app.NumericID)}},
		}
		if err := inv.Commit(s.Context(), record); err != nil {
			s.Fatal(err)
		}
	}
}

// restart begins anew, as a process does.
func (s *safe) restart() {
	if s.accounts != nil {
		s.accounts.Close()
	}
	resolver := s.Resolver()
	token := resolver.LookupEnv
	resolver.LookupEnv = func(name string) (string, bool) {
		if v, ok := s.env[name]; ok {
			return v, true
		}
		return token(name)
	}
	s.accounts = fly.NewAccounts(fly.Options{Instance: flytest.Instance, Resolver: resolver, Endpoints: flytest.Endpoints(), HTTP: s.HTTP(), Logger: s.Logger(), Tick: s.tick})
	s.p = fly.NewSecrets(s.accounts, resolver)
}

// set is what `fly secrets set` does, and with nothing `fly secrets unset`.
func (s *safe) set(app, name string, value ...string) {
	s.Helper()
	values := map[string]*secret.Value{name: nil}
	if len(value) > 0 {
		v := secret.New([]byte(value[0]))
		values[name] = &v
	}
	s.others++
	if _, err := s.Somebody.SetSecrets(s.Context(), app, values); err != nil {
		s.Fatal(err)
	}
	time.Sleep(3 * time.Minute) // until the listings have seen it
}

// deleteApp is what `fly apps destroy` does.
func (s *safe) deleteApp(app string) {
	s.Helper()
	s.others++
	if err := s.Somebody.DeleteApp(s.Context(), app); err != nil {
		s.Fatal(err)
	}
	time.Sleep(3 * time.Minute)
}

// values are those that Fly holds.
func (s *safe) values(app string) map[string]string {
	s.Helper()
	// To save all of Fly is slow: it is done when something was written since.
	if now := [2]int{s.Line.Writes(), s.others}; s.saved == nil || s.savedAt != now {
		s.saved, s.savedAt = s.allValues(), now
	}
	return maps.Clone(s.saved[app])
}

func (s *safe) allValues() map[string]map[string]string {
	s.Helper()
	var b bytes.Buffer
	if err := s.Save(&b); err != nil {
		s.Fatal(err)
	}
	var state struct {
		Apps map[string]struct {
			Secrets struct {
				Values map[string]struct{ Value string }
			}
		}
	}
	if err := json.Unmarshal(b.Bytes(), &state); err != nil {
		s.Fatal(err)
	}
	all := map[string]map[string]string{}
	for app, a := range state.Apps {
		all[app] = map[string]string{}
		for name, v := range a.Secrets.Values {
			all[app][name] = v.Value
		}
	}
	return all
}

// record is what is written down.
func (s *safe) record() fly.Record {
	s.Helper()
	r, _ := s.inventory().Record(secretsID)
	return r
}

func (s *safe) inventory() *fly.Inventory {
	s.Helper()
	org, err := s.accounts.Open(s.Context(), s.Account())
	if err != nil {
		s.Fatal(err)
	}
	inv, err := org.Inventory(s.Context(), "prod", s.Account())
	if err != nil {
		s.Fatal(err)
	}
	return inv
}

var secretsID = forge.ID{Environment: "prod", Kind: forge.KindFlySecrets, Name: "shop"}

func variable(key, name string) forge.SecretEntry {
	return forge.SecretEntry{Key: key, Ref: &forge.SecretRef{Env: name}}
}

func generate(key string, rotation int) forge.SecretEntry {
	return forge.SecretEntry{
		Key: key, Field: "environments.prod." + strings.ToLower(key),
		Ref: &forge.SecretRef{Generate: &forge.Generate{Alphabet: "alnum", Length: 24, Rotation: rotation}},
	}
}

// joinRedis is the way to a Redis whose password is generated.
func joinRedis(key, host string) forge.SecretEntry {
	return forge.SecretEntry{Key: key, Join: []forge.SecretPart{
		{Literal: "redis://:"}, {Secret: "shop-redis", Key: "REDIS_PASSWORD", URLEscape: true}, {Literal: "@" + host + ":6379"},
	}}
}

// request asks for secrets of the apps.
func (s *safe) request(shop []forge.SecretEntry, redis ...forge.SecretEntry) reconcile.Request {
	sorted := func(all []forge.SecretEntry) []forge.SecretEntry {
		all = slices.Clone(all)
		slices.SortFunc(all, func(x, y forge.SecretEntry) int { return strings.Compare(x.Key, y.Key) })
		return all
	}
	spec := forge.FlySecretsSpec{Account: s.Account(), Apps: []forge.SecretObject{{Name: "shop", Entries: sorted(shop)}}}
	if len(redis) > 0 {
		spec.Apps = append(spec.Apps, forge.SecretObject{Name: "shop-redis", Entries: sorted(redis)})
	}
	return reconcile.Request{
		Resource: forge.Resource{ID: secretsID, Target: forge.Target{Org: "acme"}, Spec: spec},
		Policy:   s.policy,
	}
}

// stack is what most environments ask for: values of one's own and a password
// that is generated, and stands in another app's URL.
func (s *safe) stack(rotation int) reconcile.Request {
	return s.request(
		[]forge.SecretEntry{variable("WORD", "WORD"), variable("OTHER", "OTHER"), joinRedis("REDIS_URL", "shop-redis.internal"), generate("SESSION", 0)},
		generate("REDIS_PASSWORD", rotation),
	)
}

func (s *safe) look(r reconcile.Request) (reconcile.Observed, []reconcile.Step) {
	s.Helper()
	o, err := s.p.Observe(s.Context(), r)
	s.clean(err)
	if err != nil {
		s.Fatalf("observe: %v", err)
	}
	steps, err := s.p.Plan(s.Context(), r, o)
	b, _ := json.Marshal(steps)
	s.clean(err, steps, string(b), o.Health, o.Notices, fmt.Sprintf("%+v", o.Outputs))
	if err != nil {
		s.Fatalf("plan: %v", err)
	}
	return o, steps
}

// clean fails if anything has a value in it.
func (s *safe) clean(things ...any) {
	s.Helper()
	for _, app := range []string{"shop", "shop-redis"} {
		for name, value := range s.values(app) {
			for _, thing := range things {
				if text := fmt.Sprint(thing); strings.Contains(text, canary) || strings.Contains(text, value) {
					s.Errorf("the value of %s is in: %s", name, text)
				}
			}
		}
	}
}

// converge carries out what is planned, until nothing is or what is left is
// blocked.
func (s *safe) converge(r reconcile.Request) (blocked []reconcile.Step) {
	s.Helper()
	var last []reconcile.Step
	for range 8 {
		blocked = nil
		done := true
		_, last = s.look(r)
		for _, step := range last {
			if step.Blocked != "" {
				blocked = append(blocked, step)
				continue
			}
			done = false
			_, err := s.p.Apply(s.Context(), r, step)
			s.clean(err)
			if err != nil && reconcile.KindOf(err) != reconcile.Stale && reconcile.KindOf(err) != reconcile.Unavailable {
				s.Fatalf("%s: %v", step, err)
			}
		}
		if done {
			return blocked
		}
		time.Sleep(5 * time.Second)
	}
	s.Fatalf("it does not come to rest: %v", last)
	return nil
}

// settled converges and expects that nothing is blocked.
func (s *safe) settled(r reconcile.Request) {
	s.Helper()
	if blocked := s.converge(r); len(blocked) > 0 {
		s.Fatalf("blocked: %v", blocked)
	}
}

// only is the one step that is planned.
func (s *safe) only(r reconcile.Request) reconcile.Step {
	s.Helper()
	_, steps := s.look(r)
	if len(steps) != 1 {
		s.Fatalf("want one step, got %v", steps)
	}
	return steps[0]
}

func (s *safe) version(r reconcile.Request, app string) string {
	s.Helper()
	o, _ := s.look(r)
	return o.Outputs["version/"+app].Value
}

// shares fails unless the password of Redis is in the URL of the shop.
func (s *safe) shares() (password string) {
	s.Helper()
	password = s.values("shop-redis")["REDIS_PASSWORD"]
	if url := s.values("shop")["REDIS_URL"]; password == "" || url != "redis://:"+password+"@shop-redis.internal:6379" {
		s.Errorf("password %q, and the URL is %q", password, url)
	}
	return password
}
