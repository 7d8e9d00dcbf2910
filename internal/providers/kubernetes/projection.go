package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"forged.dev/forged/internal/reconcile"
)

// Some APIs behind the API server's aggregator record no field ownership.
// Which fields are ours is known there only by what we sent: those paths are
// kept in the lens, and the digest is one of the values that stand at them.
// The kind is watched in full then.

// unowned is what is known of a kind without managedFields.
type unowned struct {
	plain bool // it knows no server-side apply either
}

// projectionOf is a digest of the values at the paths we set.
func (v view) projectionOf(obj *unstructured.Unstructured) string {
	h := sha256.New()
	for p := range v.masked(v.project).Leaves().All() {
		v, ok := lookup(obj.Object, p)
		text := "absent"
		if ok {
			text = compact(v)
		}
		fmt.Fprintf(h, "%s\x00%s\x00", p, text)
	}
	return "p:" + hex.EncodeToString(h.Sum(nil)[:16])
}

// projecting adds to a lens what was sent of an object without managedFields.
func projecting(lens Lens, sent *unstructured.Unstructured) (Lens, error) {
	raw, err := leavesOf(sent).ToJSON()
	if err != nil {
		return "", err
	}
	return lens + Lens(string(markProjects)+string(raw)+"\n"), nil
}

// project applies an object of a kind without managedFields. live is what the
// server answered to a server-side apply, nil if it refused to try.
func (c *Cluster) project(ctx context.Context, mapping *meta.RESTMapping, ref Ref, sent, live *unstructured.Unstructured, lens Lens) (a Applied, err error) {
	c.mu.Lock()
	known := c.unowned[ref.GVK.GroupKind()]
	var before *fieldpath.Set
	if t := c.index[ref.id()]; t != nil {
		before = t.entry.Baseline.Lens.view().project
	}
	c.mu.Unlock()
	if live == nil {
		known = &unowned{plain: true}
		if live, a.Created, err = c.merge(ctx, mapping, ref, sent); err != nil {
			return a, err
		}
	} else if known == nil {
		known = &unowned{}
	}
	if before != nil {
		if live, err = c.dropFields(ctx, mapping, ref, live, before.Difference(leavesOf(sent))); err != nil {
			return a, err
		}
	}
	if lens, err = projecting(lens, sent); err != nil {
		return a, &reconcile.Error{Kind: reconcile.Internal, Op: "apply", Object: ref.String(), Err: err}
	}
	a.Object, a.Baseline = live, baselineOf(live, c.manager, lens)
	c.watchInFull(ref.GVK, known)
	return a, nil
}

// merge creates an object, or brings it up to date by a merge patch.
func (c *Cluster) merge(ctx context.Context, mapping *meta.RESTMapping, ref Ref, obj *unstructured.Unstructured) (live *unstructured.Unstructured, created bool, err error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	body, err := json.Marshal(obj.Object)
	if err != nil {
		return nil, false, &reconcile.Error{Kind: reconcile.Invalid, Op: "apply", Object: ref.String(), Err: errors.New("it cannot be written as JSON")}
	}
	client := c.resource(mapping, ref.Namespace)
	live, err = client.Patch(ctx, ref.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: c.manager})
	if !apierrors.IsNotFound(err) {
		return live, false, Classify("apply", ref, err)
	}
	live, err = client.Create(ctx, obj, metav1.CreateOptions{FieldManager: c.manager})
	return live, true, Classify("apply", ref, err)
}

// dropFields takes away what we set before and do not set now.
func (c *Cluster) dropFields(ctx context.Context, mapping *meta.RESTMapping, ref Ref, live *unstructured.Unstructured, gone *fieldpath.Set) (*unstructured.Unstructured, error) {
	patch := map[string]any{}
	for p := range gone.Leaves().All() {
		if _, there := lookup(live.Object, p); there {
			put(patch, p, 0, nil)
		}
	}
	if len(patch) == 0 {
		return live, nil
	}
	put(patch, fieldpath.MakePathOrDie("metadata", "resourceVersion"), 0, live.GetResourceVersion())
	body, err := json.Marshal(patch)
	if err != nil {
		return nil, &reconcile.Error{Kind: reconcile.Internal, Op: "apply", Object: ref.String(), Err: err}
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	live, err = c.resource(mapping, ref.Namespace).Patch(ctx, ref.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: c.manager})
	return live, Classify("apply", ref, err)
}

// imagined is what an apply would make of an object, as far as it can be told
// without asking a server that may not know what a dry run is.
func (c *Cluster) imagined(ctx context.Context, ref Ref, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	live, err := c.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	after := obj.DeepCopy()
	if live != nil {
		after = live.DeepCopy()
		overwrite(after.Object, obj.DeepCopy().Object)
	}
	return after, nil
}

func overwrite(to, from map[string]any) {
	for key, v := range from {
		inner, isMap := v.(map[string]any)
		if target := child(to, key); isMap && target != nil {
			overwrite(target, inner)
		} else {
			to[key] = v
		}
	}
}

// errNoApply is that a server knows no server-side apply.
var errNoApply = errors.New("the API behind this kind knows no server-side apply")

func (c *Cluster) knowsNoApply(gvk schema.GroupVersionKind) bool {
	known := c.recordsNothing(gvk)
	return known != nil && known.plain
}

// recordsNothing is what is known of a kind without managedFields, nil for all
// others.
func (c *Cluster) recordsNothing(gvk schema.GroupVersionKind) *unowned {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unowned[gvk.GroupKind()]
}

// watchInFull has a kind without managedFields watched with its values.
func (c *Cluster) watchInFull(gvk schema.GroupVersionKind, known *unowned) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unowned[gvk.GroupKind()] = known
	for key, w := range c.watches {
		if w.gvk.GroupKind() == gvk.GroupKind() && !w.full {
			c.endWatch(key, w)
		}
	}
}
