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

// clusterApp is the app of a cluster of Fly Kubernetes: it is not forged's.
const clusterApp = "fks-" + flytest.Bystander

// onCluster is a certificate on the app that a cluster has named.
func (r *rig) onCluster(hostname string) (forge.Resource, func(*reconcile.Request)) {
	cluster := forge.ID{Environment: flytest.Environment, Kind: forge.KindFlyCluster, Name: "acme"}
	res := r.resource(forge.KindFlyCertificate, hostname, forge.FlyCertificateSpec{
		Account: r.Account(), AppFrom: forge.Input{From: cluster, Output: forge.OutputApp}, Hostname: hostname,
	})
	return res, func(q *reconcile.Request) {
		q.Inputs = map[forge.ID]reconcile.Outputs{cluster: {forge.OutputApp: {Value: clusterApp}}}
	}
}

// codes are those of notices, in order.
func codes(o reconcile.Observed) (all []string) {
	for _, n := range o.Notices {
		all = append(all, n.Code)
	}
	return all
}

// On an app of a cluster of Fly Kubernetes, which the cluster has named, there is
// the certificate, and nothing else of the app is touched.
func TestACertificateOnAnAppOfACluster(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		res, known := r.onCluster(host)
		p := fly.NewCertificates(r.forged(), vault{}.resolver())
		_, err := r.plan(p, ask(res))
		if reconcile.KindOf(err) != reconcile.Waiting {
			t.Fatalf("without the input: %v", err)
		}
		r.must(r.apply(t.Context(), p, ask(res, known)))
		if _, err := r.Somebody.Certificate(t.Context(), clusterApp, host); err != nil {
			t.Error(err)
		}
		r.must(r.apply(t.Context(), p, ask(res, removing))) // the cluster may have gone from forge.cue
		if _, err := r.Somebody.Certificate(t.Context(), clusterApp, host); api.KindOf(err) != api.NotFound {
			t.Errorf("it is there still: %v", err)
		}

		direct := r.resource(forge.KindFlyCertificate, host, forge.FlyCertificateSpec{Account: r.Account(), App: clusterApp, Hostname: host})
		if _, err := p.Observe(t.Context(), ask(direct)); reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(err.Error(), "never touched") {
			t.Errorf("without a cluster that was asked: %v", err)
		}
	})
}

// Which addresses a name has to lead to the load balancer says, and not the app:
// several Services share that. That this is an experiment is said once, and
// always.
func TestWhatIsToldOfACertificateOnAnAppOfACluster(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		p := fly.NewCertificates(r.forged(), vault{}.resolver())
		r.watched(p)
		res, known := r.onCluster(host)
		q := ask(res, known)
		r.must(r.apply(t.Context(), p, q))
		time.Sleep(time.Minute)
		o := r.observe(p, q)
		if o.Health.Status != reconcile.Ready || !slices.Equal(codes(o), []string{"fks", "dns"}) ||
			!strings.Contains(o.Notices[0].Message, "is experimental: whether Fly's proxy leads "+host+" to the right one of several Services of the cluster is not documented") {
			t.Fatalf("%+v", o)
		}
		challenge := o.Outputs["dns/challenge"].Value
		for _, want := range []string{host + " does not lead to the load balancer of its Service yet", "or, to have the certificate before that: " + challenge} {
			if !strings.Contains(o.Notices[1].Message, want) {
				t.Errorf("%q is not in %q", want, o.Notices[1].Message)
			}
		}
		list, err := r.Somebody.IPs(t.Context(), clusterApp)
		r.must(err)
		if len(o.Outputs) != 2 || o.Outputs["dns/ownership"].Value == "" || strings.Contains(o.Notices[1].Message, list[0].Address) {
			t.Errorf("addresses of the app are told: %v, %s", o.Outputs, o.Notices[1].Message)
		}

		// Before the name leads anywhere: by the challenge alone.
		r.SetDNS("_acme-challenge."+host, &flyemulator.DNS{CNAME: strings.Fields(challenge)[2]})
		time.Sleep(30 * time.Minute)
		if o := r.observe(p, q); o.Expires.IsZero() || codes(o)[0] != "fks" {
			t.Errorf("%+v", o)
		}
		r.SetDNS(host, &flyemulator.DNS{AAAA: []string{list[0].Address}})
		time.Sleep(2 * time.Hour)
		if o := r.observe(p, q); o.Health.Status != reconcile.Ready || !slices.Equal(codes(o), []string{"fks"}) {
			t.Errorf("%+v", o)
		}

		star, known := r.onCluster("*.acme.test")
		q = ask(star, known)
		r.must(r.apply(t.Context(), p, q))
		time.Sleep(time.Minute)
		if o := r.observe(p, q); !slices.Equal(codes(o), []string{"fks", "dns"}) ||
			!strings.HasPrefix(o.Notices[1].Message, "*.acme.test needs a proof in DNS; wanted: _acme-challenge.acme.test CNAME ") {
			t.Errorf("%+v", o)
		}
	})
}

// What somebody else has on the app of a cluster is neither taken over nor
// removed, whatever the policy.
func TestACertificateOfSomebodyElseOnAnAppOfACluster(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		_, err := r.Somebody.RequestCertificate(t.Context(), clusterApp, host)
		r.must(err)
		p := fly.NewCertificates(r.forged(), vault{}.resolver())
		res, known := r.onCluster(host)
		for _, adopt := range []string{forge.AdoptMustMatch, forge.AdoptIfUnowned, forge.AdoptForce} {
			steps := r.planned(p, ask(res, known, func(q *reconcile.Request) { q.Policy.Adopt = adopt }))
			if len(steps) != 1 || !strings.Contains(steps[0].Blocked, "never taken over; remove it with fly certs remove "+host+" --app "+clusterApp) {
				t.Errorf("with %s:\n%s", adopt, words(steps))
			}
		}
		if steps := r.planned(p, ask(res, removing)); len(steps) > 0 {
			t.Errorf("planned:\n%s", words(steps))
		}
		if _, err := r.Somebody.Certificate(t.Context(), clusterApp, host); err != nil {
			t.Error(err)
		}
	})
}
