package flyemulator

import (
	"crypto/sha256"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// dnsRequirements are the records that Fly wants to see.
type dnsRequirements struct {
	A         []string      `json:"a"`
	AAAA      []string      `json:"aaaa"`
	CNAME     string        `json:"cname"`
	Challenge dnsChallenge  `json:"acme_challenge"`
	Ownership ownershipView `json:"ownership"`
}

type dnsChallenge struct {
	Name   string `json:"name"`
	Target string `json:"target"`
}

type ownershipView struct {
	Name string `json:"name"`
	App  string `json:"app_value"`
	Org  string `json:"org_value"`
}

func (e *Emulator) requirements(a *app, cert *certificate) dnsRequirements {
	base := strings.TrimPrefix(cert.Host, "*.")
	v4, v6 := a.public()
	id := short("app", strconv.Itoa(a.Number)) // the same for all names of the app
	out := dnsRequirements{
		A: v4, AAAA: v6, CNAME: cert.Hash + "." + a.Name + ".fly.dev",
		Challenge: dnsChallenge{"_acme-challenge." + base, base + "." + id + ".flydns.net"},
		Ownership: ownershipView{Name: "_fly-ownership." + base, App: "app-" + id},
	}
	if o := e.state.Orgs[a.Org]; o != nil {
		out.Ownership.Org = "org-" + short("org", o.ID)
	}
	if out.A == nil {
		out.A = []string{}
	}
	if out.AAAA == nil {
		out.AAAA = []string{}
	}
	return out
}

// short is how DNS records name an app or an organization.
func short(kind, id string) string {
	sum := sha256.Sum256([]byte(kind + " " + id))
	out := make([]byte, 7)
	for i := range out {
		out[i] = alphabet[sum[i]&31]
	}
	return string(out)
}

// certificateView is a host name with its certificates as the API shows it.
type certificateView struct {
	Hostname     string            `json:"hostname"`
	Configured   bool              `json:"configured"`
	ACME         bool              `json:"acme_requested"`
	Status       string            `json:"status"`
	Provider     string            `json:"dns_provider"`
	LimitedUntil *time.Time        `json:"rate_limited_until"`
	Certificates []certificateFile `json:"certificates"`
	Validation   validationView    `json:"validation"`
	Requirements dnsRequirements   `json:"dns_requirements"`
	Errors       []validationError `json:"validation_errors"`
	Records      *dnsRecords       `json:"dns_records,omitempty"` // of a check
	Warning      string            `json:"warning,omitempty"`     // of a deletion
}

type certificateFile struct {
	Source  string       `json:"source"` // fly, custom
	Status  string       `json:"status"`
	Created time.Time    `json:"created_at"`
	Expires *time.Time   `json:"expires_at"`
	Issuer  *string      `json:"issuer"`
	Issued  []issuedView `json:"issued"`
}

type issuedView struct {
	Type      string    `json:"type"`
	Expires   time.Time `json:"expires_at"`
	Authority string    `json:"certificate_authority"`
}

type validationView struct {
	DNS       bool `json:"dns_configured"`
	ALPN      bool `json:"alpn_configured"`
	HTTP      bool `json:"http_configured"`
	Ownership bool `json:"ownership_txt_configured"`
}

type dnsRecords struct {
	A         []string `json:"a"`
	AAAA      []string `json:"aaaa"`
	CNAME     []string `json:"cname"`
	Resolved  []string `json:"resolved_addresses"`
	SOA       string   `json:"soa"`
	Challenge string   `json:"acme_challenge_cname"`
	Ownership string   `json:"ownership_txt"`
}

func (e *Emulator) certificateDetail(a *app, cert *certificate) *certificateView {
	out := &certificateView{
		Hostname: cert.Host, Configured: cert.configured(), ACME: cert.ACME, Status: e.certificateStatus(a, cert),
		Provider: e.lookup(cert.Host).SOA, Certificates: []certificateFile{}, Requirements: e.requirements(a, cert), Errors: cert.Errors,
		Validation: validationView{cert.DNS, cert.ALPN, cert.HTTP, cert.Owned},
	}
	if cert.LimitedUntil.After(e.now()) {
		out.LimitedUntil = &cert.LimitedUntil
	}
	if out.Errors == nil {
		out.Errors = []validationError{}
	}
	if u := cert.Custom; u != nil {
		out.Certificates = append(out.Certificates, certificateFile{
			Source: "custom", Status: e.customStatus(a, cert), Created: u.At, Expires: &u.Expires, Issuer: &u.Issuer, Issued: []issuedView{},
		})
	}
	switch i := cert.Fly; {
	case i == nil && cert.Issuing:
		out.Certificates = append(out.Certificates, certificateFile{Source: "fly", Status: "pending_validation", Created: cert.UpdatedAt, Issued: []issuedView{}})
	case i != nil:
		out.Certificates = append(out.Certificates, certificateFile{
			Source: "fly", Status: "active", Created: i.At, Expires: &i.Expires,
			Issued: []issuedView{{"rsa", i.Expires, "lets_encrypt"}, {"ecdsa", i.Expires, "lets_encrypt"}},
		})
	}
	return out
}

// served says whether an uploaded certificate is served: when the TXT record
// has proven whose the name is, or, as flyctl's source has it, an AAAA record,
// which proves nothing of a wildcard.
func (e *Emulator) served(a *app, cert *certificate) bool {
	return cert.Custom != nil && (cert.Owned || cert.ALPN && !e.ownedElsewhere(a, cert))
}

func (e *Emulator) customStatus(a *app, cert *certificate) string {
	if e.served(a, cert) {
		return "active"
	}
	return "pending_ownership"
}

// certificateStatus is the word for all of it. The docs have other words than
// the service: measured by users of the API.
func (e *Emulator) certificateStatus(a *app, cert *certificate) string {
	documented := e.mode(ModeCertificate) == "documented"
	switch {
	case cert.Fly != nil && e.now().Before(cert.Fly.Expires), e.served(a, cert):
		return map[bool]string{true: "active", false: "Ready"}[documented]
	case cert.Custom != nil && !cert.ACME, e.ownedElsewhere(a, cert) && !cert.Owned:
		return map[bool]string{true: "pending_ownership", false: "Awaiting configuration"}[documented]
	case cert.configured():
		return map[bool]string{true: "pending_validation", false: "Awaiting certificates"}[documented]
	}
	return map[bool]string{true: "pending_validation", false: "Awaiting configuration"}[documented]
}

func (e *Emulator) certificateCheck(a *app, cert *certificate) *certificateView {
	out, own := e.certificateDetail(a, cert), e.lookup(cert.Host)
	r := &dnsRecords{A: own.A, AAAA: own.AAAA, CNAME: []string{}, Resolved: e.resolve(cert.Host), SOA: own.SOA}
	if own.CNAME != "" {
		r.CNAME = []string{own.CNAME}
	}
	for _, list := range []*[]string{&r.A, &r.AAAA, &r.Resolved} {
		if *list == nil {
			*list = []string{}
		}
	}
	r.Challenge = e.lookup(out.Requirements.Challenge.Name).CNAME
	if txt := e.lookup(out.Requirements.Ownership.Name).TXT; len(txt) > 0 {
		r.Ownership = txt[0]
	}
	out.Records = r
	return out
}

// certificateSummary is a row of the list.
type certificateSummary struct {
	Hostname   string    `json:"hostname"`
	Status     string    `json:"status"`
	Provider   string    `json:"dns_provider"`
	DNS        bool      `json:"acme_dns_configured"`
	ALPN       bool      `json:"acme_alpn_configured"`
	HTTP       bool      `json:"acme_http_configured"`
	Ownership  bool      `json:"ownership_txt_configured"`
	Configured bool      `json:"configured"`
	ACME       bool      `json:"acme_requested"`
	HasCustom  bool      `json:"has_custom_certificate"`
	HasFly     bool      `json:"has_fly_certificate"`
	Created    time.Time `json:"created_at"`
	Updated    time.Time `json:"updated_at"`
}

// listCertificates pages by host name.
func (c *call) listCertificates() reply {
	limit := 25
	if text := c.query("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 500 {
			return c.fail(http.StatusBadRequest, "limit must be between 1 and 500")
		}
		limit = n
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(c.app.Certificates)), func(name string) bool {
		return !strings.Contains(name, strings.ToLower(c.query("filter")))
	})
	total, next := len(names), ""
	if after := c.query("cursor"); after != "" {
		i, found := slices.BinarySearch(names, after)
		if found {
			i++
		}
		names = names[i:]
	}
	if len(names) > limit {
		names = names[:limit]
		next = names[limit-1]
	}
	out := []certificateSummary{}
	for _, name := range names {
		cert := c.app.Certificates[name]
		out = append(out, certificateSummary{
			Hostname: name, Status: c.e.certificateStatus(c.app, cert), Provider: c.e.lookup(name).SOA,
			DNS: cert.DNS, ALPN: cert.ALPN, HTTP: cert.HTTP, Ownership: cert.Owned, Configured: cert.configured(), ACME: cert.ACME,
			HasCustom: cert.Custom != nil, HasFly: cert.Fly != nil, Created: cert.CreatedAt, Updated: cert.UpdatedAt,
		})
	}
	return c.ok(struct {
		Certificates []certificateSummary `json:"certificates"`
		Total        int                  `json:"total_count"`
		Next         string               `json:"next_cursor,omitempty"`
	}{out, total, next})
}
