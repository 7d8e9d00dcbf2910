package charts_test

import (
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// endpoint is a pod, or something outside, which has no labels.
type endpoint struct {
	name      string
	namespace string
	labels    map[string]string
}

// network is a namespace's policies, judged by their labels as a cluster does.
// It knows what our policies use and refuses to guess about the rest.
type network struct {
	t        *testing.T
	policies []*networkingv1.NetworkPolicy
}

// connects tells whether from may open a connection to a port of to: who is
// selected for a direction may do only what some rule allows.
func (n network) connects(from, to endpoint, protocol corev1.Protocol, port int32) bool {
	n.t.Helper()
	return n.passes(networkingv1.PolicyTypeEgress, from, to, protocol, port) &&
		n.passes(networkingv1.PolicyTypeIngress, to, from, protocol, port)
}

func (n network) passes(direction networkingv1.PolicyType, at, other endpoint, protocol corev1.Protocol, port int32) bool {
	n.t.Helper()
	selected := false
	for _, policy := range n.policies {
		if !slices.Contains(policy.Spec.PolicyTypes, direction) || policy.Namespace != at.namespace || !matches(n.t, &policy.Spec.PodSelector, at.labels) {
			continue
		}
		selected = true
		if direction == networkingv1.PolicyTypeEgress {
			for _, rule := range policy.Spec.Egress {
				if n.port(rule.Ports, protocol, port) && n.peer(policy, rule.To, other) {
					return true
				}
			}
			continue
		}
		for _, rule := range policy.Spec.Ingress {
			if n.port(rule.Ports, protocol, port) && n.peer(policy, rule.From, other) {
				return true
			}
		}
	}
	return !selected
}

func (n network) port(ports []networkingv1.NetworkPolicyPort, protocol corev1.Protocol, port int32) bool {
	n.t.Helper()
	return slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		if p.Protocol == nil || p.Port == nil || p.Port.Type != intstr.Int {
			n.t.Fatalf("port %+v", p)
		}
		last := p.Port.IntVal
		if p.EndPort != nil {
			last = *p.EndPort
		}
		return *p.Protocol == protocol && p.Port.IntVal <= port && port <= last
	})
}

func (n network) peer(policy *networkingv1.NetworkPolicy, peers []networkingv1.NetworkPolicyPeer, other endpoint) bool {
	n.t.Helper()
	return len(peers) == 0 || slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool {
		if peer.NamespaceSelector != nil || peer.IPBlock != nil || peer.PodSelector == nil {
			n.t.Fatalf("%s: peer %+v", policy.Name, peer)
		}
		return other.namespace == policy.Namespace && matches(n.t, peer.PodSelector, other.labels)
	})
}

// roleOf is what a pod is, as people would say it.
func roleOf(labels map[string]string) string {
	component := labels["app.kubernetes.io/component"]
	if labels["app.kubernetes.io/name"] == "app" && component != "application" && component != "migration" {
		return "worker"
	}
	return component
}

// pods are all that an environment has: of releases, of dumps and of jobs.
func (e environment) pods(t *testing.T) []endpoint {
	t.Helper()
	var all []endpoint
	for _, w := range workloadsOf(e.objects(t)) {
		all = append(all, endpoint{w.name, e.env.Platform.Namespace, w.template.Labels})
	}
	for _, job := range e.jobs {
		all = append(all, endpoint{job.Name, job.Namespace, job.Labels})
	}
	return all
}

// clientsOf are the roles whose pods are given the address of a role's port, as
// the design says it and not as the code does.
var clientsOf = map[string][]string{
	"database": {"application", "worker", "migration", "server", "schema", "backup"},
	"cache":    {"application", "worker", "migration"},
	"server":   {"application", "worker", "migration", "namespace", "web", "server"},
}

var portOf = map[string]int32{"database": 5432, "cache": 6379, "server": 7233, "web": 8080}

// TestNetworkPolicies: exactly the pods that are given a service's address may
// connect to it, with every label they have; workers, dumps and Temporal's page
// take no connections; anybody reaches the app. Of two policies that select
// other labels than the pods have, one would protect nothing and one shut out
// everybody.
func TestNetworkPolicies(t *testing.T) {
	judged := map[string]int{}
	for _, e := range environments(t) {
		n := network{t: t}
		for _, object := range e.objects(t) {
			if policy, ok := object.(*networkingv1.NetworkPolicy); ok {
				n.policies = append(n.policies, policy)
			}
		}
		if e.env.NetworkPolicy != "baseline" && e.env.NetworkPolicy != "strict" {
			if len(n.policies) > 0 {
				t.Errorf("%s: asked for none, got %d", e.name, len(n.policies))
			}
			continue
		}
		strict := e.env.NetworkPolicy == "strict"
		pods := e.pods(t)
		for _, policy := range n.policies {
			if !slices.ContainsFunc(pods, func(p endpoint) bool { return matches(t, &policy.Spec.PodSelector, p.labels) }) {
				t.Errorf("%s: %s selects no pod", e.name, policy.Name)
			}
		}
		for _, to := range pods {
			role := roleOf(to.labels)
			port := portOf[role]
			switch role {
			case "application":
				port = int32(e.env.App.Port)
			case "migration", "schema", "namespace":
				continue // nothing listens there
			case "worker", "backup":
				port = 1
			}
			for _, from := range pods {
				judged["inside"]++
				client := roleOf(from.labels)
				want := slices.Contains(clientsOf[role], client) ||
					role == "application" && !strict && client != "backup"
				if got := n.connects(from, to, corev1.ProtocolTCP, port); got != want {
					t.Errorf("%s: %s to %s: %v, want %v", e.name, from.name, to.name, got, want)
				}
				if n.connects(from, to, corev1.ProtocolTCP, 22) || n.connects(from, to, corev1.ProtocolUDP, port) {
					t.Errorf("%s: %s may reach more than a port of %s", e.name, from.name, to.name)
				}
				// The same labels elsewhere are somebody else's.
				elsewhere := endpoint{"elsewhere", "elsewhere", from.labels}
				if got := n.connects(elsewhere, to, corev1.ProtocolTCP, port); got != (role == "application") {
					t.Errorf("%s: %s from another namespace to %s: %v", e.name, from.name, to.name, got)
				}
				if !want || role == "application" {
					continue
				}
				// Each label counts: a pod that differs in one is a stranger.
				for _, key := range []string{"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", "forged.dev/environment"} {
					judged["strangers"]++
					stranger := endpoint{"stranger", from.namespace, maps.Clone(from.labels)}
					stranger.labels[key] = "stranger"
					if n.passes(networkingv1.PolicyTypeIngress, to, stranger, corev1.ProtocolTCP, port) {
						t.Errorf("%s: a pod with another %s may reach %s", e.name, key, to.name)
					}
				}
			}
		}
		judged[e.env.NetworkPolicy]++
	}
	if judged["inside"] < 100 || judged["strangers"] < 50 || judged["baseline"] == 0 || judged["strict"] == 0 {
		t.Errorf("too few pairs: %v", judged)
	}
}

// TestStrictNetwork: where pods open connections to. Names are looked up by
// whoever has one to look up; only the app's own pods reach the web.
func TestStrictNetwork(t *testing.T) {
	world := endpoint{name: "world"}
	strict := 0
	for _, e := range environments(t) {
		n := network{t: t}
		for _, object := range e.objects(t) {
			if policy, ok := object.(*networkingv1.NetworkPolicy); ok {
				n.policies = append(n.policies, policy)
			}
		}
		for _, from := range e.pods(t) {
			role := roleOf(from.labels)
			isApp := from.labels["app.kubernetes.io/name"] == "app"
			isServer := role == "database" || role == "cache"
			for _, to := range []struct {
				protocol corev1.Protocol
				port     int32
				want     bool // at the strict level
			}{
				{corev1.ProtocolUDP, 53, !isServer},
				{corev1.ProtocolTCP, 53, !isServer},
				{corev1.ProtocolTCP, 443, isApp},
				{corev1.ProtocolTCP, 80, false},
				{corev1.ProtocolTCP, 5432, false},
				{corev1.ProtocolTCP, 6443, false},
			} {
				want := to.want
				if e.env.NetworkPolicy != "strict" && (role != "backup" || e.env.NetworkPolicy != "baseline") {
					want = true
				}
				if got := n.connects(from, world, to.protocol, to.port); got != want {
					t.Errorf("%s: %s to %s port %d of the world: %v, want %v", e.name, from.name, to.protocol, to.port, got, want)
				}
			}
			if e.env.NetworkPolicy == "strict" {
				strict++
			}
		}
	}
	if strict < 8 {
		t.Errorf("only %d pods are held back: this test shows little", strict)
	}
}
