package kubernetes

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// crowdedError is a refusal because of elements of lists that may not be there
// together: whoever changes the number of a Service's port has made an element
// of their own, which stays when ours is put back, under the same name.
type crowdedError struct {
	text  string
	lists []pattern
}

func (e *crowdedError) Error() string { return e.text }

// crowded finds the lists in which a refusal says that an element is there
// twice, or says too little beside another one.
func crowded(s metav1.Status) []pattern {
	if s.Code != http.StatusUnprocessableEntity || s.Details == nil {
		return nil
	}
	var lists []pattern
	for _, c := range s.Details.Causes {
		if c.Type != metav1.CauseTypeFieldValueDuplicate && c.Type != metav1.CauseTypeFieldValueRequired {
			continue
		}
		i := strings.LastIndexByte(c.Field, '[')
		if i < 0 || strings.ContainsAny(c.Field[:i], "[]") {
			continue // in no list, or in one within another, whose elements are not told apart here
		}
		if p, err := parsePattern(c.Field[:i]); err == nil {
			lists = append(lists, p)
		}
	}
	return lists
}

// makeRoom gives others' elements of the lists that err names to our entry, so
// that the next apply, which does not send them, takes them away. It reports
// whether there were any.
func (c *Cluster) makeRoom(ctx context.Context, mapping *meta.RESTMapping, ref Ref, sent *unstructured.Unstructured, err error) (bool, error) {
	var full *crowdedError
	if !errors.As(err, &full) {
		return false, nil
	}
	live, err := c.Get(ctx, ref)
	if err != nil || live == nil || entryOf(live.GetManagedFields(), c.manager) == nil {
		return false, err
	}
	if uid := sent.GetUID(); uid != "" && uid != live.GetUID() {
		return false, nil
	}
	v := view{strict: full.lists}
	if v.extras(live.GetManagedFields(), c.manager).Empty() {
		return false, nil
	}
	patch, _, err := c.ownershipPatch(live, v)
	if err != nil || patch == nil {
		return false, err
	}
	_, err = c.patch(ctx, mapping, ref, patch)
	return true, err
}
