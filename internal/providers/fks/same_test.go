package fks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// authority is a new certificate, as PEM.
func authority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, made, made, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// kubeconfigOf is one with a context; ca may be empty.
func kubeconfigOf(server string, ca []byte) string {
	known := ""
	if len(ca) > 0 {
		known = ", certificate-authority-data: " + base64.StdEncoding.EncodeToString(ca)
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: k\nclusters: [{name: k, cluster: {server: '%s'%s}}]\n"+
		"contexts: [{name: k, context: {cluster: k, user: k}}]\nusers: [{name: k, user: {token: t}}]\n", server, known)
}

// The certificate authority tells clusters apart, and else the server's name. What
// cannot be compared is no mistake.
func TestWhereAKubeconfigLeads(t *testing.T) {
	const server, elsewhere = "https://fks-acme-k.flycast:6443", "https://127.0.0.1:8443"
	ours, theirs := authority(t), authority(t)
	for _, tt := range []struct {
		what            string
		given, fly      string
		sure, different bool
	}{
		{"the same", kubeconfigOf(server, ours), kubeconfigOf(server, ours), true, false},
		{"through a tunnel", kubeconfigOf(elsewhere, ours), kubeconfigOf(server, ours), true, false},
		{"a proxy with an authority of its own beside it", kubeconfigOf(elsewhere, slices.Concat(theirs, ours)), kubeconfigOf(server, ours), true, false},
		{"another cluster", kubeconfigOf(elsewhere, theirs), kubeconfigOf(server, ours), true, true},
		{"another cluster of the organization", kubeconfigOf("https://fks-acme-j.flycast:6443", theirs), kubeconfigOf(server, ours), true, true},
		{"the same server, unverified", kubeconfigOf(server, nil), kubeconfigOf(server, ours), true, false},
		{"a proxy that everybody knows", kubeconfigOf("https://k.example.com", nil), kubeconfigOf(server, ours), false, false},
		{"Fly gives none out", kubeconfigOf(elsewhere, theirs), "", false, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "kubeconfig")
			if err := os.WriteFile(file, []byte(tt.given), 0o600); err != nil {
				t.Fatal(err)
			}
			given, _, err := fromFile(forge.FlyClusterSpec{Kubeconfig: file})
			if err != nil {
				t.Fatal(err)
			}
			if sure, why := compared(given, secret.New([]byte(tt.fly))); sure != tt.sure || (why != "") != tt.different {
				t.Errorf("sure %t: %q", sure, why)
			}
		})
	}
}

// What cannot be compared is asked for its storage classes before anything else.
func TestSignsOfAnotherCluster(t *testing.T) {
	const list, classes = `{"kind": "StorageClassList", "items": [%s]}`, "/k/apis/storage.k8s.io/v1/storageclasses"
	class := func(name, by string) string {
		return fmt.Sprintf(`{"metadata": {"name": %q}, "provisioner": %q}`, name, by)
	}
	for _, tt := range []struct {
		what   string
		status int
		answer string
		kind   reconcile.ErrorKind // empty: it is let through
		asked  int                 // for two requests
	}{
		{"Fly's classes", 200, fmt.Sprintf(list, class("mine", "example.com/nfs")+","+class("flyio-volume", "volume.csi.fly.io")), "", 1},
		{"a minikube", 200, fmt.Sprintf(list, class("standard", "k8s.io/minikube-hostpath")), reconcile.Invalid, 1},
		{"none", 200, fmt.Sprintf(list, ""), "", 1},
		{"another language", 200, "hello", "", 1},
		{"they may not be read", 403, "", "", 1},
		{"nobody is let in", 401, "", "", 2},
		{"trouble", 503, "", reconcile.Unavailable, 1},
	} {
		t.Run(tt.what, func(t *testing.T) {
			asked, writes := 0, 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Header.Get("Authorization") != "Bearer t":
					t.Errorf("%s is asked by somebody else", r.URL)
				case r.Method == http.MethodGet && r.URL.Path == classes:
					asked++
					w.WriteHeader(tt.status)
					fmt.Fprint(w, tt.answer)
				default:
					writes++
				}
			}))
			defer server.Close()
			cfg := &rest.Config{Host: server.URL + "/k", BearerToken: "t"}
			cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return &unsure{next: next, base: cfg.Host, spec: forge.FlyClusterSpec{Name: "k", Kubeconfig: "my.yaml", Account: forge.FlyAccount{Org: "acme"}}, verdict: newVerdict([sha256.Size]byte{})}
			})
			client, err := rest.HTTPClientFor(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				resp, err := client.Post(server.URL+"/k/api/v1/namespaces", "application/json", strings.NewReader("{}"))
				if err == nil {
					resp.Body.Close()
				}
				if tt.kind == "" && err != nil || tt.kind != "" && reconcile.KindOf(err) != tt.kind {
					t.Errorf("%v", err)
				}
				if tt.kind == reconcile.Invalid && !strings.Contains(fmt.Sprint(err), "platform.kubeconfig my.yaml: it does not lead to cluster k of organization acme: "+
					"what is there has none of Fly's storage classes, and others: standard (k8s.io/minikube-hostpath)") {
					t.Errorf("%v", err)
				}
			}
			if want := 2; tt.kind == "" && writes != want || tt.kind != "" && writes != 0 || asked != tt.asked {
				t.Errorf("asked %d times, written %d times", asked, writes)
			}
		})
	}
}

// A kubeconfig of another cluster is a mistake of its own, and nothing waits for
// what will not come.
func TestKubeconfigOfAnotherCluster(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, []byte(kubeconfigOf("https://127.0.0.1:8443", authority(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	flys := kubeconfigOf("https://fks-acme-shop-k8s.flycast:6443", authority(t))
	inBubble(t, flyemulator.Options{Kubeconfig: func(string) string { return flys }}, func(r *rig) {
		p := r.fks()
		r.Converge(p, r.request())
		q := r.request(func(s *forge.FlyClusterSpec) { s.Kubeconfig = file })
		o, steps := r.Plan(p, q)
		if o.Health.Status != reconcile.Failed || !strings.Contains(o.Health.Message, "it does not lead to cluster shop-k8s of organization acme") || len(o.Outputs) != 0 || len(steps) != 0 {
			r.t.Errorf("%+v %v", o, steps)
		}
		_, err := p.Way(r.t.Context(), clusterID)
		var said *reconcile.Error
		if !errors.As(err, &said) || said.Kind != reconcile.Invalid || !strings.Contains(said.Hint, "fly ext kubernetes save-kubeconfig shop-k8s") {
			r.t.Errorf("a way into it: %v", err)
		}
		r.Must(os.WriteFile(file, []byte(flys), 0o600))
		r.Plan(p, q)
		if _, err = p.Way(r.t.Context(), clusterID); err != nil {
			r.t.Errorf("the right one: %v", err)
		}
	})
}
