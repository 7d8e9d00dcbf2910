package kubernetes

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/reconcile"
)

// rules are what kstatus has no rule for, or one that says something else than
// what a person wants to know. The second result is false where kstatus goes on.
var rules = map[schema.GroupKind]func(*unstructured.Unstructured) (reconcile.Health, bool){
	{Group: "apps", Kind: "Deployment"}:                               deploymentHealth,
	{Group: "apps", Kind: "StatefulSet"}:                              nil,
	{Group: "apps", Kind: "DaemonSet"}:                                nil,
	{Group: "batch", Kind: "Job"}:                                     jobHealth,
	{Kind: "Pod"}:                                                     podHealth,
	{Kind: "PersistentVolumeClaim"}:                                   nil,
	{Kind: "Service"}:                                                 serviceHealth,
	{Group: "networking.k8s.io", Kind: "Ingress"}:                     ingressHealth,
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:           autoscalerHealth,
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: nil,
	{Group: "apiregistration.k8s.io", Kind: "APIService"}:             apiServiceHealth,
	{Group: "cert-manager.io", Kind: "Certificate"}:                   certificateHealth,
	{Group: groupGateway, Kind: "Gateway"}:                            gatewayHealth,
	{Group: groupGateway, Kind: "HTTPRoute"}:                          routeHealth,
	{Group: groupGateway, Kind: "GRPCRoute"}:                          routeHealth,
	{Group: groupGateway, Kind: "TLSRoute"}:                           routeHealth,
	{Group: groupGateway, Kind: "TCPRoute"}:                           routeHealth,
}

const groupGateway = "gateway.networking.k8s.io"

// hasHealth tells kinds whose status says whether they serve. Only these are
// watched in full. Of custom resources all are: most have a condition Ready.
func hasHealth(gk schema.GroupKind) bool {
	_, ok := rules[gk]
	return ok || custom(gk)
}

// custom tells kinds that do not come with Kubernetes.
func custom(gk schema.GroupKind) bool {
	return strings.Contains(gk.Group, ".") && !strings.HasSuffix(gk.Group, ".k8s.io")
}

// deletion says since when an object is being deleted and what holds it: who is
// to take that away is not forged, and has to be found by name.
func deletion(obj metav1.Object) string {
	text := "is being deleted"
	if at := obj.GetDeletionTimestamp(); at != nil {
		text += " since " + at.UTC().Format(time.RFC3339)
	}
	if held := obj.GetFinalizers(); len(held) > 0 {
		text += ", held by " + strings.Join(held, ", ")
	}
	return text
}

// HealthOf judges an object by its status: with the rules of kstatus, and with
// rules of our own where that has none. The message does not name the object:
// whoever shows it knows which it is. What is ready and has a message serves,
// and is not all that it should be.
func HealthOf(obj *unstructured.Unstructured) reconcile.Health {
	gk := obj.GroupVersionKind().GroupKind()
	result, err := status.Compute(obj)
	switch {
	case err != nil && custom(gk):
		return reconcile.Health{Status: reconcile.Ready} // its status is of a form of its own
	case err != nil:
		return reconcile.Health{Status: reconcile.Unknown, Message: "its status does not have the form that its kind has"}
	case result.Status == status.TerminatingStatus:
		return reconcile.Health{Status: reconcile.Progressing, Message: deletion(obj)}
	}
	if rule := rules[gk]; rule != nil {
		if h, decided := rule(obj); decided {
			return h
		}
	}
	switch result.Status {
	case status.CurrentStatus:
		return reconcile.Health{Status: reconcile.Ready}
	case status.InProgressStatus:
		return reconcile.Health{Status: reconcile.Progressing, Message: unready(obj, result.Message)}
	case status.FailedStatus:
		return reconcile.Health{Status: reconcile.Failed, Message: unready(obj, result.Message)}
	default:
		return reconcile.Health{Status: reconcile.Unknown, Message: "whether it is ready cannot be told from its status"}
	}
}

// condition is one of an object's status.
type condition struct {
	kind, status, reason, message string
	generation                    int64 // that it is about; 0: not said
}

// text is what a condition says, with its reason where the words lack it.
func (c condition) text() string {
	switch {
	case c.message == "":
		return c.reason
	case c.reason == "":
		return c.message
	}
	return c.reason + ": " + c.message
}

func conditionsOf(from map[string]any, fields ...string) []condition {
	list, _, _ := unstructured.NestedSlice(from, append(fields, "conditions")...)
	var all []condition
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			continue
		}
		c := condition{}
		c.kind, _, _ = unstructured.NestedString(m, "type")
		c.status, _, _ = unstructured.NestedString(m, "status")
		c.reason, _, _ = unstructured.NestedString(m, "reason")
		c.message, _, _ = unstructured.NestedString(m, "message")
		c.generation, _, _ = unstructured.NestedInt64(m, "observedGeneration")
		all = append(all, c)
	}
	return all
}

// conditionOf is the condition of a type; its zero value if there is none.
func conditionOf(all []condition, kind string) condition {
	if i := slices.IndexFunc(all, func(c condition) bool { return c.kind == kind }); i >= 0 {
		return all[i]
	}
	return condition{}
}

func progressing(format string, args ...any) (reconcile.Health, bool) {
	return reconcile.Health{Status: reconcile.Progressing, Message: fmt.Sprintf(format, args...)}, true
}

func undecided() (reconcile.Health, bool) { return reconcile.Health{}, false }

func ready() (reconcile.Health, bool) { return reconcile.Health{Status: reconcile.Ready}, true }

// deploymentHealth adds why no pods are made: a quota, a webhook, a policy.
func deploymentHealth(obj *unstructured.Unstructured) (reconcile.Health, bool) {
	all := conditionsOf(obj.Object, "status")
	refused := conditionOf(all, "ReplicaFailure")
	if refused.status != "True" {
		return undecided()
	}
	if late := conditionOf(all, "Progressing"); late.reason == "ProgressDeadlineExceeded" {
		return reconcile.Health{Status: reconcile.Failed, Message: "pods are refused: " + refused.text()}, true
	}
	return progressing("pods are refused: %s", refused.text())
}

// AnnotationRunAgain on a Job that is over is how a person asks for another
// run of what it ran.
const AnnotationRunAgain = "forged.dev/run-again"

// RunAgain is the health of a Job that is over and bears AnnotationRunAgain.
var RunAgain = reconcile.Health{Status: reconcile.Unknown, Message: "another run was asked for"}

// Disrupted is the health of a pod of a job that was stopped from outside: its
// node went away, or its place was needed.
var Disrupted = reconcile.Health{Status: reconcile.Unknown, Message: "was stopped by the cluster, which says nothing of what it ran"}

// jobHealth goes by the conditions alone: a Job may have failed attempts and
// still succeed.
func jobHealth(obj *unstructured.Unstructured) (reconcile.Health, bool) {
	all := conditionsOf(obj.Object, "status")
	failed := conditionOf(all, "Failed")
	complete := conditionOf(all, "Complete").status == "True"
	switch {
	case (complete || failed.status == "True") && obj.GetAnnotations()[AnnotationRunAgain] != "":
		return RunAgain, true
	case complete:
		return ready()
	case failed.status == "True":
		return reconcile.Health{Status: reconcile.Failed, Message: failedJob(failed)}, true
	}
	if ending := conditionOf(all, "FailureTarget"); ending.status == "True" {
		return progressing("is being stopped: %s", failedJob(ending))
	}
	if suspended, _, _ := unstructured.NestedBool(obj.Object, "spec", "suspend"); suspended {
		return progressing("is suspended")
	}
	if active, _, _ := unstructured.NestedInt64(obj.Object, "status", "active"); active > 0 {
		return progressing("runs")
	}
	return progressing("has not begun")
}

// LabelJob is on the pods of a job, and says which: they run to their end once.
const LabelJob = "forged.dev/job"

// podHealth: a pod that stands for a Job is judged like one. That it runs is
// not the end that is waited for.
func podHealth(obj *unstructured.Unstructured) (reconcile.Health, bool) {
	if obj.GetLabels()[LabelJob] == "" {
		return undecided()
	}
	phase, _, _ := unstructured.NestedString(obj.Object, "status", "phase")
	switch {
	case (phase == "Succeeded" || phase == "Failed") && obj.GetAnnotations()[AnnotationRunAgain] != "":
		return RunAgain, true
	case phase == "Succeeded":
		return ready()
	case phase == "Failed" && conditionOf(conditionsOf(obj.Object, "status"), "DisruptionTarget").status == "True":
		return Disrupted, true
	case phase == "Failed":
		why, _, _ := unstructured.NestedString(obj.Object, "status", "reason")
		more, _, _ := unstructured.NestedString(obj.Object, "status", "message")
		return reconcile.Health{Status: reconcile.Failed, Message: failedJob(condition{reason: why, message: more})}, true
	case phase == "Running":
		return progressing("runs")
	}
	return progressing("has not begun: %s", unreadyPod(obj))
}

// failedJob says why a Job was given up.
func failedJob(c condition) string {
	switch c.reason {
	case "BackoffLimitExceeded":
		return "it has failed as often as its backoffLimit lets it (BackoffLimitExceeded)"
	case "DeadlineExceeded":
		return "it has run for longer than its activeDeadlineSeconds (DeadlineExceeded)"
	}
	if c.text() == "" {
		return "it has failed"
	}
	return "it has failed: " + c.text()
}

func serviceHealth(obj *unstructured.Unstructured) (reconcile.Health, bool) {
	if kind, _, _ := unstructured.NestedString(obj.Object, "spec", "type"); kind == "LoadBalancer" && !hasAddress(obj) {
		return progressing("waits for the cloud to give the load balancer an address")
	}
	return undecided()
}

func ingressHealth(obj *unstructured.Unstructured) (reconcile.Health, bool) {
	if !hasAddress(obj) {
		return progressing("waits for an ingress controller to give it an address")
	}
	return undecided()
}

func hasAddress(obj *unstructured.Unstructured) bool {
	addresses, _, _ := unstructured.NestedSlice(obj.Object, "status", "loadBalancer", "ingress")
	return len(addresses) > 0
}

// autoscalerHealth: an autoscaler that cannot scale leaves what it scales as
// it is, so that is worth telling and keeps nobody waiting.
func autoscalerHealth(obj *unstructured.Unstructured) (reconcile.Health, bool) {
	all := conditionsOf(obj.Object, "status")
	h := reconcile.Health{Status: reconcile.Ready}
	able, active, limited := conditionOf(all, "AbleToScale"), conditionOf(all, "ScalingActive"), conditionOf(all, "ScalingLimited")
	switch {
	case able.status == "False":
		h.Message = "cannot scale: " + able.text()
	case active.status == "False" && active.reason != "ScalingDisabled":
		h.Message = "does not scale: " + active.text()
	case limited.status == "True" && limited.reason == "TooManyReplicas":
		h.Message = "wants more replicas than its maximum"
	}
	return h, true
}

func apiServiceHealth(obj *unstructured.Unstructured) (reconcile.Health, bool) {
	switch c := conditionOf(conditionsOf(obj.Object, "status"), "Available"); {
	case c.status == "True":
		return ready()
	case c.kind == "":
		return progressing("is not served yet")
	default:
		return progressing("is not available: %s", c.text())
	}
}

// certificateHealth tells a certificate that is on its way from one that was
// refused: cert-manager waits an hour and longer before it tries again.
func certificateHealth(obj *unstructured.Unstructured) (reconcile.Health, bool) {
	all := conditionsOf(obj.Object, "status")
	is, issuing := conditionOf(all, "Ready"), conditionOf(all, "Issuing")
	failures, _, _ := unstructured.NestedInt64(obj.Object, "status", "failedIssuanceAttempts")
	switch {
	case is.status == "True" && (is.generation == 0 || is.generation >= obj.GetGeneration()):
		return ready()
	case issuing.status == "False" && failures > 0:
		return reconcile.Health{Status: reconcile.Failed, Message: fmt.Sprintf("was refused %d times: %s", failures, issuing.text())}, true
	case issuing.status == "True":
		return progressing("is being issued: %s", issuing.text())
	case is.kind == "":
		return progressing("waits for cert-manager to take it up")
	case is.status == "True":
		return progressing("waits for cert-manager to take up the last change")
	default:
		return progressing("is not issued: %s", is.text())
	}
}

func gatewayHealth(obj *unstructured.Unstructured) (reconcile.Health, bool) {
	all := conditionsOf(obj.Object, "status")
	for _, kind := range []string{"Accepted", "Programmed"} {
		switch c := conditionOf(all, kind); {
		case c.kind == "" || c.status == "Unknown" || c.generation != 0 && c.generation < obj.GetGeneration():
			return progressing("waits for the controller of its class to take it up")
		case c.status != "True":
			return progressing("is not %s: %s", strings.ToLower(kind), c.text())
		}
	}
	return ready()
}

// routeHealth: every gateway that a route names has to take it.
func routeHealth(obj *unstructured.Unstructured) (reconcile.Health, bool) {
	wanted, _, _ := unstructured.NestedSlice(obj.Object, "spec", "parentRefs")
	parents, _, _ := unstructured.NestedSlice(obj.Object, "status", "parents")
	if len(parents) < len(wanted) || len(parents) == 0 {
		return progressing("waits for its gateway to take it up")
	}
	for _, item := range parents {
		parent, ok := item.(map[string]any)
		if !ok {
			continue
		}
		name, _, _ := unstructured.NestedString(parent, "parentRef", "name")
		all := conditionsOf(parent)
		for _, kind := range []string{"Accepted", "ResolvedRefs"} {
			switch c := conditionOf(all, kind); {
			case c.kind == "" || c.generation != 0 && c.generation < obj.GetGeneration():
				return progressing("waits for gateway %s to take it up", name)
			case c.status != "True":
				return progressing("gateway %s does not take it: %s", name, c.text())
			}
		}
	}
	return ready()
}
