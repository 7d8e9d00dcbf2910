package charts_test

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"forged.dev/forged/internal/forge"
)

// objects are those of all releases of an environment.
func (e environment) objects(t *testing.T) []runtime.Object {
	t.Helper()
	var all []runtime.Object
	for _, r := range e.releases {
		all = append(all, decode(t, r.render(t))...)
	}
	return all
}

// join builds a joined secret as its provider does, every password being "pw".
func join(parts []forge.SecretPart) string {
	var text strings.Builder
	for _, part := range parts {
		text.WriteString(part.Literal)
		if part.Secret != "" {
			text.WriteString("pw")
		}
	}
	return text.String()
}

// TestAddresses: the URLs that the app is given lead to the Services that are
// rendered, to the database that is made and to the role it is made for.
func TestAddresses(t *testing.T) {
	addresses := 0
	for _, e := range environments(t) {
		services := map[string]*corev1.Service{}
		config := map[string]string{}
		variables := map[string]map[string]string{} // of the servers, by release
		for _, object := range e.objects(t) {
			switch o := object.(type) {
			case *corev1.Service:
				services[o.Name] = o
			case *corev1.ConfigMap:
				config = o.Data
			case *appsv1.StatefulSet:
				variables[o.Name] = map[string]string{}
				for _, v := range o.Spec.Template.Spec.Containers[0].Env {
					variables[o.Name][v.Name] = v.Value
				}
			}
		}
		for _, object := range e.secrets.Secrets {
			for _, entry := range object.Entries {
				if entry.Join == nil {
					continue
				}
				addresses++
				id := e.name + " " + entry.Key
				address, err := url.Parse(join(entry.Join))
				if err != nil {
					t.Fatalf("%s: %v", id, err)
				}
				service := services[address.Hostname()]
				if service == nil {
					t.Fatalf("%s: no Service %q among %v", id, address.Hostname(), slices.Collect(maps.Keys(services)))
				}
				if got := strconv.Itoa(int(service.Spec.Ports[0].Port)); got != address.Port() {
					t.Errorf("%s: port %s, the Service has %s", id, address.Port(), got)
				}
				if password, _ := address.User.Password(); password != "pw" {
					t.Errorf("%s: no password in %s", id, address.Redacted())
				}
				if address.Scheme == "redis" {
					continue
				}
				server := variables[address.Hostname()]
				for name, want := range map[string]string{
					"APP_DB":      strings.TrimPrefix(address.Path, "/"),
					"APP_DB_USER": address.User.Username(),
				} {
					if config[name] != want {
						t.Errorf("%s: %s is %q, the URL says %q", id, name, config[name], want)
					}
				}
				if server["POSTGRES_DB"] != config["APP_DB"] || server["POSTGRES_USER"] != config["APP_DB_USER"] {
					t.Errorf("%s: the server makes %v, the app wants %v", id, server, config)
				}
			}
		}
	}
	if addresses < 4 {
		t.Errorf("only %d addresses: this test shows little", addresses)
	}
}

// TestSecretsAreThere: pods name only Secrets and keys that are made, and are
// rolled when any of them changes.
func TestSecretsAreThere(t *testing.T) {
	uses := 0
	for _, e := range environments(t) {
		keys := map[string][]string{}
		for _, object := range e.secrets.Secrets {
			for _, entry := range object.Entries {
				keys[object.Name] = append(keys[object.Name], entry.Key)
			}
		}
		for _, w := range workloadsOf(e.objects(t)) {
			id := e.name + " " + w.name
			var used []string
			for _, c := range w.template.Spec.Containers {
				for _, from := range c.EnvFrom {
					if from.SecretRef != nil {
						used = append(used, from.SecretRef.Name)
					}
				}
				for _, v := range c.Env {
					if v.ValueFrom == nil {
						continue
					}
					ref := v.ValueFrom.SecretKeyRef
					used = append(used, ref.Name)
					if !slices.Contains(keys[ref.Name], ref.Key) {
						t.Errorf("%s: no key %s in Secret %s", id, ref.Key, ref.Name)
					}
				}
			}
			for _, name := range used {
				uses++
				if keys[name] == nil {
					t.Errorf("%s: no Secret %s", id, name)
				}
				if got, want := w.template.Annotations["checksum.forged.dev/secret."+name], "checksum-of-checksum/"+name; got != want {
					t.Errorf("%s: checksum of %s is %q, want %q", id, name, got, want)
				}
			}
			if got := len(w.template.Annotations) - len(used); got > 1 {
				t.Errorf("%s is rolled by more than what it reads: %v", id, w.template.Annotations)
			}
		}
	}
	if uses == 0 {
		t.Error("no pod uses a Secret: this test shows nothing")
	}
}

// TestConfigChecksum: a changed variable rolls the pods, an unchanged one does not.
func TestConfigChecksum(t *testing.T) {
	const annotation = "checksum.forged.dev/config"
	checksums := func(values map[string]any) map[string]string {
		got := map[string]string{}
		for _, w := range workloadsOf(decode(t, mustRender(t, "app", "shop", "shop", values))) {
			got[w.name] = w.template.Annotations[annotation]
		}
		return got
	}
	var values map[string]any
	for _, set := range valueSets(t, "app") {
		if set.name == "app/full" {
			values = set.values
		}
	}
	before := checksums(values)
	other := clone(values)
	other["port"] = int64(9)
	if got := checksums(other); !maps.Equal(got, before) {
		t.Errorf("the port changed the checksum of the variables: %v, %v", before, got)
	}
	values["env"].(map[string]any)["LOG_LEVEL"] = "DEBUG"
	after := checksums(values)
	if len(after) != 3 {
		t.Fatalf("want the app and two workers: %v", after)
	}
	for name := range after {
		if after[name] == before[name] || after[name] == "" {
			t.Errorf("%s: a changed variable left the checksum at %q", name, after[name])
		}
	}
}

// allowed tells whether the policies let a pod of the labels from, in the
// namespace fromNamespace, connect to a pod of the labels to, in namespace.
// It knows what our policies use and refuses to guess about the rest.
func allowed(t *testing.T, policies []*networkingv1.NetworkPolicy, namespace string, to map[string]string, port int32, fromNamespace string, from map[string]string) bool {
	t.Helper()
	selected := false
	for _, policy := range policies {
		if policy.Namespace != namespace || !matches(t, &policy.Spec.PodSelector, to) {
			continue
		}
		if !slices.Equal(policy.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}) {
			t.Fatalf("%s: policy types %v", policy.Name, policy.Spec.PolicyTypes)
		}
		selected = true
		for _, rule := range policy.Spec.Ingress {
			if !slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool {
				return *p.Protocol == corev1.ProtocolTCP && p.EndPort == nil && p.Port.IntVal == port
			}) {
				continue
			}
			if len(rule.From) == 0 {
				return true
			}
			for _, peer := range rule.From {
				if peer.NamespaceSelector != nil || peer.IPBlock != nil || peer.PodSelector == nil {
					t.Fatalf("%s: peer %+v", policy.Name, peer)
				}
				if fromNamespace == namespace && matches(t, peer.PodSelector, from) {
					return true
				}
			}
		}
	}
	return !selected
}

// TestNetworkPolicies: exactly the pods that are given a service's address may
// connect to it; workers take no connections; anybody reaches the app's port.
func TestNetworkPolicies(t *testing.T) {
	judged := map[string]int{}
	for _, e := range environments(t) {
		if e.env.NetworkPolicy != "baseline" {
			for _, object := range e.objects(t) {
				if policy, ok := object.(*networkingv1.NetworkPolicy); ok {
					t.Errorf("%s: asked for none, got %s", e.name, policy.Name)
				}
			}
			continue
		}
		objects := e.objects(t)
		var policies []*networkingv1.NetworkPolicy
		for _, object := range objects {
			if policy, ok := object.(*networkingv1.NetworkPolicy); ok {
				policies = append(policies, policy)
			}
		}
		pods := workloadsOf(objects)
		if len(policies) != len(pods) {
			t.Errorf("%s: %d policies for %d workloads", e.name, len(policies), len(pods))
		}
		namespace := e.env.Platform.Namespace
		isClient := func(w workload) bool { return w.template.Labels["app.kubernetes.io/name"] == "app" }
		for _, to := range pods {
			isApp := to.name == e.env.App.Name
			isWorker := isClient(to) && !isApp
			port := int32(1)
			if ports := to.template.Spec.Containers[0].Ports; len(ports) > 0 {
				port = ports[0].ContainerPort
			}
			for _, from := range pods {
				judged["inside"]++
				want := isApp || (!isWorker && isClient(from))
				if got := allowed(t, policies, namespace, to.template.Labels, port, namespace, from.template.Labels); got != want {
					t.Errorf("%s: %s to %s: allowed %v, want %v", e.name, from.name, to.name, got, want)
				}
				if allowed(t, policies, namespace, to.template.Labels, 22, namespace, from.template.Labels) {
					t.Errorf("%s: %s may reach port 22 of %s", e.name, from.name, to.name)
				}
				// The same labels elsewhere are somebody else's.
				if got := allowed(t, policies, namespace, to.template.Labels, port, "elsewhere", from.template.Labels); got != isApp {
					t.Errorf("%s: %s from another namespace to %s: allowed %v", e.name, from.name, to.name, got)
				}
				// Each label counts: a pod that differs in one is a stranger.
				if !isClient(from) || isClient(to) {
					continue
				}
				for _, key := range []string{"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", "forged.dev/environment"} {
					judged["strangers"]++
					stranger := maps.Clone(from.template.Labels)
					stranger[key] = "stranger"
					if allowed(t, policies, namespace, to.template.Labels, port, namespace, stranger) {
						t.Errorf("%s: a pod with another %s may reach %s", e.name, key, to.name)
					}
				}
			}
		}
	}
	if judged["inside"] < 20 || judged["strangers"] < 20 {
		t.Errorf("too few pairs: %v", judged)
	}
}
