package fly_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// told collects events about a kind.
type told struct {
	mu  sync.Mutex
	ids map[forge.ID]int
}

func (r *rig) watch(a *fly.Accounts, kind string) *told {
	w := &told{ids: map[forge.ID]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = a.Watch(ctx, kind, func(ev reconcile.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ids[ev.ID]++
		})
	}()
	r.t.Cleanup(func() { cancel(); <-ended })
	return w
}

func (w *told) take() map[forge.ID]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.ids
	w.ids = map[forge.ID]int{}
	return got
}

func (r *rig) set(app, name, value string) {
	r.t.Helper()
	v := secret.New([]byte(value))
	_, err := r.Somebody.SetSecrets(r.t.Context(), app, map[string]*secret.Value{name: &v})
	r.must(err)
}

// thing is a resource that follows a topic, and how often it was read.
type thing struct {
	id    forge.ID
	topic fly.Topic
	reads int
}

func (r *rig) read(o *fly.Org, th *thing) {
	r.t.Helper()
	_, err := fly.Read(r.t.Context(), o, th.topic, func(ctx context.Context) (int, error) {
		th.reads++
		all, err := o.Client().Secrets(ctx, th.topic.App, 0)
		return len(all), err
	})
	r.must(err)
}

// What is read stays good while nothing changes, is read anew when something
// has, and who follows it is told; nobody else is.
func TestReadUntilItChanges(t *testing.T) {
	inBubble(t, flyemulator.Options{Lag: flyemulator.Lag{Listing: 5 * time.Second}}, func(t *testing.T, r *rig) {
		a := r.forged()
		w := r.watch(a, forge.KindFlySecrets)
		org, err := a.Open(t.Context(), r.Account())
		r.must(err)
		var things []*thing
		for n, app := range []string{"one", "two"} {
			r.MakeApp(app)
			th := &thing{id: numbered(n), topic: fly.Topic{App: app, Section: fly.SectionSecrets}}
			things = append(things, th)
			a.Follow(th.id, r.Account(), th.topic)
		}
		look := func() {
			for _, th := range things {
				r.read(org, th)
			}
		}
		look()
		for range 30 { // until the listings have begun to tell
			time.Sleep(30 * time.Second)
			look()
		}
		for _, th := range things {
			if !a.Follows(th.id) {
				t.Fatalf("%s is not followed", th.id)
			}
		}
		w.take()
		first := []int{things[0].reads, things[1].reads}
		for range 1000 {
			time.Sleep(30 * time.Second)
			look()
		}
		if got := []int{things[0].reads, things[1].reads}; got[0] != first[0] || got[1] != first[1] {
			t.Errorf("in the quiet read %v, before %v", got, first)
		}
		if got := w.take(); len(got) > 0 {
			t.Errorf("in the quiet told of %v", got)
		}

		r.set("one", "A", "b")
		for range 20 {
			time.Sleep(30 * time.Second)
			look()
		}
		got := w.take()
		if got[things[0].id] == 0 || got[things[1].id] > 0 {
			t.Errorf("told of %v", got)
		}
		if n := things[0].reads - first[0]; n < 1 || n > 2 || things[1].reads != first[1] {
			t.Errorf("read %d and %d times for one change", n, things[1].reads-first[1])
		}

		before := things[1].reads
		org.Touch(things[1].topic)
		look()
		if things[1].reads != before+1 {
			t.Error("what may have changed by our own hand is not read again")
		}
	})
}

// An app that is deleted by hand is noticed, and so is one that loses its last
// machine: within a tick.
func TestDeletedAppIsNoticed(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		p := fly.NewApps(a)
		w := r.watch(a, forge.KindFlyApp)
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: r.app()}))
		r.MakeMachine(flytest.App, map[string]string{fly.MarkInstance: flytest.Instance})
		time.Sleep(10 * time.Minute)
		if !p.Follows(r.app()) {
			t.Fatal("not followed")
		}
		w.take()
		r.must(r.Somebody.DeleteApp(t.Context(), flytest.App))
		time.Sleep(40 * time.Second)
		if w.take()[r.app().ID] == 0 {
			t.Fatal("nobody is told")
		}
		steps, err := r.plan(p, reconcile.Request{Resource: r.app()})
		if err != nil || len(steps) != 1 || steps[0].Rollout() || steps[0].Reason.Code != reconcile.ReasonDeleted {
			t.Errorf("steps %v, %v", steps, err)
		}
	})
}

// Regions that do not answer take nothing away, and bring nothing back.
func TestPartialListing(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.MakeApp("one")
		m := r.MakeMachine("one", nil)
		a := r.forged()
		w := r.watch(a, forge.KindFlyMachines)
		id := forge.ID{Environment: flytest.Environment, Kind: forge.KindFlyMachines, Name: "app"}
		_, err := a.Open(t.Context(), r.Account())
		r.must(err)
		a.Follow(id, r.Account(), fly.Topic{App: "one", Section: fly.SectionMachines})
		time.Sleep(5 * time.Minute)
		if !a.Follows(id) {
			t.Fatal("not followed")
		}
		w.take()
		r.SetSilent(m.Region, true)
		time.Sleep(10 * time.Minute)
		if got := w.take(); len(got) > 0 {
			t.Errorf("told of %v, since a region does not answer", got)
		}
		r.drift(http.MethodDelete, "/v1/apps/one/machines/"+m.ID+"?force=true", "")
		time.Sleep(time.Minute)
		r.SetSilent(m.Region, false)
		time.Sleep(time.Minute)
		if w.take()[id] == 0 {
			t.Error("a machine has gone, and nobody is told")
		}
	})
}

// 200 apps with 600 machines: a quiet tick is two requests.
func TestQuietTicks(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		const apps = 200
		for n := range apps {
			app := fmt.Sprintf("app%03d", n)
			r.drift(http.MethodPost, "/v1/apps", `{"app_name":"`+app+`","org_slug":"acme"}`)
			for range 3 {
				r.drift(http.MethodPost, "/v1/apps/"+app+"/machines", `{"region":"fra","config":{"image":"registry.fly.io/shop:v1"}}`)
			}
		}
		time.Sleep(time.Minute)
		a := r.forged()
		r.must(r.inventory(a).Commit(t.Context(), fly.Record{ID: r.app().ID}))
		sections := []fly.Section{fly.SectionApp, fly.SectionMachines, fly.SectionVolumes, fly.SectionSecrets, fly.SectionIPs, fly.SectionCertificates}
		var ids []forge.ID
		for n := range apps {
			for i, section := range sections {
				id := numbered(n*len(sections) + i)
				ids = append(ids, id)
				a.Follow(id, r.Account(), fly.Topic{App: fmt.Sprintf("app%03d", n), Section: section})
			}
		}
		a.Follow(forge.ID{Environment: "prod", Kind: forge.KindFlyPostgres, Name: "db"}, r.Account(), fly.Topic{Section: fly.SectionPostgres})
		a.Follow(forge.ID{Environment: "prod", Kind: forge.KindUpstashRedis, Name: "redis"}, r.Account(), fly.Topic{Section: fly.SectionAddOns})
		w := r.watch(a, forge.KindFlySecrets)
		time.Sleep(10 * time.Minute)
		for _, id := range ids {
			if !a.Follows(id) {
				t.Fatalf("%s is not followed", id)
			}
		}
		w.take()
		const ticks = 100
		before, began := r.Line.Requests(), time.Now()
		for r.Line.Requests()-before < 2*ticks {
			time.Sleep(10 * time.Second)
			if time.Since(began) > 2*ticks*30*time.Second {
				t.Fatal("it has stopped to look")
			}
		}
		// Each tick takes 30 s, more or less a tenth.
		if took := time.Since(began); took < ticks*29*time.Second || took > ticks*31*time.Second {
			t.Errorf("%d requests in %s", 2*ticks, took)
		}
		if got := w.take(); len(got) > 0 {
			t.Errorf("in the quiet told of %v", got)
		}
		r.unthrottled()
	})
}

// A token that is revoked is named; when another one is put in its place, all
// goes on by itself. Another environment, with a token of its own, is not held
// up.
func TestRevokedToken(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		p := fly.NewApps(a)
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: r.app()}))
		w := r.watch(a, forge.KindFlyApp)
		time.Sleep(10 * time.Minute)
		w.take()

		r.AddToken(flyemulator.Token{Value: "fm2_the-next-one", Kind: flyemulator.OrgToken, Org: flytest.Org})
		r.Somebody = r.ClientOf("fm2_the-next-one")
		r.Revoke(flyemulator.DefaultToken)
		time.Sleep(5 * time.Minute)
		if w.take()[r.app().ID] == 0 {
			t.Error("nobody is told that nothing can be seen any more")
		}
		if p.Follows(r.app()) {
			t.Error("followed, with a token that is void")
		}
		_, err := p.Observe(t.Context(), reconcile.Request{Resource: r.app()})
		if reconcile.KindOf(err) != reconcile.Denied {
			t.Errorf("%v", err)
		}
		if _, err := a.Owned(t.Context(), flytest.Environment, forge.KindFlyApp, resources(r.app())); err == nil {
			t.Error("what is owned is said to be known")
		}
		asked := r.Line.Requests()
		for range 100 {
			_, _ = p.Observe(t.Context(), reconcile.Request{Resource: r.app()})
		}
		if n := r.Line.Requests() - asked; n > 2 {
			t.Errorf("a void token is asked about %d times at once", n)
		}

		r.SetToken("fm2_the-next-one")
		time.Sleep(5 * time.Minute)
		if w.take()[r.app().ID] == 0 {
			t.Error("nobody is told that all is well again")
		}
		if steps, err := r.plan(p, reconcile.Request{Resource: r.app()}); err != nil || len(steps) > 0 {
			t.Errorf("steps %v, %v", steps, err)
		}
	})
}

// What a token is good for is known before anything is done with it.
func TestWrongTokens(t *testing.T) {
	for _, tt := range []struct {
		name  string
		token func(r *rig) flyemulator.Token
		want  string
	}{
		{"of one app", func(r *rig) flyemulator.Token {
			r.MakeApp("one")
			return flyemulator.Token{Value: "fm2_x", Kind: flyemulator.AppToken, Org: flytest.Org, App: "one"}
		}, "one only"},
		{"of another organization", func(*rig) flyemulator.Token {
			return flyemulator.Token{Value: "fm2_x", Kind: flyemulator.OrgToken, Org: "other"}
		}, "the organization other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, flyemulator.Options{Orgs: []flyemulator.Org{{Slug: flytest.Org}, {Slug: "other"}}}, func(t *testing.T, r *rig) {
				r.AddToken(tt.token(r))
				r.SetToken("fm2_x")
				_, err := r.plan(fly.NewApps(r.forged()), reconcile.Request{Resource: r.app()})
				r.refused(err, reconcile.Denied, tt.want, "fly tokens create org --org acme", "FLY_API_TOKEN unless told otherwise")
				if r.Line.Writes() > 0 {
					t.Error("something was changed")
				}
			})
		})
	}
}

// A resource or an environment in trouble holds up no other.
func TestOtherEnvironmentsGoOn(t *testing.T) {
	inBubble(t, flyemulator.Options{Foreign: []string{"taken"}}, func(t *testing.T, r *rig) {
		a := r.forged()
		p := fly.NewApps(a)
		taken := r.app()
		spec := taken.Spec.(forge.FlyAppSpec)
		spec.Account.Inventory = "taken"
		taken.ID.Environment, taken.Spec = "staging", spec
		if err := r.apply(t.Context(), p, reconcile.Request{Resource: taken}); err == nil {
			t.Error("the inventory of somebody else is taken")
		}
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: r.app()}))
		l := fly.NewLeases(a)
		if _, err := l.Hold(t.Context(), "staging", taken); err == nil {
			t.Error("held where there is nothing to hold")
		}
		if held, err := l.Hold(t.Context(), flytest.Environment, r.app()); err != nil || !held.Held {
			t.Errorf("%+v, %v", held, err)
		}
	})
}
