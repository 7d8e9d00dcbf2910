package fks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"forged.dev/forged/internal/flyemulator"
)

// Annotations that Fly sets on Services itself. They are seen in its
// documentation, not explained.
const (
	allocatorAnnotation = "fly.io/clusterip-allocator"
	versionAnnotation   = "service.fly.io/sync-version"
)

// services gives Services what Fly gives them: those of type LoadBalancer get
// addresses of the app's, and a host name.
type services struct {
	platform Platform
	of       flyemulator.Cluster
	client   kubernetes.Interface
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
	queue    workqueue.TypedRateLimitingInterface[cache.ObjectName]
}

// newServices makes the controller and what fills its caches.
func newServices(platform Platform, of flyemulator.Cluster, client kubernetes.Interface) (*services, informers.SharedInformerFactory) {
	factory := informers.NewSharedInformerFactory(client, 0)
	factory.Discovery().V1().EndpointSlices().Informer()
	return &services{
		platform: platform, of: of, client: client,
		services: factory.Core().V1().Services().Lister(),
		slices:   factory.Discovery().V1().EndpointSlices().Lister(),
		queue:    workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[cache.ObjectName]()),
	}, factory
}

// run works until ctx ends. It calls ready when it has seen all there is.
func (s *services) run(ctx context.Context, factory informers.SharedInformerFactory, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel() // ends the informers, for which Shutdown waits
		factory.Shutdown()
	}()
	enqueue := func(object any) {
		if name, err := cache.DeletionHandlingObjectToName(object); err == nil {
			s.queue.Add(name)
		}
	}
	if _, err := factory.Core().V1().Services().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, UpdateFunc: func(_, object any) { enqueue(object) }, DeleteFunc: enqueue,
	}); err != nil {
		return err
	}
	factory.StartWithContext(ctx)
	if err := factory.WaitForCacheSyncWithContext(ctx).AsError(); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	ready()
	defer context.AfterFunc(ctx, s.queue.ShutDown)()
	for s.next(ctx) {
	}
	return nil
}

// next handles one Service; it returns false when there will be no more.
func (s *services) next(ctx context.Context) bool {
	name, shutdown := s.queue.Get()
	if shutdown {
		return false
	}
	defer s.queue.Done(name)
	if err := s.sync(ctx, name); err != nil && !apierrors.IsNotFound(err) {
		klog.FromContext(ctx).Error(err, "Will try again", "service", name)
		s.queue.AddRateLimited(name)
		return true
	}
	s.queue.Forget(name)
	return true
}

func (s *services) sync(ctx context.Context, name cache.ObjectName) error {
	service, err := s.services.Services(name.Namespace).Get(name.Name)
	switch {
	case apierrors.IsNotFound(err):
		return s.release(name)
	case err != nil:
		return err
	case service.DeletionTimestamp != nil:
		return nil
	}
	var want corev1.LoadBalancerStatus
	if service.Spec.Type == corev1.ServiceTypeLoadBalancer {
		if want, err = s.status(name); err != nil {
			return err
		}
	} else if err := s.release(name); err != nil {
		return err
	}
	if err := s.annotate(ctx, service); err != nil {
		return err
	}
	if equality.Semantic.DeepEqual(service.Status.LoadBalancer, want) {
		return nil
	}
	return s.patch(ctx, name, map[string]any{"status": map[string]any{"loadBalancer": want}}, "status")
}

// status is that of a load balancer, as Fly shows it.
func (s *services) status(name cache.ObjectName) (corev1.LoadBalancerStatus, error) {
	ingress := []corev1.LoadBalancerIngress{{Hostname: s.host(name)}}
	has, err := s.addresses(name)
	if err != nil {
		return corev1.LoadBalancerStatus{}, err
	}
	for _, kind := range []string{"v6", "v4"} {
		address := has[kind]
		if address == "" {
			var refused *apiError
			address, err = s.assign(name, kind)
			if kind == "v4" && errors.As(err, &refused) {
				continue // the organization may have no more of them: v6 has to do
			}
			if err != nil {
				return corev1.LoadBalancerStatus{}, err
			}
		}
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: address, IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
	}
	return corev1.LoadBalancerStatus{Ingress: ingress}, nil
}

// label is what the Service is called within the app. How Fly tells namespaces
// apart is not documented.
func label(name cache.ObjectName) string {
	if name.Namespace == metav1.NamespaceDefault {
		return name.Name
	}
	return name.Name + "." + name.Namespace
}

// host is the name that leads to the Service.
func (s *services) host(name cache.ObjectName) string {
	return label(name) + ".svc." + s.of.App + ".fly.dev"
}

// assignments is where the app's addresses are.
func (s *services) assignments() string { return "/v1/apps/" + s.of.App + "/ip_assignments" }

// addresses are those that were assigned for the Service, by kind.
func (s *services) addresses(name cache.ObjectName) (map[string]string, error) {
	var all struct {
		IPs []struct {
			IP      string `json:"ip"`
			Service string `json:"service_name"`
		} `json:"ips"`
	}
	if err := ask(s.platform, http.MethodGet, s.assignments(), nil, &all); err != nil {
		return nil, fmt.Errorf("addresses of the app: %w", err)
	}
	out := map[string]string{}
	for _, one := range all.IPs {
		kind := "v4"
		if strings.Contains(one.IP, ":") {
			kind = "v6"
		}
		if one.Service == label(name) {
			out[kind] = one.IP
		}
	}
	return out, nil
}

func (s *services) assign(name cache.ObjectName, kind string) (string, error) {
	var made struct {
		IP string `json:"ip"`
	}
	err := ask(s.platform, http.MethodPost, s.assignments(), map[string]string{"type": kind, "service_name": label(name)}, &made)
	return made.IP, err
}

// release gives the addresses of a Service back.
func (s *services) release(name cache.ObjectName) error {
	has, err := s.addresses(name)
	for _, address := range has {
		if err := ask(s.platform, http.MethodDelete, s.assignments()+"/"+address, nil, nil); err != nil && !isMissing(err) {
			return err
		}
	}
	return err
}

// annotate sets what Fly sets on every Service that it has seen.
func (s *services) annotate(ctx context.Context, service *corev1.Service) error {
	want := map[string]string{allocatorAnnotation: "configured"}
	if service.Spec.Type == corev1.ServiceTypeLoadBalancer {
		want[versionAnnotation] = version(service)
	}
	changed := false
	for key, value := range want {
		changed = changed || service.Annotations[key] != value
	}
	if !changed {
		return nil
	}
	return s.patch(ctx, cache.MetaObjectToName(service), map[string]any{"metadata": map[string]any{"annotations": want}})
}

// version changes with what the edge is told of the Service.
func version(service *corev1.Service) string {
	annotations := map[string]string{}
	for key, value := range service.Annotations {
		if key != versionAnnotation && strings.HasPrefix(key, prefix) {
			annotations[key] = value
		}
	}
	told, _ := json.Marshal([]any{service.Spec.Ports, service.Spec.Selector, annotations}) // maps are sorted
	hash := fnv.New64a()
	hash.Write(told)
	return strconv.FormatUint(hash.Sum64(), 10)
}

func (s *services) patch(ctx context.Context, name cache.ObjectName, patch any, subresource ...string) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = s.client.CoreV1().Services(name.Namespace).Patch(ctx, name.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: manager}, subresource...)
	return err
}

// manager is who Fly is to Kubernetes.
const manager = "fks"
