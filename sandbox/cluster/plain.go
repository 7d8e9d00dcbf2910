package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"forged.dev/forged/sandbox/balancer"
	"forged.dev/forged/sandbox/volume"
)

// MaxNodes is bounded by the ranges that pod addresses come from.
const MaxNodes = 100

// Plain is a cluster as clouds offer them.
func Plain(nodes int) Kind {
	return Kind{
		Services: "10.96.0.0/16",
		Nodes:    func(version string) []*corev1.Node { return plainNodes(nodes, version) },
		Objects:  createClasses,
		Tasks: []Task{{"volumes", func(ctx context.Context, client kubernetes.Interface, ready func()) error {
			return volume.Run(ctx, client, volume.Plain{}, ready)
		}}, {"load balancers", balancer.Run}},
	}
}

// plainNodes are large: what a sandbox shows is whether a configuration is
// right, not whether it fits a laptop.
func plainNodes(count int, version string) []*corev1.Node {
	resources := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("64"),
		corev1.ResourceMemory:           resource.MustParse("256Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
		corev1.ResourcePods:             resource.MustParse("1000"),
	}
	var nodes []*corev1.Node
	for i := 1; i <= count; i++ {
		name := fmt.Sprintf("node-%d", i)
		podRange := fmt.Sprintf("10.%d.0.0/16", 128+i)
		nodes = append(nodes, &corev1.Node{
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
					KubeletVersion:          version,
				},
			},
		})
	}
	return nodes
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
