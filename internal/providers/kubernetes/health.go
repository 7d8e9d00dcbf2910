package kubernetes

import (
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/reconcile"
)

// hasHealth tells kinds whose status says whether they serve. Only these are
// watched in full.
func hasHealth(gk schema.GroupKind) bool {
	switch gk {
	case schema.GroupKind{Group: "apps", Kind: "Deployment"},
		schema.GroupKind{Group: "apps", Kind: "StatefulSet"},
		schema.GroupKind{Group: "apps", Kind: "DaemonSet"},
		schema.GroupKind{Group: "batch", Kind: "Job"},
		schema.GroupKind{Kind: "PersistentVolumeClaim"},
		schema.GroupKind{Kind: "Service"},
		schema.GroupKind{Group: "networking.k8s.io", Kind: "Ingress"}:
		return true
	}
	return false
}

// HealthOf judges an object by its status, with the rules of kstatus and two
// more: a load balancer and an ingress serve only when they have an address.
// The message does not name the object: whoever shows it knows which it is.
func HealthOf(obj *unstructured.Unstructured) reconcile.Health {
	result, err := status.Compute(obj)
	if err != nil {
		return reconcile.Health{Status: reconcile.Unknown, Message: err.Error()}
	}
	switch result.Status {
	case status.CurrentStatus:
		if waiting := withoutAddress(obj); waiting != "" {
			return reconcile.Health{Status: reconcile.Progressing, Message: waiting}
		}
		return reconcile.Health{Status: reconcile.Ready}
	case status.InProgressStatus:
		return reconcile.Health{Status: reconcile.Progressing, Message: result.Message}
	case status.TerminatingStatus:
		return reconcile.Health{Status: reconcile.Progressing, Message: "is being deleted"}
	case status.FailedStatus:
		return reconcile.Health{Status: reconcile.Failed, Message: result.Message}
	default:
		return reconcile.Health{Status: reconcile.Unknown, Message: result.Message}
	}
}

func withoutAddress(obj *unstructured.Unstructured) string {
	gk := obj.GroupVersionKind().GroupKind()
	var waiting string
	switch {
	case gk == schema.GroupKind{Kind: "Service"}:
		if kind, _, _ := unstructured.NestedString(obj.Object, "spec", "type"); kind != "LoadBalancer" {
			return ""
		}
		waiting = "waiting for the cloud to give the load balancer an address"
	case gk == schema.GroupKind{Group: "networking.k8s.io", Kind: "Ingress"}:
		waiting = "waiting for an ingress controller to give it an address"
	default:
		return ""
	}
	addresses, _, _ := unstructured.NestedSlice(obj.Object, "status", "loadBalancer", "ingress")
	if len(addresses) == 0 {
		return waiting
	}
	return ""
}
