package fly_test

import (
	"net/http"
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

func (r *rig) volume(app string) {
	r.t.Helper()
	_, err := r.Somebody.CreateVolume(r.t.Context(), app, api.CreateVolume{Name: "data", Region: "fra", SizeGB: 3})
	r.must(err)
	time.Sleep(10 * time.Second) // until it is listed
}

// An app that is there already is taken over, or not, by what is in it and by
// policy.adopt. What is refused says why, and what to do; nothing is changed.
func TestAdoption(t *testing.T) {
	const (
		match = forge.AdoptMustMatch
		free  = forge.AdoptIfUnowned
		force = forge.AdoptForce
	)
	mark := func(instance, environment string) map[string]string {
		return map[string]string{fly.MarkInstance: instance, fly.MarkEnvironment: environment}
	}
	flyctl := map[string]string{"fly_platform_version": "v2", "fly_process_group": "app"}
	for _, tt := range []struct {
		name    string
		inside  func(r *rig)
		adopts  []string // policies that let it in
		refused string   // what the others say
	}{
		{"empty", func(*rig) {}, []string{match, free, force}, ""},
		{"our machines", func(r *rig) { r.MakeMachine(flytest.App, mark("shop", "prod")) }, []string{match, free, force}, ""},
		{
			"machines of another environment", func(r *rig) { r.MakeMachine(flytest.App, mark("shop", "staging")) },
			[]string{force},
			"belongs to the environment staging of this forged",
		},
		{
			"it is another environment's", func(r *rig) {
				staging := r.forged()
				org, err := staging.Open(r.t.Context(), r.Account())
				r.must(err)
				inv, err := org.Inventory(r.t.Context(), "staging", r.Account())
				r.must(err)
				r.must(inv.Commit(r.t.Context(), fly.Record{ID: forge.ID{Environment: "staging", Kind: forge.KindFlyApp, Name: flytest.App}}))
			},
			nil,
			"belongs to the environment staging of this forged",
		},
		{"a machine", func(r *rig) { r.MakeMachine(flytest.App, nil) }, []string{free, force}, "forged did not make it"},
		{"a volume", func(r *rig) { r.volume(flytest.App) }, []string{free, force}, "forged did not make it"},
		{"a secret", func(r *rig) { r.set(flytest.App, "A", "b") }, []string{free, force}, "forged did not make it"},
		{"machines of fly deploy", func(r *rig) { r.MakeMachine(flytest.App, flyctl) }, []string{force}, "belongs to fly deploy"},
		{
			"machines of another forged", func(r *rig) {
				r.MakeMachine(flytest.App, mark("blog", "prod"))
				other := r.forged(func(o *fly.Options) { o.Instance = "blog" })
				account := r.Account()
				account.Inventory = "forged-blog"
				org, err := other.Open(r.t.Context(), account)
				r.must(err)
				inv, err := org.Inventory(r.t.Context(), "prod", account)
				r.must(err)
				r.must(inv.Begin(r.t.Context(), fly.Record{ID: numbered(1)}))
			}, nil, "belongs to another forged, blog",
		},
		{
			"machines of another forged that is gone", func(r *rig) { r.MakeMachine(flytest.App, mark("blog", "prod")) },
			[]string{force},
			"belongs to another forged, blog",
		},
	} {
		for _, policy := range []string{match, free, force} {
			t.Run(tt.name+"/"+policy, func(t *testing.T) {
				inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
					r.MakeApp(flytest.App)
					tt.inside(r)
					time.Sleep(time.Minute)
					p := fly.NewApps(r.forged())
					q := reconcile.Request{Resource: r.app(), Policy: forge.Policy{Adopt: policy}}
					before := r.Line.Writes()
					steps, err := r.plan(p, q)
					if err != nil || len(steps) != 1 || r.Line.Writes() != before {
						t.Fatalf("steps %v, %v", steps, err)
					}
					s := steps[0]
					if !s.Rollout() || s.Reason.Code == "" || s.Deletes+len(s.Destroys) > 0 {
						t.Errorf("%+v", s)
					}
					allowed := false
					for _, a := range tt.adopts {
						allowed = allowed || a == policy
					}
					if !allowed {
						if !strings.Contains(s.Blocked, tt.refused) || !strings.Contains(s.Blocked, "; ") {
							t.Errorf("blocked: %q", s.Blocked)
						}
						if _, err := p.Apply(t.Context(), q, s); err == nil {
							t.Error("carried out what is blocked")
						}
						return
					}
					r.must(r.apply(t.Context(), p, q))
					if n := r.count("apps.create", ""); n > 4 { // the bystanders, the app itself, the inventory
						t.Errorf("%d apps made", n)
					}
					if steps, err := r.plan(p, q); err != nil || len(steps) > 0 {
						t.Errorf("afterwards: %v, %v", steps, err)
					}
				})
			})
		}
	}
}

func TestNameIsTaken(t *testing.T) {
	inBubble(t, flyemulator.Options{Foreign: []string{flytest.App}}, func(t *testing.T, r *rig) {
		_, err := r.plan(fly.NewApps(r.forged()), reconcile.Request{Resource: r.app()})
		r.refused(err, reconcile.Conflict, "another organization", "platform.appName")
		if r.Line.Writes() > 0 {
			t.Error("something was changed")
		}
	})
}

func TestReservedNames(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		for _, remove := range []bool{false, true} {
			p := fly.NewApps(r.forged())
			_, err := r.plan(p, reconcile.Request{Resource: r.appNamed("fks-" + flytest.Bystander), Remove: remove})
			r.refused(err, reconcile.Invalid, "never touched")
		}
		_, err := r.plan(fly.NewApps(r.forged()), reconcile.Request{Resource: r.appNamed(flytest.Inventory)})
		r.refused(err, reconcile.Invalid, "platform.inventory")

		// Nor does anybody else within forged touch them.
		org, err := r.forged().Open(t.Context(), r.Account())
		r.must(err)
		app := "fks-" + flytest.Bystander
		for what, err := range map[string]error{
			"delete it":         org.Client().DeleteApp(t.Context(), app),
			"release addresses": org.Client().ReleaseIP(t.Context(), app, "::1"),
		} {
			r.refused(fly.Classify(what, app, err), reconcile.Invalid, "never touched")
		}
		if _, err := org.Client().RequestCertificate(t.Context(), app, "api.acme.test"); err != nil {
			t.Errorf("certificates in front of a cluster: %v", err)
		}
	})
}

func TestNetworkCannotChange(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewApps(r.forged())
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: r.app()}))
		moved := r.app()
		spec := moved.Spec.(forge.FlyAppSpec)
		spec.Network = "apart"
		moved.Spec = spec
		_, err := r.plan(p, reconcile.Request{Resource: moved})
		r.refused(err, reconcile.Invalid, "apart", "platform.network")

		other := r.appNamed("shop-apart")
		spec.Name = "shop-apart"
		other.Spec = spec
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: other}))
		if app, err := r.Somebody.App(t.Context(), "shop-apart"); err != nil || app.Network != "apart" {
			t.Errorf("%+v, %v", app, err)
		}
	})
}

// The removal of an app names the volumes that are lost with it.
func TestRemovalNamesWhatIsLost(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewApps(r.forged())
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: r.app()}))
		r.MakeMachine(flytest.App, map[string]string{fly.MarkInstance: flytest.Instance, fly.MarkEnvironment: flytest.Environment})
		r.volume(flytest.App)
		gone := reconcile.Request{Resource: r.app(), Remove: true}
		steps, err := r.plan(p, gone)
		if err != nil || len(steps) != 1 {
			t.Fatalf("%v, %v", steps, err)
		}
		s := steps[0]
		if s.Action != reconcile.ActionDelete || s.Deletes != 3 || s.Blocked != "" {
			t.Errorf("%+v", s)
		}
		if len(s.Destroys) != 1 || !strings.HasPrefix(s.Destroys[0], "volume "+flytest.App+"/data (vol_") || !strings.HasSuffix(s.Destroys[0], ", 3 GB)") {
			t.Errorf("destroys %q", s.Destroys)
		}
		r.volume(flytest.App) // which the step does not name
		if _, err := p.Apply(t.Context(), gone, s); reconcile.KindOf(err) != reconcile.Stale {
			t.Errorf("carried out: %v", err)
		}
		r.must(r.apply(t.Context(), p, gone))
		if _, err := r.Somebody.App(t.Context(), flytest.App); api.KindOf(err) != api.NotFound {
			t.Errorf("still there: %v", err)
		}
	})
}

func TestRemovalKeepsWhatIsForeign(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewApps(r.forged())
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: r.app()}))
		m := r.MakeMachine(flytest.App, nil)
		gone := reconcile.Request{Resource: r.app(), Remove: true}
		steps, err := r.plan(p, gone)
		if err != nil || len(steps) != 1 || !strings.Contains(steps[0].Blocked, m.Name) {
			t.Fatalf("%+v, %v", steps, err)
		}
		if _, err := p.Apply(t.Context(), gone, steps[0]); err == nil {
			t.Error("carried out what is blocked")
		}
		if _, err := r.Somebody.App(t.Context(), flytest.App); err != nil {
			t.Error(err)
		}
	})
}

// What somebody has made anew under the name of what was ours is not ours: its
// removal lets go of it.
func TestRemovalLeavesAnotherOneOfTheName(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewApps(r.forged())
		r.must(r.apply(t.Context(), p, reconcile.Request{Resource: r.app()}))
		r.must(r.Somebody.DeleteApp(t.Context(), flytest.App))
		r.awaitGone(flytest.App)
		r.MakeApp(flytest.App)
		r.MakeMachine(flytest.App, nil)
		p = fly.NewApps(r.forged())
		gone := reconcile.Request{Resource: r.app(), Remove: true}
		steps, err := r.plan(p, gone)
		if err != nil || len(steps) != 1 || steps[0].Action != reconcile.ActionForget || steps[0].Deletes > 0 {
			t.Fatalf("%+v, %v", steps, err)
		}
		r.must(r.apply(t.Context(), p, gone))
		if _, err := r.Somebody.App(t.Context(), flytest.App); err != nil {
			t.Error(err)
		}
	})
}

// However the making of an app goes wrong, there is one in the end, and nobody
// else's is touched.
func TestTroubleWithApps(t *testing.T) {
	for name, fault := range map[string]flyemulator.Fault{
		"the answer is lost":   {Action: "apps.create", Skip: 1, Drop: flyemulator.DropAfter, Count: 1},
		"the request is lost":  {Action: "apps.create", Skip: 1, Drop: flyemulator.DropBefore, Count: 1},
		"done, and a 504":      {Action: "apps.create", Skip: 1, Status: http.StatusGatewayTimeout, Commit: true, Count: 1},
		"a race of names":      {Action: "apps.create", Skip: 1, Status: http.StatusUnprocessableEntity, Text: "uniqueness constraint violated", Commit: true, Count: 1},
		"not readable at once": {Action: "apps.get", App: flytest.App, Skip: 2, Status: http.StatusNotFound, Text: "app not found", Count: 2},
		"reads fail":           {Action: "apps.get", App: flytest.App, Skip: 2, Status: http.StatusBadGateway, Count: 3},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
				p := fly.NewApps(r.forged())
				r.Fault(fault)
				var err error
				for range 5 {
					if err = r.apply(t.Context(), p, reconcile.Request{Resource: r.app()}); err == nil {
						break
					}
				}
				r.must(err)
				for _, restart := range []bool{false, true} {
					if restart {
						p = fly.NewApps(r.forged())
					}
					if steps, err := r.plan(p, reconcile.Request{Resource: r.app()}); err != nil || len(steps) > 0 {
						t.Errorf("afterwards: %v, %v", steps, err)
					}
				}
			})
		})
	}
}
