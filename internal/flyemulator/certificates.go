package flyemulator

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// certificate is a host name of an app, with what Fly serves there.
type certificate struct {
	Host      string
	CreatedAt time.Time
	UpdatedAt time.Time
	Hash      string // in the name that it is to be another name of

	ACME    bool       // Fly is to get one
	Fly     *flyIssued // that it has got
	Custom  *uploaded  // the user's own
	Issuing bool       // it is under way

	DNS, ALPN, HTTP, Owned bool // what a look has found
	Traffic                bool // the name leads to the app
	LimitedUntil           time.Time
	Errors                 []validationError
}

type flyIssued struct{ At, Expires time.Time }

type uploaded struct {
	At, Expires time.Time
	Issuer      string
}

type validationError struct {
	Code        string    `json:"code"`
	Message     string    `json:"message"`
	Remediation string    `json:"remediation"`
	Timestamp   time.Time `json:"timestamp"`
}

const (
	certificateIssued = 10 * time.Second
	certificateLasts  = 90 * 24 * time.Hour
	certificateRenews = 60 * 24 * time.Hour // after it was issued
	certificateRests  = time.Hour           // after Let's Encrypt has said that it is too much
)

var hostname = regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$`)

// requestCertificate asks for one that Fly gets and renews.
func (e *Emulator) requestCertificate(a *app, host string) (*certificate, *failure) {
	host = dnsName(host)
	if !hostname.MatchString(host) || strings.HasSuffix(host, ".fly.dev") {
		return nil, invalid("Hostname is invalid")
	}
	cert := a.Certificates[host]
	if cert != nil && cert.ACME {
		return nil, e.already("Hostname already exists on app")
	}
	if cert == nil {
		cert = e.newCertificate(a, host)
	}
	cert.ACME = true
	e.look(a, cert)
	return cert, nil
}

func (e *Emulator) newCertificate(a *app, host string) *certificate {
	cert := &certificate{Host: host, CreatedAt: e.now(), UpdatedAt: e.now(), Hash: e.newID("certificate", 7)}
	if a.Certificates == nil {
		a.Certificates = map[string]*certificate{}
	}
	a.Certificates[host] = cert
	return cert
}

// uploadCertificate takes the user's own.
func (e *Emulator) uploadCertificate(a *app, host, chain, key string) (*certificate, *failure) {
	host = dnsName(host)
	if !hostname.MatchString(host) {
		return nil, invalid("Hostname is invalid")
	}
	leaf, f := e.ownCertificate(host, chain, key)
	if f != nil {
		return nil, f
	}
	cert := a.Certificates[host]
	if cert != nil && cert.Custom != nil && e.mode(ModeCertificateAgain) != "replaced" {
		return nil, e.already("Hostname already has a custom certificate")
	}
	if cert == nil {
		cert = e.newCertificate(a, host)
	}
	cert.Custom = &uploaded{At: e.now(), Expires: leaf.NotAfter, Issuer: leaf.Issuer.CommonName}
	e.look(a, cert)
	return cert, nil
}

// ownCertificate judges what was uploaded.
func (e *Emulator) ownCertificate(host, chain, key string) (*x509.Certificate, *failure) {
	block, _ := pem.Decode([]byte(chain))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, invalid("Fullchain is not a PEM encoded certificate chain")
	}
	pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		if k, _ := pem.Decode([]byte(key)); k == nil {
			return nil, invalid("Private key is not PEM encoded")
		}
		return nil, invalid("Private key does not match the certificate")
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, invalid("Fullchain is not a certificate chain")
	}
	if e.now().After(leaf.NotAfter) {
		return nil, invalid("Certificate has expired")
	}
	names := slices.Concat(leaf.DNSNames, []string{leaf.Subject.CommonName})
	_, parent, _ := strings.Cut(host, ".")
	if !slices.ContainsFunc(names, func(n string) bool { return dnsName(n) == host || dnsName(n) == "*."+parent }) {
		return nil, invalid("Hostname does not match the certificate")
	}
	return leaf, nil
}

// look asks DNS about a certificate, and has one issued if all is well.
func (e *Emulator) look(a *app, cert *certificate) {
	base := strings.TrimPrefix(cert.Host, "*.")
	req := e.requirements(a, cert)
	resolved := e.resolve(cert.Host)
	v6 := false
	cert.Traffic = false
	for _, address := range resolved {
		ours := func(list []string) bool {
			return slices.ContainsFunc(list, func(one string) bool { return sameAddress(one, address) })
		}
		v6 = v6 || ours(req.AAAA)
		cert.Traffic = cert.Traffic || ours(req.A) || ours(req.AAAA)
	}
	wild := base != cert.Host
	cert.DNS = dnsName(e.lookup("_acme-challenge."+base).CNAME) == dnsName(req.Challenge.Target)
	cert.ALPN, cert.HTTP = v6 && !wild, cert.Traffic && !wild
	cert.Owned = slices.ContainsFunc(e.lookup("_fly-ownership."+base).TXT, func(s string) bool {
		return s == req.Ownership.App || s == req.Ownership.Org
	})
	cert.UpdatedAt = e.now()
	cert.Errors = nil
	problem := func(code, message, remediation string) {
		cert.Errors = append(cert.Errors, validationError{code, message, remediation, e.now()})
	}
	switch {
	case e.ownedElsewhere(a, cert) && !cert.Owned:
		problem("OWNERSHIP_REQUIRED", cert.Host+" is on another app", "Add the TXT record "+req.Ownership.Name+" with the value "+req.Ownership.App)
	case wild && !cert.DNS:
		problem("DNS_CHALLENGE_MISSING", "a wildcard is validated by DNS only", "Add the CNAME record "+req.Challenge.Name+" to "+req.Challenge.Target)
	case !cert.configured():
		problem("DNS_NOT_CONFIGURED", cert.Host+" does not lead to the app", "Add the records of dns_requirements")
	}
	e.issue(a, cert)
}

// configured says whether DNS is as Fly needs it: control of the name is
// proven, and a certificate can be had.
func (cert *certificate) configured() bool {
	if strings.HasPrefix(cert.Host, "*.") {
		return cert.DNS
	}
	proven := cert.ALPN || cert.DNS || cert.Owned
	return proven && (cert.HTTP || cert.DNS)
}

// ownedElsewhere says whether another app had the name first.
func (e *Emulator) ownedElsewhere(a *app, cert *certificate) bool {
	for _, other := range e.state.Apps {
		if o := other.Certificates[cert.Host]; other != a && other.Name != a.Name && o != nil && o.CreatedAt.Before(cert.CreatedAt) && (o.Fly != nil || o.Custom != nil) {
			return true
		}
	}
	return false
}

// issue begins to get a certificate, if one is due.
func (e *Emulator) issue(a *app, cert *certificate) {
	switch now := e.now(); {
	case !cert.ACME || cert.Issuing || !cert.configured() || e.ownedElsewhere(a, cert) && !cert.Owned:
	case cert.Fly != nil && now.Before(cert.Fly.At.Add(certificateRenews)):
	case now.Before(cert.LimitedUntil):
	case e.mode(ModeIssuance) == "never":
	case e.mode(ModeIssuance) == "limited":
		cert.LimitedUntil = now.Add(certificateRests)
		cert.Errors = append(cert.Errors, validationError{"RATE_LIMITED", "Let's Encrypt: too many certificates", "Wait", now})
		e.schedule(cert.LimitedUntil, event{Kind: "certificate.look", App: a.Name, ID: cert.Host})
	default:
		cert.Issuing = true
		e.after(certificateIssued, event{Kind: "certificate.issued", App: a.Name, ID: cert.Host})
	}
}

func (e *Emulator) certificateEvents() map[string]func(event) {
	return map[string]func(event){
		// Fly looks at one by itself, or at all that are not done.
		"certificate.look": func(ev event) {
			for _, a := range e.state.Apps {
				for _, cert := range a.Certificates {
					if (ev.App == "" || ev.App == a.Name) && (ev.ID == "" || ev.ID == cert.Host) {
						e.look(a, cert)
					}
				}
			}
		},
		"certificate.issued": func(ev event) {
			a := e.state.Apps[ev.App]
			if a == nil || a.Certificates[ev.ID] == nil {
				return
			}
			cert := a.Certificates[ev.ID]
			if cert.Issuing = false; !cert.ACME || !cert.configured() {
				return
			}
			now := e.now()
			cert.Fly, cert.UpdatedAt, cert.LimitedUntil = &flyIssued{At: now, Expires: now.Add(certificateLasts)}, now, time.Time{}
			e.schedule(now.Add(certificateRenews), event{Kind: "certificate.look", App: ev.App, ID: ev.ID})
		},
	}
}

func (e *Emulator) certificateRoutes() []route {
	one := "/v1/apps/{app}/certificates/{hostname}"
	return []route{
		{method: http.MethodGet, pattern: "/v1/apps/{app}/certificates", action: "certificates.list", scope: scopeApp, handler: (*call).listCertificates},
		{method: http.MethodPost, pattern: "/v1/apps/{app}/certificates/acme", action: "certificates.create_acme", scope: scopeApp, handler: (*call).createACME},
		{method: http.MethodPost, pattern: "/v1/apps/{app}/certificates/custom", action: "certificates.create_custom", scope: scopeApp, handler: (*call).createCustom},
		{method: http.MethodGet, pattern: one, action: "certificates.get", scope: scopeApp, handler: (*call).getCertificate},
		{method: http.MethodDelete, pattern: one, action: "certificates.delete", scope: scopeApp, handler: (*call).deleteCertificate},
		{method: http.MethodPost, pattern: one + "/check", action: "certificates.check", scope: scopeApp, handler: (*call).checkCertificate},
		{method: http.MethodDelete, pattern: one + "/acme", action: "certificates.delete_acme", scope: scopeApp, handler: (*call).deleteACME},
		{method: http.MethodDelete, pattern: one + "/custom", action: "certificates.delete_custom", scope: scopeApp, handler: (*call).deleteCustom},
	}
}

func (c *call) createACME() reply {
	var in struct {
		Hostname string `json:"hostname"`
	}
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	cert, f := c.e.requestCertificate(c.app, in.Hostname)
	if f != nil {
		return c.failed(f)
	}
	return c.reply(http.StatusCreated, c.e.certificateDetail(c.app, cert))
}

func (c *call) createCustom() reply {
	var in struct {
		Hostname  string `json:"hostname"`
		Fullchain string `json:"fullchain"`
		Key       string `json:"private_key"`
	}
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	cert, f := c.e.uploadCertificate(c.app, in.Hostname, in.Fullchain, in.Key)
	if f != nil {
		return c.failed(f)
	}
	return c.reply(http.StatusCreated, c.e.certificateDetail(c.app, cert))
}

// certificate is the one of the path.
func (c *call) certificate() (*certificate, *failure) {
	if cert := c.app.Certificates[dnsName(c.values["hostname"])]; cert != nil {
		return cert, nil
	}
	return nil, missing("certificate not found")
}

func (c *call) getCertificate() reply {
	cert, f := c.certificate()
	if f != nil {
		return c.failed(f)
	}
	return c.ok(c.e.certificateDetail(c.app, cert))
}

func (c *call) checkCertificate() reply {
	cert, f := c.certificate()
	if f != nil {
		return c.failed(f)
	}
	c.e.look(c.app, cert)
	return c.ok(c.e.certificateCheck(c.app, cert))
}

func (c *call) deleteCertificate() reply {
	cert, f := c.certificate()
	if f != nil {
		return c.failed(f)
	}
	delete(c.app.Certificates, cert.Host)
	return c.nothing(http.StatusNoContent)
}

func (c *call) deleteACME() reply {
	cert, f := c.certificate()
	if f != nil {
		return c.failed(f)
	}
	cert.ACME, cert.Fly, cert.LimitedUntil, cert.UpdatedAt = false, nil, time.Time{}, c.now
	return c.ok(c.e.certificateDetail(c.app, cert))
}

func (c *call) deleteCustom() reply {
	cert, f := c.certificate()
	if f != nil {
		return c.failed(f)
	}
	if cert.Custom == nil {
		return c.failed(missing("certificate not found"))
	}
	cert.Custom, cert.UpdatedAt = nil, c.now
	out := c.e.certificateDetail(c.app, cert)
	if cert.Fly == nil {
		out.Warning = "No certificate is served for this hostname any more."
	}
	return c.ok(out)
}
