package main

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	bystanderName = "of-somebody-else"

	strictName  = "soak-env"     // nobody may add to its data
	ignoredName = "soak-hazards" // how many replicas it has is somebody else's business
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// bystander makes an object that is none of forged's business.
func (s *soak) bystander(ctx context.Context) error {
	_, err := s.objects.Resource(configMaps).Namespace(namespace).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": bystanderName}, "data": map[string]any{"a": "b"},
	}}, metav1.CreateOptions{})
	return err
}

// snapshot is everything in the environment's namespace that nobody makes but
// those who are asked for it, without what the cluster itself writes.
func (s *soak) snapshot(ctx context.Context) (map[string]map[string]any, error) {
	all := map[string]map[string]any{}
	scaled := map[string]bool{}
	for _, kind := range s.kinds {
		list, err := s.objects.Resource(kind).Namespace(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", kind.Resource, err)
		}
		for _, o := range list.Items {
			if !interesting(o) {
				continue
			}
			all[o.GetKind()+"/"+o.GetName()] = tidy(o)
			if o.GetKind() == "HorizontalPodAutoscaler" {
				target, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
				scaled["Deployment/"+target] = true
			}
		}
	}
	scaled["Deployment/"+ignoredName] = true
	for name := range scaled {
		if o, ok := all[name]; ok { // the autoscaler's business
			unstructured.RemoveNestedField(o, "spec", "replicas")
		}
	}
	return all, nil
}

func interesting(o unstructured.Unstructured) bool {
	kind, _, _ := unstructured.NestedString(o.Object, "type")
	return metav1.GetControllerOf(&o) == nil &&
		!strings.HasPrefix(kind, "helm.sh/release") && // history is not live
		!strings.HasPrefix(o.GetName(), "forged-inventory") && o.GetName() != "kube-root-ca.crt" &&
		o.GetLabels()["forged.dev/inventory"] == ""
}

// tidy drops what the cluster itself writes. The uid of a claim stays: another
// one is another disk.
func tidy(o unstructured.Unstructured) map[string]any {
	out := o.DeepCopy().Object
	if o.GetKind() == "PersistentVolumeClaim" || o.GetName() == bystanderName {
		out["uid"] = string(o.GetUID())
	}
	if o.GetName() == bystanderName {
		out["resourceVersion"] = o.GetResourceVersion()
	}
	for _, field := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "finalizers"} {
		unstructured.RemoveNestedField(out, "metadata", field)
	}
	for _, path := range [][]string{
		{"status"},
		{"spec", "clusterIP"},
		{"spec", "clusterIPs"},
		{"spec", "healthCheckNodePort"},
		{"metadata", "annotations", "deployment.kubernetes.io/revision"},
	} {
		unstructured.RemoveNestedField(out, path...)
	}
	if ports, ok, _ := unstructured.NestedSlice(out, "spec", "ports"); ok && o.GetKind() == "Service" {
		for _, p := range ports {
			delete(p.(map[string]any), "nodePort")
		}
		_ = unstructured.SetNestedSlice(out, ports, "spec", "ports") // it was one
	}
	return out
}

// differences says what of before is not in after. What others add to a map is
// theirs; an element more in a list is not.
func differences(before, after map[string]map[string]any) []string {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		now, ok := after[name]
		if !ok {
			wrong = append(wrong, name+" is gone")
			continue
		}
		wrong = append(wrong, missing(name, before[name], now)...)
	}
	for _, name := range []string{"ConfigMap/" + strictName} {
		if was, now := before[name]["data"], after[name]["data"]; !reflect.DeepEqual(was, now) {
			wrong = append(wrong, fmt.Sprintf("%s is strict: it was %v, is %v", name, was, now))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		// Who edits the replicas of a StatefulSet gets volumes, which stay.
		if _, ok := before[name]; !ok && !strings.HasPrefix(name, "PersistentVolumeClaim/") {
			wrong = append(wrong, name+" was not there")
		}
	}
	return wrong
}

func missing(at string, want, have any) []string {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		if !ok {
			return []string{at + " is no map any more"}
		}
		var wrong []string
		for _, key := range slices.Sorted(maps.Keys(want)) {
			wrong = append(wrong, missing(at+"."+key, want[key], have[key])...)
		}
		return wrong
	case []any:
		have, ok := have.([]any)
		if !ok || len(have) != len(want) {
			return []string{fmt.Sprintf("%s: was %v, is %v", at, want, have)}
		}
		var wrong []string
		for i := range want {
			wrong = append(wrong, missing(fmt.Sprintf("%s[%d]", at, i), want[i], have[i])...)
		}
		return wrong
	}
	if !reflect.DeepEqual(want, have) {
		return []string{fmt.Sprintf("%s: was %v, is %v", at, want, have)}
	}
	return nil
}
