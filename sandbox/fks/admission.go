package fks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// What becomes of that which Fly does not support. Its documentation does not
// say which of the two it does.
const (
	AdmissionIgnore = "ignore" // pods come without it
	AdmissionReject = "reject" // it is refused, by the name of the field
)

const (
	admissionPath = root + "admission/" // and the cluster
	webhookName   = "fks.sandbox.forged.dev"
	maxReview     = 8 << 20
	maxMode       = 64

	// Whose requests only follow from others.
	controllers = "system:kube-controller-manager"
)

// createWebhook has the API server ask about everything that may be unsupported.
func (h *Host) createWebhook(ctx context.Context, client kubernetes.Interface, p *place) error {
	all := []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update}
	rule := func(group string, resources ...string) admissionregistrationv1.RuleWithOperations {
		return admissionregistrationv1.RuleWithOperations{
			Operations: all,
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: resources},
		}
	}
	pods := rule("", "pods")
	pods.Operations = all[:1] // what a pod is, it stays
	config := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: webhookName},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:                    webhookName,
			ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: ptr.To(h.hooks.url + admissionPath + p.of.ID), CABundle: h.hooks.ca},
			SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
			FailurePolicy:           ptr.To(admissionregistrationv1.Fail),
			AdmissionReviewVersions: []string{"v1"},
			Rules: []admissionregistrationv1.RuleWithOperations{
				pods,
				rule("", "services", "persistentvolumeclaims"),
				rule("apps", "deployments", "replicasets", "statefulsets", "daemonsets"),
				rule("batch", "jobs", "cronjobs"),
				rule("autoscaling", "horizontalpodautoscalers"),
				rule("networking.k8s.io", "networkpolicies"),
			},
		}},
	}
	hooks := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	old, err := hooks.Get(ctx, webhookName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = hooks.Create(ctx, config, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	config.ResourceVersion = old.ResourceVersion // of an earlier run, in which we were elsewhere
	_, err = hooks.Update(ctx, config, metav1.UpdateOptions{})
	return err
}

// reviewAdmission answers an API server.
func (h *Host) reviewAdmission(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(io.LimitReader(r.Body, maxReview)).Decode(&review); err != nil || review.Request == nil {
		http.Error(w, "want an AdmissionReview", http.StatusBadRequest)
		return
	}
	mode := AdmissionIgnore
	h.mu.Lock()
	if p := h.places[r.PathValue("cluster")]; p != nil {
		mode = p.admission
	}
	h.mu.Unlock()
	review.Response = admit(mode, review.Request)
	review.Response.UID = review.Request.UID
	review.Request = nil
	answer(w, &review)
}

// admit is the answer in a mode.
func admit(mode string, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	yes := &admissionv1.AdmissionResponse{Allowed: true}
	path, pod, err := podOf(r.Kind.Kind, r.Object.Raw)
	if err != nil {
		return refusal(err.Error())
	}
	var dropped []string
	if pod != nil {
		for _, field := range fit(pod) {
			dropped = append(dropped, path+"."+field)
		}
	}
	switch {
	case mode == AdmissionReject:
		if r.Kind.Kind != "Pod" && r.UserInfo.Username == controllers {
			return yes
		}
		others, err := unsupported(r.Kind.Kind, r.Object.Raw)
		if err != nil {
			return refusal(err.Error())
		}
		if dropped = append(dropped, others...); len(dropped) > 0 {
			return refusal("not supported by Fly Kubernetes: " + strings.Join(dropped, ", "))
		}
	case r.Kind.Kind == "Pod" && len(dropped) > 0:
		patch, err := json.Marshal([]map[string]any{{"op": "replace", "path": "/spec", "value": pod}})
		if err != nil {
			return refusal(err.Error())
		}
		yes.Patch, yes.PatchType = patch, ptr.To(admissionv1.PatchTypeJSONPatch)
	}
	return yes
}

func refusal(why string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: why, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden}}
}

// podOf is what the object says of pods, and where; nil: nothing.
func podOf(kind string, raw []byte) (path string, pod *corev1.PodSpec, err error) {
	switch kind {
	case "Pod":
		var o corev1.Pod
		return "spec", &o.Spec, json.Unmarshal(raw, &o)
	case "Deployment", "ReplicaSet", "StatefulSet", "Job":
		var o struct {
			Spec struct{ Template corev1.PodTemplateSpec }
		}
		return "spec.template.spec", &o.Spec.Template.Spec, json.Unmarshal(raw, &o)
	}
	return "", nil, nil
}

// unsupported are the kinds and fields that no pod has.
func unsupported(kind string, raw []byte) (fields []string, err error) {
	switch kind {
	case "DaemonSet", "CronJob", "HorizontalPodAutoscaler", "NetworkPolicy":
		return []string{"kind " + kind}, nil
	case "Service":
		var service corev1.Service
		if err := json.Unmarshal(raw, &service); err != nil {
			return nil, err
		}
		if service.Spec.Type == corev1.ServiceTypeNodePort {
			fields = append(fields, "spec.type NodePort")
		}
		for i, port := range service.Spec.Ports {
			if port.Protocol != corev1.ProtocolTCP && port.Protocol != "" {
				fields = append(fields, fmt.Sprintf("spec.ports[%d].protocol %s", i, port.Protocol))
			}
		}
	case "PersistentVolumeClaim":
		var claim corev1.PersistentVolumeClaim
		if err := json.Unmarshal(raw, &claim); err != nil {
			return nil, err
		}
		if err := supported(&claim); err != nil {
			fields = append(fields, err.Error())
		}
	case "StatefulSet":
		var set appsv1.StatefulSet
		if err := json.Unmarshal(raw, &set); err != nil {
			return nil, err
		}
		for i := range set.Spec.VolumeClaimTemplates {
			if err := supported(&set.Spec.VolumeClaimTemplates[i]); err != nil {
				fields = append(fields, fmt.Sprintf("spec.volumeClaimTemplates[%d]: %v", i, err))
			}
		}
	}
	return fields, nil
}

// switchAdmission shows or changes the mode of a cluster, by the add-on's name.
func (h *Host) switchAdmission(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.places {
		if p.of.AddOn != r.PathValue("name") {
			continue
		}
		if r.Method == http.MethodPut {
			mode, err := io.ReadAll(io.LimitReader(r.Body, maxMode))
			if asked := strings.TrimSpace(string(mode)); err == nil && ValidAdmission(asked) {
				p.admission = asked
			} else {
				http.Error(w, "the body is to be "+AdmissionIgnore+" or "+AdmissionReject, http.StatusBadRequest)
				return
			}
		}
		fmt.Fprintln(w, p.admission)
		return
	}
	http.Error(w, "no such cluster", http.StatusNotFound)
}

// ValidAdmission tells whether there is such a mode.
func ValidAdmission(mode string) bool { return mode == AdmissionIgnore || mode == AdmissionReject }
