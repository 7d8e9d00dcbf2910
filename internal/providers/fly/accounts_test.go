package fly_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

// The apps of a Fly whose replicas and listings lag.
func TestAppsConformanceWhileFlyLags(t *testing.T) {
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		const lag = 2 * time.Second
		h := appsHarness(t, flyemulator.Options{Lag: flyemulator.Lag{Replica: lag, Listing: 20 * time.Second}})
		start := h.Start
		h.Start = func(t *testing.T) reconcile.Provider {
			time.Sleep(lag) // a new process asks any replica, and takes its time to start
			return start(t)
		}
		return h
	})
}

// Every kind of spec comes out of the inventory as it was written down, but for
// who asks: that is whoever reads it.
func TestSpecsAreKept(t *testing.T) {
	old := forge.FlyAccount{Org: "old", Token: forge.SecretRef{Env: "OLD"}, Inventory: "old"}
	now := forge.FlyAccount{Org: "acme", Token: forge.SecretRef{Env: "NOW"}, Inventory: "forged-shop"}
	for kind, of := range map[string]func(forge.FlyAccount) forge.Spec{
		forge.KindFlyApp: func(a forge.FlyAccount) forge.Spec { return forge.FlyAppSpec{Account: a, Name: "x", Network: "n"} },
		forge.KindFlyIPs: func(a forge.FlyAccount) forge.Spec {
			return forge.FlyIPsSpec{Account: a, App: "x", V4: "shared", V6: true}
		},
		forge.KindFlySecrets: func(a forge.FlyAccount) forge.Spec {
			return forge.FlySecretsSpec{Account: a, Apps: []forge.SecretObject{{Name: "x"}}}
		},
		forge.KindFlyVolume: func(a forge.FlyAccount) forge.Spec {
			return forge.FlyVolumeSpec{Account: a, App: "x", Name: "v", Count: 2, SizeGB: 3}
		},
		forge.KindFlyMachines: func(a forge.FlyAccount) forge.Spec {
			return forge.FlyMachinesSpec{Account: a, App: "x", Group: "app", Count: 2}
		},
		forge.KindFlyJob: func(a forge.FlyAccount) forge.Spec {
			return forge.FlyJobSpec{Account: a, App: "x", Timeout: time.Minute}
		},
		forge.KindFlyCertificate: func(a forge.FlyAccount) forge.Spec {
			return forge.FlyCertificateSpec{Account: a, App: "x", Hostname: "a.b"}
		},
		forge.KindFlyPostgres: func(a forge.FlyAccount) forge.Spec {
			return forge.FlyPostgresSpec{Account: a, Name: "db", Plan: "basic"}
		},
		forge.KindFlyPostgresApp: func(a forge.FlyAccount) forge.Spec {
			return forge.FlyPostgresAppSpec{Account: a, App: "pg", Machines: 3}
		},
		forge.KindUpstashRedis: func(a forge.FlyAccount) forge.Spec {
			return forge.UpstashRedisSpec{Account: a, Name: "r", ReadRegions: []string{"fra"}}
		},
		forge.KindFlyCluster: func(a forge.FlyAccount) forge.Spec { return forge.FlyClusterSpec{Account: a, Name: "k", Create: true} },
	} {
		raw := fly.EncodeSpec(of(old))
		if strings.Contains(string(raw), "OLD") {
			t.Errorf("%s: who asked is written down: %s", kind, raw)
		}
		got, err := fly.DecodeSpec(kind, raw, now)
		if diff := cmp.Diff(of(now), got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", kind, err, diff)
		}
	}
	if _, err := fly.DecodeSpec("something", nil, now); err == nil {
		t.Error("a kind that nobody knows is read")
	}
}

// Each kind of error of Fly means something to the engine.
func TestClassify(t *testing.T) {
	ours := &reconcile.Error{Kind: reconcile.Invalid, Op: "x"}
	for _, tt := range []struct {
		err  error
		want reconcile.ErrorKind
		hint bool
	}{
		{&api.Error{Kind: api.Unauthenticated}, reconcile.Denied, true},
		{&api.Error{Kind: api.Denied}, reconcile.Denied, true},
		{&api.Error{Kind: api.Payment}, reconcile.Denied, true},
		{&api.Error{Kind: api.NotFound}, reconcile.Stale, false},
		{&api.Error{Kind: api.Gone}, reconcile.Stale, false},
		{&api.Error{Kind: api.Conflict}, reconcile.Stale, false},
		{&api.Error{Kind: api.Precondition}, reconcile.Stale, false},
		{&api.Error{Kind: api.Taken}, reconcile.Conflict, false},
		{&api.Error{Kind: api.Leased}, reconcile.Conflict, false},
		{&api.Error{Kind: api.NotYet}, reconcile.Unavailable, false},
		{&api.Error{Kind: api.NoLease}, reconcile.Unavailable, false},
		{&api.Error{Kind: api.Unavailable}, reconcile.Unavailable, false},
		{&api.Error{Kind: api.Ambiguous}, reconcile.Unavailable, false},
		{&api.Error{Kind: api.TimedOut}, reconcile.Unavailable, false},
		{&api.Error{Kind: api.Capacity}, reconcile.Unavailable, true},
		{&api.Error{Kind: api.NoImage}, reconcile.Unavailable, true},
		{&api.Error{Kind: api.Throttled, RetryAfter: time.Minute}, reconcile.Throttled, false},
		{&api.Error{Kind: api.Invalid}, reconcile.Invalid, false},
		{&api.Error{Kind: api.SchemaDrift}, reconcile.Internal, true},
		{context.DeadlineExceeded, reconcile.Unavailable, false},
		{errors.New("what nobody foresaw"), reconcile.Internal, false},
		{fmt.Errorf("about it: %w", ours), reconcile.Invalid, false},
		{&api.Error{Kind: api.Ambiguous, Err: ours}, reconcile.Invalid, false}, // the fence's
	} {
		err := fly.Classify("do", "app x", tt.err)
		var e *reconcile.Error
		if !errors.As(err, &e) || e.Kind != tt.want || tt.hint != (e.Hint != "") {
			t.Errorf("%v: %+v", tt.err, e)
		}
		if tt.want == reconcile.Throttled && e.After != time.Minute {
			t.Errorf("told to wait a minute, waits %s", e.After)
		}
	}
	// The environment of a process does not change: what is read again is a file.
	if err := fly.Classify("do", "app x", &api.Error{Kind: api.Unauthenticated}); !strings.Contains(err.Error(), "a variable when forged starts again") {
		t.Errorf("a new token is not taken over by itself everywhere: %v", err)
	}
	if fly.Classify("do", "app x", nil) != nil {
		t.Error("nothing is an error")
	}
}

// Nothing goes on after the end, and what comes too late is refused.
func TestClose(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := r.party()
		r.hold(p)
		r.must(r.apply(t.Context(), p.apps, reconcile.Request{Resource: r.app()}))
		inv := r.inventory(p.Accounts)
		p.Close()
		before := len(r.Requests())
		time.Sleep(time.Hour)
		if n := len(r.Requests()) - before; n > 0 {
			t.Errorf("%d requests after the end", n)
		}
		if err := inv.Begin(t.Context(), fly.Record{ID: numbered(1)}); err == nil {
			t.Error("written after the end")
		}
		if err := p.Watch(t.Context(), forge.KindFlyApp, func(reconcile.Event) {}); err != nil {
			t.Error(err)
		}
		other := r.party()
		if !r.hold(other).Held {
			t.Error("the lease was not given back")
		}
	})
}

// A resource that is gone is not looked at any more.
func TestRemovedIsNotFollowed(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		p := fly.NewApps(a)
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: r.app()}))
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: r.app(), Remove: true}))
		time.Sleep(10 * time.Minute)
		before := r.count("graphql", "")
		time.Sleep(10 * time.Minute)
		if n := r.count("graphql", "") - before; n > 0 {
			t.Errorf("asked %d times about what is gone", n)
		}
		if ids := r.inventory(a).IDs(); len(ids) > 0 {
			t.Errorf("listed: %v", ids)
		}
	})
}

// A token that is refused at the start is asked about once a tick, however many
// want to use it; one that nobody answered about is asked about again.
func TestRefusedTokenIsAskedAboutOnce(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.AddToken(flyemulator.Token{Value: "fm2_of-an-app", Kind: flyemulator.AppToken, Org: flytest.Org, App: flytest.Bystander})
		r.SetToken("fm2_of-an-app")
		a := r.forged()
		for range 10 {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					_, err := a.Open(t.Context(), r.Account())
					r.refused(err, reconcile.Denied, flytest.Bystander+" only")
				})
			}
			all.Wait()
			time.Sleep(time.Second)
		}
		if n := r.count("tokens.current", ""); n != 1 {
			t.Errorf("asked %d times", n)
		}
		r.SetToken(flyemulator.DefaultToken)
		mend := r.Fault(flyemulator.Fault{Action: "tokens.current", Status: 502})
		if _, err := a.Open(t.Context(), r.Account()); reconcile.KindOf(err) != reconcile.Unavailable {
			t.Errorf("%v", err)
		}
		mend()
		if _, err := a.Open(t.Context(), r.Account()); err != nil {
			t.Error(err)
		}
		r.unthrottled()
	})
}
