package hostcert_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/hostcert"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// signed is a certificate for hosts, valid for a day from a time on.
func signed(t *testing.T, from time.Time, hosts ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: hosts, NotBefore: from, NotAfter: from.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestTrouble(t *testing.T) {
	for _, tt := range []struct {
		name      string
		from      time.Time
		is, hosts []string
		want      string
	}{
		{"good", now, []string{"a.example", "b.example"}, []string{"a.example"}, ""},
		{"good for what a star covers", now, []string{"*.a.example"}, []string{"x.a.example"}, ""},
		{"good for a star", now, []string{"*.a.example"}, []string{"*.A.example"}, ""},
		{"a name is no star", now, []string{"a.example"}, []string{"*.a.example"}, "it is not for *.a.example; it is for a.example"},
		{"other hosts", now, []string{"a.example"}, []string{"a.example", "b.example", "c.example"}, "it is not for b.example, c.example; it is for a.example"},
		{"no host", now, nil, []string{"a.example"}, "it is not for a.example; it is for no host"},
		{"over", now.Add(-25 * time.Hour), []string{"a.example"}, []string{"a.example"}, "it expired on 2026-03-01"},
		{"not yet", now.Add(time.Hour), []string{"a.example"}, []string{"a.example"}, "it is valid from 2026-03-01 on"},
		{"of a clock that is ahead", now.Add(hostcert.Skew - time.Second), []string{"a.example"}, []string{"a.example"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chain, err := hostcert.Chain(signed(t, tt.from, tt.is...), "chain")
			if err != nil {
				t.Fatal(err)
			}
			if got := hostcert.Trouble(chain[0], tt.hosts, now); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestChain(t *testing.T) {
	good := string(signed(t, now, "a.example"))
	if chain, err := hostcert.Chain([]byte("a remark\n"+good+good), "chain"); err != nil || len(chain) != 2 {
		t.Errorf("%d certificates, %v", len(chain), err)
	}
	block := func(kind string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("confidential")}))
	}
	for text, want := range map[string]string{
		"":                          "its chain holds no certificate in PEM form",
		"confidential":              "its chain holds no certificate in PEM form",
		good + block("PRIVATE KEY"): "its chain holds something else than certificates",
		block("CERTIFICATE"):        "its chain holds a certificate that cannot be read",
	} {
		_, err := hostcert.Chain([]byte(text), "chain")
		if err == nil || err.Error() != want || strings.Contains(err.Error(), "confidential") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestAway(t *testing.T) {
	for d, want := range map[time.Duration]string{
		10 * 24 * time.Hour: "10 days", 47 * time.Hour: "47 hours", 119 * time.Minute: "119 minutes", 0: "0 minutes",
	} {
		if got := hostcert.Away(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
