package fly_test

import (
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

func TestAppsConformance(t *testing.T) {
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness { return appsHarness(t, flyemulator.Options{}) })
}

func appsHarness(t *testing.T, o flyemulator.Options) providertest.Harness {
	r := &rig{flytest.New(t, o), t}
	remove := func(t *testing.T) {
		if err := r.Somebody.DeleteApp(t.Context(), flytest.App); err != nil {
			t.Fatal(err)
		}
		r.awaitGone(flytest.App)
	}
	return r.Harness(providertest.Harness{
		Resource: r.app(), Changed: r.app(), Fixed: true,
		Policy: forge.Policy{Mode: forge.ModeApply},
		Start:  func(*testing.T) reconcile.Provider { return fly.NewApps(r.forged()) },
		Edit: func(t *testing.T) { // an app has nothing to edit: somebody makes it anew
			remove(t)
			r.MakeApp(flytest.App)
		},
		Delete: remove,
	})
}

// Fly thinks for three seconds about whatever is asked of an app that is missing.
// It is asked once, and at the same time as for the inventory; that the app has
// come is seen all the same.
func TestMissingAppIsAskedForOnce(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		apps, ips, volumes, certificates := fly.NewApps(a), fly.NewIPs(a), fly.NewVolumes(a), fly.NewCertificates(a, vault{}.resolver())
		inside := func() {
			r.observe(ips, ask(r.ips("shared", true)))
			r.observe(volumes, ask(r.volumes(1, 1)))
			r.observe(certificates, ask(r.certificate("", "")))
		}
		asked, began := r.Line.Requests(), time.Now()
		if o := r.observe(apps, ask(r.app())); o.Exists {
			t.Fatal("it is there")
		}
		inside()
		if n, took := r.Line.Requests()-asked, time.Since(began); n != 3 || took > 4*time.Second { // token, inventory, app
			t.Errorf("%d requests in %s", n, took)
		}

		r.must(r.apply(t.Context(), apps, ask(r.app())))
		asked = r.Line.Requests()
		inside()
		if n := r.Line.Requests() - asked; n != 3 {
			t.Errorf("what is in the app that has come was read with %d requests", n)
		}
	})
}

// An app that the token does not cover, or that could not be read, is not one
// that is missing: what is in it is asked for.
func TestForeignAppIsNotMissing(t *testing.T) {
	inBubble(t, flyemulator.Options{Foreign: []string{flytest.App}}, func(t *testing.T, r *rig) {
		a := r.forged()
		r.observe(fly.NewApps(a), ask(r.app()))
		_, err := fly.NewIPs(a).Observe(t.Context(), ask(r.ips("shared", true)))
		r.refused(err, reconcile.Denied)
	})
}
