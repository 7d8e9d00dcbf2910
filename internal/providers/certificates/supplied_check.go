package certificates

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"forged.dev/forged/internal/hostcert"
	"forged.dev/forged/internal/secret"
)

// warnBefore is how long before its end a certificate is told of that somebody
// else has to renew.
const warnBefore = 14 * 24 * time.Hour

// pair is a certificate in a Secret that somebody else fills.
type pair struct {
	leaf    *x509.Certificate // nil: it could not be read
	problem string            // why it cannot be used; it never quotes what the Secret holds
	remark  string            // what may be wrong with it
}

// readPair looks at what a Secret holds.
func readPair(kind string, data map[string]secret.Value) pair {
	if kind != string(corev1.SecretTypeTLS) {
		return pair{problem: fmt.Sprintf("it is of type %s and has to be of type %s; a type cannot be changed: delete it and make it anew", kind, corev1.SecretTypeTLS)}
	}
	certificates, private := data[keyCertificate].Reveal(), data[keyPrivate].Reveal()
	chain, err := hostcert.Chain(certificates, keyCertificate)
	if err != nil {
		return pair{problem: err.Error()}
	}
	p := pair{leaf: chain[0]}
	block, _ := pem.Decode(private)
	switch {
	case block == nil:
		p.problem = "its " + keyPrivate + " holds no key in PEM form"
	case strings.Contains(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "":
		p.problem = "its " + keyPrivate + " is protected by a passphrase, which nobody could give"
	default:
		// The library's own words may be about the key; none of them is told.
		if _, err := tls.X509KeyPair(certificates, private); err != nil {
			p.problem = "its " + keyPrivate + " is not the key of its certificate"
			if len(chain) > 1 {
				p.problem += "; the certificate itself has to be the first one"
			}
		}
	}
	for i := 1; i < len(chain) && p.remark == ""; i++ {
		if chain[i-1].CheckSignatureFrom(chain[i]) != nil {
			p.remark = "the certificates in it are not a chain: each has to be signed by the one after it"
		}
	}
	return p
}

// trouble says why a certificate cannot be used for hosts at a time; empty: it
// can.
func (p pair) trouble(hosts []string, now time.Time) string {
	if p.problem != "" {
		return p.problem
	}
	return hostcert.Trouble(p.leaf, hosts, now)
}

// fingerprint is a short name of a certificate.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:16])
}
