// Package balancer plays the cloud's load balancers: Services of type
// LoadBalancer and Ingresses get an address in their status. Nothing listens on
// these addresses, which come from the ranges reserved for documentation.
package balancer

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// IngressController is what IngressClasses of the sandbox name as controller.
const IngressController = "sandbox.forged.dev/ingress"

// ingressAddress is the one address that all Ingresses share, like those of one
// ingress controller behind one load balancer.
const ingressAddress = "203.0.113.1"

// pool is the addresses for Services: TEST-NET-3, then TEST-NET-2 and
// TEST-NET-1 (RFC 5737), without the first and last of each.
var pool = addresses("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24")

// ref names one object to look at.
type ref struct {
	ingress bool
	name    cache.ObjectName
}

type controller struct {
	client    kubernetes.Interface
	services  corelisters.ServiceLister
	ingresses networkinglisters.IngressLister
	classes   networkinglisters.IngressClassLister
	queue     workqueue.TypedRateLimitingInterface[ref]

	// given holds the addresses handed out, by Service. It is newer than the
	// cache, which learns of our writes late. Only the worker touches it.
	given map[cache.ObjectName]netip.Addr
}

// Run gives out addresses until ctx ends. It calls ready when it has seen all
// objects there are.
func Run(ctx context.Context, client kubernetes.Interface, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	factory := informers.NewSharedInformerFactory(client, 0)
	defer func() {
		cancel() // ends the informers, for which Shutdown waits
		factory.Shutdown()
	}()
	services := factory.Core().V1().Services()
	ingresses := factory.Networking().V1().Ingresses()
	classes := factory.Networking().V1().IngressClasses()
	c := &controller{
		client:    client,
		services:  services.Lister(),
		ingresses: ingresses.Lister(),
		classes:   classes.Lister(),
		queue:     workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[ref]()),
		given:     map[cache.ObjectName]netip.Addr{},
	}
	if err := errors.Join(
		watch(services.Informer(), func(object any) { c.enqueue(false, object) }),
		watch(ingresses.Informer(), func(object any) { c.enqueue(true, object) }),
		// An Ingress may come before its class: look at all of them again.
		watch(classes.Informer(), func(any) { c.enqueueIngresses() }),
	); err != nil {
		return err
	}

	factory.StartWithContext(ctx)
	if err := factory.WaitForCacheSyncWithContext(ctx).AsError(); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err := c.recall(); err != nil {
		return err
	}
	ready()

	defer context.AfterFunc(ctx, c.queue.ShutDown)()
	for c.next(ctx) {
	}
	return nil
}

// watch calls changed with every object that appears, changes or goes.
func watch(informer cache.SharedIndexInformer, changed func(any)) error {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    changed,
		UpdateFunc: func(_, object any) { changed(object) },
		DeleteFunc: changed,
	})
	return err
}

func (c *controller) enqueue(ingress bool, object any) {
	name, err := cache.DeletionHandlingObjectToName(object)
	if err != nil {
		return // not an object: informers deliver nothing else
	}
	c.queue.Add(ref{ingress: ingress, name: name})
}

func (c *controller) enqueueIngresses() {
	all, err := c.ingresses.List(labels.Everything())
	if err != nil {
		return // a lister over a cache does not fail
	}
	for _, ingress := range all {
		c.enqueue(true, ingress)
	}
}

// recall takes note of the addresses given in an earlier run, so that none is
// given twice.
func (c *controller) recall() error {
	all, err := c.services.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, service := range all {
		if addr, ok := current(service); ok {
			c.given[cache.MetaObjectToName(service)] = addr
		}
	}
	return nil
}

// next handles one object; it returns false when there will be no more.
func (c *controller) next(ctx context.Context) bool {
	key, shutdown := c.queue.Get()
	if shutdown {
		return false
	}
	defer c.queue.Done(key)
	sync := c.service
	if key.ingress {
		sync = c.ingress
	}
	if err := sync(ctx, key.name); err != nil {
		klog.FromContext(ctx).Error(err, "Will try again", "object", key)
		c.queue.AddRateLimited(key)
		return true
	}
	c.queue.Forget(key)
	return true
}

func (c *controller) service(ctx context.Context, name cache.ObjectName) error {
	service, err := c.services.Services(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		delete(c.given, name)
		return nil
	}
	if err != nil {
		return err
	}
	var want corev1.LoadBalancerStatus
	if balanced(service) {
		addr, err := c.address(service)
		if err != nil {
			return err
		}
		want.Ingress = []corev1.LoadBalancerIngress{{
			IP:     addr.String(),
			IPMode: ptr.To(corev1.LoadBalancerIPModeVIP),
		}}
	} else {
		delete(c.given, name)
	}
	if foreign(service) || equality.Semantic.DeepEqual(addressesOf(service), addressesIn(want)) {
		return nil
	}
	service = service.DeepCopy()
	service.Status.LoadBalancer = want
	_, err = c.client.CoreV1().Services(name.Namespace).UpdateStatus(ctx, service, metav1.UpdateOptions{})
	return ignoreGone(err)
}

func (c *controller) ingress(ctx context.Context, name cache.ObjectName) error {
	ingress, err := c.ingresses.Ingresses(name.Namespace).Get(name.Name)
	if err != nil {
		return ignoreGone(err)
	}
	if !c.served(ingress) || len(ingress.Status.LoadBalancer.Ingress) > 0 {
		return nil
	}
	ingress = ingress.DeepCopy()
	ingress.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: ingressAddress}}
	_, err = c.client.NetworkingV1().Ingresses(name.Namespace).UpdateStatus(ctx, ingress, metav1.UpdateOptions{})
	return ignoreGone(err)
}

// served tells whether the Ingress's class exists. Whose controller the class
// names does not matter: a chart that brings its own controller brings its own
// class, and in a sandbox that controller does not really run.
func (c *controller) served(ingress *networkingv1.Ingress) bool {
	class := ptr.Deref(ingress.Spec.IngressClassName, ingress.Annotations["kubernetes.io/ingress.class"])
	if class == "" {
		return false
	}
	_, err := c.classes.Get(class)
	return err == nil
}

// address returns the Service's address, choosing one if it has none. The choice
// starts at a place that follows from the name, so that a Service created again
// usually gets the address it had.
func (c *controller) address(service *corev1.Service) (netip.Addr, error) {
	name := cache.MetaObjectToName(service)
	if wish, err := netip.ParseAddr(service.Spec.LoadBalancerIP); err == nil {
		c.given[name] = wish
		return wish, nil
	}
	if addr, ok := c.given[name]; ok {
		return addr, nil
	}
	taken := map[netip.Addr]bool{}
	for _, addr := range c.given {
		taken[addr] = true
	}
	hash := fnv.New32a()
	hash.Write([]byte(name.String()))
	// Services prefer the first range, which holds any ordinary number of them.
	preferred := len(pool) / 3
	start := int(hash.Sum32() % uint32(preferred))
	for i := range pool {
		at := i
		if i < preferred {
			at = (start + i) % preferred
		}
		if !taken[pool[at]] {
			c.given[name] = pool[at]
			return pool[at], nil
		}
	}
	return netip.Addr{}, fmt.Errorf("all %d addresses are taken", len(pool))
}

// balanced tells whether the Service wants a load balancer of the cloud's.
func balanced(service *corev1.Service) bool {
	return service.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		service.Spec.LoadBalancerClass == nil && service.DeletionTimestamp == nil
}

// foreign tells whether another load balancer implementation serves the Service.
func foreign(service *corev1.Service) bool {
	return service.Spec.LoadBalancerClass != nil
}

// current is the address that the Service's status shows, if we gave it.
func current(service *corev1.Service) (netip.Addr, bool) {
	if !balanced(service) || len(service.Status.LoadBalancer.Ingress) == 0 {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(service.Status.LoadBalancer.Ingress[0].IP)
	return addr, err == nil
}

func addressesOf(service *corev1.Service) []string {
	return addressesIn(service.Status.LoadBalancer)
}

func addressesIn(status corev1.LoadBalancerStatus) []string {
	var out []string
	for _, ingress := range status.Ingress {
		out = append(out, ingress.IP)
	}
	return out
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// addresses lists the usable addresses of the ranges, except the one that
// belongs to the Ingresses.
func addresses(ranges ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range ranges {
		prefix := netip.MustParsePrefix(text)
		for addr := prefix.Addr().Next(); prefix.Contains(addr.Next()); addr = addr.Next() {
			out = append(out, addr)
		}
	}
	return slices.DeleteFunc(out, func(addr netip.Addr) bool { return addr.String() == ingressAddress })
}
