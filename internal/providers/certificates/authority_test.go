package certificates

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/secret"
)

const year = 365 * 24 * time.Hour

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func mustSign(t *testing.T, hosts []string, valid time.Duration, now time.Time, before *bundle) *bundle {
	t.Helper()
	b, err := sign("shop/tls", hosts, valid, now, before)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is signed works for a real client that trusts the authority alone.
func TestSignedCertificateServes(t *testing.T) {
	t.Parallel()
	hosts := []string{"shop-postgres", "shop-postgres.shop.svc", "*.acme.test", "127.0.0.1", "::1"}
	b := mustSign(t, hosts, year, time.Now(), nil)
	pair, err := tls.X509KeyPair(b.data[keyCertificate].Reveal(), b.data[keyPrivate].Reveal())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b.data[keyAuthority].Reveal()) {
		t.Fatal("ca.crt holds no certificate")
	}
	for _, host := range []string{"shop-postgres", "shop-postgres.shop.svc", "www.acme.test", "127.0.0.1", "::1"} {
		client, server := net.Pipe()
		served := make(chan error, 1)
		go func() {
			defer server.Close()
			served <- tls.Server(server, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake()
		}()
		err := tls.Client(client, &tls.Config{RootCAs: roots, ServerName: host}).Handshake()
		client.Close()
		if err != nil {
			t.Errorf("%s: %v (server %v)", host, err, <-served)
		}
	}
	if b.leaf.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("key is %s", b.leaf.PublicKeyAlgorithm)
	}
}

// Whoever trusts the authority of one app does not trust it with other names:
// its key lies in the cluster.
func TestAuthorityCanSignForItsHostsOnly(t *testing.T) {
	t.Parallel()
	b := mustSign(t, []string{"shop.acme.test"}, year, noon, nil)
	for _, other := range []string{"bank.example", "acme.test", "10.0.0.1"} {
		forgedLeaf, err := b.signs([]string{other}, year, noon)
		if err == nil {
			t.Errorf("it signs for %s: %v", other, forgedLeaf.leaf.DNSNames)
		}
	}
}

func TestWornByNeedOnly(t *testing.T) {
	t.Parallel()
	hosts := []string{"b.acme.test", "a.acme.test"}
	b := mustSign(t, hosts, year, noon, nil)
	for _, tt := range []struct {
		name  string
		hosts []string
		valid time.Duration
		after time.Duration
		want  string
	}{
		{"new", hosts, year, 0, ""},
		{"hosts in another order", []string{"a.acme.test", "b.acme.test"}, year, 0, ""},
		{"two thirds gone, nearly", hosts, year, 2*year/3 - time.Minute, ""},
		{"two thirds gone", hosts, year, 2*year/3 + time.Minute, "less than a third"},
		{"expired", hosts, year, year + time.Minute, "expired on 2027-03-01"},
		{"one host more", append([]string{"c.acme.test"}, hosts...), year, 0, "other hosts"},
		{"one host less", hosts[:1], year, 0, "other hosts"},
		{"a longer life asked for", hosts, 2 * year, 0, ""},
		{"a shorter life asked for", hosts, 30 * 24 * time.Hour, 0, "longer than is asked for"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := b.worn(tt.hosts, tt.valid, noon.Add(tt.after))
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("worn: %q, want %q", got, tt.want)
			}
		})
	}
	if at := b.wornAt(year); b.worn(hosts, year, at.Add(-time.Second)) != "" || b.worn(hosts, year, at.Add(time.Second)) == "" {
		t.Errorf("it is worn at %s, but that is not when it is said to be", at)
	}
}

// A new certificate needs no new trust, unless it is for hosts that the
// authority may not sign for, or the authority comes to its end.
func TestRotationKeepsTheAuthority(t *testing.T) {
	t.Parallel()
	hosts := []string{"shop.acme.test"}
	first := mustSign(t, hosts, year, noon, nil)
	second := mustSign(t, hosts, year, noon.Add(year), first)
	if !bytes.Equal(first.authority.Raw, second.authority.Raw) {
		t.Error("another authority, without need")
	}
	if bytes.Equal(first.data[keyPrivate].Reveal(), second.data[keyPrivate].Reveal()) {
		t.Error("the same key again")
	}
	if third := mustSign(t, []string{"other.test"}, year, noon, second); bytes.Equal(third.authority.Raw, second.authority.Raw) {
		t.Error("the old authority signs for a host it may not sign for")
	}
	late := noon.Add(authorityValid + time.Hour)
	if fourth := mustSign(t, hosts, year, late, second); bytes.Equal(fourth.authority.Raw, second.authority.Raw) {
		t.Error("an authority that ends before the certificate has signed it")
	}
}

func TestReadBundle(t *testing.T) {
	t.Parallel()
	hosts := []string{"shop.acme.test"}
	b, other := mustSign(t, hosts, year, noon, nil), mustSign(t, hosts, year, noon, nil)
	if got := readBundle(b.data); !got.same(b) || got.worn(hosts, year, noon) != "" {
		t.Error("what was signed is not read back")
	}
	swap := func(key string, v secret.Value) map[string]secret.Value {
		data := map[string]secret.Value{}
		for k, old := range b.data {
			data[k] = old
		}
		data[key] = v
		return data
	}
	if readBundle(swap(keyPrivate, other.data[keyPrivate])) != nil {
		t.Error("a key that is not the certificate's is taken")
	}
	if readBundle(swap(keyCertificate, secret.New([]byte("no certificate")))) != nil {
		t.Error("no certificate, and it is taken")
	}
	if got := readBundle(swap(keyAuthority, other.data[keyAuthority])); got == nil || got.worn(hosts, year, noon) == "" {
		t.Error("an authority that has not signed it is good")
	}
	if got := readBundle(swap(keyAuthorityOf, other.data[keyAuthorityOf])); !got.data[keyAuthorityOf].IsZero() {
		t.Error("a key that is not the authority's is kept")
	}
}

// No way of printing what holds a key shows it.
func TestKeysArePrintedNowhere(t *testing.T) {
	t.Parallel()
	b := mustSign(t, []string{"shop.acme.test"}, year, noon, nil)
	block, _ := pem.Decode(b.data[keyPrivate].Reveal())
	line := strings.Split(string(b.data[keyPrivate].Reveal()), "\n")[1]
	for _, text := range []string{fmt.Sprintf("%v", b), fmt.Sprintf("%+v", *b), fmt.Sprintf("%#v", b.data), fmt.Sprintf("%x", b.data)} {
		if strings.Contains(text, line) || strings.Contains(text, fmt.Sprintf("%x", block.Bytes)) {
			t.Errorf("a key is printed: %.80s…", text)
		}
	}
}
