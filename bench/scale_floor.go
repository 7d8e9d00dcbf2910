package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
)

// inFlight is how many requests the bare client has under way, as many as
// forged.
const inFlight = 8

// side runs f for each item, so many at a time.
func side[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for _, item := range items {
		g.Go(func() error { return f(ctx, item) })
	}
	return g.Wait()
}

// bare is one object of the floor.
type bare struct {
	gvr schema.GroupVersionResource
	obj *unstructured.Unstructured
}

// bareObjects are as many objects as the releases have, of the same contents,
// with as many labels and annotations, in as many other namespaces.
func (s *scale) bareObjects() (namespaces []string, all []bare, err error) {
	for e := range s.environments {
		ns := fmt.Sprintf("scale-floor-%02d", e)
		namespaces = append(namespaces, ns)
		for r := range perEnvironment {
			for i, k := range scaleKinds {
				u, err := parse(manifest(i, fmt.Sprintf("scale-e%02d-c%d", e, r)))
				if err != nil {
					return nil, nil, err
				}
				u.SetNamespace(ns)
				labels := u.GetLabels()
				labels["app.kubernetes.io/managed-by"], labels["bench.example/instance"] = "floor", "floor"
				u.SetLabels(labels)
				u.SetAnnotations(map[string]string{"bench.example/owner": fmt.Sprintf("e%02d/release/c%d", e, r)})
				all = append(all, bare{k.GroupVersionResource, u})
			}
		}
	}
	return namespaces, all, nil
}

func (b *bench) applyBare(ctx context.Context, it bare) error {
	_, err := b.client.Resource(it.gvr).Namespace(it.obj.GetNamespace()).
		Apply(ctx, it.obj.GetName(), it.obj, metav1.ApplyOptions{FieldManager: "floor", Force: true})
	return err
}

// floors of an install.
type floors struct {
	apply time.Duration // of the namespaces and objects
	helm  time.Duration // what helm install asks and writes besides
}

func (s *scale) floors(ctx context.Context) (f floors, err error) {
	namespaces, all, err := s.bareObjects()
	if err != nil {
		return f, err
	}
	began := time.Now()
	err = side(ctx, namespaces, func(ctx context.Context, name string) error {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
		u.SetName(name)
		_, err := s.client.Resource(core("namespaces")).Apply(ctx, name, u, metav1.ApplyOptions{FieldManager: "floor", Force: true})
		return err
	})
	if err != nil {
		return f, err
	}
	if err := side(ctx, all, s.applyBare); err != nil {
		return f, err
	}
	f.apply = time.Since(began)

	// Helm looks before it installs an object whether somebody else has put one there.
	began = time.Now()
	err = side(ctx, all, func(ctx context.Context, it bare) error {
		_, err := s.client.Resource(it.gvr).Namespace(it.obj.GetNamespace()).Get(ctx, it.obj.GetName()+"-other", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("an object that nobody made: %w", err)
	})
	if err != nil {
		return f, err
	}
	f.helm = time.Since(began)

	// Helm makes a record of each release and says in it later how it went.
	list, err := s.client.Resource(core("secrets")).List(ctx, metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil {
		return f, err
	}
	var records []*unstructured.Unstructured
	slices.SortFunc(list.Items, func(a, b unstructured.Unstructured) int {
		return strings.Compare(a.GetNamespace(), b.GetNamespace())
	})
	for i := range list.Items {
		was := &list.Items[i]
		if !strings.HasPrefix(was.GetNamespace(), "scale-") {
			continue
		}
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Secret", "type": "bench.example/record", "data": was.Object["data"],
		}}
		labels := was.GetLabels()
		delete(labels, "owner")
		u.SetLabels(labels)
		u.SetName(was.GetName())
		u.SetNamespace(namespaces[len(records)/perEnvironment])
		records = append(records, u)
	}
	if len(records) != s.releases() {
		return f, fmt.Errorf("%d records of Helm for %d releases", len(records), s.releases())
	}
	began = time.Now()
	err = side(ctx, records, func(ctx context.Context, u *unstructured.Unstructured) error {
		client := s.client.Resource(core("secrets")).Namespace(u.GetNamespace())
		made, err := client.Create(ctx, u, metav1.CreateOptions{FieldManager: "floor"})
		if err != nil {
			return err
		}
		made.SetLabels(map[string]string{"status": "deployed"})
		_, err = client.Update(ctx, made, metav1.UpdateOptions{FieldManager: "floor"})
		return err
	})
	f.helm += time.Since(began)
	return f, err
}

// healFloor applies every object of the floor again, after each was edited.
func (s *scale) healFloor(ctx context.Context) (time.Duration, error) {
	const ours = "bench.example/instance=floor"
	_, all, err := s.bareObjects()
	if err != nil {
		return 0, err
	}
	if err := s.editAll(ctx, ours); err != nil {
		return 0, err
	}
	restored, err := s.restored(ctx, ours, len(all))
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := side(ctx, all, s.applyBare); err != nil {
		return 0, err
	}
	if err := restored(); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// resources of the objects, each once.
func resources() []schema.GroupVersionResource {
	var all []schema.GroupVersionResource
	seen := map[schema.GroupVersionResource]bool{}
	for _, k := range scaleKinds {
		if !seen[k.GroupVersionResource] {
			seen[k.GroupVersionResource] = true
			all = append(all, k.GroupVersionResource)
		}
	}
	return all
}

// editAll changes a label of every object of the releases that a selector
// takes, as somebody with kubectl would.
func (s *scale) editAll(ctx context.Context, selector string) error {
	type item struct {
		gvr             schema.GroupVersionResource
		namespace, name string
	}
	meta, err := metadata.NewForConfig(s.rest)
	if err != nil {
		return err
	}
	var items []item
	for _, gvr := range resources() {
		list, err := meta.Resource(gvr).List(ctx, metav1.ListOptions{LabelSelector: selector + "," + stateLabel + "=" + stateWanted})
		if err != nil {
			return err
		}
		for _, m := range list.Items {
			items = append(items, item{gvr, m.Namespace, m.Name})
		}
	}
	if len(items) != s.objects() {
		return fmt.Errorf("%d objects to edit, want %d", len(items), s.objects())
	}
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, stateLabel, stateEdited)
	return side(ctx, items, func(ctx context.Context, it item) error {
		_, err := meta.Resource(it.gvr).Namespace(it.namespace).Patch(ctx, it.name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "somebody"})
		return err
	})
}

// restored begins to watch edited objects, and returns what waits until all of
// them are as they were.
func (s *scale) restored(ctx context.Context, selector string, n int) (func() error, error) {
	meta, err := metadata.NewForConfig(s.rest)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan struct{})
	found := 0
	for _, gvr := range resources() {
		o := metav1.ListOptions{LabelSelector: selector + "," + stateLabel + "=" + stateEdited}
		list, err := meta.Resource(gvr).List(ctx, o)
		if err != nil {
			cancel()
			return nil, err
		}
		found += len(list.Items)
		o.ResourceVersion = list.ResourceVersion
		w, err := meta.Resource(gvr).Watch(ctx, o)
		if err != nil {
			cancel()
			return nil, err
		}
		go func() { // ends with ctx
			for e := range w.ResultChan() {
				// It has left what the selector takes.
				if e.Type == watch.Deleted && left.Add(-1) == 0 {
					close(done)
				}
			}
		}()
	}
	if found != n {
		cancel()
		return nil, fmt.Errorf("%d objects are edited, want %d", found, n)
	}
	return func() error {
		defer cancel()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%d of %d objects are still edited", left.Load(), n), ctx.Err())
		}
	}, nil
}

// renewals counts the renewals of forged's leases from now on, from outside.
func (s *scale) renewals(ctx context.Context) (count func() int64, stop func(), err error) {
	leases := in("coordination.k8s.io", "v1", "leases")
	o := metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=forged"}
	list, err := s.client.Resource(leases).List(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	o.ResourceVersion = list.GetResourceVersion()
	w, err := s.client.Resource(leases).Watch(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	var n atomic.Int64
	go func() { // ends with the watch
		for e := range w.ResultChan() {
			if u, ok := e.Object.(*unstructured.Unstructured); ok && e.Type == watch.Modified && strings.HasPrefix(u.GetNamespace(), "scale-") {
				n.Add(1)
			}
		}
	}()
	return n.Load, w.Stop, nil
}
