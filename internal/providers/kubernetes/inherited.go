package kubernetes

import (
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// inherited makes ours what Helm holds of an object by plain writes, one entry
// of it at a time; nil: nothing. The next apply then removes what it does not
// send.
//
// An entry of another version of the kind may name fields that ours cannot. It
// takes the place of ours, which the apply that follows writes anew: the API
// server translates it then.
func inherited(fields []metav1.ManagedFieldsEntry, manager string) ([]metav1.ManagedFieldsEntry, error) {
	at := slices.IndexFunc(fields, func(e metav1.ManagedFieldsEntry) bool { return isUpdate(e) && e.Manager == managerHelm })
	if at < 0 {
		return nil, nil
	}
	theirs := fields[at]
	moved := slices.Delete(slices.Clone(fields), at, at+1)
	ours := entryOf(moved, manager)
	switch {
	case ours == nil:
		moved = append(moved, metav1.ManagedFieldsEntry{})
		ours = &moved[len(moved)-1]
	case ours.APIVersion == theirs.APIVersion:
		return moved, absorb(ours, &theirs)
	}
	*ours = theirs
	ours.Manager, ours.Operation = manager, metav1.ManagedFieldsOperationApply
	return moved, nil
}

// settle is the patch that gives an object this field ownership. Replacing the
// resource version makes the server answer 409 if anybody wrote in between; a
// failed "test" would be a 422.
func settle(fields []metav1.ManagedFieldsEntry, live *unstructured.Unstructured) ([]byte, error) {
	return json.Marshal([]map[string]any{
		{"op": "replace", "path": "/metadata/managedFields", "value": fields},
		{"op": "replace", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()},
	})
}
