package kubernetes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
}

// digestOf is a hash of the fields manager holds by server-side apply, and of
// the time it last changed one. The time is what shows another process that
// uses our name; an entry without one (only ownership changed) is a value like
// any other.
func digestOf(fields []metav1.ManagedFieldsEntry, manager string) string {
	e := entryOf(fields, manager)
	if e == nil || e.FieldsV1 == nil {
		return noEntry
	}
	raw := e.FieldsV1.GetRawBytes()
	// The order of keys depends on who encoded the object: the server sorts
	// by path, a JSON client by name. Bring both to one form.
	if set, err := fieldSet(e); err == nil {
		if canonical, err := set.ToJSON(); err == nil {
			raw = canonical
		}
	}
	h := sha256.New()
	h.Write(raw)
	h.Write([]byte{0})
	if e.Time != nil {
		h.Write([]byte(e.Time.UTC().Format(time.RFC3339)))
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
func baselineOf(obj metav1.Object, manager string) Baseline {
	return Baseline{
		UID:             string(obj.GetUID()),
		ResourceVersion: obj.GetResourceVersion(),
		Digest:          digestOf(obj.GetManagedFields(), manager),
	}
}
