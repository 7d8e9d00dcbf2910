package fly

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// pair is a certificate of the user's own, and its key.
type pair struct {
	chain, key  secret.Value
	leaf        *x509.Certificate
	fingerprint string // of the whole chain
}

func (p *pair) expires() string { return moment(p.leaf.NotAfter) }

// resolve reads a pair where forge.cue says it is. A pair that Fly would refuse,
// or that nobody could use, is refused here.
func (p *certificates) resolve(ctx context.Context, r reconcile.Request, spec forge.FlyCertificateSpec) (*pair, error) {
	pass := p.resolver.Pass(r.Policy.Interval)
	read := func(ref forge.SecretRef) (secret.Value, error) {
		v, err := pass.ResolveText(ctx, ref)
		if err == nil {
			return v, nil
		}
		e := &reconcile.Error{
			Kind: reconcile.Invalid, Op: "resolve", Object: "certificate for " + spec.Hostname, Err: err,
			Hint: "forged validate --resolve looks up every secret, where it runs",
		}
		if secret.MayPass(err) || ctx.Err() != nil {
			e.Kind = reconcile.Unavailable
		}
		return v, e
	}
	found := &pair{}
	var err error
	if found.chain, err = read(spec.Chain); err != nil {
		return nil, err
	}
	if found.key, err = read(spec.Key); err != nil {
		return nil, err
	}
	if err := found.check(spec.Hostname, time.Now()); err != nil {
		return nil, &reconcile.Error{
			Kind: reconcile.Invalid, Op: "read", Object: "certificate for " + spec.Hostname, Err: err,
			Hint: "the chain is " + pass.Describe(spec.Chain) + ", the key is " + pass.Describe(spec.Key),
		}
	}
	return found, nil
}

// check reads a pair and says why it cannot be used for a host. Its errors quote
// nothing of it.
func (p *pair) check(host string, now time.Time) error {
	sum := sha256.New()
	for rest := p.chain.Reveal(); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return errors.New("its chain holds something else than certificates")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return errors.New("its chain holds a certificate that cannot be read")
		}
		if p.leaf == nil {
			p.leaf = c
		}
		sum.Write(c.Raw)
	}
	if p.leaf == nil {
		return errors.New("its chain holds no certificate in PEM form")
	}
	block, _ := pem.Decode(p.key.Reveal())
	switch {
	case block == nil:
		return errors.New("its key is no key in PEM form")
	case strings.Contains(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "":
		return errors.New("its key is protected by a passphrase, which nobody could give")
	}
	// The library's own words may be about the key; none of them is told.
	if _, err := tls.X509KeyPair(p.chain.Reveal(), p.key.Reveal()); err != nil {
		return errors.New("its key is not the key of its certificate, which has to be the first of its chain")
	}
	switch {
	case now.After(p.leaf.NotAfter):
		return fmt.Errorf("it expired on %s", day(p.leaf.NotAfter))
	case now.Before(p.leaf.NotBefore.Add(-skew)):
		return fmt.Errorf("it is valid from %s on", day(p.leaf.NotBefore))
	case !covers(p.leaf, host):
		is := strings.Join(p.leaf.DNSNames, ", ")
		if is == "" {
			is = "no host"
		}
		return fmt.Errorf("it is not for %s; it is for %s", host, is)
	}
	p.fingerprint = hex.EncodeToString(sum.Sum(nil)[:16])
	return nil
}

// skew is how much clocks may differ.
const skew = 5 * time.Minute

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

// day is a date as people read it.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
