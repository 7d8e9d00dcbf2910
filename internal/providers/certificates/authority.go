package certificates

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/hostcert"
	"forged.dev/forged/internal/secret"
)

// Keys of a Secret with a certificate that forged has signed.
const (
	keyCertificate = "tls.crt"
	keyPrivate     = "tls.key"
	keyAuthority   = "ca.crt"
	keyAuthorityOf = "ca.key"
)

const (
	// authorityValid is how long an authority is: whoever trusts it need not
	// do so again for a while.
	authorityValid = 10 * 365 * 24 * time.Hour
)

// bundle is a certificate that forged has signed, its key, and the authority it
// is signed by. That authority can sign for the same hosts only, so its key is
// worth no more than the other one, and a new certificate needs no new trust.
type bundle struct {
	leaf, authority *x509.Certificate
	data            map[string]secret.Value // by key of the Secret
}

// sign makes a certificate for hosts. It is signed by the authority of the
// bundle before, if there is one that can.
func sign(name string, hosts []string, valid time.Duration, now time.Time, before *bundle) (*bundle, error) {
	if len(hosts) == 0 {
		return nil, errors.New("there is no host to sign for")
	}
	if before != nil {
		if b, err := before.signs(hosts, valid, now); err == nil {
			return b, nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: clip("forged: " + name)},
		NotBefore: now.Add(-hostcert.Skew), NotAfter: now.Add(authorityValid + valid),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:     true, MaxPathLenZero: true, BasicConstraintsValid: true,
		PermittedDNSDomainsCritical: true,
	}
	confine(template, hosts)
	der, err := create(template, template, key, key)
	if err != nil {
		return nil, err
	}
	private, err := privatePEM(key)
	if err != nil {
		return nil, err
	}
	authority, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	fresh := &bundle{authority: authority, data: map[string]secret.Value{
		keyAuthority: secret.New(certificatePEM(der)), keyAuthorityOf: private,
	}}
	return fresh.signs(hosts, valid, now)
}

// clip makes a text fit into a common name.
func clip(s string) string {
	const most = 64
	return s[:min(len(s), most)]
}

// confine allows an authority these hosts and nothing else.
func confine(template *x509.Certificate, hosts []string) {
	everyIP := []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			if four := ip.To4(); four != nil {
				ip = four
			}
			template.PermittedIPRanges = append(template.PermittedIPRanges, &net.IPNet{IP: ip, Mask: net.CIDRMask(8*len(ip), 8*len(ip))})
			continue
		}
		domain := strings.TrimPrefix(host, "*.")
		if !slices.Contains(template.PermittedDNSDomains, domain) {
			template.PermittedDNSDomains = append(template.PermittedDNSDomains, domain)
		}
	}
	if template.PermittedIPRanges == nil {
		template.ExcludedIPRanges = everyIP
	}
	if template.PermittedDNSDomains == nil {
		template.ExcludedDNSDomains = []string{""} // every name
	}
}

// signs makes a new certificate under the same authority.
func (b *bundle) signs(hosts []string, valid time.Duration, now time.Time) (*bundle, error) {
	authority, err := tls.X509KeyPair(b.data[keyAuthority].Reveal(), b.data[keyAuthorityOf].Reveal())
	if err != nil {
		return nil, errors.New("the key of the authority is not known")
	}
	signer, ok := authority.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the key of the authority is of another kind")
	}
	if now.Add(valid).After(b.authority.NotAfter) {
		return nil, errors.New("the authority ends too early")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: clip(hosts[0])},
		NotBefore: now.Add(-hostcert.Skew), NotAfter: now.Add(valid),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := create(template, b.authority, key, signer)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	private, err := privatePEM(key)
	if err != nil {
		return nil, err
	}
	made := &bundle{leaf: leaf, authority: b.authority, data: map[string]secret.Value{
		keyCertificate: secret.New(certificatePEM(der)), keyPrivate: private,
		keyAuthority: b.data[keyAuthority], keyAuthorityOf: b.data[keyAuthorityOf],
	}}
	if why := made.worn(hosts, valid, now); why != "" {
		return nil, errors.New(why)
	}
	return made, nil
}

// create signs under a random number.
func create(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) ([]byte, error) {
	const bits = 127 // positive, and 16 bytes at most
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), bits))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = number
	return x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func privatePEM(key *ecdsa.PrivateKey) (secret.Value, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return secret.Value{}, err
	}
	return secret.New(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// readBundle reads what a Secret holds; nil if that is no bundle.
func readBundle(data map[string]secret.Value) *bundle {
	pair, err := tls.X509KeyPair(data[keyCertificate].Reveal(), data[keyPrivate].Reveal())
	if err != nil || pair.Leaf == nil {
		return nil
	}
	block, _ := pem.Decode(data[keyAuthority].Reveal())
	if block == nil {
		return nil
	}
	authority, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	b := &bundle{leaf: pair.Leaf, authority: authority, data: map[string]secret.Value{}}
	for _, key := range []string{keyCertificate, keyPrivate, keyAuthority, keyAuthorityOf} {
		if !data[key].IsZero() {
			b.data[key] = data[key]
		}
	}
	if _, err := tls.X509KeyPair(data[keyAuthority].Reveal(), data[keyAuthorityOf].Reveal()); err != nil {
		delete(b.data, keyAuthorityOf)
	}
	return b
}

// worn says why a bundle has to be replaced; empty: it is good. It is so by
// need only: other hosts, a third of the time left, a signature that does not
// hold, or a life much longer than is asked for now.
func (b *bundle) worn(hosts []string, valid time.Duration, now time.Time) string {
	left := b.leaf.NotAfter.Sub(now)
	switch {
	case !sameHosts(b.leaf, hosts):
		return "it is for other hosts"
	case left <= 0:
		return "it expired on " + hostcert.Day(b.leaf.NotAfter)
	case left < valid/3:
		return "less than a third of its time is left"
	case left > valid+24*time.Hour:
		return "it is valid for longer than is asked for"
	}
	roots := x509.NewCertPool()
	roots.AddCert(b.authority)
	if _, err := b.leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now}); err != nil {
		return "its authority has not signed it, or has expired"
	}
	return ""
}

// wornAt is when a bundle that is good will have to be replaced.
func (b *bundle) wornAt(valid time.Duration) time.Time { return b.leaf.NotAfter.Add(-valid / 3) }

// print is a short name of the certificate, from which nothing can be guessed
// that is not public.
func (b *bundle) print() string { return fingerprint(b.leaf) }

// same tells whether two bundles are one.
func (b *bundle) same(o *bundle) bool {
	return b != nil && o != nil && bytes.Equal(b.leaf.Raw, o.leaf.Raw) && bytes.Equal(b.authority.Raw, o.authority.Raw)
}

// sameHosts tells whether a certificate is for these hosts and no others.
func sameHosts(c *x509.Certificate, hosts []string) bool {
	is := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		is = append(is, ip.String())
	}
	want := make([]string, 0, len(hosts))
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			host = ip.String()
		}
		want = append(want, host)
	}
	slices.Sort(is)
	slices.Sort(want)
	return slices.Equal(slices.Compact(is), slices.Compact(want))
}
