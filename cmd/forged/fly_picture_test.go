package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/providers/fly/flytest"
)

// ownPair is a certificate of one's own and its key. It is good in bubbles,
// where it is the year 2000, and outside of them.
func ownPair(t *testing.T, host string) (chain, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// picture is all there is in the organization, but for the bystanders.
func (p *onFly) picture() string {
	p.t.Helper()
	all, err := flytest.Picture(p.t.Context(), p.Somebody, flytest.Org, func(app string) bool { return !strings.HasSuffix(app, flytest.Bystander) })
	if err != nil {
		p.t.Error(err)
	}
	b, err := json.MarshalIndent(all, "", "  ")
	p.must(err)
	return string(b)
}

func (p *onFly) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// proveSecrets starts a machine of the app, and looks whether what it sees
// opens what is there.
func (p *onFly) proveSecrets() {
	p.t.Helper()
	ctx := p.t.Context()
	time.Sleep(time.Second)
	m := p.MakeMachine("acme-shop", nil)
	time.Sleep(time.Minute)
	env := p.Env("acme-shop", m.ID)
	defer func() { p.must(p.Somebody.DestroyMachine(ctx, "acme-shop", m.ID, "")) }()
	if len(env["SESSION"]) < 20 {
		p.t.Error("SESSION has no value")
	}
	if p.guest != nil {
		p.guest.opens(env["DATABASE_URL"])
	}
	clusters, err := p.Somebody.PostgresClusters(ctx, flytest.Org)
	p.must(err)
	for _, c := range clusters {
		if c.Status != "ready" {
			continue
		}
		c, err := p.Somebody.PostgresCluster(ctx, c.ID) // the list does not say where it is reached
		p.must(err)
		at, err := url.Parse(env["DATABASE_URL"])
		p.must(err)
		password, err := p.Somebody.PostgresPassword(ctx, c.ID, at.User.Username())
		p.must(err)
		if sent, _ := at.User.Password(); sent != string(password.Reveal()) || at.Hostname() != c.Endpoints.Primary.Direct.Host {
			p.t.Errorf("DATABASE_URL does not open the cluster: user %q at %q, which is at %q; another password %v",
				at.User.Username(), at.Host, c.Endpoints.Primary.Direct.Host, sent != string(password.Reveal()))
		}
	}
	redis, err := p.Somebody.AddOns(ctx, flytest.Org, "upstash_redis")
	p.must(err)
	for _, r := range redis {
		if !strings.Contains(env["REDIS_URL"], string(r.Password.Reveal())) || len(r.Password.Reveal()) == 0 {
			p.t.Error("REDIS_URL does not open the database")
		}
	}
}
