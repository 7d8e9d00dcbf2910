package kubernetes

import (
	"context"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

const widgetCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              colour: {type: string}
              size: {type: integer, default: 3}
              tags: {type: array, items: {type: string}, x-kubernetes-list-type: atomic}
          status:
            type: object
            properties: {phase: {type: string}}`

func contextForCleanup() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// customResource defines kind Widget in a group of the test's own.
func (b *bed) customResource() (group string) {
	b.t.Helper()
	group = b.Instance + ".test.forged.dev"
	crds := b.c.Dynamic().Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	crd, err := crds.Create(b.t.Context(), parse(b.t, strings.ReplaceAll(widgetCRD, "GROUP", group)), metav1.CreateOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := contextForCleanup()
		defer cancel()
		if err := crds.Delete(ctx, crd.GetName(), metav1.DeleteOptions{}); err != nil {
			b.t.Error(err)
		}
	})
	w, err := crds.Watch(b.t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + crd.GetName()})
	if err != nil {
		b.t.Fatal(err)
	}
	defer w.Stop()
	timeout := time.After(patience)
	for {
		select {
		case e := <-w.ResultChan():
			obj, ok := e.Object.(*unstructured.Unstructured)
			if !ok {
				b.t.Fatalf("watch of the definition: %v", e)
			}
			for _, c := range items(obj.Object, "status", "conditions") {
				if c["type"] == "Established" && c["status"] == "True" {
					b.awaitGroup(group)
					return group
				}
			}
		case <-timeout:
			b.t.Fatal("the definition is not established")
		}
	}
}

// nextSecond waits until the second of an object's last change is over.
func (b *bed) nextSecond(obj *unstructured.Unstructured) {
	e := entryOf(obj.GetManagedFields(), b.c.Manager())
	if e == nil || e.Time == nil {
		return
	}
	timer := time.NewTimer(time.Until(e.Time.Add(1100 * time.Millisecond)))
	defer timer.Stop()
	<-timer.C
}

// awaitGroup waits until discovery lists a group: that comes a moment after
// its definition is established, and nothing tells when.
func (b *bed) awaitGroup(group string) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for {
		_, lists, err := b.Client.Discovery().ServerGroupsAndResources()
		if err != nil && !discovery.IsGroupDiscoveryFailedError(err) { // of another test's group, or not yet
			b.t.Fatal(err)
		}
		if slices.ContainsFunc(lists, func(l *metav1.APIResourceList) bool {
			return strings.HasPrefix(l.GroupVersion, group+"/") && len(l.APIResources) > 0
		}) {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			b.t.Fatalf("group %s is not served", group)
		}
	}
}
