package certificates

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Tests with cert-manager share its kinds and its Deployments, which are looked
// for in all namespaces: none of them is parallel to another.

// controller makes a Deployment as cert-manager's is; how is what becomes of its
// pods.
func (r *rig) controller(component, how string) (remove func()) {
	r.t.Helper()
	name := map[string]string{componentDoing: "cert-manager", componentChecking: "webhook"}[component]
	template := map[string]any{"labels": map[string]any{"app": component}}
	if how != "" {
		template["annotations"] = map[string]any{"sandbox.forged.dev/pod": how}
	}
	r.make(deploymentsGVR, map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": component, "namespace": r.Namespace, "labels": map[string]any{"app.kubernetes.io/name": name, labelComponent: component}},
		"spec": map[string]any{
			"selector": map[string]any{"matchLabels": map[string]any{"app": component}},
			"template": map[string]any{"metadata": template, "spec": map[string]any{"containers": []any{map[string]any{"name": "main", "image": "example.invalid/x:1"}}}},
		},
	})
	remove = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), patience)
		defer cancel()
		if err := r.in(deploymentsGVR, r.Namespace).Delete(ctx, component, metav1.DeleteOptions{}); err != nil {
			r.t.Error(err)
		}
	}
	return remove
}

func managedSpec(namespace string) forge.CertificateSpec {
	return forge.CertificateSpec{
		Namespace: namespace, Mode: forge.TLSCertManager, Labels: map[string]string{"app": "shop"}, Hosts: []string{"shop.acme.test"},
		Secret: "shop-tls", Name: "shop-tls", Issuer: forge.ObjectRef{Kind: "ClusterIssuer", Name: "letsencrypt"},
	}
}

func issuerSpec(namespace, kind, name string) forge.IssuerSpec {
	return forge.IssuerSpec{
		Kind: kind, Name: name, Namespace: namespace, Create: true, Labels: map[string]string{"app": "shop"},
		Email: "ops@acme.test", Server: "production", IngressClass: "nginx",
	}
}

// A pod in a namespace called cert-manager proves nothing: what counts are the
// kinds, a Deployment that is available, and a webhook that answers.
func TestCertManagerIsWaitedFor(t *testing.T) {
	r := newRig(t)
	r.uninstall("cert-manager")
	issuer := r.request(forge.KindIssuer, issuerSpec(r.Namespace, "Issuer", "letsencrypt"))
	certificate := r.request(forge.KindCertificate, managedSpec(r.Namespace))
	for _, req := range []reconcile.Request{issuer, certificate} {
		err := r.try(req)
		if reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(fmt.Sprint(err), "is not installed") || !strings.Contains(fmt.Sprint(err), "helm --kube-context cluster-1 install cert-manager") {
			t.Fatalf("%s: %v", req.Resource.ID, err)
		}
	}

	// It is installed by somebody: that is seen without asking.
	r.install("cert-manager")
	for _, req := range []reconcile.Request{issuer, certificate} {
		r.await(req, "cert-manager", func(_ reconcile.Observed, steps []reconcile.Step, err error) bool {
			return err == nil && len(steps) == 1
		})
	}
	r.converge(issuer)
	r.awaitHealth(issuer, reconcile.Progressing, "no Deployment with the labels of cert-manager's controller")

	remove := r.controller(componentDoing, "not-ready")
	r.awaitHealth(issuer, reconcile.Progressing, "cert-manager does not work: Deployment "+r.Namespace+"/controller is not available: Deployment does not have minimum availability")
	remove()
	r.until("gone", func() bool { return r.get(deploymentsGVR, r.Namespace, componentDoing) == nil })
	defer r.controller(componentDoing, "")()
	r.awaitHealth(issuer, reconcile.Progressing, "waiting for cert-manager to register")

	// A kind goes away again, with all that was made of it.
	r.uninstall("cert-manager", "certificates.cert-manager.io")
	r.await(certificate, "cert-manager is gone", func(_ reconcile.Observed, _ []reconcile.Step, err error) bool {
		return reconcile.KindOf(err) == reconcile.Invalid && strings.Contains(err.Error(), "is not installed")
	})
}

// A webhook that does not answer is no refusal, and nothing is begun.
func TestSilentWebhookIsWaitedFor(t *testing.T) {
	r := newRig(t)
	r.install("cert-manager")
	now := time.Now()
	served := mustSign(t, []string{"127.0.0.1"}, time.Hour, now, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	url, fail, none, seconds := "https://"+address+"/validate", admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone, int32(2)
	hooks := r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	_, err = hooks.Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: r.Instance},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "webhook.cert-manager.io", FailurePolicy: &fail, SideEffects: &none, TimeoutSeconds: &seconds, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: served.data[keyAuthority].Reveal()},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{groupManager}, APIVersions: []string{"v1"}, Resources: []string{"*/*"}},
			}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := hooks.Delete(context.WithoutCancel(t.Context()), r.Instance, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}()

	req := r.request(forge.KindCertificate, managedSpec(r.Namespace))
	r.until("the webhook is asked", func() bool { return r.try(req) != nil })
	err = r.try(req)
	if reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(err.Error(), "failed calling webhook") || !strings.Contains(err.Error(), "it is tried again") {
		t.Fatalf("%s: %v", reconcile.KindOf(err), err)
	}

	listener, err = net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(served.data[keyCertificate].Reveal(), served.data[keyPrivate].Reveal())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(allow), ReadHeaderTimeout: time.Second}
	go func() {
		_ = server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}}))
	}()
	defer server.Close()
	r.converge(req)
	if r.get(certificatesGVR, r.Namespace, "shop-tls") == nil {
		t.Error("nothing was applied")
	}
}

// allow answers every review with yes.
func allow(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var review admissionv1.AdmissionReview
	if err == nil {
		err = json.Unmarshal(body, &review)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review)
}

// The chain from the Certificate to the challenge is followed down to whoever
// knows why; then the certificate comes, is renewed, and its renewal fails.
func TestCertManagerCertificate(t *testing.T) {
	r := newRig(t)
	r.install("cert-manager")
	defer r.controller(componentDoing, "")()
	req := r.request(forge.KindCertificate, managedSpec(r.Namespace))
	r.converge(req)
	live := r.get(certificatesGVR, r.Namespace, "shop-tls")
	raw, err := json.Marshal(live.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"dnsNames":["shop.acme.test"],"issuerRef":{"group":"cert-manager.io","kind":"ClusterIssuer","name":"letsencrypt"},"privateKey":{"rotationPolicy":"Always"},"secretName":"shop-tls"}`; string(raw) != want {
		t.Errorf("spec %s", raw)
	}
	r.awaitHealth(req, reconcile.Progressing, "waiting for cert-manager")

	status := func(s map[string]any) { r.status(certificatesGVR, r.Namespace, "shop-tls", s) }
	status(map[string]any{"conditions": conditions(
		[4]string{"Issuing", "True", "DoesNotExist", "Issuing certificate as Secret does not exist"},
		[4]string{"Ready", "False", "DoesNotExist", "Issuing certificate as Secret does not exist."},
	)})
	r.awaitHealth(req, reconcile.Progressing, "DoesNotExist: Issuing certificate as Secret does not exist")

	child := func(group, kind, resource, name string, of types.UID, spec, status map[string]any) types.UID {
		return r.make(managerGVR(group, resource), map[string]any{
			"apiVersion": group + "/v1", "kind": kind,
			"metadata": map[string]any{
				"name": name, "namespace": r.Namespace,
				"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "X", "name": "x", "uid": string(of), "controller": true}},
			},
			"spec": spec, "status": status,
		}).GetUID()
	}
	request := child(groupManager, "CertificateRequest", "certificaterequests", "shop-tls-1", live.GetUID(), nil,
		map[string]any{"conditions": conditions([4]string{"Ready", "False", "Pending", "Waiting on certificate issuance from order"})})
	order := child(groupACME, "Order", "orders", "shop-tls-1-1", request, nil, map[string]any{"state": "pending"})
	child(groupACME, "Challenge", "challenges", "shop-tls-1-1-1", order, map[string]any{"dnsName": "shop.acme.test"},
		map[string]any{"state": "pending", "reason": "Waiting for HTTP-01 challenge propagation: no such host"})
	// Of another certificate in the namespace: not told here.
	child(groupACME, "Challenge", "challenges", "other", "0-0-0", map[string]any{"dnsName": "other.acme.test"},
		map[string]any{"state": "invalid", "reason": "not ours"})
	o := r.awaitHealth(req, reconcile.Progressing, "challenge for shop.acme.test: Waiting for HTTP-01 challenge propagation: no such host")
	if strings.Contains(o.Health.Message, "not ours") {
		t.Errorf("message %s", o.Health.Message)
	}
	r.status(managerGVR(groupACME, "challenges"), r.Namespace, "shop-tls-1-1-1", map[string]any{"state": "invalid", "reason": "403: unauthorized"})
	r.awaitHealth(req, reconcile.Failed, "challenge for shop.acme.test: 403: unauthorized")

	// Signed.
	now := r.now().UTC()
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	ready := conditions([4]string{"Ready", "True", "Ready", "Certificate is up to date and has not expired"})
	status(map[string]any{"conditions": ready, "notAfter": at(90 * 24 * time.Hour), "renewalTime": at(60 * 24 * time.Hour), "revision": 1})
	o = r.awaitHealth(req, reconcile.Ready, "")
	first := o.Outputs[forge.OutputChecksum].Value
	if got := o.Expires.Format(time.RFC3339); got != at(90*24*time.Hour) || first == "" || len(o.Notices) > 0 {
		t.Errorf("expires %s, checksum %q, notices %+v", got, first, o.Notices)
	}
	r.requests()
	r.plan(req)
	if asked := r.requests(); len(asked) > 0 {
		t.Errorf("a steady state asks: %v", asked)
	}

	// Renewed.
	r.later(60 * 24 * time.Hour)
	status(map[string]any{"notAfter": at(150 * 24 * time.Hour), "renewalTime": at(120 * 24 * time.Hour), "revision": 2})
	o = r.await(req, "the renewal", func(o reconcile.Observed, _ []reconcile.Step, err error) bool {
		return err == nil && o.Expires.Format(time.RFC3339) == at(150*24*time.Hour)
	})
	if o.Outputs[forge.OutputChecksum].Value == first {
		t.Error("a new certificate, the same checksum")
	}

	// Not renewed, and nobody says why: the time itself tells.
	r.later(62 * 24 * time.Hour)
	o = r.await(req, "overdue", func(o reconcile.Observed, _ []reconcile.Step, err error) bool {
		return err == nil && len(o.Notices) > 0
	})
	if o.Health.Status != reconcile.Ready || o.Notices[0].Code != noticeExpiring || !strings.Contains(o.Notices[0].Message, "should have been renewed by now") {
		t.Errorf("health %+v, notices %+v", o.Health, o.Notices)
	}
	status(map[string]any{"conditions": conditions(
		[4]string{"Ready", "True", "Ready", "Certificate is up to date and has not expired"},
		[4]string{"Issuing", "False", "Failed", "The certificate request has failed to complete and will be retried: rate limited"},
	)})
	r.await(req, "why", func(o reconcile.Observed, _ []reconcile.Step, err error) bool {
		return err == nil && len(o.Notices) > 0 && o.Notices[0].Code == noticeRenewal && strings.Contains(o.Notices[0].Message, "403: unauthorized")
	})
	r.later(40 * 24 * time.Hour)
	r.awaitHealth(req, reconcile.Failed, "")
}

// Who may not look at definitions and at Deployments of other namespaces is
// told less, and still served.
func TestCertManagerSeenByWhoMayNotLook(t *testing.T) {
	r := newRig(t)
	r.install("cert-manager")
	name := r.Instance
	rules := []rbacv1.PolicyRule{
		{APIGroups: []string{"", groupManager, groupACME}, Resources: []string{"*"}, Verbs: []string{"*"}},
		{NonResourceURLs: []string{"*"}, Verbs: []string{"get"}},
	}
	roles := r.Client.RbacV1()
	if _, err := roles.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(roles.ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{}), roles.ClusterRoleBindings().Delete(ctx, name, metav1.DeleteOptions{})); err != nil {
			t.Error(err)
		}
	}()
	if _, err := roles.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	req := r.request(forge.KindCertificate, managedSpec(r.Namespace))
	req.Resource.Target.Impersonate = name
	r.until("the role is in force", func() bool { return reconcile.KindOf(r.try(req)) != reconcile.Denied })
	r.converge(req)
	r.awaitHealth(req, reconcile.Progressing, "no Deployment with the labels")
	r.status(certificatesGVR, r.Namespace, "shop-tls", map[string]any{"conditions": conditions([4]string{"Ready", "True", "Ready", ""})})
	r.awaitHealth(req, reconcile.Ready, "")
}
