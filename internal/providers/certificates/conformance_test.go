package certificates

import (
	"encoding/base64"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

// conforms runs the suite over resources whose one object is of a kind, by
// name. patch is what a person writes into it.
func conforms(t *testing.T, kind string, spec func(namespace string, hosts ...string) forge.Spec, gvr schema.GroupVersionResource, name, patch string) {
	t.Helper()
	t.Parallel()
	providertest.Test(t, func(t *testing.T) providertest.Harness {
		r := newRig(t)
		r.install("cert-manager")
		proxy := faultproxy.New(t, r.Config)
		secrets := r.Client.CoreV1().Secrets(r.Namespace)
		foreign, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "foreign"}}, metav1.CreateOptions{FieldManager: "somebody"})
		if err != nil {
			t.Fatal(err)
		}
		resource := func(hosts ...string) forge.Resource {
			return forge.Resource{
				ID:     forge.ID{Environment: "prod", Kind: kind, Name: "app"},
				Target: forge.Target{Kubeconfig: proxy.Kubeconfig(), Context: faultproxy.Context}, Spec: spec(r.Namespace, hosts...),
			}
		}
		return providertest.Harness{
			Resource: resource("shop.acme.test"), Changed: resource("shop.acme.test", "www.acme.test"),
			Policy:   r.policy,
			Secrets:  []string{"PRIVATE KEY", base64.StdEncoding.EncodeToString([]byte("-----BEGIN PRIV"))},
			Patience: patience,
			Start: func(t *testing.T) reconcile.Provider {
				clusters := kubernetes.NewClusters(kubernetes.Options{Instance: r.Instance})
				t.Cleanup(clusters.Close)
				all := New(Options{Clusters: clusters, Resolver: nobodyKnows{}})
				if kind == forge.KindIssuer {
					return all.Issuers
				}
				return all.Certificates
			},
			Edit: func(t *testing.T) {
				if _, err := r.in(gvr, r.Namespace).Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
					t.Fatal(err)
				}
			},
			Delete: func(t *testing.T) {
				if err := r.in(gvr, r.Namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			},
			BreakReads: func(*testing.T) func() { return proxy.CutAfter(0) },
			CutAfter:   func(_ *testing.T, n int) func() { return proxy.CutAfter(n) },
			Writes:     proxy.Mutations,
			Bystander: func(t *testing.T) {
				now, err := secrets.Get(t.Context(), "foreign", metav1.GetOptions{})
				if err != nil || now.ResourceVersion != foreign.ResourceVersion {
					t.Errorf("a Secret that is not ours was touched: %v", err)
				}
			},
		}
	})
}

func TestSelfSignedConforms(t *testing.T) {
	conforms(t, forge.KindCertificate, func(namespace string, hosts ...string) forge.Spec {
		return signedSpec(namespace, hosts...)
	}, secretsGVR, "shop-tls", `{"data":{"tls.key":"`+base64.StdEncoding.EncodeToString([]byte("-----BEGIN PRIVATE KEY-----"))+`"}}`)
}

func TestCertManagerCertificatesConform(t *testing.T) {
	conforms(t, forge.KindCertificate, func(namespace string, hosts ...string) forge.Spec {
		spec := managedSpec(namespace)
		spec.Hosts = hosts
		return spec
	}, certificatesGVR, "shop-tls", `{"spec":{"secretName":"another"}}`)
}

func TestIssuersConform(t *testing.T) {
	conforms(t, forge.KindIssuer, func(namespace string, hosts ...string) forge.Spec {
		spec := issuerSpec(namespace, "Issuer", "letsencrypt")
		if len(hosts) > 1 {
			spec.Email = "others@acme.test"
		}
		return spec
	}, issuersGVR, "letsencrypt", `{"spec":{"acme":{"email":"me@acme.test"}}}`)
}
