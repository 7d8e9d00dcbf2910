package kubernetes

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"forged.dev/forged/internal/reconcile"
)

// Who has written what into an object comes with the event that shows the
// drift. In most cases that is all it takes to say why a heal was needed, so
// that the object need not be read before it is put back.

// keepWriters notes in a state who holds which fields, where that may be asked
// for: the object differs from our last write to it. The caller holds c.mu.
func (c *Cluster) keepWriters(ref Ref, s *State, obj metav1.Object) {
	t := c.index[ref.id()]
	if t == nil || t.entry.Baseline.Digest == "" || t.entry.Baseline.matches(*s) {
		return
	}
	if own := c.own[ref.id()]; own != nil && (own.inFlight > 0 || own.baseline.matches(*s)) {
		return
	}
	s.Writers = obj.GetManagedFields()
}

// TellsWhy tells whether ExplainWriters will know why an object differs: only
// somebody else has written to it since we did. An entry of our own that is
// newer is that of another process under our name, and one that is missing was
// wiped; in these cases the values have to be compared.
func TellsWhy(s State, manager string) bool {
	ours := entryOf(s.Writers, manager)
	if ours == nil || !s.Exists || s.Deleting {
		return false
	}
	return slices.ContainsFunc(s.Writers, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager != manager && e.Subresource != "status" && !timeOf(&e).Before(timeOf(ours))
	})
}

// ExplainWriters tells why an object had drifted from who held what before it
// was put back, where the values themselves are not known. after is what the
// server answered to the apply.
func ExplainWriters(before []metav1.ManagedFieldsEntry, after *unstructured.Unstructured, manager string) reconcile.Reason {
	r := reconcile.Reason{Code: reconcile.ReasonEdited}
	all, held, wanted, gone := fieldpath.NewSet(), fieldpath.NewSet(), fieldpath.NewSet(), fieldpath.NewSet()
	for i := range before {
		e := &before[i]
		set, err := fieldSet(e)
		if err != nil {
			continue // it says nothing then
		}
		all = all.Union(set)
		switch {
		case e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "":
			held = set
		case rival(e, manager):
			for p := range set.Leaves().All() {
				if _, is := lookup(after.Object, p); !is {
					gone.Insert(p.Copy()) // added where nobody may add anything
				}
			}
		}
	}
	if set, err := fieldSet(entryOf(after.GetManagedFields(), manager)); err == nil {
		wanted = set
	}
	var paths []fieldpath.Path
	for p := range wanted.Leaves().Difference(held).Union(gone).All() {
		p = p.Copy()
		// Say that a container was taken away or added, not each field of it.
		for len(p) > 1 && whole(p, gone.Has(p), all, after) {
			p = p[:len(p)-1]
		}
		if text := pathText(p); !slices.Contains(r.Paths, text) {
			r.Paths, paths = append(r.Paths, text), append(paths, p)
		}
	}
	slices.Sort(r.Paths)
	var subresource string
	r.Writer, r.At, subresource = writerOf(before, paths, manager)
	if subresource != "" {
		r.Text = "through the " + subresource + " subresource"
	}
	return r
}

// whole tells whether what is around a path came or went with it.
func whole(p fieldpath.Path, added bool, before *fieldpath.Set, after *unstructured.Unstructured) bool {
	if added {
		_, is := lookup(after.Object, p[:len(p)-1])
		return !is
	}
	return !holds(before, p) && !holds(before, p[:len(p)-1])
}
