// Package hostcert says what is to be said of a certificate that somebody brings
// for hosts: whether it can be read, whom it is for, and when it is good. What it
// says goes on after the name of the certificate, and quotes nothing that was
// read.
package hostcert

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Skew is how far clocks may differ.
const Skew = 5 * time.Minute

// Chain reads certificates in PEM form, of which there is one at least. name is
// what people call the place they were read from.
func Chain(text []byte, name string) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("its " + name + " holds something else than certificates")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("its " + name + " holds a certificate that cannot be read")
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("its " + name + " holds no certificate in PEM form")
	}
	return chain, nil
}

// Trouble says why a certificate cannot be used for hosts at a time; empty: it
// can.
func Trouble(c *x509.Certificate, hosts []string, now time.Time) string {
	switch {
	case now.After(c.NotAfter):
		return "it expired on " + Day(c.NotAfter)
	case now.Before(c.NotBefore.Add(-Skew)):
		return "it is valid from " + Day(c.NotBefore) + " on"
	}
	var missing []string
	for _, host := range hosts {
		if !covers(c, host) {
			missing = append(missing, host)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	is := strings.Join(c.DNSNames, ", ")
	if is == "" {
		is = "no host"
	}
	return fmt.Sprintf("it is not for %s; it is for %s", strings.Join(missing, ", "), is)
}

// covers tells whether a certificate is for a host, which may have a star.
func covers(c *x509.Certificate, host string) bool {
	if !strings.HasPrefix(host, "*.") {
		return c.VerifyHostname(host) == nil
	}
	for _, name := range c.DNSNames {
		if strings.EqualFold(name, host) {
			return true
		}
	}
	return false
}

// Day is a date as people read it.
func Day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// Away says how far off a time is.
func Away(d time.Duration) string {
	const whole = 24 * time.Hour
	switch {
	case d >= 2*whole:
		return fmt.Sprintf("%d days", d/whole)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	default:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
}
