package fks

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"forged.dev/forged/sandbox/edge"
)

// Annotations of a Service for the edge.
const (
	prefix           = "service.fly.io/" // and the name or number of a port, and one of:
	handlers         = "-handlers"
	protocols        = "-tls-alpn"
	tlsVersions      = "-tls-versions"
	selfSigned       = "-tls-default-self-signed"
	answerAnnotation = "sandbox.forged.dev/answer" // status with which what runs behind the Service answers
)

// Service implements edge.Network: names lead to addresses, and addresses to
// Services.
func (h *Host) Service(host string, port int) (edge.Service, bool) {
	addresses := []string{host}
	if _, err := netip.ParseAddr(host); err != nil {
		addresses = h.platform.Resolve(host)
	}
	for _, p := range h.up() {
		if s := p.services.Load(); s != nil {
			if found, ok := s.at(addresses, port); ok {
				return found, true
			}
		}
	}
	return edge.Service{}, false
}

// at is the Service of one of the addresses, if it has the port.
func (s *services) at(addresses []string, number int) (edge.Service, bool) {
	all, err := s.services.List(labels.Everything())
	if err != nil {
		return edge.Service{}, false // a lister over a cache does not fail
	}
	for _, service := range all {
		if !slices.ContainsFunc(service.Status.LoadBalancer.Ingress, func(one corev1.LoadBalancerIngress) bool {
			return one.IP != "" && slices.Contains(addresses, one.IP)
		}) {
			continue
		}
		for _, port := range service.Spec.Ports {
			if int(port.Port) == number && port.Protocol == corev1.ProtocolTCP {
				return s.served(service, port), true
			}
		}
	}
	return edge.Service{}, false
}

// served is what the edge does for a port of the Service.
func (s *services) served(service *corev1.Service, port corev1.ServicePort) edge.Service {
	about := func(what string) string {
		if value, ok := service.Annotations[prefix+strconv.Itoa(int(port.Port))+what]; ok {
			return value
		}
		return service.Annotations[prefix+port.Name+what]
	}
	asked := list(about(handlers))
	out := edge.Service{
		TLS:        slices.Contains(asked, "tls"),
		HTTP:       slices.Contains(asked, "http"),
		Protocols:  list(about(protocols)),
		SelfSigned: about(selfSigned) == "true",
		Certified: func(name string) bool {
			return strings.HasSuffix(name, "."+s.of.App+".fly.dev") || s.platform.CertificateServed(s.of.App, name)
		},
		Status: func() int { return s.answer(service.Namespace, service.Name, port.Name) },
	}
	out.MinVersion, out.MaxVersion = versions(list(about(tlsVersions)))
	return out
}

// answer is the status that the Service answers with now.
func (s *services) answer(namespace, name, port string) int {
	service, err := s.services.Services(namespace).Get(name)
	if err != nil || !s.ready(service, port) {
		return http.StatusServiceUnavailable
	}
	if status, err := strconv.Atoi(service.Annotations[answerAnnotation]); err == nil && status >= 200 && status <= 599 {
		return status
	}
	return http.StatusOK
}

// ready tells whether a pod takes what comes to the port. A port of a container
// that is named is known to nobody: Fly does not read the ports of containers.
func (s *services) ready(service *corev1.Service, port string) bool {
	all, err := s.slices.EndpointSlices(service.Namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service.Name}))
	if err != nil {
		return false // a lister over a cache does not fail
	}
	return slices.ContainsFunc(all, func(slice *discoveryv1.EndpointSlice) bool {
		return slices.ContainsFunc(slice.Ports, func(p discoveryv1.EndpointPort) bool { return ptr.Deref(p.Name, "") == port && p.Port != nil }) &&
			slices.ContainsFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool { return ptr.Deref(e.Conditions.Ready, true) })
	})
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// versions are the oldest and the newest of those that are named; 0: any.
func versions(names []string) (oldest, newest uint16) {
	for _, name := range names {
		version := map[string]uint16{"TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}[name]
		if version == 0 {
			continue
		}
		if oldest == 0 || version < oldest {
			oldest = version
		}
		newest = max(newest, version)
	}
	return oldest, newest
}
