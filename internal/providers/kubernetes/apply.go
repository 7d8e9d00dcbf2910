package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Marks we put on what we own.
const (
	LabelInstance   = "forged.dev/instance" // id of the forged that owns it; watches select on it
	AnnotationOwner = "forged.dev/owner"    // id of the resource it belongs to
)

// managerHelm is the field manager of the helm command and of the Helm SDK.
const managerHelm = "helm"

// Applied is the outcome of an apply.
type Applied struct {
	Object   *unstructured.Unstructured // as the server returned it last
	Baseline Baseline
	Created  bool
	Changed  bool // false only when it is known that the write changed nothing
}

// Stamp marks an object as ours. It touches the object's own metadata only,
// never a pod template.
func (c *Cluster) Stamp(obj *unstructured.Unstructured, owner forge.ID) {
	labels := obj.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[LabelInstance] = c.instance
	obj.SetLabels(labels)
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationOwner] = owner.String()
	obj.SetAnnotations(annotations)
}

// Apply puts an object in place by server-side apply under our manager, with
// force: fields we send are ours. Fields we sent before and do not send now
// disappear, also where another tool's entry would keep them alive: what Helm
// owned is taken over, and other writers' claims to our fields are dropped.
//
// It is idempotent and can be cut between any two requests.
func (c *Cluster) Apply(ctx context.Context, obj *unstructured.Unstructured) (Applied, error) {
	ref := RefOf(obj)
	mapping, err := c.Mapping(ctx, ref.GVK)
	if err != nil {
		return Applied{}, about(err, ref)
	}
	lens, err := c.lensFor(ctx, ref, obj)
	if err != nil {
		return Applied{}, err
	}
	release, err := c.write(ctx)
	if err != nil {
		return Applied{}, Classify("apply", ref, err)
	}
	defer release()

	owner := ownerOf(obj)
	ctx = concerning(ctx, ref, owner)
	if owner != (forge.ID{}) {
		if err := c.fence.environment(owner.Environment); err != nil {
			return Applied{}, about(err, ref)
		}
		c.fence.act(owner.Environment)
	}
	before := c.beginWrite(ref, lens)
	a, err := c.apply(ctx, mapping, ref, obj, lens)
	if a.Object != nil && a.Object.GetLabels()[LabelInstance] == c.instance {
		c.endWrite(ref, a.Baseline)
	} else {
		c.endWrite(ref, Baseline{}) // the watches select on the label
	}
	if err == nil {
		err = c.defined(ctx, ref, a.Object)
	}
	a.Changed = a.Created || before == "" || before != a.Baseline.ResourceVersion
	return a, err
}

// ownerOf is the resource that an object says it belongs to; zero: none.
func ownerOf(obj metav1.Object) (owner forge.ID) {
	if owner.UnmarshalText([]byte(obj.GetAnnotations()[AnnotationOwner])) != nil {
		return forge.ID{}
	}
	return owner
}

func (c *Cluster) apply(ctx context.Context, mapping *meta.RESTMapping, ref Ref, obj *unstructured.Unstructured, lens Lens) (a Applied, err error) {
	// A second writer can step between the requests; the resource version in
	// the patches notices, and it starts over. Losing that often is a fight.
	const attempts = 12
	removed := 0
	v := lens.view()
	strict := v
	for tries := range attempts {
		sent, err := c.yielding(ctx, ref, obj, v)
		if err != nil {
			return a, err
		}
		if c.knowsNoApply(ref.GVK) {
			return c.project(ctx, mapping, ref, sent, nil, lens)
		}
		live, created, err := c.ssa(ctx, mapping, ref, sent, false)
		switch {
		case errors.Is(err, errNoApply):
			return c.project(ctx, mapping, ref, sent, nil, lens)
		case reconcile.KindOf(err) == reconcile.Stale && sent != obj:
			continue // what is kept as it is has changed meanwhile
		case err != nil && tries == 0 && answered(err) && c.remedied(ctx, mapping, ref, sent, err):
			continue
		case err != nil:
			return a, err
		}
		a = Applied{Object: live, Baseline: baselineOf(live, c.manager, lens), Created: a.Created || created}
		a.Baseline.Mutated = mutated(sent, live, c.manager)
		if a.Baseline.Digest == noEntry {
			return c.project(ctx, mapping, ref, sent, live, lens)
		}
		patch, again, err := c.ownershipPatch(live, strict)
		if err != nil {
			return a, &reconcile.Error{Kind: reconcile.Internal, Op: "read field ownership of", Object: ref.String(), Err: err}
		}
		if patch == nil {
			return a, nil
		}
		live, err = c.patch(ctx, mapping, ref, patch)
		if reconcile.KindOf(err) == reconcile.Stale {
			continue
		}
		if err != nil {
			return a, err
		}
		changed := a.Baseline.Mutated
		a.Object, a.Baseline = live, baselineOf(live, c.manager, lens)
		a.Baseline.Mutated = changed
		if !again {
			return a, nil
		}
		if removed++; removed > 2 {
			strict.strict = nil // whoever adds them does so at each apply: told as drift, not fought here
		}
	}
	return a, &reconcile.Error{
		Kind: reconcile.Stale, Op: "apply", Object: ref.String(),
		Err: errors.New("another writer changes it at the same time"),
	}
}

// remedied removes what stands in the way of an apply that was refused, where
// it is known what that is. It is tried once: whoever puts it back each time is
// a fight. What the remedy itself ran into is for the next attempt to show.
func (c *Cluster) remedied(ctx context.Context, mapping *meta.RESTMapping, ref Ref, sent *unstructured.Unstructured, refusal error) bool {
	moved, err := c.leaveVersions(ctx, mapping, ref)
	if !moved {
		moved, err = c.makeRoom(ctx, mapping, ref, sent, refusal)
	}
	return moved && (err == nil || reconcile.KindOf(err) == reconcile.Stale)
}

// yielding is what is sent for an object some of whose fields are left to
// others. An object without such fields is sent as it is, and so is one that
// is not there yet.
func (c *Cluster) yielding(ctx context.Context, ref Ref, obj *unstructured.Unstructured, v view) (*unstructured.Unstructured, error) {
	if len(v.ignored) == 0 {
		return obj, nil
	}
	live, err := c.Get(ctx, ref)
	if err != nil || live == nil {
		return obj, err
	}
	if uid := obj.GetUID(); uid != "" && uid != live.GetUID() {
		return obj, nil // the server refuses it
	}
	sent := obj.DeepCopy()
	if err := v.yield(sent, live, c.manager); err != nil {
		return nil, &reconcile.Error{Kind: reconcile.Internal, Op: "read field ownership of", Object: ref.String(), Err: err}
	}
	sent.SetResourceVersion(live.GetResourceVersion())
	return sent, nil
}

// ssa sends one server-side apply.
func (c *Cluster) ssa(ctx context.Context, mapping *meta.RESTMapping, ref Ref, obj *unstructured.Unstructured, dryRun bool) (live *unstructured.Unstructured, created bool, err error) {
	op := "apply"
	if dryRun {
		op = "dry-run"
	}
	if ref.Name == "" {
		return nil, false, &reconcile.Error{Kind: reconcile.Invalid, Op: op, Object: ref.String(), Err: errors.New("it has no name")}
	}
	path, err := resourcePath(mapping, ref)
	if err != nil {
		return nil, false, &reconcile.Error{Kind: reconcile.Invalid, Op: op, Object: ref.String(), Err: err}
	}
	body, err := json.Marshal(obj.Object)
	if err != nil {
		return nil, false, &reconcile.Error{Kind: reconcile.Invalid, Op: op, Object: ref.String(), Err: errors.New("it cannot be written as JSON")}
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	req := c.raw.Patch(types.ApplyPatchType).AbsPath(path...).
		Param("fieldManager", c.manager).
		Param("force", strconv.FormatBool(true)).
		Body(body)
	if dryRun {
		req = req.Param("dryRun", metav1.DryRunAll)
	}
	var code int
	result := req.Do(ctx).StatusCode(&code)
	got, err := result.Get()
	switch {
	case code == http.StatusUnsupportedMediaType:
		return nil, false, &reconcile.Error{Kind: reconcile.Invalid, Op: op, Object: ref.String(), Err: errNoApply}
	case err != nil:
		err = Classify(op, ref, err)
		if e := (*reconcile.Error)(nil); IsImmutable(err) && errors.As(err, &e) {
			e.Hint = immutableHint(ref, c.target.Kubectl()) // by hand it must not hit another cluster
		}
		return nil, false, err
	}
	live, ok := got.(*unstructured.Unstructured)
	if !ok {
		return nil, false, &reconcile.Error{Kind: reconcile.Internal, Op: op, Object: ref.String(), Err: fmt.Errorf("the server answered with a %T", got)}
	}
	return live, code == http.StatusCreated, nil
}

// patch sends a JSON patch that touches nothing but managedFields.
func (c *Cluster) patch(ctx context.Context, mapping *meta.RESTMapping, ref Ref, patch []byte) (*unstructured.Unstructured, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	live, err := c.resource(mapping, ref.Namespace).Patch(ctx, ref.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: c.manager})
	return live, Classify("settle field ownership of", ref, err)
}

// ownershipPatch looks for other writers' claims to our fields on an object we
// have just applied. again tells that it must be applied once more after the
// patch, so that what Helm had and we do not send is removed, and what others
// have added where nobody may add anything.
func (c *Cluster) ownershipPatch(live *unstructured.Unstructured, v view) (patch []byte, again bool, err error) {
	fields := live.GetManagedFields()
	if moved, err := inherited(fields, c.manager); moved != nil || err != nil {
		if err == nil {
			patch, err = settle(moved, live)
		}
		return patch, true, err
	}
	ours, err := fieldSet(entryOf(fields, c.manager))
	if err != nil {
		return nil, false, err
	}
	// What others added under a strict path becomes ours by this patch, and is
	// removed by the next apply, which does not send it.
	extras := v.extras(fields, c.manager)
	kept := make([]metav1.ManagedFieldsEntry, 0, len(fields))
	changed := false
	for _, e := range fields {
		var lost *fieldpath.Set
		mine := entryOf([]metav1.ManagedFieldsEntry{e}, c.manager) != nil
		switch {
		case mine && extras.Empty():
		case mine:
			if e.FieldsV1, err = fieldsOf(ours.Union(extras)); err != nil {
				return nil, false, err
			}
		case isUpdate(e):
			lost = ours.Union(extras)
		case rival(&e, c.manager):
			lost = extras
		}
		if lost == nil || lost.Empty() {
			kept = append(kept, e)
			continue
		}
		set, err := fieldSet(&e)
		if err != nil {
			return nil, false, err
		}
		if set.Intersection(lost).Empty() {
			kept = append(kept, e)
			continue
		}
		changed = true
		rest := set.Difference(lost)
		if rest.Empty() {
			continue
		}
		if e.FieldsV1, err = fieldsOf(rest); err != nil {
			return nil, false, err
		}
		kept = append(kept, e)
	}
	if !changed {
		return nil, false, nil
	}
	patch, err = settle(kept, live)
	return patch, !extras.Empty(), err
}

func fieldsOf(set *fieldpath.Set) (*metav1.FieldsV1, error) {
	raw, err := set.ToJSON()
	if err != nil {
		return nil, err
	}
	fields := &metav1.FieldsV1{}
	fields.SetRawBytes(raw)
	return fields, nil
}

// isUpdate tells entries that hold fields of the object itself by plain
// writes. Entries of a subresource (scale, status) are never touched.
func isUpdate(e metav1.ManagedFieldsEntry) bool {
	return e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == ""
}

// DryRun asks the server what Apply would make of an object.
func (c *Cluster) DryRun(ctx context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	ref := RefOf(obj)
	mapping, err := c.Mapping(ctx, ref.GVK)
	if err != nil {
		return nil, about(err, ref)
	}
	if c.recordsNothing(ref.GVK) != nil {
		return c.imagined(ctx, ref, obj)
	}
	ctx = concerning(ctx, ref, ownerOf(obj))
	lens, err := c.lensFor(ctx, ref, obj)
	if err != nil {
		return nil, err
	}
	v := lens.view()
	const attempts = 3
	for range attempts {
		var sent, live *unstructured.Unstructured
		if sent, err = c.yielding(ctx, ref, obj, v); err != nil {
			return nil, err
		}
		live, _, err = c.ssa(ctx, mapping, ref, sent, true)
		if reconcile.KindOf(err) == reconcile.Stale && sent != obj {
			continue
		}
		if errors.Is(err, errNoApply) {
			return c.imagined(ctx, ref, obj)
		}
		if err != nil && answered(err) {
			if after, ok, failed := c.foresee(ctx, mapping, ref, sent, err); ok {
				return after, failed
			}
		}
		if err == nil {
			for p := range v.extras(live.GetManagedFields(), c.manager).Leaves().All() {
				cutPath(live.Object, p)
			}
		}
		return live, err
	}
	return nil, err
}

// resourcePath is the path of one object below the server's root.
func resourcePath(mapping *meta.RESTMapping, ref Ref) ([]string, error) {
	gv := mapping.Resource.GroupVersion()
	path := []string{"apis", gv.Group, gv.Version}
	if gv.Group == "" {
		path = []string{"api", gv.Version}
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if ref.Namespace == "" {
			return nil, errors.New("it has no namespace")
		}
		path = append(path, "namespaces", ref.Namespace)
	}
	return append(path, mapping.Resource.Resource, ref.Name), nil
}
