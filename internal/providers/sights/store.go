package sights

import (
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// reduce keeps of an object what is looked at. Without its resource version,
// two that do not differ in that are equal.
func (k sightKey) reduce(obj *unstructured.Unstructured) *unstructured.Unstructured {
	kept := &unstructured.Unstructured{Object: map[string]any{}}
	for key, value := range obj.Object {
		if key != "metadata" {
			kept.Object[key] = value
		}
	}
	if k.gvr.Resource == "pods" {
		kept.Object = map[string]any{"status": serving(obj)}
	}
	kept.SetNamespace(obj.GetNamespace())
	kept.SetName(obj.GetName())
	kept.SetUID(obj.GetUID())
	kept.SetGeneration(obj.GetGeneration())
	kept.SetDeletionTimestamp(obj.GetDeletionTimestamp())
	kept.SetOwnerReferences(obj.GetOwnerReferences())
	if labels := obj.GetLabels(); labels != nil {
		kept.SetLabels(labels)
	}
	annotations := obj.GetAnnotations()
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	if len(annotations) > 0 {
		kept.SetAnnotations(annotations)
	}
	return kept
}

// serving is what a pod's status says about whether it serves. The rest of it
// changes more often.
func serving(pod *unstructured.Unstructured) map[string]any {
	phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
	kept := map[string]any{"phase": phase}
	conditions, _, _ := unstructured.NestedSlice(pod.Object, "status", "conditions")
	for _, item := range conditions {
		if c, _ := item.(map[string]any); c["type"] == "Ready" {
			kept["conditions"] = []any{map[string]any{"type": "Ready", "status": c["status"]}}
		}
	}
	return kept
}

// KeyOf tells objects of a kind apart.
func KeyOf(obj *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// Add implements cache.ReflectorStore.
func (w *sight) Add(obj any) error { return w.Update(obj) }

// Update implements cache.ReflectorStore.
func (w *sight) Update(obj any) error {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("watch of %s: unexpected %T", w.key, obj)
	}
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	now := maps.Clone(w.objects)
	if now == nil {
		now = map[types.NamespacedName]*unstructured.Unstructured{}
	}
	now[KeyOf(u)] = w.key.reduce(u)
	w.set(now)
	return nil
}

// Delete implements cache.ReflectorStore.
func (w *sight) Delete(obj any) error {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("watch of %s: unexpected %T", w.key, obj)
	}
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	now := maps.Clone(w.objects)
	delete(now, KeyOf(u))
	w.set(now)
	return nil
}

// Replace implements cache.ReflectorStore: this is all there is.
func (w *sight) Replace(list []any, _ string) error {
	now := make(map[types.NamespacedName]*unstructured.Unstructured, len(list))
	for _, obj := range list {
		u, ok := obj.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("watch of %s: unexpected %T", w.key, obj)
		}
		now[KeyOf(u)] = w.key.reduce(u)
	}
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	w.set(now)
	return nil
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (w *sight) Resync() error { return nil }
