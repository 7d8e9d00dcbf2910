package fly_test

import (
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

// What was made a moment ago is there, although a listing does not show it to a
// process that has just begun: nothing is made beside it.
func TestAStaleListingIsNoLoss(t *testing.T) {
	for _, tt := range []struct {
		action, empty string
		resource      func(*rig) forge.Resource
		provider      func(*fly.Accounts) reconcile.Provider
	}{
		{"ips.list", `{"ips":[]}`, func(r *rig) forge.Resource { return r.ips("dedicated", true) }, fly.NewIPs},
		{"volumes.list", "[]", func(r *rig) forge.Resource { return r.volumes(2, 3) }, fly.NewVolumes},
	} {
		inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
			a := r.forged()
			q := ask(tt.resource(r))
			r.must(r.apply(t.Context(), tt.provider(a), q))
			a.Close()
			defer r.Fault(flyemulator.Fault{Action: tt.action, App: flytest.App, Status: 200, Text: tt.empty})()
			p := tt.provider(r.forged())
			if steps := r.planned(p, q); len(steps) > 0 {
				t.Errorf("%s: planned:\n%s", tt.action, words(steps))
			}
		})
	}
}

// Without the right to look, or without an answer, nothing is known; who had it
// goes on when it is there again.
func TestWhatCannotBeReadIsUnknown(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		all := map[reconcile.Provider]reconcile.Request{
			fly.NewCertificates(a, vault{}.resolver()): ask(r.certificate("", "")),
			fly.NewIPs(a):     ask(r.ips("shared", true)),
			fly.NewVolumes(a): ask(r.volumes(2, 3)),
		}
		for p, q := range all {
			r.must(r.apply(t.Context(), p, q))
		}
		for _, f := range []flyemulator.Fault{
			{Status: 403, Text: "unauthorized"}, {Status: 500}, {Status: 200, Text: "{"}, {Drop: flyemulator.DropBefore},
		} {
			time.Sleep(time.Hour)
			f.App = flytest.App
			mend := r.Fault(f)
			b := r.forged()
			for p, q := range map[reconcile.Provider]reconcile.Request{
				fly.NewCertificates(b, vault{}.resolver()): ask(r.certificate("", "")),
				fly.NewIPs(b):     ask(r.ips("shared", true)),
				fly.NewVolumes(b): ask(r.volumes(2, 3)),
			} {
				if steps, err := r.plan(p, q); err == nil {
					t.Errorf("%d %s: planned:\n%s", f.Status, f.Text, words(steps))
				}
			}
			b.Close()
			mend()
		}
		for p, q := range all {
			if steps := r.planned(p, q); len(steps) > 0 {
				t.Errorf("planned:\n%s", words(steps))
			}
		}
	})
}

// An app that is not there, or of which a replica has not heard yet, is given
// nothing.
func TestAnAppThatIsNotThereGetsNothing(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		for _, action := range []string{"ips.list", "volumes.list"} {
			r.Fault(flyemulator.Fault{Action: action, App: flytest.App, Status: 404, Text: "app not found"})
		}
		a := r.forged()
		for p, q := range map[reconcile.Provider]reconcile.Request{
			fly.NewIPs(a): ask(r.ips("dedicated", true)), fly.NewVolumes(a): ask(r.volumes(2, 3)),
		} {
			if err := r.apply(t.Context(), p, q); reconcile.KindOf(err) != reconcile.Unavailable {
				t.Errorf("error %v", err)
			}
		}
		r.MendAll()
		r.wantTypes()
		r.wantDisks()
	})
}

// Somebody has deleted the app and made one of its name: that is theirs, and
// heals, which wait for nothing, do not touch it.
func TestAnotherAppOfTheNameGetsNothing(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		all := map[reconcile.Provider]reconcile.Request{
			fly.NewCertificates(a, vault{}.resolver()): ask(r.certificate("", "")),
			fly.NewIPs(a):     ask(r.ips("shared", true)),
			fly.NewVolumes(a): ask(r.volumes(2, 3)),
		}
		for p, q := range all {
			r.must(r.apply(t.Context(), p, q))
		}
		r.must(r.Somebody.DeleteApp(t.Context(), flytest.App))
		r.awaitGone(flytest.App)
		r.MakeApp(flytest.App)
		_, err := r.Somebody.RequestCertificate(t.Context(), flytest.App, host)
		r.must(err)
		time.Sleep(10 * time.Minute)
		healed := 0
		for p, q := range all {
			for _, s := range r.planned(p, q) {
				healed++
				_, err := p.Apply(t.Context(), q, s)
				r.refused(err, reconcile.Unavailable, "another one than forged made")
			}
		}
		if healed < 3 {
			t.Errorf("%d heals were planned", healed)
		}
		r.wantTypes()
		r.wantDisks()
		// Nor is what is theirs taken away.
		for p, q := range all {
			q.Remove = true
			r.must(r.apply(t.Context(), p, q))
		}
		if _, err := r.Somebody.Certificate(t.Context(), flytest.App, host); err != nil {
			t.Error(err)
		}
		// What is forged's again gets what is asked for.
		r.must(r.Somebody.DeleteCertificate(t.Context(), flytest.App, host))
		time.Sleep(10 * time.Minute)
		r.must(r.apply(t.Context(), fly.NewApps(a), reconcile.Request{Resource: r.app(), Policy: acting}))
		p := fly.NewIPs(a)
		r.must(r.apply(t.Context(), p, ask(r.ips("shared", true))))
		r.wantTypes("shared_v4", "v6")
	})
}

// While it cannot be told whose the app is, nothing is taken out of it by its
// name.
func TestNothingIsTakenFromWhatCannotBeTold(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		res := r.certificate("", "")
		res.Spec = forge.FlyCertificateSpec{Account: r.Account(), App: flytest.App, Hostname: host}
		p := fly.NewCertificates(r.forged(), nil)
		r.must(r.apply(t.Context(), p, ask(res)))
		mend := r.Fault(flyemulator.Fault{Action: "apps.get", App: flytest.App, Status: 500, Text: "boom"})
		if err := r.apply(t.Context(), p, ask(res, removing)); err == nil {
			t.Error("removed")
		}
		if list, err := r.Somebody.Certificates(t.Context(), flytest.App); err != nil || len(list) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
		mend()
		r.must(r.apply(t.Context(), p, ask(res, removing)))
	})
}

// A field that the listings ask for is no longer in Fly's GraphQL: that is said,
// and what is read one by one is looked at, healed and made as before.
func TestFieldsThatAreRemovedStopNothing(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.must(r.RemoveFields("App.secrets", "App.ipAddresses", "App.certificates"))
		e := r.runs(vault{})
		e.wants(r.app(), r.ips("shared", true), r.volumes(2, 3))
		time.Sleep(30 * time.Minute)
		r.wantTypes("shared_v4", "v6")
		r.wantDisks(3, 3)
		list, err := r.Somebody.IPs(t.Context(), flytest.App)
		r.must(err)
		r.must(r.Somebody.ReleaseIP(t.Context(), flytest.App, list[0].Address))
		time.Sleep(time.Hour)
		if list, err := r.Somebody.IPs(t.Context(), flytest.App); err != nil || len(list) != 2 {
			t.Errorf("%v, %v", list, err)
		}
		r.unthrottled()
	})
}
