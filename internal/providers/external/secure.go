package external

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"forged.dev/forged/internal/secret"
)

// How much of a server's certificate is checked.
const (
	verifyFull = "verify-full" // authority and name
	verifyCA   = "verify-ca"   // authority
	require    = "require"     // nothing, unless there is a bundle
)

// secure makes the configuration of a connection. expires is told when the
// certificate of the server ends, whatever of it is checked.
func (s subject) secure(mode string, bundle secret.Value, expires func(time.Time)) (*tls.Config, *trouble) {
	cfg := &tls.Config{ServerName: s.host, MinVersion: tls.VersionTLS12}
	if !bundle.IsZero() {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(bundle.Reveal()) {
			return nil, s.trouble(codeCertificate, "it is a text of -----BEGIN CERTIFICATE----- blocks", "%s holds no certificate", s.key("caBundle"))
		}
	}
	// What clients of PostgreSQL do: with authorities to check against, require
	// checks against them.
	if mode == verifyCA || mode == require {
		cfg.InsecureSkipVerify = true
	}
	chain := mode == verifyCA || mode == require && cfg.RootCAs != nil
	cfg.VerifyConnection = func(c tls.ConnectionState) error {
		if len(c.PeerCertificates) == 0 {
			return nil
		}
		leaf := c.PeerCertificates[0]
		expires(leaf.NotAfter)
		if !chain {
			return nil
		}
		options := x509.VerifyOptions{Roots: cfg.RootCAs, Intermediates: x509.NewCertPool()}
		for _, cert := range c.PeerCertificates[1:] {
			options.Intermediates.AddCert(cert)
		}
		_, err := leaf.Verify(options)
		return err
	}
	return cfg, nil
}

// clientCertificate is what the client shows of itself.
func (s subject) clientCertificate(cert, key secret.Value, now time.Time) (tls.Certificate, *trouble) {
	pair, err := tls.X509KeyPair(cert.Reveal(), key.Reveal())
	if err != nil { // its text may hold a part of what was read
		return pair, s.trouble(codeCertificate, "both are PEM, and made for each other", "%s: certificate and key cannot be used together", s.key("mtls"))
	}
	if now.Before(pair.Leaf.NotBefore) || now.After(pair.Leaf.NotAfter) {
		return pair, s.dates(s.key("mtls")+".cert", pair.Leaf, "put a new one there, and tell the service its authority")
	}
	return pair, nil
}
