package fly_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

// engine is forged at work on what an app shows to the world.
type engine struct {
	*rig
	*reconcile.Engine
	policy forge.Policy
	number int
}

// runs begins an engine, which ends with the test.
func (r *rig) runs(v vault) *engine {
	r.t.Helper()
	a := r.forged()
	e := &engine{rig: r, policy: acting, Engine: reconcile.New(reconcile.Options{
		Providers: map[string]reconcile.Provider{
			forge.KindFlyApp: fly.NewApps(a), forge.KindFlyIPs: fly.NewIPs(a),
			forge.KindFlyVolume: fly.NewVolumes(a), forge.KindFlyCertificate: fly.NewCertificates(a, v.resolver()),
		},
		Logger: r.Logger(), Leases: fly.NewLeases(a),
	})}
	e.policy.Interval, e.policy.Timeout = 5*time.Minute, 10*time.Minute
	e.policy.Prune, e.policy.MaxDelete = true, 10
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	})
	r.must(e.Set(reconcile.Generation{Hash: "none"}))
	go func() { ended <- e.Run(ctx) }()
	return e
}

// wants has the engine ask for some resources.
func (e *engine) wants(all ...forge.Resource) {
	e.t.Helper()
	e.number++
	e.must(e.Set(reconcile.Generation{Number: e.number, Hash: string(rune('a' + e.number)), Environments: []reconcile.Environment{
		{Name: flytest.Environment, Platform: forge.PlatformFly, Target: flytest.Org, Policy: e.policy, Resources: all},
	}}))
}

// states are those of the resources, by kind.
func (e *engine) states() map[string]reconcile.ResourceStatus {
	all := map[string]reconcile.ResourceStatus{}
	for _, env := range e.Status().Environments {
		for _, s := range env.Resources {
			all[s.ID.Kind] = *s
		}
	}
	if len(all) == 0 {
		e.t.Error("there is no status")
	}
	return all
}

// The whole of it: nothing fails while DNS does not lead to the app, and all is
// there when it does. What is no longer asked for goes, but for data.
func TestAnAppIsShownToTheWorld(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		e := r.runs(vault{})
		certificate := r.certificate("", "")
		certificate.Needs = append(certificate.Needs, r.ips("shared", true).ID)
		e.wants(r.app(), r.ips("shared", true), r.volumes(2, 3), certificate)
		time.Sleep(time.Hour)
		for kind, s := range e.states() {
			if s.State != reconcile.StateReady {
				t.Errorf("%s is %s: %s", kind, s.State, s.Message)
			}
		}
		if s := e.states()[forge.KindFlyCertificate]; len(s.Notices) != 1 || s.Notices[0].Code != "dns" {
			t.Errorf("%+v", s)
		}
		r.leads()
		time.Sleep(30 * time.Minute)
		if s := e.states()[forge.KindFlyCertificate]; s.State != reconcile.StateReady || len(s.Notices) > 0 || s.Expires.IsZero() {
			t.Errorf("%+v", s)
		}

		// In the quiet nothing is written.
		writes := r.Line.Writes()
		time.Sleep(9 * time.Hour)                         // a thousand ticks
		if n := r.Line.Writes() - writes; n > 9*60*2+60 { // the lease is renewed every 30 s at most
			t.Errorf("%d changing requests", n)
		}
		if n := r.count("certificates.check", ""); n > 20 {
			t.Errorf("%d checks", n)
		}

		e.wants(r.app())
		time.Sleep(time.Hour)
		r.wantTypes()
		if list, err := r.Somebody.Certificates(t.Context(), flytest.App); err != nil || len(list) > 0 {
			t.Errorf("%+v, %v", list, err)
		}
		r.wantDisks(3, 3)
		if s := e.states()[forge.KindFlyVolume]; s.State != reconcile.StateBlocked || !strings.Contains(s.Steps[0].Blocked, `policy.destroyData is "never"`) {
			t.Errorf("%+v", s)
		}
		e.policy.DestroyData = "with-token"
		e.wants(r.app())
		time.Sleep(time.Minute)
		r.wantDisks(3, 3)
		for _, step := range e.states()[forge.KindFlyVolume].Steps {
			r.must(e.Approve(step.Approve))
		}
		time.Sleep(time.Minute)
		r.wantDisks()
		r.unthrottled()
	})
}

// Whatever happens on the way and to the requests: in the end there is what was
// asked for, and nothing twice.
func TestTroubleLeavesNothingTwice(t *testing.T) {
	faults := []flyemulator.Fault{
		{Drop: flyemulator.DropAfter},
		{Drop: flyemulator.DropBefore},
		{Status: 502},
		{Status: 503, Commit: true},
		{Status: 408, Commit: true},
		{Delay: flyemulator.Duration(29 * time.Second)},
		{Status: 429, Text: "rate limit exceeded"},
	}
	actions := []string{
		"volumes.create", "volumes.list", "volumes.extend", "ips.create", "ips.list", "certificates.create_acme", "certificates.get", "",
	}
	for seed := range uint64(4) {
		inBubble(t, flyemulator.Options{Seed: seed, Lag: flyemulator.Lag{Replica: 2 * time.Second}}, func(t *testing.T, r *rig) {
			chance := rand.New(rand.NewPCG(seed, 1))
			e := r.runs(vault{})
			want := []forge.Resource{r.app(), r.ips("shared", true), r.volumes(2, 3), r.certificate("", "")}
			e.wants(want...)
			for round := range 12 {
				f := faults[chance.IntN(len(faults))]
				f.Action, f.App, f.Count, f.Skip = actions[chance.IntN(len(actions))], flytest.App, 1+chance.IntN(3), chance.IntN(2)
				r.Fault(f)
				time.Sleep(time.Duration(chance.IntN(300)) * time.Second)
				r.disturb(chance)
				if round == 6 {
					want[1], want[2] = r.ips("dedicated", true), r.volumes(3, 4)
					e.wants(want...)
				}
			}
			r.MendAll()
			time.Sleep(2 * time.Hour)
			for kind, s := range e.states() {
				if s.State != reconcile.StateReady {
					t.Errorf("seed %d: %s is %s: %s", seed, kind, s.State, s.Message)
				}
			}
			r.wantTypes("v4", "v6")
			r.wantDisks(4, 4, 4)
			if list, err := r.Somebody.Certificates(t.Context(), flytest.App); err != nil || len(list) != 1 || !list[0].ACMERequested {
				t.Errorf("seed %d: %+v, %v", seed, list, err)
			}
		})
	}
}

// disturb changes something, as somebody else would. What goes wrong with it is
// part of the trouble.
func (r *rig) disturb(chance *rand.Rand) {
	ctx := r.t.Context()
	switch chance.IntN(4) {
	case 0:
		list, err := r.Somebody.Volumes(ctx, flytest.App)
		list = slices.DeleteFunc(list, api.Volume.Deleted)
		if err == nil && len(list) > 0 && chance.IntN(4) == 0 { // a host counts as taken for a day
			_ = r.Somebody.DeleteVolume(ctx, flytest.App, list[chance.IntN(len(list))].ID)
		}
	case 1:
		if list, err := r.Somebody.IPs(ctx, flytest.App); err == nil && len(list) > 0 {
			_ = r.Somebody.ReleaseIP(ctx, flytest.App, list[chance.IntN(len(list))].Address)
		}
	case 2:
		_ = r.Somebody.DeleteCertificate(ctx, flytest.App, host)
	}
}
