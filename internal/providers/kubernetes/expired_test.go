package kubernetes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// stale is a certificate that ran out an hour ago, and its key.
func stale(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stale"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// A certificate that has run out, the server's or our own, is told as that, with
// what to do; nothing is known of the cluster then, and it is not taken for
// empty.
func TestExpiredCertificates(t *testing.T) {
	env := sandboxtest.Cluster(t)
	cert, key := stale(t)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	old.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes
	old.StartTLS()
	defer old.Close()
	path := kubeconfig(t, env.Kubeconfig, func(c *clientcmdapi.Config) {
		c.Clusters["old"] = &clientcmdapi.Cluster{Server: old.URL, CertificateAuthorityData: cert}
		c.Contexts["server"] = &clientcmdapi.Context{Cluster: "old", AuthInfo: env.Context}
		c.AuthInfos["old"] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
		c.Contexts["client"] = &clientcmdapi.Context{Cluster: env.Context, AuthInfo: "old"}
	})
	cs := newClusters(t)
	_, err = cs.Cluster(t.Context(), forge.Target{Kubeconfig: path, Context: "server"})
	wantError(t, err, reconcile.Denied, "expired", "renew the kubeconfig")
	_, err = cs.Cluster(t.Context(), forge.Target{Kubeconfig: path, Context: "client"})
	wantError(t, err, reconcile.Denied, "renew")
	if strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("it shows a key: %v", err)
	}
}
