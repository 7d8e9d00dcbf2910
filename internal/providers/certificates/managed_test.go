package certificates

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/hostcert"
	"forged.dev/forged/internal/reconcile"
)

func TestGoogleManagedCertificate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.uninstall("gke") // no other test of this package has these kinds
	req := r.request(forge.KindCertificate, forge.CertificateSpec{
		Namespace: r.Namespace, Mode: forge.TLSGKEManaged, Hosts: []string{"a.acme.test", "b.acme.test"}, Name: "shop-prod",
	})
	if err := r.try(req); reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(err.Error(), "HttpLoadBalancing") {
		t.Fatalf("error %v", err)
	}
	r.install("gke")
	r.await(req, "GKE's kinds", func(_ reconcile.Observed, steps []reconcile.Step, err error) bool {
		return err == nil && len(steps) == 1
	})
	r.converge(req)
	raw, err := json.Marshal(r.get(managedGVR, r.Namespace, "shop-prod").Object["spec"])
	if err != nil || string(raw) != `{"domains":["a.acme.test","b.acme.test"]}` {
		t.Errorf("spec %s, %v", raw, err)
	}
	r.awaitHealth(req, reconcile.Progressing, "waiting for Google")

	status := func(s map[string]any) { r.status(managedGVR, r.Namespace, "shop-prod", s) }
	domain := func(host, status string) map[string]any { return map[string]any{"domain": host, "status": status} }
	status(map[string]any{"certificateStatus": "Provisioning", "domainStatus": []any{domain("a.acme.test", "Active"), domain("b.acme.test", "FailedNotVisible")}})
	o := r.awaitHealth(req, reconcile.Progressing, "b.acme.test: FailedNotVisible (the name does not lead to this load balancer yet")
	if strings.Contains(o.Health.Message, "a.acme.test") {
		t.Errorf("a domain that is well is complained of: %s", o.Health.Message)
	}
	status(map[string]any{"certificateStatus": "ProvisioningFailedPermanently"})
	r.awaitHealth(req, reconcile.Failed, "Google does not try again")

	expires := time.Now().Add(90 * 24 * time.Hour).UTC().Truncate(time.Second)
	status(map[string]any{"certificateStatus": "Active", "expireTime": expires.Format(time.RFC3339), "domainStatus": []any{domain("a.acme.test", "Active"), domain("b.acme.test", "Active")}})
	if o = r.awaitHealth(req, reconcile.Ready, ""); !o.Expires.Equal(expires) || len(o.Notices) > 0 {
		t.Errorf("expires %s, notices %+v", o.Expires, o.Notices)
	}
	r.later(91 * 24 * time.Hour)
	r.awaitHealth(req, reconcile.Failed, "expired on "+hostcert.Day(expires))
}
