package certificates

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// give puts a certificate into a Secret, as a person does.
func (r *rig) give(name string, b *bundle) {
	r.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		keyCertificate: b.data[keyCertificate].Reveal(), keyPrivate: b.data[keyPrivate].Reveal(),
	}}
	api := r.Client.CoreV1().Secrets(r.Namespace)
	if _, err := api.Get(r.t.Context(), name, metav1.GetOptions{}); err == nil {
		if _, err := api.Update(r.t.Context(), s, metav1.UpdateOptions{}); err != nil {
			r.t.Fatal(err)
		}
		return
	}
	if _, err := api.Create(r.t.Context(), s, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

func TestSuppliedSecretIsWatchedAndNeverWritten(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := r.request(forge.KindCertificate, forge.CertificateSpec{
		Namespace: r.Namespace, Mode: forge.TLSSecret, Hosts: []string{"shop.acme.test"}, Secret: "mine",
	})
	o := r.awaitHealth(req, reconcile.Failed, "does not exist; to make it: kubectl --context cluster-1")
	if o.Exists {
		t.Error("it is said to be there")
	}
	r.requests()
	for range 3 {
		r.plan(req)
	}
	if asked := r.requests(); len(asked) > 0 {
		t.Errorf("a steady state asks: %v", asked)
	}

	now := time.Now()
	r.give("mine", mustSign(t, []string{"www.acme.test"}, year, now, nil))
	r.awaitHealth(req, reconcile.Failed, "it is not for shop.acme.test; it is for www.acme.test")

	r.give("mine", mustSign(t, []string{"shop.acme.test"}, 20*24*time.Hour, now, nil))
	o = r.awaitHealth(req, reconcile.Ready, "")
	first := o.Outputs[forge.OutputChecksum].Value
	if o.Expires.IsZero() || first == "" || len(o.Notices) > 0 || !o.Exists {
		t.Errorf("observed %+v", o)
	}

	// 14 days before its end it is told, and that day comes by itself.
	r.later(7 * 24 * time.Hour)
	o = r.observe(req)
	if len(o.Notices) != 1 || o.Notices[0].Code != noticeExpiring || !strings.Contains(o.Notices[0].Message, "expires in 12 days") {
		t.Errorf("notices %+v", o.Notices)
	}
	r.later(14 * 24 * time.Hour)
	r.awaitHealth(req, reconcile.Failed, "it expired on")

	// Somebody puts a new one there: it is noticed, without polling.
	r.give("mine", mustSign(t, []string{"shop.acme.test"}, year, r.now(), nil))
	o = r.awaitHealth(req, reconcile.Ready, "")
	if o.Outputs[forge.OutputChecksum].Value == first {
		t.Error("another certificate, the same checksum")
	}
	if s := r.secret("mine"); s.Labels["forged.dev/instance"] != "" {
		t.Error("it was marked as ours")
	}

	// It goes with the environment, and the Secret stays.
	req.Remove = true
	if o, steps := r.plan(req); len(steps) > 0 {
		t.Errorf("removal: %+v %v", o, steps)
	}
}

// From now on somebody else fills the Secret that forged has made: it stays,
// with what is in it.
func TestSecretStaysWhenSomebodyElseFillsIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	spec := signedSpec(r.Namespace, "shop.acme.test")
	req := r.request(forge.KindCertificate, spec)
	r.converge(req)
	before := r.secret("shop-tls")
	spec.Mode = forge.TLSSecret
	req.Resource.Spec = spec
	_, steps := r.plan(req)
	if len(steps) != 1 || steps[0].Deletes != 0 || !steps[0].Late {
		t.Fatalf("steps %v", steps)
	}
	r.converge(req)
	after := r.secret("shop-tls")
	if after.UID != before.UID || !sameData(before, after) || after.Labels["forged.dev/instance"] != "" {
		t.Errorf("it did not stay as it was: %v", after.Labels)
	}
	r.awaitHealth(req, reconcile.Ready, "")
}

func TestCertificateElsewhereIsSaidNotToBeChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := r.request(forge.KindCertificate, forge.CertificateSpec{
		Namespace: r.Namespace, Mode: forge.TLSACM, Hosts: []string{"shop.acme.test"}, Name: "arn:aws:acm:eu-central-1:123456789012:certificate/0f1e",
	})
	o, steps := r.plan(req)
	if o.Health.Status != reconcile.Ready || len(steps) > 0 || len(o.Notices) != 1 || !strings.Contains(o.Notices[0].Message, "is not checked") {
		t.Errorf("observed %+v, steps %v", o, steps)
	}
}
