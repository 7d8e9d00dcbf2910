package kubernetes

import (
	"context"
	"encoding/json"
	"errors"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"forged.dev/forged/internal/reconcile"
)

// leaveVersions rewrites field ownership that names versions of a kind which
// the API server does not serve any more: as long as one entry does, the server
// refuses every write to the object. It tells whether there was anything to
// rewrite. It is called when a write was refused.
func (c *Cluster) leaveVersions(ctx context.Context, mapping *meta.RESTMapping, ref Ref) (bool, error) {
	if builtIn(ref.GVK.Group) {
		return false, nil // the versions of these are known for ever
	}
	live, err := c.Get(ctx, ref)
	if err != nil || live == nil {
		return false, err
	}
	kept, changed, err := c.renamed(ctx, mapping, ref, live)
	if err != nil || !changed {
		return false, err
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "replace", "path": "/metadata/managedFields", "value": kept},
		{"op": "replace", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()},
	})
	if err != nil {
		return false, &reconcile.Error{Kind: reconcile.Internal, Op: "settle field ownership of", Object: ref.String(), Err: err}
	}
	_, err = c.patch(ctx, mapping, ref, patch)
	return true, err
}

// foresee is a dry run of what the server has refused for the sake of versions
// that are gone, or of elements that others have put beside ours: a merge, with
// what is recorded of writers left aside, and lists as we send them.
func (c *Cluster) foresee(ctx context.Context, mapping *meta.RESTMapping, ref Ref, obj *unstructured.Unstructured, refusal error) (*unstructured.Unstructured, bool, error) {
	var full *crowdedError
	crowded := errors.As(refusal, &full)
	live, err := c.Get(ctx, ref)
	if err != nil || live == nil || builtIn(ref.GVK.Group) && !crowded {
		return nil, false, err
	}
	if !crowded {
		if _, changed, err := c.renamed(ctx, mapping, ref, live); err != nil || !changed {
			return nil, false, err
		}
	}
	sent := obj.DeepCopy()
	put(sent.Object, fieldpath.MakePathOrDie("metadata", "managedFields"), 0, []any{map[string]any{}})
	body, err := json.Marshal(sent.Object)
	if err != nil {
		return nil, false, &reconcile.Error{Kind: reconcile.Invalid, Op: "dry-run", Object: ref.String(), Err: err}
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	after, err := c.resource(mapping, ref.Namespace).Patch(ctx, ref.Name, types.MergePatchType, body,
		metav1.PatchOptions{FieldManager: c.manager, DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return nil, true, Classify("dry-run", ref, err)
	}
	after.SetManagedFields(nil)
	return after, true, nil
}

// renamed is the field ownership of an object with versions that are not
// served replaced by the current one; changed tells whether there were any.
func (c *Cluster) renamed(ctx context.Context, mapping *meta.RESTMapping, ref Ref, live *unstructured.Unstructured) (kept []metav1.ManagedFieldsEntry, changed bool, err error) {
	current := mapping.GroupVersionKind.GroupVersion()
	served := map[string]bool{current.String(): true}
	for _, e := range live.GetManagedFields() {
		ok, known := served[e.APIVersion]
		if !known {
			gv, err := schema.ParseGroupVersion(e.APIVersion)
			if err != nil {
				ok = false
			} else if ok, err = c.serves(ctx, gv.WithKind(ref.GVK.Kind)); err != nil {
				return nil, false, Classify("find versions of", ref, err)
			}
			served[e.APIVersion] = ok
		}
		if !ok {
			e.APIVersion, changed = current.String(), true
		}
		if kept, err = joined(kept, e); err != nil {
			return nil, false, &reconcile.Error{Kind: reconcile.Internal, Op: "read field ownership of", Object: ref.String(), Err: err}
		}
	}
	return kept, changed, nil
}

// answered tells errors with which a server may refuse a write for the sake of
// what is recorded of former ones.
func answered(err error) bool {
	switch reconcile.KindOf(err) {
	case reconcile.Invalid, reconcile.Internal, reconcile.Unavailable:
		return true
	}
	return false
}

// joined adds an entry to a list in which there is one for each writer.
func joined(list []metav1.ManagedFieldsEntry, e metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, error) {
	for i := range list {
		o := &list[i]
		if o.Manager != e.Manager || o.Operation != e.Operation || o.Subresource != e.Subresource || o.APIVersion != e.APIVersion {
			continue
		}
		a, err := fieldSet(o)
		if err != nil {
			return nil, err
		}
		b, err := fieldSet(&e)
		if err != nil {
			return nil, err
		}
		if o.FieldsV1, err = fieldsOf(a.Union(b)); err != nil {
			return nil, err
		}
		if later(&e, o) {
			o.Time = e.Time
		}
		return list, nil
	}
	return append(list, e), nil
}
