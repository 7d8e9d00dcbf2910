package certificates

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/secret"
)

func TestSuppliedSecretIsJudged(t *testing.T) {
	t.Parallel()
	b := mustSign(t, []string{"shop.acme.test", "*.wild.test"}, year, noon, nil)
	other := mustSign(t, []string{"shop.acme.test"}, year, noon, nil)
	join := func(parts ...[]byte) secret.Value { return secret.New(bytes.Join(parts, nil)) }
	leaf, authority := b.data[keyCertificate].Reveal(), b.data[keyAuthority].Reveal()
	locked := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("s3cr3t")})
	for _, tt := range []struct {
		name   string
		kind   string
		data   map[string]secret.Value
		hosts  []string
		after  time.Duration
		want   string // trouble
		remark string
	}{
		{name: "good", data: b.data, hosts: []string{"shop.acme.test", "www.wild.test", "*.wild.test"}},
		{name: "with its chain", data: map[string]secret.Value{keyCertificate: join(leaf, authority), keyPrivate: b.data[keyPrivate]}},
		{
			name: "a chain out of order", data: map[string]secret.Value{keyCertificate: join(leaf, other.data[keyAuthority].Reveal()), keyPrivate: b.data[keyPrivate]},
			remark: "not a chain",
		},
		{name: "the authority first", data: map[string]secret.Value{keyCertificate: join(authority, leaf), keyPrivate: b.data[keyPrivate]}, want: "has to be the first one", remark: "not a chain"},
		{name: "of another type", kind: "Opaque", data: b.data, want: "of type Opaque and has to be of type kubernetes.io/tls"},
		{name: "no certificate", data: map[string]secret.Value{keyPrivate: b.data[keyPrivate]}, want: "tls.crt holds no certificate"},
		{name: "not PEM", data: map[string]secret.Value{keyCertificate: secret.New([]byte("hello")), keyPrivate: b.data[keyPrivate]}, want: "tls.crt holds no certificate"},
		{name: "a key where a certificate should be", data: map[string]secret.Value{keyCertificate: b.data[keyPrivate], keyPrivate: b.data[keyPrivate]}, want: "something else than certificates"},
		{name: "no key", data: map[string]secret.Value{keyCertificate: b.data[keyCertificate]}, want: "tls.key holds no key"},
		{name: "another key", data: map[string]secret.Value{keyCertificate: b.data[keyCertificate], keyPrivate: other.data[keyPrivate]}, want: "is not the key of its certificate"},
		{name: "a key with a passphrase", data: map[string]secret.Value{keyCertificate: b.data[keyCertificate], keyPrivate: secret.New(locked)}, want: "passphrase"},
		{name: "another host", data: b.data, hosts: []string{"shop.acme.test", "api.acme.test"}, want: "it is not for api.acme.test; it is for shop.acme.test, *.wild.test"},
		{name: "a star covers one label", data: b.data, hosts: []string{"a.b.wild.test"}, want: "not for a.b.wild.test"},
		{name: "expired", data: b.data, after: year + time.Hour, want: "it expired on 2027-03-01"},
		{name: "not valid yet", data: b.data, after: -24 * time.Hour, want: "it is valid from 2026-03-01 on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			kind := tt.kind
			if kind == "" {
				kind = "kubernetes.io/tls"
			}
			p := readPair(kind, tt.data)
			got := p.trouble(tt.hosts, noon.Add(tt.after))
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("trouble: %q, want %q", got, tt.want)
			}
			if (p.remark == "") != (tt.remark == "") || !strings.Contains(p.remark, tt.remark) {
				t.Errorf("remark: %q, want %q", p.remark, tt.remark)
			}
			for _, v := range tt.data {
				block, _ := pem.Decode(v.Reveal())
				if block == nil || block.Type == "CERTIFICATE" {
					continue
				}
				if strings.Contains(got+p.remark, string(block.Bytes)) {
					t.Errorf("it quotes the key: %s", got)
				}
			}
		})
	}
}

// A key in the older form that tools write is as good as any.
func TestSuppliedKeysOfOtherForms(t *testing.T) {
	t.Parallel()
	b := mustSign(t, []string{"shop.acme.test"}, year, noon, nil)
	block, _ := pem.Decode(b.data[keyPrivate].Reveal())
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der, err := marshalEC(key)
	if err != nil {
		t.Fatal(err)
	}
	sec1 := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	p := readPair("kubernetes.io/tls", map[string]secret.Value{keyCertificate: b.data[keyCertificate], keyPrivate: secret.New(sec1)})
	if got := p.trouble([]string{"shop.acme.test"}, noon); got != "" {
		t.Error(got)
	}
}

func marshalEC(key any) ([]byte, error) { return x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey)) }
