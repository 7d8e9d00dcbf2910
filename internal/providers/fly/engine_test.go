package fly_test

import (
	"context"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

// daemon is a forged with its engine.
type daemon struct {
	*party
	engine *reconcile.Engine
	rig    *rig
}

func (r *rig) daemon() *daemon {
	p := r.party()
	e := reconcile.New(reconcile.Options{
		Providers: map[string]reconcile.Provider{forge.KindFlyApp: p.apps}, Leases: p.leases, Logger: r.Logger(),
	})
	return &daemon{p, e, r}
}

// run begins to hold the environment against the world.
func (d *daemon) run(wanted ...forge.Resource) {
	d.rig.t.Helper()
	d.want(wanted...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.engine.Run(ctx) }()
	d.rig.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			d.rig.t.Error(err)
		}
	})
}

func (d *daemon) want(wanted ...forge.Resource) {
	d.rig.t.Helper()
	d.rig.must(d.engine.Set(reconcile.Generation{Environments: []reconcile.Environment{{
		Name: flytest.Environment, Platform: forge.PlatformFly, Target: flytest.Org, Resources: wanted,
		Policy: forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 5, Timeout: 5 * time.Minute, Interval: 5 * time.Minute, Adopt: forge.AdoptMustMatch},
	}}}))
}

func (r *rig) exists(app string) bool {
	r.t.Helper()
	_, err := r.Somebody.App(r.t.Context(), app)
	if err != nil && api.KindOf(err) != api.NotFound {
		r.t.Fatal(err)
	}
	return err == nil
}

// Two daemons hold one environment: one acts, what is deleted by hand comes back
// once, the other one goes on when the first is cut off, and what forge.cue no
// longer asks for goes.
func TestTwoDaemons(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		first, second := r.daemon(), r.daemon()
		more := r.appNamed("shop-more")
		first.run(r.app(), more)
		time.Sleep(time.Minute)
		second.run(r.app(), more)
		time.Sleep(10 * time.Minute)
		if !r.exists(flytest.App) || !r.exists("shop-more") {
			t.Fatal("not made")
		}
		made := r.count("apps.create", "")
		if made != 5 { // two bystanders, the inventory, and these
			t.Errorf("%d apps made", made)
		}

		r.must(r.Somebody.DeleteApp(t.Context(), flytest.App))
		r.awaitGone(flytest.App)
		time.Sleep(10 * time.Minute)
		if got := r.count("apps.create", "") - made; !r.exists(flytest.App) || got != 1 {
			t.Errorf("deleted by hand: made %d times", got)
		}

		mend := first.line.Cut()
		time.Sleep(5 * time.Minute)
		r.must(r.Somebody.DeleteApp(t.Context(), flytest.App))
		r.awaitGone(flytest.App)
		time.Sleep(10 * time.Minute)
		mend()
		time.Sleep(10 * time.Minute)
		if got := r.count("apps.create", "") - made; !r.exists(flytest.App) || got != 2 {
			t.Errorf("deleted while the first was cut off: made %d times", got-1)
		}
		if l := second.engine.Status().Environments[0].Lease; l == nil || !l.Held {
			t.Errorf("the second does not act: %+v", l)
		}

		first.want(r.app())
		second.want(r.app())
		time.Sleep(10 * time.Minute)
		if r.exists("shop-more") || !r.exists(flytest.App) {
			t.Errorf("unwanted there %v, wanted there %v", r.exists("shop-more"), r.exists(flytest.App))
		}
	})
}
