package upstash_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/providers/upstash"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

const name = "shop-redis"

// rig is a place on Fly, and forged that work there.
type rig struct {
	*flytest.AddOns
	t *testing.T
}

func newRig(t *testing.T, o flyemulator.Options) *rig {
	t.Helper()
	r := &rig{t: t, AddOns: flytest.NewAddOns(t, o, api.CreateAddOn{
		Type: api.AddOnRedis, PrimaryRegion: "iad", Options: map[string]any{"auto_upgrade": true},
	})}
	r.MakeTheirs()
	return r
}

func inBubble(t *testing.T, o flyemulator.Options, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, o)
		test(r)
		r.Unharmed(t)
	})
}

// redis starts the provider in a process of its own, when the one before has
// ended.
func (r *rig) redis() *fly.Service { return upstash.New(r.Accounts()) }

func (r *rig) request(change ...func(*forge.UpstashRedisSpec)) reconcile.Request {
	spec := forge.UpstashRedisSpec{Account: r.Account(), Name: name, Create: true, Plan: "pay-as-you-go", Region: "fra", ReadRegions: []string{"lhr"}, Evict: true}
	for _, f := range change {
		f(&spec)
	}
	return reconcile.Request{Resource: forge.Resource{
		ID:     forge.ID{Environment: flytest.Environment, Kind: forge.KindUpstashRedis, Name: name},
		Target: forge.Target{Org: flytest.Org}, Spec: spec,
	}}
}

func changed(s *forge.UpstashRedisSpec) {
	s.Plan, s.ReadRegions, s.Evict = "1gb", []string{"lhr", "syd", "fra"}, false
}

// live is the database as somebody else sees it.
func (r *rig) live() api.AddOn {
	r.t.Helper()
	return r.Seen(name)
}

func TestConformance(t *testing.T) {
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		r := newRig(t, flyemulator.Options{})
		h := r.Harness(providertest.Harness{
			Resource: r.request().Resource, Changed: r.request(changed).Resource,
			Policy: forge.Policy{Mode: forge.ModeApply, Adopt: forge.AdoptIfUnowned}, Data: true,
			Start: func(*testing.T) reconcile.Provider { return flytest.Patient{Service: r.redis()} },
			Edit: func(t *testing.T) {
				regions := []string{"syd"}
				if _, err := r.Somebody.UpdateAddOn(t.Context(), api.UpdateAddOn{ID: r.live().ID, ReadRegions: &regions}); err != nil {
					t.Fatal(err)
				}
			},
			Delete: func(t *testing.T) {
				if err := r.Somebody.DeleteAddOn(t.Context(), r.live().ID); err != nil {
					t.Fatal(err)
				}
			},
			Restore: func(t *testing.T) {
				if _, err := r.Somebody.CreateAddOn(t.Context(), api.CreateAddOn{Type: api.AddOnRedis, OrgID: r.Ask.OrgID, Name: name, PrimaryRegion: "fra"}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
			},
		})
		h.Bystander = r.Unharmed
		return h
	})
}

// The URL is an output that nobody can read; changes are what was asked for and
// nothing else.
func TestChangesAreWhatIsAskedFor(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := r.redis()
		o := r.Converge(p, r.request())
		url := string(o.Outputs[forge.OutputURL].Secret.Reveal())
		if !strings.HasPrefix(url, "redis://") || o.Outputs[forge.OutputURL].Value != "" {
			t.Fatalf("%+v", o.Outputs)
		}
		r.Secrets = append(r.Secrets, url)
		// Somebody bought the production pack, and set something of their own.
		pack, live := true, r.live()
		_, err := r.Somebody.UpdateAddOn(r.t.Context(), api.UpdateAddOn{ID: live.ID, PlanID: &live.PlanID, ProdPack: &pack, Options: map[string]any{"eviction": true, "auto_upgrade": true, "prod_pack": true}})
		r.Must(err)
		r.Must(func() error {
			metadata := r.live().Metadata
			metadata["team"] = "payments"
			_, err := r.Somebody.UpdateAddOn(r.t.Context(), api.UpdateAddOn{ID: live.ID, Metadata: metadata})
			return err
		}())
		time.Sleep(5 * time.Minute)
		if _, steps := r.Plan(p, r.request()); len(steps) != 0 {
			r.t.Errorf("what was not asked for is to be changed: %v", steps)
		}
		r.Converge(p, r.request(changed))
		live = r.live()
		want := map[string]any{"eviction": false, "auto_upgrade": true, "prod_pack": true}
		if fmt.Sprint(live.Options) != fmt.Sprint(want) || live.Metadata["team"] != "payments" || !slices.Equal(live.ReadRegions, []string{"lhr", "syd"}) || live.Plan != "Fixed 1GB" {
			r.t.Errorf("%+v", live)
		}
		for _, q := range r.Requests() {
			if q.Status == 429 {
				r.t.Errorf("too many requests: %s", q.Action)
			}
		}
		// Asked for, it is changed.
		off := false
		r.Converge(p, r.request(changed, func(s *forge.UpstashRedisSpec) { s.ProdPack = &off }))
		if on, _ := r.live().Options["prod_pack"].(bool); on {
			r.t.Error("the production pack is still on")
		}
	})
}

// What cannot change is said in one sentence; the rest goes on.
func TestWhatCannotChange(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := r.redis()
		r.Converge(p, r.request())
		q := r.request(changed, func(s *forge.UpstashRedisSpec) { s.Region = "syd"; s.ReadRegions = nil })
		r.Converge(p, q)
		step := r.Blocked(p, q, "cannot move to another primary region: it is in fra")
		if !step.Late || !step.Rollout() {
			r.t.Errorf("%+v", step)
		}
		if live := r.live(); live.PrimaryRegion != "fra" || live.Plan != "Fixed 1GB" || len(live.ReadRegions) != 0 {
			r.t.Errorf("%+v", live)
		}
	})
}

// Nothing is taken over without being asked, and never another forged's.
func TestAdoption(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := r.redis()
		q := r.request()
		q.Resource.Spec = r.request(func(s *forge.UpstashRedisSpec) { s.Create = false }).Resource.Spec
		r.Blocked(p, q, "has no Redis database shop-redis")
		live := r.Make(name)
		time.Sleep(5 * time.Minute)
		// As it is.
		if o, steps := r.Plan(p, q); len(steps) != 0 || o.Outputs[forge.OutputURL].Secret.IsZero() {
			r.t.Errorf("%v %+v", steps, o)
		}
		q = r.request()
		r.Blocked(p, q, "forged did not make it")
		q.Policy.Adopt = forge.AdoptForce
		_, err := r.Somebody.UpdateAddOn(r.t.Context(), api.UpdateAddOn{ID: live.ID, Metadata: map[string]any{"forged.dev/instance": "cart", "forged.dev/environment": "prod"}})
		r.Must(err)
		time.Sleep(5 * time.Minute)
		r.Blocked(p, q, "belongs to another forged, or another environment (cart/prod")
		_, err = r.Somebody.UpdateAddOn(r.t.Context(), api.UpdateAddOn{ID: live.ID, Metadata: map[string]any{"team": "payments"}})
		r.Must(err)
		time.Sleep(5 * time.Minute)
		q = r.request(func(s *forge.UpstashRedisSpec) { s.Region = "iad" })
		q.Policy.Adopt = forge.AdoptIfUnowned
		r.Converge(p, q)
		now := r.live()
		if now.ID != live.ID || now.Metadata["team"] != "payments" || now.Metadata["forged.dev/instance"] != flytest.Instance || now.Options["auto_upgrade"] != true || now.Options["eviction"] != true {
			r.t.Errorf("%+v", now)
		}
	})
}
