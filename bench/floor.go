package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// kinds are what a release of the benchmark is made of.
var kinds = []schema.GroupVersionResource{
	{Version: "v1", Resource: "serviceaccounts"},
	{Version: "v1", Resource: "configmaps"},
	{Version: "v1", Resource: "services"},
	{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
	{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"},
	{Group: "apps", Version: "v1", Resource: "deployments"},
	{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"},
	{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"},
}

const floorSuffix = "-floor"

// installFloor does the bare work of the install again, beside it: the same
// objects in as many other namespaces, server-side applied eight at a time by
// a client that knows nothing else, until every Deployment is available.
func (b *bench) installFloor(ctx context.Context) (time.Duration, error) {
	type item struct {
		gvr schema.GroupVersionResource
		obj *unstructured.Unstructured
	}
	var items []item
	namespaces := map[string]bool{}
	deployments := 0
	for _, gvr := range kinds {
		list, err := b.client.Resource(gvr).List(ctx, metav1.ListOptions{LabelSelector: "forged.dev/instance=bench"})
		if err != nil {
			return 0, err
		}
		for i := range list.Items {
			u := &list.Items[i]
			ns := u.GetNamespace() + floorSuffix
			namespaces[ns] = true
			bare := &unstructured.Unstructured{Object: map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind()}}
			for _, field := range []string{"spec", "data", "automountServiceAccountToken"} {
				if v, ok := u.Object[field]; ok {
					bare.Object[field] = v
				}
			}
			if gvr.Resource == "services" {
				for _, field := range []string{"clusterIP", "clusterIPs", "ipFamilies"} {
					unstructured.RemoveNestedField(bare.Object, "spec", field)
				}
			}
			labels := u.GetLabels()
			delete(labels, "forged.dev/instance")
			bare.SetLabels(labels)
			bare.SetName(u.GetName())
			bare.SetNamespace(ns)
			items = append(items, item{gvr, bare})
			if gvr.Resource == "deployments" {
				deployments++
			}
		}
	}
	typed, err := kubernetes.NewForConfig(b.rest)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	w, err := typed.AppsV1().Deployments(metav1.NamespaceAll).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	for ns := range namespaces {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
		u.SetName(ns)
		if _, err := b.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Apply(ctx, ns, u, metav1.ApplyOptions{FieldManager: "floor"}); err != nil {
			return 0, err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	go func() { // SetLimit makes Go block
		for _, it := range items {
			g.Go(func() error {
				_, err := b.client.Resource(it.gvr).Namespace(it.obj.GetNamespace()).Apply(gctx, it.obj.GetName(), it.obj, metav1.ApplyOptions{FieldManager: "floor"})
				return err
			})
		}
	}()
	available := map[string]bool{}
	limit := time.After(2 * time.Minute)
	for len(available) < deployments {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				return 0, errors.New("the watch ended")
			}
			d, isDeployment := e.Object.(*appsv1.Deployment)
			if isDeployment && e.Type != watch.Deleted && strings.HasSuffix(d.Namespace, floorSuffix) && d.Status.AvailableReplicas > 0 {
				available[d.Namespace+"/"+d.Name] = true
			}
		case <-limit:
			return 0, fmt.Errorf("%d of %d Deployments available after two minutes", len(available), deployments)
		}
	}
	took := time.Since(began)
	return took, g.Wait()
}
