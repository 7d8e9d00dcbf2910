package certificates

import (
	"bytes"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func signedSpec(namespace string, hosts ...string) forge.CertificateSpec {
	return forge.CertificateSpec{
		Namespace: namespace, Mode: forge.TLSSelfSigned, Labels: map[string]string{"app": "shop"},
		Hosts: hosts, Secret: "shop-tls", Valid: year,
	}
}

func (r *rig) secret(name string) *corev1.Secret {
	r.t.Helper()
	s, err := r.Client.CoreV1().Secrets(r.Namespace).Get(r.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func sameData(a, b *corev1.Secret) bool {
	for _, key := range []string{keyCertificate, keyPrivate, keyAuthority, keyAuthorityOf} {
		if !bytes.Equal(a.Data[key], b.Data[key]) {
			return false
		}
	}
	return true
}

// Of two processes that both see that a certificate has to be made anew, one
// does so; the other, when it takes over, goes on with that one.
func TestCertificateIsMadeAnewOnce(t *testing.T) {
	t.Parallel()
	first := newRig(t)
	req := first.request(forge.KindCertificate, signedSpec(first.Namespace, "a.acme.test"))
	if !first.hold(req) {
		t.Fatal("nobody else is there, and the lease is not held")
	}
	first.converge(req)
	second := first.another()
	if second.hold(req) {
		t.Fatal("two hold a lease")
	}
	if _, steps := second.plan(req); len(steps) > 0 {
		t.Fatalf("steps: %v", steps)
	}
	first.later(year * 3 / 4)
	second.later(year * 3 / 4)
	if _, steps := second.plan(req); len(steps) != 1 {
		t.Fatalf("steps: %v", steps)
	}
	first.converge(req)
	made := first.secret("shop-tls")
	first.stop()
	first.stop = func() {}
	second.until("the lease was given back", func() bool { return second.hold(req) })
	if _, steps := second.plan(req); len(steps) > 0 {
		t.Errorf("it is to be made anew again: %v", steps)
	}
	second.converge(req)
	if !sameData(made, second.secret("shop-tls")) {
		t.Error("it was made anew again")
	}
}

// Service certificates are made by need, not with every run.
func TestGoodCertificateIsNeverMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := r.request(forge.KindCertificate, signedSpec(r.Namespace, "b.acme.test", "a.acme.test"))
	o := r.converge(req)
	first := r.secret("shop-tls")
	if first.Type != corev1.SecretTypeTLS || o.Health.Status != reconcile.Ready {
		t.Errorf("type %s, health %+v", first.Type, o.Health)
	}
	if left := time.Until(o.Expires); left < year-time.Hour || left > year {
		t.Errorf("expires in %s", left)
	}
	sum := o.Outputs[forge.OutputChecksum].Value
	if sum == "" {
		t.Error("no checksum")
	}
	r.requests()
	if _, steps := r.plan(req); len(steps) > 0 || len(r.requests()) > 0 {
		t.Errorf("steady, and yet: %v", steps)
	}
	req.Resource.Spec = signedSpec(r.Namespace, "a.acme.test", "b.acme.test") // another order
	r.converge(req)
	r.restart()
	o = r.converge(req)
	if !sameData(first, r.secret("shop-tls")) || o.Outputs[forge.OutputChecksum].Value != sum {
		t.Error("it was made anew without need")
	}
	// The inventory is lost; what is good is taken over.
	r.stop()
	err := r.Client.CoreV1().ConfigMaps(r.Namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "forged.dev/inventory"})
	if err != nil {
		t.Fatal(err)
	}
	r.start()
	r.converge(req)
	if !sameData(first, r.secret("shop-tls")) {
		t.Error("it was made anew because the inventory was lost")
	}
}

func TestRotationByNeed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := r.request(forge.KindCertificate, signedSpec(r.Namespace, "shop.acme.test"))
	before := r.converge(req)
	first := r.secret("shop-tls")

	r.later(year/2 + 24*time.Hour)
	if _, steps := r.plan(req); len(steps) > 0 {
		t.Fatalf("half of its time is left, and yet: %v", steps)
	}
	r.later(year / 6)
	_, steps := r.plan(req)
	if len(steps) != 1 || !strings.Contains(steps[0].Reason.Text, "less than a third of its time is left") || !steps[0].Rollout() || steps[0].Reason.Code != reconcile.ReasonRenewal {
		t.Fatalf("a third is left: %v", steps)
	}
	after := r.converge(req)
	second := r.secret("shop-tls")
	if bytes.Equal(first.Data[keyPrivate], second.Data[keyPrivate]) || !after.Expires.After(before.Expires) {
		t.Error("it was not made anew")
	}
	if !bytes.Equal(first.Data[keyAuthority], second.Data[keyAuthority]) {
		t.Error("who trusted the old one has to trust a new authority")
	}
	if first.UID != second.UID {
		t.Error("the Secret was replaced instead of changed")
	}
	if after.Outputs[forge.OutputChecksum] == before.Outputs[forge.OutputChecksum] {
		t.Error("its consumers are not told")
	}
	req.Resource.Spec = signedSpec(r.Namespace, "shop.acme.test", "www.acme.test")
	_, steps = r.plan(req)
	if len(steps) != 1 || !strings.Contains(steps[0].Reason.Text, "other hosts") {
		t.Errorf("another host: %v", steps)
	}
}

// The time comes by itself: nobody has to ask.
func TestRotationIsNotWaitedForInVain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	spec := signedSpec(r.Namespace, "shop.acme.test")
	spec.Valid = 3 * time.Second
	req := r.request(forge.KindCertificate, spec)
	r.converge(req)
	r.await(req, "two thirds of three seconds", func(_ reconcile.Observed, steps []reconcile.Step, err error) bool {
		return err == nil && len(steps) == 1 && strings.Contains(steps[0].Reason.Text, "a new certificate")
	})
}

// What is held back by a mode or a window does not expire in silence.
func TestExpiryIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := r.request(forge.KindCertificate, signedSpec(r.Namespace, "shop.acme.test"))
	r.converge(req)
	r.later(year - 7*24*time.Hour)
	o := r.observe(req)
	if len(o.Notices) != 1 || o.Notices[0].Code != noticeExpiring || !strings.Contains(o.Notices[0].Message, "expires in 6 days") {
		t.Errorf("notices %+v", o.Notices)
	}
	r.later(8 * 24 * time.Hour)
	if o = r.observe(req); o.Health.Status != reconcile.Failed || !strings.Contains(o.Health.Message, "expired on") {
		t.Errorf("health %+v", o.Health)
	}
}

func TestDeletedCertificateComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := r.request(forge.KindCertificate, signedSpec(r.Namespace, "shop.acme.test"))
	r.converge(req)
	first := r.secret("shop-tls")
	remove := func() {
		t.Helper()
		if err := r.Client.CoreV1().Secrets(r.Namespace).Delete(t.Context(), "shop-tls", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	r.await(req, "the deletion", func(_ reconcile.Observed, steps []reconcile.Step, err error) bool { return len(steps) > 0 })
	r.converge(req)
	if !sameData(first, r.secret("shop-tls")) {
		t.Error("it was known, and another one was made")
	}

	// While nobody looked: it is lost, a new one is made, and that is told.
	r.stop()
	remove()
	r.start()
	_, steps := r.plan(req)
	if len(steps) != 1 || steps[0].Rollout() || steps[0].Reason.Code != reconcile.ReasonDeleted || !strings.Contains(steps[0].Reason.Text, "is lost") {
		t.Errorf("steps %v", steps)
	}
	r.converge(req)
	if sameData(first, r.secret("shop-tls")) {
		t.Error("it was lost, and the same one is there")
	}
}

// A Secret of somebody else under the name is not written to.
func TestForeignSecretIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := r.request(forge.KindCertificate, signedSpec(r.Namespace, "shop.acme.test"))
	_, err := r.Client.CoreV1().Secrets(r.Namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "shop-tls"}, StringData: map[string]string{"a": "b"},
	}, metav1.CreateOptions{FieldManager: "somebody"})
	if err != nil {
		t.Fatal(err)
	}
	_, steps := r.plan(req)
	if len(steps) != 1 || steps[0].Blocked == "" {
		t.Errorf("steps %v", steps)
	}
}
