package api

import (
	"context"
	"net/http"
	"net/url"

	"forged.dev/forged/internal/secret"
)

// Certificate is all that Fly knows of a host name.
type Certificate struct {
	Hostname         string                 `json:"hostname"`
	Configured       bool                   `json:"configured"`
	ACMERequested    bool                   `json:"acme_requested"`
	Status           string                 `json:"status"` // in changing words: decide by Configured and Certificates
	DNSProvider      string                 `json:"dns_provider"`
	RateLimitedUntil Time                   `json:"rate_limited_until"`
	Certificates     []CertificateEntry     `json:"certificates"`
	Validation       CertificateValidation  `json:"validation"`
	Requirements     DNSRequirements        `json:"dns_requirements"`
	Errors           []CertificateComplaint `json:"validation_errors"`
	Found            *DNSRecords            `json:"dns_records"` // only after CheckCertificate
	Warning          string                 `json:"warning"`
}

// Sources and states of a CertificateEntry.
const (
	CertificateOfFly  = "fly"
	CertificateCustom = "custom"
	CertificateActive = "active" // else pending_validation, pending_ownership
)

// CertificateEntry is a certificate for a host name: one of Fly's, one of one's
// own, or both.
type CertificateEntry struct {
	Source    string              `json:"source"`
	Status    string              `json:"status"`
	Issuer    string              `json:"issuer"`
	CreatedAt Time                `json:"created_at"`
	ExpiresAt Time                `json:"expires_at"`
	Issued    []IssuedCertificate `json:"issued"`
}

// IssuedCertificate is one that was issued.
type IssuedCertificate struct {
	Type      string `json:"type"` // rsa, ecdsa
	ExpiresAt Time   `json:"expires_at"`
	Authority string `json:"certificate_authority"`
}

// CertificateValidation is which proofs of control Fly has found.
type CertificateValidation struct {
	DNS       bool `json:"dns_configured"`
	ALPN      bool `json:"alpn_configured"`
	HTTP      bool `json:"http_configured"`
	Ownership bool `json:"ownership_txt_configured"`
}

// DNSRequirements are the records that must stand in DNS.
type DNSRequirements struct {
	A             []string `json:"a"`
	AAAA          []string `json:"aaaa"`
	CNAME         string   `json:"cname"`
	ACMEChallenge *struct {
		Name   string `json:"name"`
		Target string `json:"target"`
	} `json:"acme_challenge"`
	Ownership *struct {
		Name     string `json:"name"`
		AppValue string `json:"app_value"`
		OrgValue string `json:"org_value"`
	} `json:"ownership"`
}

// DNSRecords are those that Fly has found.
type DNSRecords struct {
	A             []string `json:"a"`
	AAAA          []string `json:"aaaa"`
	CNAME         []string `json:"cname"`
	Resolved      []string `json:"resolved_addresses"`
	SOA           string   `json:"soa"`
	ACMEChallenge string   `json:"acme_challenge_cname"`
	Ownership     string   `json:"ownership_txt"`
}

// CertificateComplaint is why there is no certificate.
type CertificateComplaint struct {
	Code        string `json:"code"`
	Message     string `json:"message"`
	Remediation string `json:"remediation"`
	Timestamp   Time   `json:"timestamp"`
}

// CertificateSummary is what the list tells of a host name.
type CertificateSummary struct {
	Hostname      string `json:"hostname"`
	Status        string `json:"status"`
	Configured    bool   `json:"configured"`
	ACMERequested bool   `json:"acme_requested"`
	HasFly        bool   `json:"has_fly_certificate"`
	HasCustom     bool   `json:"has_custom_certificate"`
	UpdatedAt     Time   `json:"updated_at"`
}

// Certificates are the host names of an app.
func (c *Client) Certificates(ctx context.Context, app string) ([]CertificateSummary, error) {
	return pages("certificate.list", func(cursor string) ([]CertificateSummary, string, error) {
		query := url.Values{"limit": {"500"}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		list, err := get[struct {
			Certificates []CertificateSummary `json:"certificates"`
			NextCursor   string               `json:"next_cursor"`
		}](ctx, c, request{
			action: "certificate.list", ident: app, app: app, path: appPath(app, "certificates"), query: query,
		})
		return list.Certificates, list.NextCursor, err
	})
}

// Certificate is all that is known of a host name.
func (c *Client) Certificate(ctx context.Context, app, hostname string) (Certificate, error) {
	return get[Certificate](ctx, c, c.certificate("get", app, hostname))
}

// RequestCertificate asks Fly to get a certificate for a host name. Taken: the
// app has the name already.
func (c *Client) RequestCertificate(ctx context.Context, app, hostname string) (Certificate, error) {
	r := c.certificate("acme", app, "acme")
	r.method = http.MethodPost
	r.body = struct {
		Hostname string `json:"hostname"`
	}{hostname}
	return send[Certificate](ctx, c, r)
}

// UploadCertificate gives Fly a certificate of one's own: the chain and the
// key, PEM.
func (c *Client) UploadCertificate(ctx context.Context, app, hostname string, chain, key secret.Value) (Certificate, error) {
	r := c.certificate("custom", app, "custom")
	r.method = http.MethodPost
	r.body = struct {
		Hostname string `json:"hostname"`
		Chain    string `json:"fullchain"`
		Key      string `json:"private_key"`
	}{hostname, string(chain.Reveal()), string(key.Reveal())}
	r.hide = []string{string(key.Reveal())}
	return send[Certificate](ctx, c, r)
}

// CheckCertificate makes Fly look at DNS again, and get a certificate if it
// finds what it needs.
func (c *Client) CheckCertificate(ctx context.Context, app, hostname string) (Certificate, error) {
	r := c.certificate("check", app, hostname, "check")
	r.method, r.repeat = http.MethodPost, true
	return send[Certificate](ctx, c, r)
}

// DeleteCertificate takes a host name from an app, with all its certificates.
// It is content when the app has none.
func (c *Client) DeleteCertificate(ctx context.Context, app, hostname string) error {
	return c.gone(ctx, c.certificate("delete", app, hostname))
}

// DeleteACMECertificate ends Fly's own certificate of a host name; one of one's
// own stays.
func (c *Client) DeleteACMECertificate(ctx context.Context, app, hostname string) error {
	return c.gone(ctx, c.certificate("acme.delete", app, hostname, "acme"))
}

// DeleteCustomCertificate ends the certificate of one's own; Fly's stays.
func (c *Client) DeleteCustomCertificate(ctx context.Context, app, hostname string) error {
	return c.gone(ctx, c.certificate("custom.delete", app, hostname, "custom"))
}

func (c *Client) certificate(act, app string, path ...string) request {
	return request{
		action: "certificate." + act, ident: app, app: app, holds: "hostname",
		path: appPath(app, append([]string{"certificates"}, path...)...),
	}
}
