package jobs

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
)

// form is the object as which a process is run. What it promises is the same in
// each; a record may hold objects of several, when what is asked for has moved
// from one to the other.
type form interface {
	gvk() schema.GroupVersionKind
	// object is the object around a pod, but for its metadata.
	object(s forge.JobSpec, labels, pod map[string]any) map[string]any
	// pod is what runs, of an object.
	pod(obj *unstructured.Unstructured) map[string]any
	// expires tells whether one that has failed may go without anybody's wish.
	// Live is nil when it has gone since: then that may not be known.
	expires(live *unstructured.Unstructured) (expires, known bool)
	// again is how a person asks for another run of one that has failed.
	again(name string) string
}

func formOf(s forge.JobSpec) form {
	if s.Pod {
		return plainPod{}
	}
	return clusterJob{}
}

func formOfKind(gvk schema.GroupVersionKind) form {
	if gvk.GroupKind() == (plainPod{}).gvk().GroupKind() {
		return plainPod{}
	}
	return clusterJob{}
}

// clusterJob is a Job: its controller looks after the pod.
type clusterJob struct{}

func (clusterJob) gvk() schema.GroupVersionKind {
	return batchv1.SchemeGroupVersion.WithKind("Job")
}

// object makes one pod run to its end or fail; only when its node goes away is
// there another one, and not before the first has ended.
func (clusterJob) object(s forge.JobSpec, labels, pod map[string]any) map[string]any {
	spec := map[string]any{
		"parallelism": int64(1), "completions": int64(1), "backoffLimit": int64(0),
		"podReplacementPolicy": "Failed",
		"podFailurePolicy": map[string]any{"rules": []any{map[string]any{
			"action":          "Ignore",
			"onPodConditions": []any{map[string]any{"type": "DisruptionTarget", "status": "True"}},
		}}},
		"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": pod},
	}
	limit(s, spec)
	return map[string]any{"spec": spec}
}

func (clusterJob) pod(obj *unstructured.Unstructured) map[string]any {
	pod, _, _ := unstructured.NestedMap(obj.Object, "spec", "template", "spec")
	return pod
}

func (clusterJob) expires(live *unstructured.Unstructured) (expires, known bool) {
	if live == nil {
		return false, false
	}
	_, expires, _ = unstructured.NestedFieldNoCopy(live.Object, "spec", "ttlSecondsAfterFinished")
	return expires, true
}

func (clusterJob) again(name string) string { return "delete job " + name }

// plainPod is a Pod that nobody looks after but we.
type plainPod struct{}

func (plainPod) gvk() schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind("Pod") }

func (plainPod) object(s forge.JobSpec, _, pod map[string]any) map[string]any {
	limit(s, pod)
	return map[string]any{"spec": pod}
}

func (plainPod) pod(obj *unstructured.Unstructured) map[string]any {
	pod, _, _ := unstructured.NestedMap(obj.Object, "spec")
	return pod
}

// expires: a cluster clears Pods away that have ended, with their node for
// example, and does not say so. That one has failed and is gone does not mean
// that somebody wants it run again.
func (plainPod) expires(*unstructured.Unstructured) (expires, known bool) { return true, true }

func (plainPod) again(name string) string {
	return fmt.Sprintf("annotate pod %s %s=yes", name, kubernetes.AnnotationRunAgain)
}

// limit bounds the time that a process may take.
func limit(s forge.JobSpec, spec map[string]any) {
	if s.Timeout > 0 {
		spec["activeDeadlineSeconds"] = max(1, int64(s.Timeout.Seconds()))
	}
}
