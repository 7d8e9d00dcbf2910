package kubernetes

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PodWords is what the newest of some pods has to say of why it does not do
// its work: its trouble, and the last lines of its log, without secrets. It is
// help, not proof; empty means that there is nothing to be had.
func (c *Cluster) PodWords(ctx context.Context, namespace string, these metav1.ListOptions) string {
	ctx, cancel := bound(ctx)
	defer cancel()
	pods, err := c.client.CoreV1().Pods(namespace).List(ctx, these)
	if err != nil || len(pods.Items) == 0 {
		return ""
	}
	newest := slices.MaxFunc(pods.Items, func(a, b corev1.Pod) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	t := troubleOf(&newest)
	if t.rank == rankNone {
		return ""
	}
	w := &podWatch{c: c, ref: Ref{GVK: corev1.SchemeGroupVersion.WithKind("Pod"), Namespace: namespace, Name: newest.Name}}
	t.words = w.words(ctx, t.reason, t.words)
	words := guarded(t.String())
	if !t.log {
		return words
	}
	left, log := w.lastWords(ctx, t)
	for _, more := range []string{left, log} {
		if more != "" {
			words += "; " + more
		}
	}
	return words
}
