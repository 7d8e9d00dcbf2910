package fks

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"forged.dev/forged/sandbox/cluster"
	"forged.dev/forged/sandbox/volume"
)

// Private addresses of the clusters. Each has the same: no cluster reaches
// another.
const (
	serviceRange = "fdaa:0:1:0:1::/108"
	podRange     = "fdaa:0:1:a7b::/64"
	nodeAddress  = "fdaa:0:1:a7a::2"
)

// kind is Fly Kubernetes as a sort of cluster.
func (h *Host) kind(p *place) cluster.Kind {
	return cluster.Kind{
		Hosts:    []string{p.of.Name + ".flycast"},
		Services: serviceRange,
		Tokens:   h.proxy + tokensPath + p.of.Org,
		// What these would do, nobody does at Fly.
		ControllerArgs: []string{"--controllers=*,-daemonset-controller,-cronjob-controller,-horizontal-pod-autoscaler-controller"},

		Nodes: func(version string) []*corev1.Node { return []*corev1.Node{node(p.of.Region, version)} },
		Objects: func(ctx context.Context, client kubernetes.Interface) error {
			return errors.Join(createClasses(ctx, client), h.createWebhook(ctx, client, p))
		},
		Tasks: []cluster.Task{
			{Name: "volumes", Run: func(ctx context.Context, client kubernetes.Interface, ready func()) error {
				return volume.Run(ctx, client, &volumes{platform: h.platform, of: p.of, made: map[string]string{}}, ready)
			}},
			{Name: "services", Run: func(ctx context.Context, client kubernetes.Interface, ready func()) error {
				s, caches := newServices(h.platform, p.of, client)
				return s.run(ctx, caches, func() {
					p.services.Store(s)
					ready()
				})
			}},
		},
	}
}

// node is the only one: machines are no nodes, a virtual kubelet makes them.
func node(region, version string) *corev1.Node {
	resources := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("1000"),
		corev1.ResourceMemory:           resource.MustParse("4Ti"),
		corev1.ResourceEphemeralStorage: resource.MustParse("4Ti"),
		corev1.ResourcePods:             resource.MustParse("1000"),
	}
	const name = "virtual-kubelet"
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				"type":                     name,
				"kubernetes.io/role":       "agent",
				corev1.LabelArchStable:     "amd64",
				corev1.LabelOSStable:       "linux",
				corev1.LabelHostname:       name,
				corev1.LabelTopologyRegion: region,
			},
		},
		Spec: corev1.NodeSpec{PodCIDR: podRange, PodCIDRs: []string{podRange}},
		Status: corev1.NodeStatus{
			Capacity:    resources,
			Allocatable: resources,
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: nodeAddress},
				{Type: corev1.NodeHostName, Address: name},
			},
			NodeInfo: corev1.NodeSystemInfo{
				Architecture: "amd64", OperatingSystem: "linux", OSImage: "forged sandbox",
				KernelVersion: "none", ContainerRuntimeVersion: "kwok://0.8.0", KubeletVersion: version,
			},
		},
	}
}
