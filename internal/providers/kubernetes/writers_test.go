package kubernetes

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/reconcile"
)

func TestExplainWriters(t *testing.T) {
	const manager = "forged/test"
	then := metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	later := metav1.NewTime(then.Add(time.Minute))
	entry := func(name string, op metav1.ManagedFieldsOperationType, at metav1.Time, fields string) metav1.ManagedFieldsEntry {
		f := &metav1.FieldsV1{}
		f.SetRawBytes([]byte(fields))
		return metav1.ManagedFieldsEntry{Manager: name, Operation: op, Time: &at, FieldsV1: f}
	}
	ours := func(at metav1.Time, fields string) metav1.ManagedFieldsEntry {
		return entry(manager, metav1.ManagedFieldsOperationApply, at, fields)
	}
	theirs := func(fields string) metav1.ManagedFieldsEntry {
		return entry("alice", metav1.ManagedFieldsOperationUpdate, later, fields)
	}
	const all = `{"f:data":{"f:a":{},"f:b":{}},"f:list":{"k:{\"name\":\"x\"}":{".":{},"f:name":{},"f:v":{}},"k:{\"name\":\"y\"}":{".":{},"f:name":{},"f:v":{}}}}`
	after := &unstructured.Unstructured{Object: map[string]any{
		"data": map[string]any{"a": "1", "b": "2"},
		"list": []any{map[string]any{"name": "x", "v": "1"}, map[string]any{"name": "y", "v": "1"}},
	}}
	after.SetManagedFields([]metav1.ManagedFieldsEntry{ours(later, all)})
	for _, test := range []struct {
		name   string
		before []metav1.ManagedFieldsEntry
		tells  bool
		paths  []string
	}{
		{"a value was changed", []metav1.ManagedFieldsEntry{
			ours(then, `{"f:data":{"f:b":{}},"f:list":{"k:{\"name\":\"x\"}":{".":{},"f:name":{},"f:v":{}},"k:{\"name\":\"y\"}":{".":{},"f:name":{},"f:v":{}}}}`),
			theirs(`{"f:data":{"f:a":{}}}`),
		}, true, []string{"data.a"}},
		{"an element was taken away, and another changed", []metav1.ManagedFieldsEntry{
			ours(then, `{"f:data":{"f:a":{},"f:b":{}},"f:list":{"k:{\"name\":\"y\"}":{".":{},"f:name":{}}}}`),
			theirs(`{"f:list":{"k:{\"name\":\"y\"}":{"f:v":{}}}}`),
		}, true, []string{`list["x"]`, `list["y"].v`}},
		{"something was added where nobody may add", []metav1.ManagedFieldsEntry{
			ours(then, all), theirs(`{"f:extra":{"f:c":{},"f:d":{}}}`),
		}, true, []string{"extra"}},
		{"our ownership was wiped", []metav1.ManagedFieldsEntry{theirs(`{"f:data":{"f:a":{}}}`)}, false, nil},
		{"somebody used our name", []metav1.ManagedFieldsEntry{
			ours(metav1.NewTime(later.Add(time.Second)), all), theirs(`{"f:status":{}}`),
		}, false, nil},
		{"nobody has written anything since", []metav1.ManagedFieldsEntry{ours(then, all)}, false, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if tells := TellsWhy(State{Exists: true, Writers: test.before}, manager); tells != test.tells {
				t.Fatalf("tells %t, want %t", tells, test.tells)
			}
			if !test.tells {
				return
			}
			r := ExplainWriters(test.before, after, manager)
			if r.Code != reconcile.ReasonEdited || r.Writer != "alice" || !r.At.Equal(later.Time) || !slices.Equal(r.Paths, test.paths) {
				t.Errorf("reason %+v, want paths %v", r, test.paths)
			}
		})
	}
}
