package cluster

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// Kind is what sort of cluster it is: all that Kubernetes leaves to who offers it.
type Kind struct {
	Hosts          []string // names that the API server answers by, besides its own
	Services       string   // range of the addresses of Services
	Tokens         string   // URL that is asked what bearer tokens are good for; empty: none is
	ControllerArgs []string // further flags of kube-controller-manager

	Nodes   func(version string) []*corev1.Node               // on a server of this version
	Objects func(context.Context, kubernetes.Interface) error // makes what is there from the start
	Tasks   []Task
}

// Task is a controller that runs for as long as the cluster does. It calls
// ready when it has seen all there is.
type Task struct {
	Name string
	Run  func(ctx context.Context, client kubernetes.Interface, ready func()) error
}

// serviceIP is the first of the range, which the service kubernetes gets.
func (k Kind) serviceIP() string { return k.servicePrefix().Addr().Next().String() }

// advertised is the endpoint of the service kubernetes, which may not be a
// loopback address. Nothing in a sandbox connects to it: any address for
// documentation will do.
func (k Kind) advertised() string {
	if k.servicePrefix().Addr().Is6() {
		return "2001:db8::1"
	}
	return "192.0.2.1"
}

// servicePrefix panics where the range is none: it is a part of the program.
func (k Kind) servicePrefix() netip.Prefix { return netip.MustParsePrefix(k.Services) }
