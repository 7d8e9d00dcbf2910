package fly_test

import (
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

// reachable gives the app addresses.
func (r *rig) reachable() {
	r.t.Helper()
	for _, kind := range []string{api.SharedIPv4, api.IPv6} {
		_, err := r.Somebody.AssignIP(r.t.Context(), flytest.App, api.AssignIP{Type: kind})
		r.must(err)
	}
}

// watched runs the watch of a provider until the test ends.
func (r *rig) watched(p reconcile.Provider) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.Watch(r.t.Context(), func(reconcile.Event) {})
	}()
	r.t.Cleanup(func() { <-ended })
}

// A name that does not lead to the app yet is nobody's failure. What has to be
// in DNS is said, and once it is there, the certificate comes without anybody
// doing anything.
func TestACertificateWaitsForDNS(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.reachable()
		p, q := fly.NewCertificates(r.forged(), vault{}.resolver()), ask(r.certificate("", ""))
		r.watched(p)
		r.must(r.apply(t.Context(), p, q))
		time.Sleep(time.Minute)
		o := r.observe(p, q)
		if o.Health.Status != reconcile.Ready || len(o.Notices) != 1 || o.Notices[0].Code != "dns" {
			t.Fatalf("%+v", o)
		}
		_, addresses := r.types()
		for _, want := range []string{host + " does not resolve; wanted: ", host + " A " + addresses[0], host + " AAAA " + addresses[1]} {
			if !strings.Contains(o.Notices[0].Message, want) {
				t.Errorf("%q is not in %q", want, o.Notices[0].Message)
			}
		}
		for output, want := range map[string]string{
			"dns/a": host + " A " + addresses[0], "dns/aaaa": host + " AAAA " + addresses[1],
			"dns/cname": host + " CNAME ", "dns/challenge": "_acme-challenge." + host + " CNAME ", "dns/ownership": "_fly-ownership." + host + ` TXT "app-`,
		} {
			if got := o.Outputs[output].Value; !strings.HasPrefix(got, want) {
				t.Errorf("output %s is %q", output, got)
			}
		}
		if steps := r.planned(p, q); len(steps) > 0 {
			t.Errorf("planned:\n%s", words(steps))
		}

		r.SetDNS(host, &flyemulator.DNS{A: []string{"192.0.2.1"}})
		time.Sleep(11 * time.Minute)
		if o := r.observe(p, q); !strings.Contains(o.Notices[0].Message, "leads to 192.0.2.1, which is right only if something stands in between") ||
			!strings.Contains(o.Notices[0].Message, "_acme-challenge."+host) {
			t.Errorf("%+v", o.Notices)
		}

		r.leads()
		time.Sleep(20 * time.Minute)
		o = r.observe(p, q)
		if o.Health.Status != reconcile.Ready || len(o.Notices) > 0 || time.Until(o.Expires) < 80*24*time.Hour {
			t.Errorf("%+v", o)
		}
		r.unthrottled()
	})
}

// Nobody asks about a certificate that is there: not in a thousand ticks.
func TestACertificateThatIsThereIsNotAskedAbout(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.reachable()
		r.leads()
		a := r.forged()
		all := map[reconcile.Provider]reconcile.Request{
			fly.NewCertificates(a, vault{}.resolver()): ask(r.certificate("", "")),
			fly.NewIPs(a):     ask(r.ips("shared", true)),
			fly.NewVolumes(a): ask(r.volumes(2, 3)),
		}
		for p, q := range all {
			r.watched(p)
			r.must(r.apply(t.Context(), p, q))
		}
		time.Sleep(10 * time.Minute)
		for p, q := range all {
			r.observe(p, q)
		}
		time.Sleep(10 * time.Minute)
		writes := r.Line.Writes()
		about := func() (n int) {
			for _, action := range []string{"certificates.get", "certificates.check", "ips.list", "volumes.list"} {
				n += r.count(action, flytest.App)
			}
			return n
		}
		asked := about()
		for range 20 {
			time.Sleep(25 * time.Minute) // 50 ticks
			for p, q := range all {
				if steps := r.planned(p, q); len(steps) > 0 {
					t.Fatalf("planned:\n%s", words(steps))
				}
			}
		}
		if n := r.Line.Writes() - writes; n != 0 {
			t.Errorf("%d changing requests", n)
		}
		if n := about() - asked; n != 0 {
			t.Errorf("%d requests about what has not changed", n)
		}
	})
}

// Who only looks does not make Fly act.
func TestWhoOnlyLooksDoesNotCheck(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.reachable()
		a := r.forged()
		q := ask(r.certificate("", ""))
		r.must(r.apply(t.Context(), fly.NewCertificates(a, vault{}.resolver()), q))
		a.Close()
		p := fly.NewCertificates(r.forged(), vault{}.resolver())
		r.watched(p)
		q.Policy.Mode = forge.ModeObserve
		r.observe(p, q)
		time.Sleep(time.Hour)
		if n := r.count("certificates.check", ""); n != 0 {
			t.Errorf("%d checks", n)
		}
	})
}

// A certificate that nobody looks after any more is not asked about for ever.
func TestChecksEndWithTheInterest(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.reachable()
		p, q := fly.NewCertificates(r.forged(), vault{}.resolver()), ask(r.certificate("", ""))
		r.watched(p)
		r.must(r.apply(t.Context(), p, q))
		time.Sleep(3 * time.Hour)
		before := r.count("certificates.check", "")
		time.Sleep(3 * time.Hour)
		if n := r.count("certificates.check", "") - before; n != 0 || before == 0 {
			t.Errorf("%d checks after %d", n, before)
		}
	})
}

// An authority that was asked too often is not asked before its time.
func TestRateLimitsOfTheAuthorityAreHeeded(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.reachable()
		r.leads()
		r.SetMode(flyemulator.ModeIssuance, "limited")
		p, q := fly.NewCertificates(r.forged(), vault{}.resolver()), ask(r.certificate("", ""))
		r.watched(p)
		r.must(r.apply(t.Context(), p, q))
		o := r.observe(p, q)
		if o.Health.Status != reconcile.Progressing || !strings.Contains(o.Health.Message, "signed too often") || !strings.Contains(o.Health.Message, "too many certificates") {
			t.Errorf("%+v", o.Health)
		}
		r.SetMode(flyemulator.ModeIssuance, "works")
		time.Sleep(50 * time.Minute)
		if n := r.count("certificates.check", ""); n != 0 {
			t.Errorf("%d checks before its time", n)
		}
		time.Sleep(30 * time.Minute)
		if o := r.observe(p, q); o.Health.Status != reconcile.Ready || o.Expires.IsZero() {
			t.Errorf("%+v", o)
		}
	})
}

func TestAHostNameThatTheAppHas(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		_, err := r.Somebody.RequestCertificate(t.Context(), flytest.App, host)
		r.must(err)
		p := fly.NewCertificates(r.forged(), vault{}.resolver())
		steps := r.planned(p, ask(r.certificate("", "")))
		if len(steps) != 1 || !strings.Contains(steps[0].Blocked, `set policy.adopt to "if-unowned"`) {
			t.Fatalf("planned:\n%s", words(steps))
		}
		r.must(r.apply(t.Context(), p, ask(r.certificate("", ""), adopting)))
		if n := r.count("certificates.create_acme", flytest.App); n != 1 {
			t.Errorf("asked for %d times", n)
		}
		r.must(r.apply(t.Context(), p, ask(r.certificate("", ""), removing)))
		if _, err := r.Somebody.Certificate(t.Context(), flytest.App, host); api.KindOf(err) != api.NotFound {
			t.Errorf("it is there still: %v", err)
		}
	})
}

func TestCertificatesAreAskedForOnce(t *testing.T) {
	for name, fault := range map[string]flyemulator.Fault{
		"the answer is lost": {Drop: flyemulator.DropAfter},
		"an error after it":  {Status: 502, Commit: true},
		"exists already":     {Status: 422, Commit: true, Text: "Hostname already exists on app"},
		"nothing was done":   {Drop: flyemulator.DropBefore},
		"an error before it": {Status: 503},
	} {
		t.Run(name, func(t *testing.T) {
			inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
				fault.Action, fault.Count = "certificates.create_acme", 1
				r.Fault(fault)
				p, q := fly.NewCertificates(r.forged(), vault{}.resolver()), ask(r.certificate("", ""))
				for range 3 {
					if err := r.apply(t.Context(), p, q); err == nil {
						break
					}
				}
				if steps := r.planned(p, q); len(steps) > 0 {
					t.Errorf("planned:\n%s", words(steps))
				}
				if c, err := r.Somebody.Certificate(t.Context(), flytest.App, host); err != nil || !c.ACMERequested {
					t.Errorf("%+v, %v", c, err)
				}
			})
		})
	}
}

// Two apps of one organization: who comes second is asked for a proof, and told
// which.
func TestAHostNameOfAnotherApp(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.reachable()
		_, err := r.Somebody.AssignIP(t.Context(), flytest.Bystander, api.AssignIP{Type: api.IPv6})
		r.must(err)
		_, err = r.Somebody.RequestCertificate(t.Context(), flytest.Bystander, host)
		r.must(err)
		list, err := r.Somebody.IPs(t.Context(), flytest.Bystander)
		r.must(err)
		r.SetDNS(host, &flyemulator.DNS{AAAA: []string{list[len(list)-1].Address}})
		time.Sleep(5 * time.Minute)
		p, q := fly.NewCertificates(r.forged(), vault{}.resolver()), ask(r.certificate("", ""))
		r.watched(p)
		r.must(r.apply(t.Context(), p, q))
		time.Sleep(time.Minute)
		o := r.observe(p, q)
		if o.Health.Status != reconcile.Ready || len(o.Notices) != 1 || !strings.Contains(o.Notices[0].Message, host+" is not proven to be yours; wanted: _fly-ownership."+host+" TXT") {
			t.Errorf("%+v", o)
		}
		r.must(r.Somebody.ReleaseIP(t.Context(), flytest.Bystander, list[len(list)-1].Address)) // as it was
	})
}

// The certificate of one's own: uploaded, shown with its end, replaced when
// there is another one, and warned of.
func TestOwnCertificates(t *testing.T) {
	for _, mode := range []string{"refused", "replaced"} {
		inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
			r.SetMode(flyemulator.ModeCertificateAgain, mode)
			v := vault{}
			until := time.Now().Add(15 * 24 * time.Hour).Truncate(time.Second)
			v.pair(t, "CHAIN", "KEY", until, host)
			p, q := fly.NewCertificates(r.forged(), v.resolver()), ask(r.certificate("CHAIN", "KEY"))
			r.watched(p)
			r.must(r.apply(t.Context(), p, q))
			o := r.observe(p, q)
			if !o.Expires.Equal(until) || o.Health.Status != reconcile.Ready || len(o.Notices) != 1 || !strings.Contains(o.Notices[0].Message, `wanted: _fly-ownership.`+host+` TXT "app-`) {
				t.Errorf("%+v", o)
			}
			live, err := r.Somebody.Certificate(t.Context(), flytest.App, host)
			r.must(err)
			r.SetDNS("_fly-ownership."+host, &flyemulator.DNS{TXT: []string{live.Requirements.Ownership.AppValue}})
			time.Sleep(28 * time.Hour)
			o = r.observe(p, q)
			if !slices.ContainsFunc(o.Notices, func(n reconcile.Notice) bool {
				return n.Code == "expiring" && strings.Contains(n.Message, "expires in 13 days") && strings.Contains(n.Message, "put a new one in its place")
			}) {
				t.Errorf("%+v", o.Notices)
			}
			v.pair(t, "CHAIN", "KEY", time.Now().Add(90*24*time.Hour), host)
			steps := r.planned(p, q)
			if len(steps) != 1 || steps[0].Action != reconcile.ActionUpdate || strings.Contains(words(steps), "PRIVATE") {
				t.Errorf("planned:\n%s", words(steps))
			}
			r.must(r.apply(t.Context(), p, q))
			if o := r.observe(p, q); time.Until(o.Expires) < 80*24*time.Hour {
				t.Errorf("%+v", o)
			}

			// From there to one of Fly's: the old one serves until that is there.
			q = ask(r.certificate("", ""))
			r.must(r.apply(t.Context(), p, q))
			if live, err := r.Somebody.Certificate(t.Context(), flytest.App, host); err != nil || !live.ACMERequested || len(live.Certificates) != 1 || live.Certificates[0].Source != api.CertificateCustom {
				t.Errorf("%+v, %v", live, err)
			}
			r.reachable()
			r.leads()
			time.Sleep(time.Hour)
			r.observe(p, q)
			steps = r.planned(p, q)
			if len(steps) != 1 || !steps[0].Late || steps[0].Action != reconcile.ActionDelete {
				t.Errorf("planned:\n%s", words(steps))
			}
			r.must(r.apply(t.Context(), p, q))
			if live, err := r.Somebody.Certificate(t.Context(), flytest.App, host); err != nil || len(live.Certificates) != 1 || live.Certificates[0].Source != api.CertificateOfFly {
				t.Errorf("%+v, %v", live, err)
			}
		})
	}
}

// What nobody could use is not uploaded, and what is said of it holds nothing of
// it. What is served is told all the same.
func TestOwnCertificatesThatAreNoUse(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		v := vault{}
		v.pair(t, "OTHER", "OTHERKEY", time.Now().Add(time.Hour), "other.test")
		v.pair(t, "OLD", "OLDKEY", time.Now().Add(-time.Minute), host)
		v.pair(t, "CHAIN", "KEY", time.Now().Add(time.Hour), "*.acme.test")
		v["TEXT"] = "s3cret"
		for _, tt := range []struct{ chain, key, want string }{
			{"OTHER", "OTHERKEY", "it is not for api.acme.test; it is for other.test"},
			{"OLD", "OLDKEY", "it expired on 2000-01-01"},
			{"CHAIN", "OTHERKEY", "its key is not the key of its certificate"},
			{"TEXT", "KEY", "its chain holds no certificate in PEM form"},
			{"CHAIN", "TEXT", "its key is no key in PEM form"},
			{"KEY", "KEY", "its chain holds something else than certificates"},
			{"NONE", "KEY", "variable NONE is not set"},
		} {
			p := fly.NewCertificates(r.forged(), v.resolver())
			o, err := p.Observe(t.Context(), ask(r.certificate(tt.chain, tt.key)))
			r.must(err)
			_, err = p.Plan(t.Context(), ask(r.certificate(tt.chain, tt.key)), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") || reconcile.KindOf(err) != reconcile.Invalid {
				t.Errorf("%s and %s: %v", tt.chain, tt.key, err)
			}
		}
		r.must(r.apply(t.Context(), fly.NewCertificates(r.forged(), v.resolver()), ask(r.certificate("CHAIN", "KEY"))))
		if n := r.count("certificates.create_custom", ""); n != 1 {
			t.Errorf("%d uploads", n)
		}
	})
}

// A name with a star is validated by DNS alone, with a record of its own.
func TestACertificateForAllHostsOfADomain(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		r.reachable()
		_, addresses := r.types()
		res := r.resource(forge.KindFlyCertificate, "*.acme.test", forge.FlyCertificateSpec{Account: r.Account(), App: flytest.App, Hostname: "*.acme.test"})
		p, q := fly.NewCertificates(r.forged(), vault{}.resolver()), ask(res)
		r.watched(p)
		r.SetDNS("*.acme.test", &flyemulator.DNS{A: addresses[:1], AAAA: addresses[1:]})
		r.must(r.apply(t.Context(), p, q))
		time.Sleep(time.Minute)
		o := r.observe(p, q)
		challenge := o.Outputs["dns/challenge"].Value
		if len(o.Notices) != 1 || !strings.Contains(o.Notices[0].Message, "its challenge was not found; wanted: "+challenge) || !strings.HasPrefix(challenge, "_acme-challenge.acme.test CNAME ") {
			t.Errorf("%+v", o)
		}
		r.SetDNS("_acme-challenge.acme.test", &flyemulator.DNS{CNAME: strings.Fields(challenge)[2]})
		time.Sleep(30 * time.Minute)
		if o := r.observe(p, q); len(o.Notices) > 0 || o.Expires.IsZero() {
			t.Errorf("%+v", o)
		}
		r.must(r.apply(t.Context(), p, ask(res, removing)))
		if list, err := r.Somebody.Certificates(t.Context(), flytest.App); err != nil || len(list) > 0 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}
