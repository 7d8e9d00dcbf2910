package fly_test

import (
	"testing"

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
