package kubernetes

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/reconcile"
)

// noticeMutated is the code of the notice about fields that admission changes.
const noticeMutated = "mutated"

// mutated lists the fields which we hold and which came back with another
// value than was sent: a webhook or a policy of the cluster has rewritten them
// on the way. That is no drift, since the digest is taken of what came back.
func mutated(sent, live *unstructured.Unstructured, manager string) string {
	ours, err := fieldSet(entryOf(live.GetManagedFields(), manager))
	if err != nil {
		return ""
	}
	var paths []string
	for p := range ours.Leaves().All() {
		want, ok := lookup(sent.Object, p)
		if !ok {
			continue // the key of a list element, or a default
		}
		if got, ok := lookup(live.Object, p); !ok && !empty(want) || ok && !means(want, got) {
			paths = append(paths, pathText(p))
		}
	}
	slices.Sort(paths)
	return strings.Join(paths, "\n")
}

// means tells whether a value that is stored is the one that was sent, perhaps
// in another form and with defaults.
func means(sent, stored any) bool {
	switch sent := sent.(type) {
	case map[string]any:
		stored, ok := stored.(map[string]any)
		if !ok {
			return false
		}
		for key, v := range sent {
			if other, ok := stored[key]; !ok && !empty(v) || ok && !means(v, other) {
				return false
			}
		}
		return true
	case []any:
		stored, ok := stored.([]any)
		if !ok || len(sent) != len(stored) {
			return false
		}
		for i := range sent {
			if !means(sent[i], stored[i]) {
				return false
			}
		}
		return true
	default:
		a, b := textOf(sent), textOf(stored)
		if a == b {
			return true
		}
		x, err := resource.ParseQuantity(a)
		if err != nil {
			return false
		}
		y, err := resource.ParseQuantity(b)
		return err == nil && x.Cmp(y) == 0
	}
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	case string:
		return v == ""
	}
	return false
}

// Notices tell what is worth knowing of a resource's objects and no step
// removes. Every provider puts them into what it has observed.
func (r Record) Notices() []reconcile.Notice {
	var notices []reconcile.Notice
	for _, e := range r.Entries {
		if e.Baseline.Mutated == "" {
			continue
		}
		const most = 5
		paths := strings.Split(e.Baseline.Mutated, "\n")
		more := ""
		if len(paths) > most {
			paths, more = paths[:most], fmt.Sprintf(" and %d more", len(paths)-most)
		}
		notices = append(notices, reconcile.Notice{
			Code: noticeMutated, Object: e.Ref.String(),
			Message: "a webhook or an admission policy of the cluster changes " + strings.Join(paths, ", ") + more,
		})
	}
	return notices
}
