package kubernetes

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kstatus decides whether an object is ready; what it says of that are words for
// those who have written the controllers. These are for those who wait: what is
// waited for, and how far it is.

// unready says why an object is not ready. said is what kstatus says: of custom
// resources that is what their controllers have written.
func unready(obj *unstructured.Unstructured, said string) string {
	if seen, ok := number(obj, "status", "observedGeneration"); ok && seen < obj.GetGeneration() {
		return "waits for its controller to take up the last change"
	}
	switch obj.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Group: "apps", Kind: "Deployment"}, schema.GroupKind{Group: "apps", Kind: "StatefulSet"}:
		return unreadyReplicas(obj)
	case schema.GroupKind{Group: "apps", Kind: "DaemonSet"}:
		return unreadyOnNodes(obj)
	case schema.GroupKind{Kind: "PersistentVolumeClaim"}:
		return unbound(obj)
	case schema.GroupKind{Kind: "Pod"}:
		return unreadyPod(obj)
	case schema.GroupKind{Kind: "Service"}:
		return "waits for the API server to give it an address"
	case schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}:
		if c := conditionOf(conditionsOf(obj.Object, "status"), "NamesAccepted"); c.status == "False" {
			return "its names are refused, since another definition has them: " + c.text()
		}
		return "waits for the API server to serve it"
	}
	if said != "" {
		return said
	}
	if c := conditionOf(conditionsOf(obj.Object, "status"), "Ready"); c.text() != "" {
		return "is not ready: " + c.text()
	}
	return "its controller does not call it ready yet"
}

func number(obj *unstructured.Unstructured, fields ...string) (int64, bool) {
	n, ok, _ := unstructured.NestedInt64(obj.Object, fields...)
	return n, ok
}

// unreadyReplicas is of what has a number of pods.
func unreadyReplicas(obj *unstructured.Unstructured) string {
	want, set := number(obj, "spec", "replicas")
	if !set {
		want = 1
	}
	status := func(field string) int64 { n, _ := number(obj, "status", field); return n }
	all, updated, ready := status("replicas"), status("updatedReplicas"), status("readyReplicas")
	stateful := obj.GetKind() == "StatefulSet"
	if from, ok := number(obj, "spec", "updateStrategy", "rollingUpdate", "partition"); stateful && ok {
		updated += min(from, want) // those before it stay as they are
	}
	if c := conditionOf(conditionsOf(obj.Object, "status"), "Progressing"); c.reason == "ProgressDeadlineExceeded" {
		limit, _ := number(obj, "spec", "progressDeadlineSeconds")
		return fmt.Sprintf("no new pod has become ready for %d seconds, its progressDeadlineSeconds: %d of %d are", limit, min(ready, want), want)
	}
	switch {
	case all < want:
		return fmt.Sprintf("waits for its pods to be made: %d of %d are there", all, want)
	case updated < want && !stateful:
		return fmt.Sprintf("waits for pods of the new revision to be made: %d of %d are there", updated, want)
	case ready < want:
		return fmt.Sprintf("waits for its pods to be ready: %d of %d are", ready, want)
	case all > want:
		return fmt.Sprintf("waits for %s of before to end", counted(all-want, "pod"))
	case updated < want, stateful:
		return fmt.Sprintf("waits for its pods to be replaced by those of the new revision: %d of %d are", min(updated, want), want)
	case status("availableReplicas") < want:
		return fmt.Sprintf("waits for its pods to have been ready for minReadySeconds: %d of %d have", status("availableReplicas"), want)
	}
	return "waits for its controller to call it available"
}

// unreadyOnNodes is of what has a pod on each node.
func unreadyOnNodes(obj *unstructured.Unstructured) string {
	want, known := number(obj, "status", "desiredNumberScheduled")
	status := func(field string) int64 { n, _ := number(obj, "status", field); return n }
	switch {
	case !known:
		return "waits for its controller to count the nodes"
	case status("currentNumberScheduled") < want:
		return fmt.Sprintf("waits for its pods to be made: %d of %d nodes have one", status("currentNumberScheduled"), want)
	case status("updatedNumberScheduled") < want:
		return fmt.Sprintf("waits for its pods to be replaced by those of the new revision: %d of %d nodes have one", status("updatedNumberScheduled"), want)
	}
	return fmt.Sprintf("waits for its pods to be ready: %d of %d nodes have one that is", min(status("numberReady"), status("numberAvailable")), want)
}

// unbound is of a claim that has no volume.
func unbound(obj *unstructured.Unstructured) string {
	phase, _, _ := unstructured.NestedString(obj.Object, "status", "phase")
	class, set, _ := unstructured.NestedString(obj.Object, "spec", "storageClassName")
	switch {
	case phase == "Lost":
		return "the volume it was bound to is gone"
	case class != "":
		return "waits for storage class " + class + " to give it a volume"
	case set:
		return "waits for a volume that somebody makes by hand: it is to have no storage class"
	}
	return "waits for a volume: it names no storage class, and the cluster has none by default"
}

// unreadyPod is of a pod that stands for itself.
func unreadyPod(obj *unstructured.Unstructured) string {
	switch phase, _, _ := unstructured.NestedString(obj.Object, "status", "phase"); phase {
	case "Pending":
		if c := conditionOf(conditionsOf(obj.Object, "status"), "PodScheduled"); c.status == "False" {
			return "no node takes it: " + c.text()
		}
		return "waits for its containers to start"
	case "Running":
		for _, c := range items(obj.Object, "status", "containerStatuses") {
			if reason, _, _ := unstructured.NestedString(c, "state", "waiting", "reason"); reason == "CrashLoopBackOff" {
				return fmt.Sprintf("its container %v ends again and again", c["name"])
			}
		}
		return "runs and is not ready"
	}
	return "waits for a node to take it"
}

func counted(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
