package helm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/kube"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	kwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// hookFailure is a hook that ended badly, as opposed to one that could not be
// watched. It says of the release that it does not work.
type hookFailure struct {
	ref kubernetes.Ref
	why string
}

func (f *hookFailure) Error() string { return fmt.Sprintf("hook %s failed: %s", f.ref, f.why) }

// WatchUntilReady implements kube.Interface: it waits for the Jobs and Pods of
// a hook to end. Everything else has done its work by being there.
func (c *client) WatchUntilReady(list kube.ResourceList, timeout time.Duration) error {
	for _, info := range list {
		ref := hookRef(info)
		var ended func(*unstructured.Unstructured) (bool, string)
		switch ref.GVK.GroupKind() {
		case batchv1.SchemeGroupVersion.WithKind("Job").GroupKind():
			ended = jobEnded
		case corev1.SchemeGroupVersion.WithKind("Pod").GroupKind():
			ended = podEnded
		default:
			continue
		}
		uid := ""
		if u, ok := info.Object.(*unstructured.Unstructured); ok {
			uid = string(u.GetUID())
		}
		timeout = min(timeout, hookTimeout(c.ctx, c.h.req.Policy)) // there may be others after it
		ctx, cancel := context.WithTimeout(c.ctx, timeout)
		bad, err := c.await(ctx, ref, uid, ended)
		timedOut := ctx.Err() != nil && c.ctx.Err() == nil
		cancel()
		switch {
		case timedOut:
			bad = fmt.Sprintf("it did not end within %s", timeout.Round(time.Second))
		case err != nil:
			return c.fail(err)
		}
		if bad == "" {
			continue
		}
		if more := c.h.lastWords(c.ctx, ref); more != "" {
			bad += "; " + more
		}
		return c.fail(&hookFailure{ref, bad})
	}
	return nil
}

// await follows an object until it has ended, and says why if it ended badly.
func (c *client) await(ctx context.Context, ref kubernetes.Ref, uid string, ended func(*unstructured.Unstructured) (bool, string)) (bad string, err error) {
	m, err := c.h.cluster.Mapping(ctx, ref.GVK)
	if err != nil {
		return "", err
	}
	client := c.h.cluster.Dynamic().Resource(m.Resource).Namespace(ref.Namespace)
	only := func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, ref.Name).String()
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			only(&o)
			return client.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (kwatch.Interface, error) {
			only(&o)
			return client.Watch(ctx, o)
		},
	}
	done := false
	there := func(s cache.Store) (bool, error) {
		if len(s.List()) == 0 {
			done, bad = true, "it was deleted while it ran"
		}
		return done, nil
	}
	_, err = watchtools.UntilWithSync(ctx, lw, &unstructured.Unstructured{}, there, func(e kwatch.Event) (bool, error) {
		u, ok := e.Object.(*unstructured.Unstructured)
		switch {
		case !ok:
			return false, nil
		case e.Type == kwatch.Deleted, uid != "" && string(u.GetUID()) != uid:
			done, bad = true, "it was deleted while it ran"
		default:
			done, bad = ended(u)
		}
		return done, nil
	})
	if done {
		return bad, nil
	}
	if err == nil {
		err = errors.New("the watch ended")
	}
	return "", &reconcile.Error{Kind: reconcile.Unavailable, ID: c.h.id, Object: ref.String(), Op: "wait for hook", Err: err}
}

// jobEnded reads the conditions of a Job: attempts that failed before one that
// succeeded are no failure.
func jobEnded(u *unstructured.Unstructured) (done bool, bad string) {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		m, ok := c.(map[string]any)
		if !ok || m["status"] != "True" {
			continue
		}
		switch m["type"] {
		case string(batchv1.JobComplete), string(batchv1.JobSuccessCriteriaMet):
			return true, ""
		case string(batchv1.JobFailed):
			return true, strings.Trim(fmt.Sprintf("%v: %v", m["reason"], m["message"]), ": ")
		}
	}
	return false, ""
}

func podEnded(u *unstructured.Unstructured) (done bool, bad string) {
	phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
	switch corev1.PodPhase(phase) {
	case corev1.PodSucceeded:
		return true, ""
	case corev1.PodFailed:
		message, _, _ := unstructured.NestedString(u.Object, "status", "message")
		if message == "" {
			message = "its pod failed"
		}
		return true, message
	}
	return false, ""
}

// lastWords is what the newest pod of a hook can tell.
func (h *handle) lastWords(ctx context.Context, ref kubernetes.Ref) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	these := metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + ref.Name}
	if ref.GVK.Kind == "Pod" {
		these = metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, ref.Name).String()}
	}
	return h.cluster.PodWords(ctx, ref.Namespace, these)
}
