package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	sigsyaml "sigs.k8s.io/yaml"

	"forged.dev/forged/internal/servicetest"
)

// others are the kinds whose objects controllers of others take up, and what
// they write.
var others = map[schema.GroupVersionResource]func(*unstructured.Unstructured) map[string]any{
	{Group: "cert-manager.io", Version: "v1", Resource: "issuers"}:        conditionReady,
	{Group: "cert-manager.io", Version: "v1", Resource: "clusterissuers"}: conditionReady,
	{Group: "cert-manager.io", Version: "v1", Resource: "certificates"}: func(o *unstructured.Unstructured) map[string]any {
		status := conditionReady(o)
		status["revision"] = int64(1)
		status["notAfter"] = time.Now().Add(90 * 24 * time.Hour).UTC().Format(time.RFC3339)
		status["renewalTime"] = time.Now().Add(60 * 24 * time.Hour).UTC().Format(time.RFC3339)
		return status
	},
	{Group: "networking.gke.io", Version: "v1", Resource: "managedcertificates"}: func(*unstructured.Unstructured) map[string]any {
		return map[string]any{"certificateStatus": "Active", "expireTime": time.Now().Add(90 * 24 * time.Hour).UTC().Format(time.RFC3339)}
	},
	{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}: func(o *unstructured.Unstructured) map[string]any {
		refs, _, _ := unstructured.NestedSlice(o.Object, "spec", "parentRefs")
		conditions := []any{condition("Accepted"), condition("ResolvedRefs")}
		return map[string]any{"parents": []any{map[string]any{"parentRef": refs[0], "controllerName": "example.com/gateway", "conditions": conditions}}}
	},
	{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"}: func(*unstructured.Unstructured) map[string]any {
		return map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": "203.0.113.1"}}}}
	},
	{Version: "v1", Resource: "pods"}: func(o *unstructured.Unstructured) map[string]any {
		all, _, _ := unstructured.NestedSlice(o.Object, "status", "containerStatuses")
		if o.GetLabels()["forged.dev/probe"] == "" || len(all) == 0 {
			return nil
		}
		ended, found, _ := unstructured.NestedMap(all[0].(map[string]any), "state", "terminated")
		if !found || ended["message"] == "{}" {
			return nil
		}
		ended["message"], ended["finishedAt"] = "{}", time.Now().UTC().Format(time.RFC3339)
		all[0].(map[string]any)["state"] = map[string]any{"terminated": ended}
		return map[string]any{"containerStatuses": all}
	},
}

func condition(name string) map[string]any {
	return map[string]any{"type": name, "status": "True", "reason": name, "message": "", "lastTransitionTime": "2026-03-01T12:00:00Z"}
}

func conditionReady(*unstructured.Unstructured) map[string]any {
	return map[string]any{"conditions": []any{condition("Ready")}}
}

func (r *restricted) dynamic() {
	r.Helper()
	var err error
	if r.objects, err = dynamic.NewForConfig(r.cluster.Config); err != nil {
		r.Fatal(err)
	}
}

// play has the controllers of others work until it is ended.
func (r *restricted) play() (end func()) {
	ctx, cancel := context.WithCancel(r.Context())
	var playing sync.WaitGroup
	playing.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		done := map[types.UID]bool{}
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for gvr, status := range others {
				r.act(ctx, gvr, status, done)
			}
		}
	})
	return func() { cancel(); playing.Wait() }
}

// act plays one controller once; kinds that are not there are nobody's.
func (r *restricted) act(ctx context.Context, gvr schema.GroupVersionResource, status func(*unstructured.Unstructured) map[string]any, done map[types.UID]bool) {
	list, err := r.objects.Resource(gvr).List(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	for _, o := range list.Items {
		if done[o.GetUID()] || !strings.HasPrefix(o.GetNamespace()+o.GetName(), r.cluster.Namespace) {
			continue
		}
		now := status(&o)
		if now == nil {
			continue
		}
		raw, _ := sigsyaml.Marshal(map[string]any{"status": now})
		raw, _ = sigsyaml.YAMLToJSON(raw)
		var api dynamic.ResourceInterface = r.objects.Resource(gvr)
		if o.GetNamespace() != "" {
			api = r.objects.Resource(gvr).Namespace(o.GetNamespace())
		}
		_, err := api.Patch(ctx, o.GetName(), types.MergePatchType, raw, metav1.PatchOptions{FieldManager: "controller"}, "status")
		done[o.GetUID()] = err == nil
	}
}

// install applies kinds of others and waits until they are served.
func (r *restricted) install(name string) {
	r.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "internal", "providers", "certificates", "testdata", "crds", name+".yaml"))
	if err != nil {
		r.Fatal(err)
	}
	api := r.objects.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for d := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096); ; {
		o := &unstructured.Unstructured{}
		if err := d.Decode(&o.Object); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			r.Fatal(err)
		}
		if _, err := api.Apply(r.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "admin", Force: true}); err != nil {
			r.Fatal(err)
		}
		r.until("established: "+o.GetName(), func() bool {
			live, err := api.Get(r.Context(), o.GetName(), metav1.GetOptions{})
			if err != nil {
				return false
			}
			list, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
			return slices.ContainsFunc(list, func(c any) bool {
				is := c.(map[string]any)
				return is["type"] == "Established" && is["status"] == "True"
			})
		})
	}
}

func (r *restricted) until(what string, ok func() bool) {
	r.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			r.Fatalf("not seen: %s", what)
		}
	}
}

// manager is cert-manager's controller, as far as it can be seen.
func (r *restricted) manager() {
	r.Helper()
	r.make("apps", "deployments", `{apiVersion: apps/v1, kind: Deployment, metadata: {name: cert-manager, labels: {app.kubernetes.io/name: cert-manager, app.kubernetes.io/component: controller}},
		spec: {selector: {matchLabels: {a: manager}}, template: {metadata: {labels: {a: manager}}, spec: {containers: [{name: a, image: "a/b:1"}]}}}}`)
}

func (r *restricted) gateway() {
	r.Helper()
	r.make("gateway.networking.k8s.io", "gateways", `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: web}, spec: {}}`)
}

func (r *restricted) make(group, resource, text string) {
	r.Helper()
	o := &unstructured.Unstructured{}
	if err := sigsyaml.Unmarshal([]byte(text), &o.Object); err != nil {
		r.Fatal(err)
	}
	gvr := schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}
	if _, err := r.objects.Resource(gvr).Namespace(r.cluster.Namespace).Create(r.Context(), o, metav1.CreateOptions{}); err != nil {
		r.Fatal(err)
	}
}

func (r *restricted) secret(name string, kind corev1.SecretType, data map[string]string) {
	r.Helper()
	o := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: kind, StringData: data}
	if _, err := r.cluster.Client.CoreV1().Secrets(r.cluster.Namespace).Create(r.Context(), o, metav1.CreateOptions{}); err != nil {
		r.Fatal(err)
	}
}

func (r *restricted) certificate() {
	r.Helper()
	cert, key := servicetest.NewAuthority(r.T, "ours").Sign(r.T, servicetest.Certificate{Hosts: []string{"shop.acme.test"}, Until: 100 * 24 * time.Hour})
	r.secret("mine", corev1.SecretTypeTLS, map[string]string{"tls.crt": cert, "tls.key": key})
}

func (r *restricted) services() {
	r.Helper()
	authority := servicetest.NewAuthority(r.T, "ours")
	cert, key := authority.Sign(r.T, servicetest.Certificate{Hosts: []string{"localhost"}})
	server := servicetest.StartPostgres(r.T, servicetest.PostgresOptions{Cert: cert, Key: key})
	server.SQL(r.T, "CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
	at := func(who, path string) string {
		return "postgresql://" + who + "@localhost:" + strings.TrimPrefix(path, ":")
	}
	port := strings.TrimSpace(server.SQL(r.T, "SHOW port"))
	r.secret("theirs", corev1.SecretTypeOpaque, map[string]string{
		"url": at("shop:y", port+"/shop"), "admin": at("admin:x", port+"/postgres"), "ca": authority.PEM, "redis": "redis://:z@redis.invalid:6379/0",
	})
}

func (r *restricted) second() {
	r.Helper()
	name := r.cluster.Namespace + "-eu"
	namespaces := r.cluster.Client.CoreV1().Namespaces()
	if _, err := namespaces.Create(r.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = namespaces.Delete(context.Background(), name, metav1.DeleteOptions{}) })
}

// meddle edits an object of every kind that the environment has, and deletes one
// of each kind of which nothing is lost by that.
func (r *restricted) meddle() {
	r.Helper()
	disco, err := discovery.NewDiscoveryClientForConfig(r.cluster.Config)
	check(r.T, err)
	lists, _ := disco.ServerPreferredResources() // an API that is being installed is nobody's here
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		check(r.T, err)
		for _, kind := range list.APIResources {
			if !slices.Contains(kind.Verbs, "patch") || !slices.Contains(kind.Verbs, "list") || strings.Contains(kind.Name, "/") {
				continue
			}
			r.meddleWith(gv.WithResource(kind.Name))
		}
	}
}

func (r *restricted) meddleWith(gvr schema.GroupVersionResource) {
	r.Helper()
	ctx := r.Context()
	list, err := r.objects.Resource(gvr).List(ctx, metav1.ListOptions{LabelSelector: "forged.dev/instance=" + r.cluster.Instance})
	if err != nil {
		return // it cannot be listed by anybody
	}
	for i, o := range list.Items {
		var api dynamic.ResourceInterface = r.objects.Resource(gvr)
		if o.GetNamespace() != "" {
			api = r.objects.Resource(gvr).Namespace(o.GetNamespace())
		}
		keep := []string{"Secret", "PersistentVolumeClaim", "Namespace", "ConfigMap", "Job", "ClusterIssuer", "Issuer"}
		if i == 0 && len(list.Items) > 1 && !slices.Contains(keep, o.GetKind()) {
			if err := api.Delete(ctx, o.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				r.Fatal(err)
			}
			continue
		}
		labels := slices.Sorted(maps.Keys(o.GetLabels()))
		labels = slices.DeleteFunc(labels, func(key string) bool { return !strings.HasPrefix(key, "app.kubernetes.io/") })
		if len(labels) == 0 {
			continue
		}
		patch := []byte(`{"metadata":{"labels":{"` + labels[len(labels)-1] + `":"edited"}}}`)
		if _, err := api.Patch(ctx, o.GetName(), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
			r.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}
