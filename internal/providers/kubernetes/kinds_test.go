package kubernetes

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/reconcile"
)

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// definition is the CRD of a test's own kind, as a chart would bring it.
func (b *bed) definition(group string) *unstructured.Unstructured {
	b.t.Helper()
	obj := parse(b.t, strings.ReplaceAll(widgetCRD, "GROUP", group))
	b.t.Cleanup(func() {
		ctx, cancel := contextForCleanup()
		defer cancel()
		_ = b.c.Dynamic().Resource(definitions).Delete(ctx, obj.GetName(), metav1.DeleteOptions{}) // it may be gone
	})
	return obj
}

func (b *bed) widget(group, version, spec string) *unstructured.Unstructured {
	return b.manifest("{apiVersion: " + group + "/" + version + ", kind: Widget, metadata: {name: one}, spec: " + spec + "}")
}

// A CustomResourceDefinition and an object of its kind belong to one resource;
// somebody deletes the definition, and with it all its objects. Both come back,
// in order, and nothing else is held up.
func TestDefinitionIsDeletedUnderUs(t *testing.T) {
	b := newBed(t)
	group := b.Instance + ".gone.forged.dev"
	id, other := releaseID("defined"), releaseID("other")
	crd, widget, plain := b.definition(group), b.widget(group, "v1", "{colour: red}"), b.configMap("c", `{a: "1"}`)
	b.own(id, crd, widget) // without a pause: the apply of a definition waits until it is served
	b.own(other, plain)
	b.still(id, "at first")
	b.still(other, "at first")

	if err := b.c.Dynamic().Resource(definitions).Delete(t.Context(), crd.GetName(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.await("the definition to be gone", func() bool { return b.get(RefOf(crd)) == nil })
	var drifts []Drift
	b.await("both to have drifted", func() bool {
		drifts = b.drifted(id)
		return len(drifts) == 2 && !drifts[0].State.Deleting && !drifts[1].State.Deleting
	})
	if drifts[0].Entry.Ref.GVK.Kind != "CustomResourceDefinition" || drifts[0].Code != reconcile.ReasonDeleted || drifts[1].Blocked != "" {
		t.Errorf("drifts %+v", drifts)
	}
	// Other kinds are seen as before.
	b.edit(RefOf(plain), "kubectl-edit", merge, `{"data":{"a":"2"}}`)
	b.event(other, causeLive)
	if d := b.drifted(other); len(d) != 1 {
		t.Errorf("the other resource: %+v", d)
	}
	b.heal(id, crd)
	b.heal(id, widget)
	b.still(id, "after both were made again")
	edited := b.edit(RefOf(widget), "kubectl-edit", merge, `{"spec":{"colour":"blue"}}`)
	b.seen(RefOf(widget), edited.GetResourceVersion())
	if d := b.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonEdited {
		t.Errorf("the new watch shows %+v", d)
	}
}

// The definition is somebody else's: what is wanted of the kind is unknown
// until it is back. That is told once, costs next to nothing while it lasts,
// and ends by itself.
func TestDefinitionOfSomebodyElseIsDeleted(t *testing.T) {
	b := newBed(t)
	group := b.Instance + ".foreign.forged.dev"
	id := releaseID("undefined")
	crd, widget := b.definition(group), b.widget(group, "v1", "{colour: red}")
	ref := RefOf(widget)
	if err := b.define(crd); err != nil {
		t.Fatal(err)
	}
	b.own(id, widget)
	b.still(id, "at first")
	if err := b.c.Dynamic().Resource(definitions).Delete(t.Context(), crd.GetName(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.await("the definition to be gone", func() bool { return b.get(RefOf(crd)) == nil })
	b.await("the drift to be blocked", func() bool {
		d := b.drifted(id)
		return len(d) == 1 && strings.HasPrefix(d[0].Blocked, "unknown until the cluster serves ")
	})
	if live := b.get(ref); live != nil {
		t.Errorf("got %v", live)
	}
	if err := b.c.Delete(t.Context(), ref, "some-uid"); err != nil {
		t.Errorf("deleting what went with its kind: %v", err)
	}
	stamped := widget.DeepCopy()
	b.c.Stamp(stamped, id)
	if _, err := b.c.Apply(t.Context(), stamped); !UnknownKind(err) || reconcile.KindOf(err) != reconcile.Invalid {
		t.Errorf("apply: %v", err)
	}
	b.requests.reset()
	for range 50 {
		b.drifted(id)
	}
	if n := len(b.requests.all()); n > 100 {
		t.Errorf("50 looks at a kind that is gone took %d requests", n)
	}
	if err := b.define(crd); err != nil {
		t.Fatal(err)
	}
	for !b.event(id, causeWatch).Retry { // the end of the watch is told without
	}
	if d := b.drifted(id); len(d) != 1 || d[0].Blocked != "" || d[0].Code != reconcile.ReasonDeleted {
		t.Errorf("with the definition back: %+v", d)
	}
	b.heal(id, widget)
	b.still(id, "at the end")
}

// define makes a definition as somebody else.
func (b *bed) define(crd *unstructured.Unstructured) error {
	b.t.Helper()
	live, err := b.c.Dynamic().Resource(definitions).Create(b.t.Context(), crd, metav1.CreateOptions{FieldManager: "somebody"})
	if err != nil {
		return err
	}
	return b.c.defined(b.t.Context(), RefOf(crd), live)
}

// twoVersions has the definition serve and store versions. The schema is the
// same in all.
func twoVersions(crd *unstructured.Unstructured, names ...string) *unstructured.Unstructured {
	crd = crd.DeepCopy()
	first := items(crd.Object, "spec", "versions")[0]
	var versions []any
	for i, name := range names {
		v := (&unstructured.Unstructured{Object: first}).DeepCopy().Object
		v["name"], v["storage"] = name, i == len(names)-1
		versions = append(versions, v)
	}
	child(crd.Object, "spec")["versions"] = versions
	return crd
}

// withdraw has the definition serve v1 only.
func (b *bed) withdraw(crd *unstructured.Unstructured, gone schema.GroupVersionKind) {
	b.t.Helper()
	live := b.get(RefOf(crd))
	next := twoVersions(b.definition(gone.Group), "v1")
	next.SetResourceVersion(live.GetResourceVersion())
	if _, err := b.c.Dynamic().Resource(definitions).Update(b.t.Context(), next, metav1.UpdateOptions{}); err != nil {
		b.t.Fatal(err)
	}
	status := b.get(RefOf(crd))
	if err := unstructured.SetNestedStringSlice(status.Object, []string{"v1"}, "status", "storedVersions"); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.c.Dynamic().Resource(definitions).UpdateStatus(b.t.Context(), status, metav1.UpdateOptions{}); err != nil {
		b.t.Fatal(err)
	}
	b.await("the version to be gone", func() bool {
		served, err := b.c.serves(b.t.Context(), gone)
		return err == nil && !served
	})
}

// A version goes while forged runs, and what was found out of it before is no
// answer any more: objects of it are neither gone nor out of sight.
func TestVersionOfAKindIsRemovedUnderUs(t *testing.T) {
	b := newBed(t)
	group := b.Instance + ".withdrawn.forged.dev"
	id := releaseID("versions")
	crd := twoVersions(b.definition(group), "v1alpha1", "v1")
	if err := b.define(crd); err != nil {
		t.Fatal(err)
	}
	old := b.widget(group, "v1alpha1", "{colour: red}")
	entry := b.own(id, old)[0]
	b.still(id, "in the old version")
	b.withdraw(crd, RefOf(old).GVK)
	if live, err := b.c.Get(t.Context(), RefOf(old)); err != nil || live == nil {
		t.Errorf("it is there, and read: %v, %v", live, err)
	}
	b.await("it to be seen again", func() bool {
		d, err := b.inventory().Drifted(t.Context(), id)
		return err == nil && len(d) == 0
	})
	b.edit(Ref{GVK: schema.GroupVersionKind{Group: group, Version: "v1", Kind: "Widget"}, Namespace: b.Namespace, Name: old.GetName()}, "kubectl-edit", merge, `{"spec":{"colour":"blue"}}`)
	b.event(id, causeLive)
	if d := b.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonEdited {
		t.Errorf("drifts %+v", d)
	}
	if got, err := b.inventory().Prune(t.Context(), id, entry); err != nil || got != PrunedDeleted {
		t.Errorf("pruned: %s, %v", got, err)
	}
}

// A version of a kind is taken out of service. Objects that were applied in it
// are still seen; a manifest that moves to the next version means the same
// objects; and fields dropped from it go, although the entry that held them
// names a version that no longer exists.
func TestVersionOfAKindIsRemoved(t *testing.T) {
	b := newBed(t)
	group := b.Instance + ".versions.forged.dev"
	id := releaseID("versions")
	crd := twoVersions(b.definition(group), "v1alpha1", "v1")
	if err := b.define(crd); err != nil {
		t.Fatal(err)
	}
	old := b.widget(group, "v1alpha1", "{colour: red, tags: [a]}")
	b.own(id, old)
	b.still(id, "in the old version")
	before := b.get(RefOf(old))

	b.withdraw(crd, RefOf(old).GVK)
	b.restart()
	b.still(id, "after the version was removed")
	stamped := old.DeepCopy()
	b.c.Stamp(stamped, id)
	if _, err := b.c.Apply(t.Context(), stamped); UnknownKind(err) || err == nil || !strings.Contains(err.Error(), "serves Widget as "+group+"/v1") {
		t.Errorf("apply in the old version: %v", err)
	}

	// The manifest moves on and drops a field.
	moved := b.widget(group, "v1", "{colour: green}")
	stamped = moved.DeepCopy()
	b.c.Stamp(stamped, id)
	foreseen, err := b.c.DryRun(t.Context(), stamped)
	if err != nil {
		t.Fatal(err)
	}
	if reason, _ := Explain(b.get(RefOf(old)), foreseen, b.c.Manager()); !slices.Contains(reason.Paths, "spec.colour") {
		t.Errorf("foreseen: %+v", reason)
	}
	if now := b.get(RefOf(old)); now.GetResourceVersion() != before.GetResourceVersion() {
		t.Error("the dry run changed it")
	}
	if err := b.inventory().Begin(t.Context(), id, []Ref{RefOf(moved)}); err != nil {
		t.Fatal(err)
	}
	a := b.apply(id, moved)
	record, _ := b.inventory().Record(id)
	if len(record.Entries) != 1 || record.Entries[0].Ref != RefOf(moved) {
		t.Errorf("the inventory lists %+v", record.Entries)
	}
	record.Pending, record.Entries = false, []Entry{{Ref: RefOf(moved), Desired: "x", Baseline: a.Baseline}}
	if err := b.inventory().Commit(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	after := b.get(RefOf(moved))
	if after.GetUID() != before.GetUID() {
		t.Error("it is another object now")
	}
	if spec := compact(child(after.Object, "spec")); spec != `{"colour":"green","size":3}` {
		t.Errorf("spec %s", spec)
	}
	// Pruning what the old version's entry names must not hit it.
	if p, err := b.inventory().Prune(t.Context(), id, Entry{Ref: RefOf(old), Baseline: Baseline{UID: string(before.GetUID())}}); err != nil || p != PrunedForeign {
		t.Errorf("pruned: %v, %v", p, err)
	}
	if b.get(RefOf(moved)) == nil {
		t.Fatal("it was deleted")
	}
	b.still(id, "in the new version")
	if versions := slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for _, e := range after.GetManagedFields() {
			if !yield(e.APIVersion) {
				return
			}
		}
	})); !slices.Equal(versions, []string{group + "/v1"}) {
		t.Errorf("managedFields names %q", versions)
	}
	b.edit(RefOf(moved), "kubectl-edit", merge, `{"spec":{"colour":"blue"}}`)
	b.event(id, causeLive)
	b.heal(id, moved)
	b.still(id, "at the end")
}
