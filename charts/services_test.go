package charts_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
)

// TestServices: each Service finds pods, and the port it sends to is open.
func TestServices(t *testing.T) {
	for _, r := range renderings(t) {
		objects := decode(t, r.render(t))
		services := map[string]*corev1.Service{}
		for _, object := range objects {
			if service, ok := object.(*corev1.Service); ok {
				services[service.Name] = service
				if problems := validation.IsDNS1035Label(service.Name); len(problems) > 0 {
					t.Errorf("%s: %s: %v", r.name, service.Name, problems)
				}
				found := 0
				for _, w := range workloadsOf(objects) {
					if !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(w.template.Labels)) {
						continue
					}
					found++
					for _, port := range service.Spec.Ports {
						if !slices.ContainsFunc(w.template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == port.TargetPort.IntVal }) {
							t.Errorf("%s: %s sends to port %s, which %s does not have", r.name, service.Name, port.TargetPort.String(), w.name)
						}
						if port.Protocol != corev1.ProtocolTCP {
							t.Errorf("%s: %s: port without protocol", r.name, service.Name)
						}
					}
				}
				if found != 1 {
					t.Errorf("%s: %s selects pods of %d workloads", r.name, service.Name, found)
				}
			}
		}
		if services[r.release] == nil {
			t.Errorf("%s: no Service called like the release; there are %v", r.name, slices.Collect(maps.Keys(services)))
		}
		for _, object := range objects {
			switch o := object.(type) {
			case *appsv1.StatefulSet:
				if s := services[o.Spec.ServiceName]; s == nil || s.Spec.ClusterIP != corev1.ClusterIPNone {
					t.Errorf("%s: %s is governed by %q, which is not headless", r.name, o.Name, o.Spec.ServiceName)
				}
			case *networkingv1.Ingress:
				for _, rule := range o.Spec.Rules {
					backend := rule.HTTP.Paths[0].Backend.Service
					s := services[backend.Name]
					if rule.Host == "" || s == nil || s.Spec.Ports[0].Name != backend.Port.Name {
						t.Errorf("%s: ingress rule %+v", r.name, rule)
					}
				}
			case *unstructured.Unstructured:
				if o.GetKind() != "HTTPRoute" {
					continue
				}
				rules, _, _ := unstructured.NestedSlice(o.Object, "spec", "rules")
				for _, rule := range rules {
					backend := rule.(map[string]any)["backendRefs"].([]any)[0].(map[string]any)
					s := services[backend["name"].(string)]
					if s == nil || fmt.Sprint(s.Spec.Ports[0].Port) != fmt.Sprint(backend["port"]) {
						t.Errorf("%s: route rule %+v", r.name, rule)
					}
				}
			}
		}
	}
}
