package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/utils/ptr"

	"forged.dev/forged/sandbox/balancer"
	"forged.dev/forged/sandbox/volume"
)

// MaxNodes is bounded by the ranges that pod addresses come from.
const MaxNodes = 100

// createNodes makes the nodes. They claim to be large: what a sandbox shows is
// whether a configuration is right, not whether it fits a laptop.
func createNodes(ctx context.Context, client kubernetes.Interface, count int) error {
	resources := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("64"),
		corev1.ResourceMemory:           resource.MustParse("256Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
		corev1.ResourcePods:             resource.MustParse("1000"),
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	for i := 1; i <= count; i++ {
		name := fmt.Sprintf("node-%d", i)
		podRange := fmt.Sprintf("10.%d.0.0/16", 128+i)
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{
				Name: name,
				Labels: map[string]string{
					corev1.LabelArchStable:         "amd64",
					corev1.LabelOSStable:           "linux",
					corev1.LabelHostname:           name,
					corev1.LabelTopologyRegion:     "sandbox",
					corev1.LabelTopologyZone:       fmt.Sprintf("sandbox-%c", 'a'+(i-1)%3),
					corev1.LabelInstanceTypeStable: "sandbox",
				},
			},
			Spec: corev1.NodeSpec{PodCIDR: podRange, PodCIDRs: []string{podRange}},
			Status: corev1.NodeStatus{
				Capacity:    resources,
				Allocatable: resources,
				Addresses: []corev1.NodeAddress{
					{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.128.0.%d", i)},
					{Type: corev1.NodeHostName, Address: name},
				},
				NodeInfo: corev1.NodeSystemInfo{
					Architecture:            "amd64",
					OperatingSystem:         "linux",
					OSImage:                 "forged sandbox",
					KernelVersion:           "none",
					ContainerRuntimeVersion: "kwok://0.8.0",
					KubeletVersion:          version.GitVersion,
				},
			},
		}
		if err := create(ctx, client.CoreV1().Nodes().Create, node); err != nil {
			return err
		}
	}
	return nil
}

// createClasses makes the classes that charts expect to find in any cluster.
func createClasses(ctx context.Context, client kubernetes.Interface) error {
	standard := storageClass("standard", storagev1.VolumeBindingImmediate)
	standard.Annotations = map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}
	late := storageClass("standard-late", storagev1.VolumeBindingWaitForFirstConsumer)
	for _, class := range []*storagev1.StorageClass{standard, late} {
		if err := create(ctx, client.StorageV1().StorageClasses().Create, class); err != nil {
			return err
		}
	}
	return create(ctx, client.NetworkingV1().IngressClasses().Create, &networkingv1.IngressClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "nginx",
			Annotations: map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"},
		},
		Spec: networkingv1.IngressClassSpec{Controller: balancer.IngressController},
	})
}

func storageClass(name string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{
		ObjectMeta:           metav1.ObjectMeta{Name: name},
		Provisioner:          volume.Provisioner,
		ReclaimPolicy:        ptr.To(corev1.PersistentVolumeReclaimDelete),
		AllowVolumeExpansion: ptr.To(true),
		VolumeBindingMode:    &mode,
	}
}

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
