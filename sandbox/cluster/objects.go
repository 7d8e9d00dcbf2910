package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// create makes an object; one that kept data already hold stays as it is.
func create[T runtime.Object](ctx context.Context, do func(context.Context, T, metav1.CreateOptions) (T, error), object T) error {
	_, err := do(ctx, object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// The certificate that a controller publishes in every namespace. In this
// namespace nobody reads it, so it can serve as a sign of life.
const (
	rootCA          = "kube-root-ca.crt"
	rootCANamespace = corev1.NamespaceNodeLease
)

// removeRootCA removes the sign of life that kept data hold from the last run.
func removeRootCA(ctx context.Context, client kubernetes.Interface) error {
	err := client.CoreV1().ConfigMaps(rootCANamespace).Delete(ctx, rootCA, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// awaitControllers waits until the controllers work, and have made the account
// without which no pod can be created in the namespace default.
func awaitControllers(ctx context.Context, client kubernetes.Interface) error {
	core := client.CoreV1().RESTClient()
	if err := awaitObject(ctx, core, "configmaps", rootCANamespace, rootCA, &corev1.ConfigMap{}); err != nil {
		return err
	}
	return awaitObject(ctx, core, "serviceaccounts", metav1.NamespaceDefault, "default", &corev1.ServiceAccount{})
}

// awaitObject waits until the object exists.
func awaitObject(ctx context.Context, client cache.Getter, resource, namespace, name string, kind runtime.Object) error {
	list := cache.NewListWatchFromClient(client, resource, namespace, fields.OneTermEqualSelector("metadata.name", name))
	_, err := watchtools.UntilWithSync(ctx, list, kind, nil, func(event watch.Event) (bool, error) {
		return event.Type != watch.Deleted, nil
	})
	if err != nil {
		return fmt.Errorf("no %s %s/%s: %w", resource, namespace, name, err)
	}
	return nil
}

// awaitNodes waits until so many nodes are ready to take pods.
func awaitNodes(ctx context.Context, client kubernetes.Interface, count int) error {
	nodes := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "nodes",
		metav1.NamespaceAll, fields.Everything())
	ready := map[string]bool{}
	_, err := watchtools.UntilWithSync(ctx, nodes, &corev1.Node{}, nil,
		func(event watch.Event) (bool, error) {
			node, ok := event.Object.(*corev1.Node)
			if !ok {
				return false, nil
			}
			delete(ready, node.Name)
			if event.Type != watch.Deleted && takesPods(node) {
				ready[node.Name] = true
			}
			return len(ready) >= count, nil
		})
	return err
}

// takesPods tells whether the node is ready and the taints that say otherwise
// are gone, which takes the node controller a moment longer.
func takesPods(node *corev1.Node) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Key == corev1.TaintNodeNotReady || taint.Key == corev1.TaintNodeUnreachable {
			return false
		}
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
