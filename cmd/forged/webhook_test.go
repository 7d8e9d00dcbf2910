package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/server"
	"forged.dev/forged/internal/servicetest"
)

const webhookName = "images.acme.test"

// webhook is one of a cluster, in this process, that is asked about Deployments
// of a home.
type webhook struct {
	*home
	config admissionregistrationv1.WebhookClientConfig
	server *http.Server

	mu     sync.Mutex
	answer func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse
}

func newWebhook(h *home) *webhook {
	h.t.Helper()
	authority := servicetest.NewAuthority(h.t, "webhooks")
	cert, key := authority.Sign(h.t, servicetest.Certificate{Hosts: []string{"127.0.0.1"}})
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		h.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	url := "https://" + listener.Addr().String()
	w := &webhook{home: h, config: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: []byte(authority.PEM)}}
	w.answers(func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true}
	})
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = w.server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}}))
	}()
	h.t.Cleanup(func() { _ = w.server.Close(); <-served })
	return w
}

func (w *webhook) answers(f func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = f
}

// ServeHTTP implements http.Handler. An answer of nil is none: the line stays
// silent until the server has had enough.
func (w *webhook) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	answer := w.answer
	w.mu.Unlock()
	if review.Response = answer(review.Request); review.Response == nil {
		<-r.Context().Done()
		return
	}
	review.Response.UID = review.Request.UID
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(review)
}

// byForged tells whether a request is one of ours, and no person's.
func byForged(r *admissionv1.AdmissionRequest) bool {
	var o struct{ FieldManager string }
	return json.Unmarshal(r.Options.Raw, &o) == nil && strings.HasPrefix(o.FieldManager, "forged")
}

func (w *webhook) about() (rules []admissionregistrationv1.RuleWithOperations, here *metav1.LabelSelector) {
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
	}}, &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": w.Namespace}}
}

// validate has the API server ask; the result takes that back.
func (w *webhook) validate() (remove func()) {
	w.t.Helper()
	fail, none, seconds := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone, int32(1)
	rules, here := w.about()
	api := w.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	_, err := api.Create(w.t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: w.Instance},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: webhookName, FailurePolicy: &fail, SideEffects: &none, TimeoutSeconds: &seconds, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: w.config, Rules: rules, NamespaceSelector: here,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.removal(func() error { return api.Delete(cleanupContext(w.t), w.Instance, metav1.DeleteOptions{}) })
}

// mutate has the API server let the webhook change objects.
func (w *webhook) mutate() (remove func()) {
	w.t.Helper()
	fail, none, seconds := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone, int32(1)
	rules, here := w.about()
	api := w.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	_, err := api.Create(w.t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: w.Instance},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: webhookName, FailurePolicy: &fail, SideEffects: &none, TimeoutSeconds: &seconds, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: w.config, Rules: rules, NamespaceSelector: here,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.removal(func() error { return api.Delete(cleanupContext(w.t), w.Instance, metav1.DeleteOptions{}) })
}

func (w *webhook) removal(remove func() error) func() {
	once := sync.OnceFunc(func() {
		if err := remove(); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(once)
	return once
}

// inForce waits until the API server asks the webhook.
func (w *webhook) inForce(object string) {
	w.t.Helper()
	asked := make(chan struct{}, 1)
	w.answers(func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		select {
		case asked <- struct{}{}:
		default:
		}
		return &admissionv1.AdmissionResponse{Allowed: true}
	})
	n := 0
	poll(w.t, "that the webhook is asked", func() bool {
		n++
		w.edit("Deployment", object, fmt.Sprintf(`{"metadata":{"annotations":{"asked":"%d"}}}`, n))
		select {
		case <-asked:
			return true
		default:
			return false
		}
	}, func() string { return "" })
}

func (w *webhook) replicas() int32 {
	w.t.Helper()
	d, err := w.Client.AppsV1().Deployments(w.Namespace).Get(w.t.Context(), "shop", metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return *d.Spec.Replicas
}

// TestWebhookInTheWay: a webhook that refuses, that does not answer, or that is
// gone is named as the reason; what it is not asked about is healed at once; and
// when it is out of the way, all is well by itself.
func TestWebhookInTheWay(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("forge.cue", app+"app: env: COLOUR: \"blue\"\n"+small)
	d := h.run()
	d.await("the start", ready(1))
	w := newWebhook(h)
	remove := w.validate()
	w.inForce("shop")

	allow := func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	silent := func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if byForged(r) {
			return nil
		}
		return allow(r)
	}
	for _, tt := range []struct {
		name   string
		answer func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse
		begin  func()
		end    func()
		want   string
	}{
		{
			"it refuses", func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
				return &admissionv1.AdmissionResponse{Allowed: !byForged(r), Result: &metav1.Status{Message: "only on Fridays"}}
			}, func() {}, func() { w.answers(allow) }, `admission webhook "` + webhookName + `" denied the request: only on Fridays`,
		},
		{"it is silent", silent, func() {}, func() { w.answers(allow) }, `failed calling webhook "` + webhookName + `"`},
		// Edits of people would not get through either: theirs comes first.
		{"it is gone", silent, func() { _ = w.server.Close() }, remove, "connect: connection refused"},
	} {
		w.answers(tt.answer)
		h.edit("Deployment", "shop", `{"spec":{"replicas":7}}`)
		tt.begin()
		d.await(tt.name, func(s server.Snapshot) bool {
			r := resource(s, "prod/release/app")
			return r != nil && r.Error != nil && strings.Contains(r.Error.Text, tt.want) && strings.Contains(r.Message, webhookName)
		})
		// Elsewhere nothing has changed: this is healed while that is not.
		h.edit("ConfigMap", "shop-env", `{"data":{"COLOUR":"red"}}`)
		poll(t, tt.name+": another object is healed", func() bool {
			c, err := h.Client.CoreV1().ConfigMaps(h.Namespace).Get(t.Context(), "shop-env", metav1.GetOptions{})
			return err == nil && c.Data["COLOUR"] == "blue"
		}, d.log.String)
		if n := w.replicas(); n != 7 {
			t.Errorf("%s: %d replicas", tt.name, n)
		}
		tt.end()
		d.await(tt.name+": it is out of the way", func(s server.Snapshot) bool { return ready(1)(s) && w.replicas() == 1 })
	}
	d.stop()
}

// TestWebhookThatRewrites: what a webhook makes of a field that we send is told
// and let be; there is no fight with it. When it is gone, the field is ours.
func TestWebhookThatRewrites(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("forge.cue", app+small)
	d := h.run()
	d.await("the start", ready(1))
	w := newWebhook(h)
	remove := w.mutate()
	w.inForce("shop")
	w.answers(func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		kind := admissionv1.PatchTypeJSONPatch
		return &admissionv1.AdmissionResponse{Allowed: true, PatchType: &kind, Patch: []byte(`[{"op":"replace","path":"/spec/replicas","value":3}]`)}
	})
	h.edit("Deployment", "shop", `{"spec":{"replicas":7}}`) // what comes of that is 3 as well
	d.await("the notice", func(s server.Snapshot) bool {
		r := resource(s, "prod/release/app")
		if r == nil || r.State != reconcile.StateReady {
			return false
		}
		for _, n := range r.Notices {
			if n.Code == "mutated" && strings.Contains(n.Message, "spec.replicas") {
				return true
			}
		}
		return false
	})
	before := len(h.mutations())
	h.edit("Deployment", "shop", `{"metadata":{"labels":{"app.kubernetes.io/part-of":"mine"}}}`)
	s := d.await("the next edit is healed", func(s server.Snapshot) bool {
		o, err := h.Client.AppsV1().Deployments(h.Namespace).Get(t.Context(), "shop", metav1.GetOptions{})
		return ready(1)(s) && err == nil && o.Labels["app.kubernetes.io/part-of"] != "mine"
	})
	n := slices.DeleteFunc(h.mutations()[before:], func(r faultproxy.Request) bool { return bookkeeping(r.Path) })
	if len(n) > 2 {
		t.Errorf("it fights: %v", n)
	}
	if r := resource(s, "prod/release/app"); r.Fight != "" || w.replicas() != 3 {
		t.Errorf("fight %q, replicas %d", r.Fight, w.replicas())
	}

	remove()
	poll(t, "the field is ours again", func() bool {
		h.edit("Deployment", "shop", `{"spec":{"replicas":5}}`)
		late := time.After(time.Second)
		for tick := time.NewTicker(30 * time.Millisecond); ; {
			select {
			case <-tick.C:
				if w.replicas() == 1 {
					return true
				}
			case <-late:
				return false
			}
		}
	}, d.log.String)
	d.stop()
}
