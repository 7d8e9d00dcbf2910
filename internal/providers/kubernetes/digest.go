package kubernetes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// noEntry is the digest of an object on which we own nothing: managedFields
// were wiped, or somebody else made it.
const noEntry = "none"

// Baseline is what an object looked like right after our last write to it.
type Baseline struct {
	UID             string `json:"uid,omitempty"`
	ResourceVersion string `json:"rv,omitempty"`
	Digest          string `json:"digest,omitempty"`
	Lens            Lens   `json:"lens,omitempty"`    // through which the digest was taken
	Done            bool   `json:"done,omitempty"`    // a Job that has completed: it may vanish
	Mutated         string `json:"mutated,omitempty"` // paths of fields that came back with another value than was sent, by line
}

// digestOf is a hash of the fields manager holds by server-side apply, and of
// the time it last changed one. The time is what shows another process that
// uses our name; an entry without one (only ownership changed) is a value like
// any other. What the lens ignores is left out, and what others have added
// under its strict paths is put in.
func digestOf(fields []metav1.ManagedFieldsEntry, manager string, lens Lens) string {
	e := entryOf(fields, manager)
	if e == nil || e.FieldsV1 == nil {
		return noEntry
	}
	// Nearly no object has a lens.
	var v view
	if lens != "" {
		v = lens.view()
	}
	set, err := fieldSet(e)
	if err != nil {
		return digestOfSet(e.FieldsV1.GetRawBytes(), e, nil)
	}
	return v.digest(set, e, v.extras(fields, manager))
}

func (v view) digest(ours *fieldpath.Set, e *metav1.ManagedFieldsEntry, extras *fieldpath.Set) string {
	// The order of keys depends on who encoded the object: the server sorts
	// by path, a JSON client by name. Bring both to one form.
	raw, err := v.masked(ours).ToJSON()
	if err != nil {
		raw = e.FieldsV1.GetRawBytes()
	}
	var more []byte
	if !extras.Empty() {
		if more, err = extras.ToJSON(); err != nil {
			more = []byte(err.Error())
		}
	}
	return digestOfSet(raw, e, more)
}

func digestOfSet(raw []byte, e *metav1.ManagedFieldsEntry, more []byte) string {
	h := sha256.New()
	h.Write(raw)
	h.Write([]byte{0})
	if e.Time != nil {
		h.Write([]byte(e.Time.UTC().Format(time.RFC3339)))
	}
	if len(more) > 0 {
		h.Write([]byte{0})
		h.Write(more)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// entryOf is manager's entry of server-side apply, nil if it has none.
func entryOf(fields []metav1.ManagedFieldsEntry, manager string) *metav1.ManagedFieldsEntry {
	for i := range fields {
		e := &fields[i]
		if e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "" {
			return e
		}
	}
	return nil
}

// fieldSet is the set of fields of an entry; empty for nil.
func fieldSet(e *metav1.ManagedFieldsEntry) (*fieldpath.Set, error) {
	set := fieldpath.NewSet()
	if e == nil || e.FieldsV1 == nil {
		return set, nil
	}
	if err := set.FromJSON(bytes.NewReader(e.FieldsV1.GetRawBytes())); err != nil {
		return nil, fmt.Errorf("fields of manager %s: %w", e.Manager, err)
	}
	return set, nil
}

// baselineOf is the baseline an object as returned by the server gives.
func baselineOf(obj metav1.Object, manager string, lens Lens) Baseline {
	b := Baseline{UID: string(obj.GetUID()), ResourceVersion: obj.GetResourceVersion(), Lens: lens}
	if full, ok := obj.(*unstructured.Unstructured); ok && lens.has(markProjects) {
		b.Digest = lens.view().projectionOf(full)
	} else {
		b.Digest = digestOf(obj.GetManagedFields(), manager, lens)
	}
	return b
}
