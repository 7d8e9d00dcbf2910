package fly_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// host is the name that the tests are about.
const host = "api.acme.test"

// mode is what the tests act in.
var acting = forge.Policy{Mode: forge.ModeApply, Adopt: forge.AdoptMustMatch, DestroyData: "never"}

// withApp makes the app of the tests, which forged looks after.
func (r *rig) withApp() *rig {
	r.t.Helper()
	a := r.forged()
	r.must(r.apply(r.t.Context(), fly.NewApps(a), reconcile.Request{Resource: r.app(), Policy: acting}))
	a.Close()
	return r
}

// inApp runs a test on a place where forged has made an app.
func inApp(t *testing.T, o flyemulator.Options, test func(t *testing.T, r *rig)) {
	t.Helper()
	inBubble(t, o, func(t *testing.T, r *rig) { test(t, r.withApp()) })
}

func (r *rig) resource(kind, name string, spec forge.Spec) forge.Resource {
	return forge.Resource{
		ID:     forge.ID{Environment: flytest.Environment, Kind: kind, Name: name},
		Target: forge.Target{Org: flytest.Org}, Needs: []forge.ID{r.app().ID}, Spec: spec,
	}
}

func (r *rig) ips(v4 string, v6 bool) forge.Resource {
	return r.resource(forge.KindFlyIPs, flytest.App, forge.FlyIPsSpec{Account: r.Account(), App: flytest.App, V4: v4, V6: v6})
}

func (r *rig) volumes(count, size int) forge.Resource {
	return r.resource(forge.KindFlyVolume, "app@fra", forge.FlyVolumeSpec{
		Account: r.Account(), App: flytest.App, Name: "data", Region: "fra", Count: count, SizeGB: size,
		Guest: forge.Guest{CPUKind: "shared", CPUs: 1, MemoryMB: 256},
	})
}

func (r *rig) certificate(chain, key string) forge.Resource {
	return r.resource(forge.KindFlyCertificate, host, forge.FlyCertificateSpec{
		Account: r.Account(), App: flytest.App, Hostname: host, Chain: forge.SecretRef{Env: chain}, Key: forge.SecretRef{Env: key},
	})
}

// ask is a request about a resource.
func ask(res forge.Resource, change ...func(*reconcile.Request)) reconcile.Request {
	q := reconcile.Request{Resource: res, Policy: acting}
	for _, f := range change {
		f(&q)
	}
	return q
}

func removing(q *reconcile.Request) { q.Remove = true }

// steps are what is planned, in words.
func words(steps []reconcile.Step) string {
	var b bytes.Buffer
	for _, s := range steps {
		b.WriteString(s.String() + "\n")
	}
	return b.String()
}

// observe expects that it works.
func (r *rig) observe(p reconcile.Provider, q reconcile.Request) reconcile.Observed {
	r.t.Helper()
	o, err := p.Observe(r.t.Context(), q)
	r.must(err)
	return o
}

// planned expects that planning works.
func (r *rig) planned(p reconcile.Provider, q reconcile.Request) []reconcile.Step {
	r.t.Helper()
	steps, err := r.plan(p, q)
	r.must(err)
	return steps
}

// leads makes the name lead to the app, as its owner would.
func (r *rig) leads() {
	r.t.Helper()
	list, err := r.Somebody.IPs(r.t.Context(), flytest.App)
	r.must(err)
	at := flyemulator.DNS{SOA: "dns.acme.test"}
	for _, ip := range list {
		if ip.Type() == "v6" {
			at.AAAA = append(at.AAAA, ip.Address)
		} else {
			at.A = append(at.A, ip.Address)
		}
	}
	r.SetDNS(host, &at)
}

// vault is what references of the tests lead to.
type vault map[string]string

func (v vault) resolver() *secret.Resolver {
	return &secret.Resolver{LookupEnv: func(name string) (string, bool) { text, ok := v[name]; return text, ok }}
}

// pair puts a certificate into the vault, and its key.
func (v vault) pair(t *testing.T, chain, key string, until time.Time, hosts ...string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "acme"}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secretKey, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	v[chain] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	v[key] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secretKey}))
}

func value(text string) secret.Value { return secret.New([]byte(text)) }
