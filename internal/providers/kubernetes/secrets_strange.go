package kubernetes

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"forged.dev/forged/internal/reconcile"
)

// noticeStrange is worth knowing: a Secret of ours holds keys that forged has
// not put there. They are left, and whoever mounts the Secret gets them too.
const noticeStrange = "foreign-keys"

// strangeKeys names the keys of a Secret that only others hold, each with one
// who does. What is asked of managedFields is names, not values.
func strangeKeys(fields []metav1.ManagedFieldsEntry, manager string) string {
	ours, err := fieldSet(entryOf(fields, manager))
	if err != nil {
		return ""
	}
	data := fieldpath.MakePathOrDie("data")
	var keys []string
	for _, e := range fields {
		if e.Manager == manager {
			continue
		}
		set, err := fieldSet(&e)
		if err != nil {
			continue
		}
		set.WithPrefix(data[0]).Members.Iterate(func(pe fieldpath.PathElement) {
			if pe.FieldName != nil && !ours.Has(append(data.Copy(), pe)) {
				keys = append(keys, *pe.FieldName+" (by "+e.Manager+")")
			}
		})
	}
	slices.Sort(keys)
	return strings.Join(slices.Compact(keys), ", ")
}

// strange tells of keys that others have put into our Secrets.
func (s *secrets) strange() []reconcile.Notice {
	c := s.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	var notices []reconcile.Notice
	for _, e := range s.record.Entries {
		if state, known := c.lastSeen(e.Ref); known && state.Strange != "" {
			notices = append(notices, reconcile.Notice{
				Code: noticeStrange, Object: e.Ref.String(),
				Message: "it holds keys that forged has not put there, and that stay: " + state.Strange,
			})
		}
	}
	return notices
}
