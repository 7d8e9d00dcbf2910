package flyemulator

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"forged.dev/forged/internal/servicetest"
)

const certificatesPath = "/v1/apps/web/certificates"

// addressed gives the app its addresses.
func (w *world) addressed() (v4, v6 string) {
	w.Helper()
	v4 = w.want(200, "POST", ipsPath, `{"type":"shared_v4"}`).at("ip").(string)
	v6 = w.want(200, "POST", ipsPath, `{"type":"v6"}`).at("ip").(string)
	return v4, v6
}

func (w *world) acme(host string) value {
	w.Helper()
	return w.want(201, "POST", certificatesPath+"/acme", `{"hostname":"`+host+`"}`)
}

func TestCertificateIsIssued(t *testing.T) {
	in(t, Options{}, func(w *world) {
		v4, v6 := w.addressed()
		const one = certificatesPath + "/www.example.org"
		v := w.acme("www.example.org")
		for path, want := range map[string]any{
			"hostname": "www.example.org", "configured": false, "acme_requested": true, "status": "Awaiting configuration", "rate_limited_until": nil,
			"validation.dns_configured": false, "dns_requirements.a.0": v4, "dns_requirements.aaaa.0": v6,
			"dns_requirements.acme_challenge.name": "_acme-challenge.www.example.org", "dns_requirements.ownership.name": "_fly-ownership.www.example.org",
			"validation_errors.0.code": "DNS_NOT_CONFIGURED",
		} {
			w.says(v, path, want)
		}
		// A shared IPv4 address proves nothing.
		w.e.SetDNS("www.example.org.", &DNS{A: []string{v4}})
		v = w.want(200, "POST", one+"/check", "")
		w.says(v, "configured", false)
		w.says(v, "dns_records.a.0", v4)
		w.says(v, "dns_records.resolved_addresses.0", v4)
		w.e.SetDNS("WWW.example.org", &DNS{A: []string{v4}, AAAA: []string{v6}})
		v = w.want(200, "POST", one+"/check", "")
		w.says(v, "configured", true)
		w.says(v, "status", "Awaiting certificates")
		w.says(v, "certificates.0.status", "pending_validation")
		pass(certificateIssued - time.Millisecond)
		w.says(w.want(200, "GET", one, ""), "certificates.0.status", "pending_validation")
		pass(2 * time.Millisecond)
		v = w.want(200, "GET", one, "")
		w.says(v, "status", "Ready")
		w.says(v, "certificates.0.source", "fly")
		w.says(v, "certificates.0.status", "active")
		w.says(v, "certificates.0.issued.0.type", "rsa")
		w.says(v, "certificates.0.issued.1.type", "ecdsa")
		w.says(v, "dns_records", nil) // only a check tells
		first := v.at("certificates.0.expires_at")
		pass(certificateRenews + time.Minute)
		if again := w.want(200, "GET", one, "").at("certificates.0.expires_at"); again == first {
			t.Error("it is not renewed")
		}
		w.e.SetMode(ModeCertificate, "documented")
		w.says(w.want(200, "GET", one, ""), "status", "active")
		w.want(204, "DELETE", one, "")
		w.want(404, "GET", one, "")
	})
}

func TestCertificateProofs(t *testing.T) {
	for name, dns := range map[string]func(w *world, v value, v4, v6 string){
		"cname": func(w *world, v value, _, _ string) {
			w.e.SetDNS("shop.example.org", &DNS{CNAME: v.at("dns_requirements.cname").(string)})
		},
		"address": func(w *world, _ value, _, v6 string) { w.e.SetDNS("shop.example.org", &DNS{AAAA: []string{v6}}) },
		"challenge": func(w *world, v value, _, _ string) {
			w.e.SetDNS("_acme-challenge.shop.example.org", &DNS{CNAME: v.at("dns_requirements.acme_challenge.target").(string) + "."})
		},
		"ownership": func(w *world, v value, v4, _ string) {
			w.e.SetDNS("_fly-ownership.shop.example.org", &DNS{TXT: []string{"x", v.at("dns_requirements.ownership.org_value").(string)}})
			w.e.SetDNS("shop.example.org", &DNS{A: []string{v4}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, Options{}, func(w *world) {
				v4, v6 := w.addressed()
				dns(w, w.acme("shop.example.org"), v4, v6)
				pass(dnsNoticed + certificateIssued + time.Second) // Fly looks by itself
				w.says(w.want(200, "GET", certificatesPath+"/shop.example.org", ""), "status", "Ready")
			})
		})
	}
}

func TestCertificateOfAWildcard(t *testing.T) {
	in(t, Options{}, func(w *world) {
		_, v6 := w.addressed()
		const one = certificatesPath + "/%2A.example.org"
		v := w.acme("*.example.org")
		w.says(v, "dns_requirements.acme_challenge.name", "_acme-challenge.example.org")
		w.e.SetDNS("*.example.org", &DNS{AAAA: []string{v6}})
		w.says(w.want(200, "POST", one+"/check", ""), "validation_errors.0.code", "DNS_CHALLENGE_MISSING")
		w.e.SetDNS("_acme-challenge.example.org", &DNS{CNAME: v.at("dns_requirements.acme_challenge.target").(string)})
		v = w.want(200, "POST", one+"/check", "")
		w.says(v, "configured", true)
		w.says(v, "validation.dns_configured", true)
		pass(certificateIssued)
		w.says(w.want(200, "GET", one, ""), "certificates.0.status", "active")
	})
}

func TestCertificateIsRefused(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.acme("www.example.org")
		other := w.acme("other.example.org") // with the same identity of the app
		w.says(other, "dns_requirements.ownership.app_value", w.want(200, "GET", certificatesPath+"/www.example.org", "").at("dns_requirements.ownership.app_value"))
		w.refuses([]refused{
			{"again", "POST", certificatesPath + "/acme", `{"hostname":"WWW.example.org"}`, 422, "Hostname already exists on app"},
			{"no name", "POST", certificatesPath + "/acme", `{"hostname":"localhost"}`, 422, "Hostname is invalid"},
			{"of Fly", "POST", certificatesPath + "/acme", `{"hostname":"web.fly.dev"}`, 422, "Hostname is invalid"},
			{"unknown", "GET", certificatesPath + "/none.example.org", "", 404, "not found"},
			{"check unknown", "POST", certificatesPath + "/none.example.org/check", "", 404, "not found"},
			{"delete unknown", "DELETE", certificatesPath + "/none.example.org", "", 404, "not found"},
			{"no custom one", "DELETE", certificatesPath + "/www.example.org/custom", "", 404, "not found"},
			{"limit", "GET", certificatesPath + "?limit=501", "", 400, "limit"},
			{"path of others", "POST", certificatesPath, `{"hostname":"b.example.org"}`, 405, ""},
		})
	})
}

func TestCertificateIsRateLimited(t *testing.T) {
	in(t, Options{}, func(w *world) {
		_, v6 := w.addressed()
		w.e.SetMode(ModeIssuance, "limited")
		w.e.SetDNS("www.example.org", &DNS{AAAA: []string{v6}})
		v := w.acme("www.example.org")
		if v.at("rate_limited_until") == nil {
			t.Errorf("not limited: %s", v.raw)
		}
		w.says(v, "validation_errors.0.code", "RATE_LIMITED")
		w.e.SetMode(ModeIssuance, "works")
		const one = certificatesPath + "/www.example.org"
		w.want(200, "POST", one+"/check", "")
		pass(time.Minute)
		w.says(w.want(200, "GET", one, ""), "certificates.0", nil)
		pass(certificateRests)
		v = w.want(200, "GET", one, "")
		w.says(v, "certificates.0.source", "fly")
		w.says(v, "rate_limited_until", nil)
	})
}

func TestCertificateOfTwoApps(t *testing.T) {
	in(t, Options{}, func(w *world) {
		_, v6 := w.addressed()
		w.e.SetDNS("www.example.org", &DNS{AAAA: []string{v6}})
		w.acme("www.example.org")
		pass(time.Minute)
		w.app("thief")
		v := w.want(201, "POST", "/v1/apps/thief/certificates/acme", `{"hostname":"www.example.org"}`)
		w.says(v, "validation_errors.0.code", "OWNERSHIP_REQUIRED")
		w.e.SetMode(ModeCertificate, "documented")
		w.says(w.want(200, "GET", "/v1/apps/thief/certificates/www.example.org", ""), "status", "pending_ownership")
		w.want(200, "POST", "/v1/apps/thief/ip_assignments", `{"type":"v6"}`)
		other := w.want(200, "GET", "/v1/apps/thief/ip_assignments", "").at("ips.0.ip").(string)
		w.e.SetDNS("www.example.org", &DNS{AAAA: []string{other}})
		pass(time.Minute)
		w.says(w.want(200, "GET", "/v1/apps/thief/certificates/www.example.org", ""), "certificates.0", nil)
		w.e.SetDNS("_fly-ownership.www.example.org", &DNS{TXT: []string{v.at("dns_requirements.ownership.app_value").(string)}})
		pass(time.Minute)
		w.says(w.want(200, "GET", "/v1/apps/thief/certificates/www.example.org", ""), "certificates.0.source", "fly")
	})
}

func upload(host, chain, key string) string {
	raw, _ := json.Marshal(map[string]string{"hostname": host, "fullchain": chain, "private_key": key})
	return string(raw)
}

func TestCustomCertificate(t *testing.T) {
	in(t, Options{}, func(w *world) {
		// The bubble's clock stands long before today: all of it is made inside.
		ca := servicetest.NewAuthority(t, "an authority")
		cert, key := ca.Sign(t, servicetest.Certificate{Hosts: []string{"www.example.org", "*.example.com"}, Until: 30 * 24 * time.Hour})
		_, otherKey := ca.Sign(t, servicetest.Certificate{Hosts: []string{"www.example.org"}})
		old, oldKey := ca.Sign(t, servicetest.Certificate{Hosts: []string{"www.example.org"}, Until: -time.Hour})
		const custom, one = certificatesPath + "/custom", certificatesPath + "/www.example.org"
		w.refuses([]refused{
			{"no PEM", "POST", custom, upload("www.example.org", "x", key), 422, "PEM"},
			{"no key", "POST", custom, upload("www.example.org", cert, "x"), 422, "Private key"},
			{"another key", "POST", custom, upload("www.example.org", cert, otherKey), 422, "does not match the certificate"},
			{"another name", "POST", custom, upload("api.example.org", cert, key), 422, "Hostname does not match"},
			{"two labels below a wildcard", "POST", custom, upload("a.b.example.com", cert, key), 422, "Hostname does not match"},
			{"expired", "POST", custom, upload("www.example.org", old, oldKey), 422, "expired"},
		})
		w.want(201, "POST", custom, upload("shop.example.com", cert, key))
		v := w.want(201, "POST", custom, upload("www.example.org", cert, key))
		w.says(v, "acme_requested", false)
		w.says(v, "certificates.0.source", "custom")
		w.says(v, "certificates.0.status", "pending_ownership")
		w.says(v, "certificates.0.issuer", "an authority")
		w.e.SetDNS("_fly-ownership.www.example.org", &DNS{TXT: []string{v.at("dns_requirements.ownership.app_value").(string)}})
		v = w.want(200, "POST", one+"/check", "")
		w.says(v, "certificates.0.status", "active")
		w.says(v, "status", "Ready")
		w.says(v, "dns_records.ownership_txt", v.at("dns_requirements.ownership.app_value"))

		_, v6 := w.addressed()
		w.e.SetDNS("shop.example.com", &DNS{AAAA: []string{v6}}) // proves it as well
		w.says(w.want(200, "POST", certificatesPath+"/shop.example.com/check", ""), "certificates.0.status", "active")

		w.refuses([]refused{{"again", "POST", custom, upload("www.example.org", cert, key), 422, "already has a custom certificate"}})
		w.e.SetMode(ModeCertificateAgain, "replaced")
		w.want(201, "POST", custom, upload("www.example.org", cert, key))

		v = w.acme("www.example.org") // beside it
		w.says(v, "acme_requested", true)
		v = w.want(200, "DELETE", one+"/acme", "")
		w.says(v, "acme_requested", false)
		w.says(v, "certificates.0.source", "custom")
		v = w.want(200, "DELETE", one+"/custom", "")
		w.says(v, "certificates.0", nil)
		if v.at("warning") == nil {
			t.Errorf("no warning that nothing is served any more: %s", v.raw)
		}
		w.want(200, "GET", one, "") // the name stays
	})
}

func TestCertificatePages(t *testing.T) {
	in(t, Options{}, func(w *world) {
		for i := range 30 {
			w.acme(fmt.Sprintf("h%02d.example.org", i))
		}
		v := w.want(200, "GET", certificatesPath, "")
		w.says(v, "total_count", 30)
		if n := len(v.at("certificates").([]any)); n != 25 {
			t.Errorf("%d on the first page", n)
		}
		w.says(v, "certificates.0.has_fly_certificate", false)
		v = w.want(200, "GET", certificatesPath+"?cursor="+v.at("next_cursor").(string), "")
		w.says(v, "certificates.0.hostname", "h25.example.org")
		w.says(v, "certificates.4.hostname", "h29.example.org")
		w.says(v, "next_cursor", nil)
		v = w.want(200, "GET", certificatesPath+"?filter=h1&limit=3", "")
		w.says(v, "total_count", 10)
		w.says(v, "certificates.2.hostname", "h12.example.org")
	})
}

func TestDNSTable(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.want(200, "POST", "/_emulator/dns", `{"A.example.org.":{"a":["192.0.2.1"],"soa":"ns1.example.org"},"b.example.org":{"cname":"a.example.org"}}`)
		v := w.want(200, "GET", "/_emulator/dns", "")
		if got := v.at("a"); got != nil {
			t.Errorf("%v", got)
		}
		w.acme("b.example.org")
		check := w.want(200, "POST", certificatesPath+"/b.example.org/check", "")
		w.says(check, "dns_records.cname.0", "a.example.org")
		w.says(check, "dns_records.resolved_addresses.0", "192.0.2.1")
		w.want(200, "POST", "/_emulator/dns", `{"a.example.org":null}`)
		w.says(w.want(200, "POST", certificatesPath+"/b.example.org/check", ""), "dns_records.resolved_addresses.0", nil)
	})
}
