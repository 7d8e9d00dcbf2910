package endpoint

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/providers/sights"
	"forged.dev/forged/internal/reconcile"
)

// place is what is read of a cluster.
type place interface {
	// see is what is there now. It costs no request when nothing has changed.
	see(ctx context.Context, r forge.Resource) (sight, error)
	// follows tells whether a change of that is told of.
	follows(r forge.Resource) bool
	// watch tells of changes until ctx ends.
	watch(ctx context.Context, notify func(reconcile.Event)) error
	forget(id forge.ID)
}

// sight is a Service and what is behind it.
type sight struct {
	there     bool
	balanced  bool     // it has a load balancer, or will have
	host      string   // of the load balancer: its name, else its address
	addresses []string // its names, then its addresses, as they stand in the status
	pods      string   // who they are and whether they are ready
	revisions string   // of the rollouts that they are of; empty: there are no pods
}

var (
	servicesGVR = corev1.SchemeGroupVersion.WithResource("services")
	podsGVR     = corev1.SchemeGroupVersion.WithResource("pods")
)

// clusters are places by the targets of resources.
type clusters struct {
	all    *kubernetes.Clusters
	sights *sights.Sights
}

func newClusters(all *kubernetes.Clusters) clusters { return clusters{all, sights.New(time.Now)} }

func (c clusters) follows(r forge.Resource) bool { return c.all.Follows(r.Target) }

func (c clusters) forget(id forge.ID) { c.sights.Forget(id) }

func (c clusters) watch(ctx context.Context, notify func(reconcile.Event)) error {
	c.sights.Watch(ctx, forge.KindEndpoint, notify)
	return nil
}

func (c clusters) see(ctx context.Context, r forge.Resource) (sight, error) {
	spec := r.Spec.(forge.EndpointSpec)
	cluster, err := c.all.Cluster(ctx, r.Target)
	if err != nil {
		return sight{}, err
	}
	g := c.sights.Glance(cluster, r.ID)
	service, err := g.One(ctx, servicesGVR, spec.Namespace, spec.Service)
	if err != nil {
		return sight{}, err
	}
	seen := serviceOf(service)
	selector, _, _ := unstructured.NestedStringMap(object(service), "spec", "selector")
	if len(selector) > 0 {
		pods, err := g.Many(ctx, podsGVR, spec.Namespace, labels.SelectorFromSet(selector).String())
		if err != nil {
			return sight{}, err
		}
		seen.behind(pods)
	}
	g.Done()
	return seen, nil
}

func object(u *unstructured.Unstructured) map[string]any {
	if u == nil {
		return nil
	}
	return u.Object
}

// serviceOf reads a Service; nil: it is not there.
func serviceOf(service *unstructured.Unstructured) (seen sight) {
	if service == nil {
		return sight{}
	}
	seen.there = true
	kind, _, _ := unstructured.NestedString(service.Object, "spec", "type")
	seen.balanced = kind == string(corev1.ServiceTypeLoadBalancer)
	list, _, _ := unstructured.NestedSlice(service.Object, "status", "loadBalancer", "ingress")
	for _, field := range []string{"hostname", "ip"} {
		for _, item := range list {
			entry, _ := item.(map[string]any)
			if at, _ := entry[field].(string); at != "" && !slices.Contains(seen.addresses, at) {
				seen.addresses = append(seen.addresses, at)
			}
		}
	}
	if len(seen.addresses) > 0 {
		seen.host = seen.addresses[0]
	}
	return seen
}

// Labels by which a controller tells the pods of its revisions apart.
var revisionLabels = []string{"pod-template-hash", "controller-revision-hash"}

// behind notes the pods that a Service leads to. Those that are ending are left
// out: it does not lead there any more.
func (s *sight) behind(pods []*unstructured.Unstructured) {
	var who, of []string
	for _, pod := range pods {
		phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
		if pod.GetDeletionTimestamp() != nil || phase == string(corev1.PodFailed) || phase == string(corev1.PodSucceeded) {
			continue
		}
		ready := "not ready"
		conditions, _, _ := unstructured.NestedSlice(pod.Object, "status", "conditions")
		for _, item := range conditions {
			if c, _ := item.(map[string]any); c["type"] == string(corev1.PodReady) && c["status"] == string(corev1.ConditionTrue) {
				ready = "ready"
			}
		}
		who = append(who, string(pod.GetUID())+" "+ready)
		of = append(of, revisionOf(pod))
	}
	slices.Sort(who)
	slices.Sort(of)
	s.pods, s.revisions = strings.Join(who, ","), strings.Join(slices.Compact(of), ",")
}

// revisionOf is what pods of one rollout have in common.
func revisionOf(pod *unstructured.Unstructured) string {
	for _, label := range revisionLabels {
		if hash := pod.GetLabels()[label]; hash != "" {
			return hash
		}
	}
	return string(pod.GetUID())
}
