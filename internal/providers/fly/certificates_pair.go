package fly

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/hostcert"
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
	chain, err := hostcert.Chain(p.chain.Reveal(), "chain")
	if err != nil {
		return err
	}
	p.leaf = chain[0]
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
	if trouble := hostcert.Trouble(p.leaf, []string{host}, now); trouble != "" {
		return errors.New(trouble)
	}
	sum := sha256.New()
	for _, c := range chain {
		sum.Write(c.Raw)
	}
	p.fingerprint = hex.EncodeToString(sum.Sum(nil)[:16])
	return nil
}
