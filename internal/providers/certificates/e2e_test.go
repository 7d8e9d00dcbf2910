package certificates

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	language "forged.dev/forged/schema"
)

var update = flag.Bool("update", false, "write what the tests find into their golden files")

var (
	ingressesGVR   = networkingv1.SchemeGroupVersion.WithResource("ingresses")
	classesGVR     = networkingv1.SchemeGroupVersion.WithResource("ingressclasses")
	servicesGVR    = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	routesGVR      = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
	frontendsGVR   = schema.GroupVersionResource{Group: "networking.gke.io", Version: "v1beta1", Resource: "frontendconfigs"}
	middlewaresGVR = schema.GroupVersionResource{Group: "traefik.io", Version: "v1alpha1", Resource: "middlewares"}
)

// Each way to expose the app, from forge.cue to objects that an API server has
// taken, with the controllers of others played by the test. What there is in
// the end is a golden file.
func TestExposureEndToEnd(t *testing.T) {
	signed := mustSign(t, []string{"shop.acme.test"}, 100*24*time.Hour, time.Now(), nil)
	for _, tt := range []struct {
		name    string
		expose  string // and what else differs
		kinds   string // of others
		class   string // of Ingresses
		before  func(*rig)
		play    func(*rig) // the controllers, now and then
		objects []schema.GroupVersionResource
		expires bool
		notices []string
	}{
		{
			name:    "minikube",
			expose:  `platform: kind: "minikube", expose: {kind: "ingress", tls: mode: "self-signed"}`,
			class:   "nginx",
			objects: []schema.GroupVersionResource{ingressesGVR}, expires: true,
			notices: []string{`wanted: the line "203.0.113.1 shop.acme.test" in /etc/hosts`},
		},
		{
			name: "cert-manager",
			expose: `platform: kind: "kubernetes", expose: {kind: "ingress", className: "nginx", tls: {
				mode: "cert-manager", issuer: {kind: "Issuer", create: {email: "ops@acme.test", server: "staging"}}}}`,
			class: "nginx", kinds: "cert-manager",
			before:  func(r *rig) { r.t.Cleanup(r.controller(componentDoing, "")) },
			play:    playManager,
			objects: []schema.GroupVersionResource{ingressesGVR, issuersGVR, certificatesGVR}, expires: true,
			notices: []string{"wanted: shop.acme.test A 203.0.113.1"},
		},
		{
			name:   "gateway",
			expose: `platform: kind: "kubernetes", expose: {kind: "gateway", gateway: name: "web"}`,
			kinds:  "gateway",
			before: func(r *rig) {
				r.make(gatewaysGVR, map[string]any{
					"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": meta(r.Namespace, "web"), "spec": map[string]any{},
					"status": map[string]any{"addresses": []any{map[string]any{"type": "Hostname", "value": "gw.cloud.test"}}},
				})
			},
			play:    playGateway,
			objects: []schema.GroupVersionResource{routesGVR},
			notices: []string{"wanted: shop.acme.test CNAME gw.cloud.test"},
		},
		{
			name: "gke",
			expose: `platform: {kind: "kubernetes", distribution: "gke"}, expose: {kind: "ingress", className: "gce", tls: {
				mode: "gke-managed", staticIP: "shop-ip"}}`,
			kinds:   "gke",
			play:    playGoogle,
			objects: []schema.GroupVersionResource{ingressesGVR, managedGVR, frontendsGVR}, expires: true,
			notices: []string{"wanted: shop.acme.test A 203.0.113.1"},
		},
		{
			name: "eks",
			expose: `platform: {kind: "kubernetes", distribution: "eks"}, expose: {kind: "ingress", tls: {
				mode: "acm", arn: "arn:aws:acm:eu-central-1:123456789012:certificate/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"}}`,
			class:   "alb",
			objects: []schema.GroupVersionResource{ingressesGVR},
			notices: []string{"is not checked", "wanted: shop.acme.test A 203.0.113.1"},
		},
		{
			name: "aks",
			expose: `platform: {kind: "kubernetes", distribution: "aks"}, expose: {kind: "ingress", className: "webapprouting.kubernetes.azure.com", redirectHTTP: false, tls: {
				mode: "secret", secretName: "mine"}}`,
			class:   "webapprouting.kubernetes.azure.com",
			before:  func(r *rig) { r.give("mine", signed) },
			objects: []schema.GroupVersionResource{ingressesGVR}, expires: true,
			notices: []string{"wanted: shop.acme.test A 203.0.113.1"},
		},
		{
			name: "traefik",
			expose: `platform: kind: "kubernetes", expose: {kind: "ingress", className: "traefik", tls: {
				mode: "secret", secretName: "mine"}}`,
			class: "traefik", kinds: "traefik",
			before:  func(r *rig) { r.give("mine", signed) },
			objects: []schema.GroupVersionResource{ingressesGVR, middlewaresGVR}, expires: true,
			notices: []string{"wanted: shop.acme.test A 203.0.113.1"},
		},
		{
			name: "loadbalancer",
			expose: `platform: {kind: "kubernetes", distribution: "eks"}, expose: {kind: "loadbalancer", tls: {
				mode: "acm", arn: "arn:aws:acm:eu-central-1:123456789012:certificate/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"}}`,
			objects: []schema.GroupVersionResource{servicesGVR},
			notices: []string{"is not checked"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			_, r.names = newZone(t)
			if tt.kinds != "" {
				r.install(tt.kinds)
			}
			if tt.class != "" {
				r.class(tt.class)
			}
			if tt.before != nil {
				tt.before(r)
			}
			status := r.converged(tt.expose, tt.play)
			var expires bool
			var notices []string
			for _, s := range status.Environments[0].Resources {
				if s.State != reconcile.StateReady {
					t.Errorf("%s is %s: %s", s.ID, s.State, s.Message)
				}
				expires = expires || !s.Expires.IsZero()
				for _, n := range s.Notices {
					notices = append(notices, n.Message)
				}
			}
			if expires != tt.expires {
				t.Errorf("when the certificate expires is known: %v", expires)
			}
			all := strings.Join(notices, "\n")
			for _, want := range tt.notices {
				if !strings.Contains(all, want) {
					t.Errorf("no notice has %q:\n%s", want, all)
				}
			}
			if len(notices) != len(tt.notices) {
				t.Errorf("notices:\n%s", all)
			}
			r.golden(tt.name, tt.objects)
		})
	}
}

// class makes an IngressClass that the sandbox serves.
func (r *rig) class(name string) {
	r.t.Helper()
	_, err := r.dynamic.Resource(classesGVR).Create(r.t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": meta("", name),
		"spec": map[string]any{"controller": "sandbox.forged.dev/ingress"},
	}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		r.t.Fatal(err)
	}
}

// converged runs the engine until nothing moves any more.
func (r *rig) converged(expose string, play func(*rig)) reconcile.Status {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "forge.cue")
	domains := `domains: ["shop.acme.test"]`
	if strings.Contains(expose, "loadbalancer") {
		domains = "" // nothing tells it of them
	}
	text := fmt.Sprintf(`
		forge: "v1"
		app: {name: "shop", image: {repository: "registry.acme.test/shop", tag: "1.0.0"}}
		environments: prod: {
			%s
			platform: {kubeconfig: %q, context: %q, namespace: %q, createNamespace: false}
			%s
			policy: mode: "apply"
			services: {postgres: mode: "off", redis: mode: "off"}
		}
	`, strings.ReplaceAll(expose, ", expose:", "\n expose:"), r.Kubeconfig, r.Context, r.Namespace, domains)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	source, err := language.Read(file)
	if err != nil {
		r.t.Fatal(err)
	}
	f, _, err := language.Load(r.t.Context(), source, compile.Check)
	if err != nil {
		r.t.Fatal(err)
	}
	if gaps := compile.Gaps(f); len(gaps) > 0 {
		r.t.Fatalf("it is said not to be done: %v", gaps)
	}
	env := f.Environments[0]
	resources, err := compile.Environment(env)
	if err != nil {
		r.t.Fatal(err)
	}
	clusters := kubernetes.NewClusters(kubernetes.Options{Instance: r.Instance})
	defer clusters.Close()
	all := New(Options{Clusters: clusters, Resolver: r.names})
	engine := reconcile.New(reconcile.Options{Providers: map[string]reconcile.Provider{
		forge.KindNamespace:   kubernetes.NewNamespaces(clusters),
		forge.KindSecrets:     kubernetes.NewSecrets(clusters, &secret.Resolver{}),
		forge.KindRelease:     helm.New(helm.Options{Clusters: clusters}),
		forge.KindCertificate: all.Certificates,
		forge.KindIssuer:      all.Issuers,
		forge.KindDNS:         all.DNS,
	}})
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*patience)
	defer cancel()
	var playing sync.WaitGroup
	stop := make(chan struct{})
	playing.Go(func() {
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-tick.C:
				if play != nil {
					play(r)
				}
			case <-stop:
				tick.Stop()
				return
			}
		}
	})
	defer playing.Wait()
	defer close(stop)
	status, err := engine.Converge(ctx, reconcile.Generation{Number: 1, Environments: []reconcile.Environment{{
		Name: env.Name, Platform: env.Platform.Kind, Target: r.Context, Policy: env.Policy, Resources: resources,
	}}})
	if err != nil {
		r.t.Fatalf("%v\n%+v", err, status.Environments)
	}
	return status
}

// each hands over every object of a kind that has no status yet.
func (r *rig) each(gvr schema.GroupVersionResource, f func(*unstructured.Unstructured)) {
	list, err := r.dynamic.Resource(gvr).Namespace(r.Namespace).List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Error(err)
		return
	}
	for i := range list.Items {
		if list.Items[i].Object["status"] == nil {
			f(&list.Items[i])
		}
	}
}

func playManager(r *rig) {
	r.each(issuersGVR, func(obj *unstructured.Unstructured) {
		r.status(issuersGVR, r.Namespace, obj.GetName(), map[string]any{"conditions": conditions([4]string{"Ready", "True", "ACMEAccountRegistered", "done"})})
	})
	r.each(certificatesGVR, func(obj *unstructured.Unstructured) {
		r.status(certificatesGVR, r.Namespace, obj.GetName(), map[string]any{
			"conditions": conditions([4]string{"Ready", "True", "Ready", "done"}), "revision": 1,
			"notAfter": time.Now().Add(90 * 24 * time.Hour).UTC().Format(time.RFC3339), "renewalTime": time.Now().Add(60 * 24 * time.Hour).UTC().Format(time.RFC3339),
		})
	})
}

func playGateway(r *rig) {
	r.each(routesGVR, func(obj *unstructured.Unstructured) {
		refs, _, _ := unstructured.NestedSlice(obj.Object, "spec", "parentRefs")
		r.status(routesGVR, r.Namespace, obj.GetName(), map[string]any{"parents": []any{map[string]any{
			"parentRef": refs[0], "controllerName": "example.com/gateway",
			"conditions": conditions([4]string{"Accepted", "True", "Accepted", ""}, [4]string{"ResolvedRefs", "True", "ResolvedRefs", ""}),
		}}})
	})
}

// playGoogle also gives the address: Google's controller goes by the annotation
// and has no IngressClass.
func playGoogle(r *rig) {
	list, err := r.dynamic.Resource(ingressesGVR).Namespace(r.Namespace).List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Error(err)
		return
	}
	for _, obj := range list.Items {
		_, named, _ := unstructured.NestedString(obj.Object, "spec", "ingressClassName")
		if addresses, _, _ := unstructured.NestedSlice(obj.Object, "status", "loadBalancer", "ingress"); len(addresses) == 0 && !named && obj.GetAnnotations()["kubernetes.io/ingress.class"] == "gce" {
			r.status(ingressesGVR, r.Namespace, obj.GetName(), map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": "203.0.113.1"}}}})
		}
	}
	r.each(managedGVR, func(obj *unstructured.Unstructured) {
		r.status(managedGVR, r.Namespace, obj.GetName(), map[string]any{
			"certificateStatus": "Active", "expireTime": time.Now().Add(90 * 24 * time.Hour).UTC().Format(time.RFC3339),
		})
	})
}

// golden compares what is in the cluster with a file.
func (r *rig) golden(name string, kinds []schema.GroupVersionResource) {
	r.t.Helper()
	var b strings.Builder
	for _, gvr := range kinds {
		list, err := r.dynamic.Resource(gvr).Namespace(r.Namespace).List(r.t.Context(), metav1.ListOptions{})
		if err != nil {
			r.t.Fatal(err)
		}
		if len(list.Items) == 0 {
			r.t.Errorf("there is no %s", gvr.Resource)
		}
		for _, obj := range list.Items {
			annotations := obj.GetAnnotations()
			maps.DeleteFunc(annotations, func(key, _ string) bool {
				return strings.HasPrefix(key, "forged.dev/") || strings.HasPrefix(key, "meta.helm.sh/")
			})
			shown := map[string]any{"kind": obj.GetKind(), "name": obj.GetName(), "spec": obj.Object["spec"]}
			if len(annotations) > 0 {
				shown["annotations"] = annotations
			}
			if spec, ok := obj.Object["spec"].(map[string]any); ok && obj.GetKind() == "Service" {
				for _, given := range []string{"clusterIP", "clusterIPs", "loadBalancerIP"} {
					delete(spec, given)
				}
				ports, _ := spec["ports"].([]any)
				for _, port := range ports {
					delete(port.(map[string]any), "nodePort")
				}
			}
			raw, err := yaml.Marshal(shown)
			if err != nil {
				r.t.Fatal(err)
			}
			fmt.Fprintf(&b, "---\n%s", raw)
		}
	}
	got := strings.ReplaceAll(b.String(), r.Namespace, "NAMESPACE")
	path := filepath.Join("testdata", "e2e", name+".golden.yaml")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	if got != string(want) {
		r.t.Errorf("%s differs (-update writes it):\n%s", path, got)
	}
}
