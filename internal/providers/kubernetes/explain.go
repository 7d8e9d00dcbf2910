package kubernetes

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"forged.dev/forged/internal/reconcile"
)

// maxShown bounds one value of a Change, in bytes.
const maxShown = 200

// Explain tells why an object had drifted, who wrote it and when. before is
// the live object before it was put back, nil if it was gone; after is what
// the server answered to the apply or to its dry run. Values of Secrets are
// left out.
func Explain(before, after *unstructured.Unstructured, manager string) (reconcile.Reason, []reconcile.Change) {
	if before == nil {
		return reconcile.Reason{Code: reconcile.ReasonDeleted}, nil
	}
	if after == nil {
		return reconcile.Reason{Code: reconcile.ReasonEdited}, nil
	}
	if before.GetUID() != "" && after.GetUID() != "" && before.GetUID() != after.GetUID() {
		return reconcile.Reason{Code: reconcile.ReasonReplaced}, nil
	}
	// A fieldset that cannot be read owns nothing: the comparison of values
	// still says what differs.
	held, err := fieldSet(entryOf(before.GetManagedFields(), manager))
	if err != nil {
		held = fieldpath.NewSet()
	}
	wanted, err := fieldSet(entryOf(after.GetManagedFields(), manager))
	if err != nil {
		wanted = fieldpath.NewSet()
	}
	if len(after.GetManagedFields()) == 0 { // a kind without them: all that differs
		wanted = leavesOf(after)
	}
	return explain(before, after, held, wanted, lost(before, after, manager), manager)
}

// lost are the fields of others that are gone after an apply: they had been
// added where nobody may add anything. Nothing else takes away what is not
// ours.
func lost(before, after *unstructured.Unstructured, manager string) *fieldpath.Set {
	gone := fieldpath.NewSet()
	fields := before.GetManagedFields()
	for i := range fields {
		if !rival(&fields[i], manager) {
			continue
		}
		set, err := fieldSet(&fields[i])
		if err != nil {
			continue
		}
		for p := range set.Leaves().All() {
			if _, was := lookup(before.Object, p); !was {
				continue
			}
			if _, is := lookup(after.Object, p); is {
				continue
			}
			// Say that a container was taken away, not each field of it.
			p = p.Copy()
			for len(p) > 1 {
				if _, is := lookup(after.Object, p[:len(p)-1]); is {
					break
				}
				p = p[:len(p)-1]
			}
			gone.Insert(p)
		}
	}
	return gone
}

func explain(before, after *unstructured.Unstructured, held, wanted, lost *fieldpath.Set, manager string) (reconcile.Reason, []reconcile.Change) {
	var (
		paths   []fieldpath.Path
		changes []reconcile.Change
		known   = map[string]bool{}
	)
	// What we own after, and what an apply under our name had added and is
	// gone now.
	all := wanted.Leaves().Union(held.Difference(wanted).Leaves()).Union(lost)
	all.Iterate(func(p fieldpath.Path) {
		p = p.Copy()
		from, had := lookup(before.Object, p)
		to, has := lookup(after.Object, p)
		if had == has && (!had || reflect.DeepEqual(from, to)) {
			return
		}
		// Say that a container is missing, not each field of it.
		for len(p) > 1 && !had && has {
			if _, ok := lookup(before.Object, p[:len(p)-1]); ok {
				break
			}
			p = p[:len(p)-1]
			to, _ = lookup(after.Object, p)
		}
		text := pathText(p)
		if known[text] {
			return
		}
		known[text] = true
		paths = append(paths, p)
		c := reconcile.Change{Path: text}
		if !hidden(RefOf(after), p) {
			c.From, c.To = shown(from, had), shown(to, has)
		}
		changes = append(changes, c)
	})
	if len(changes) == 0 {
		r := reconcile.Reason{Code: reconcile.ReasonOwnership, Text: "all values are as desired"}
		r.Writer, r.At, _ = latestForeign(before.GetManagedFields(), manager)
		return r, nil
	}
	slices.SortFunc(changes, func(a, b reconcile.Change) int { return strings.Compare(a.Path, b.Path) })
	r := reconcile.Reason{Code: reconcile.ReasonEdited}
	for _, c := range changes {
		r.Paths = append(r.Paths, c.Path)
	}
	var subresource string
	r.Writer, r.At, subresource = writerOf(before.GetManagedFields(), paths, manager)
	if subresource != "" {
		r.Text = "through the " + subresource + " subresource"
	}
	return r, changes
}

// writerOf is the manager that holds one of the paths now, or else the one
// that wrote last: who removes a field holds nothing.
func writerOf(fields []metav1.ManagedFieldsEntry, paths []fieldpath.Path, manager string) (string, time.Time, string) {
	var found *metav1.ManagedFieldsEntry
	for i := range fields {
		e := &fields[i]
		set, err := fieldSet(e)
		if err != nil || !slices.ContainsFunc(paths, func(p fieldpath.Path) bool { return holds(set, p) }) {
			continue
		}
		// Somebody else, if there is one: our own entry explains a difference
		// only when another process uses our name.
		switch {
		case found == nil,
			found.Manager == manager && e.Manager != manager,
			(found.Manager == manager) == (e.Manager == manager) && later(e, found):
			found = e
		}
	}
	if found != nil && found.Manager != manager {
		return found.Manager, timeOf(found), found.Subresource
	}
	if found != nil {
		return found.Manager, timeOf(found), "" // under our own name
	}
	return latestForeign(fields, manager)
}

// holds tells whether a set has the path or anything below it.
func holds(set *fieldpath.Set, p fieldpath.Path) bool {
	if set.Has(p) {
		return true
	}
	for _, element := range p {
		set = set.WithPrefix(element)
	}
	return !set.Empty()
}

func latestForeign(fields []metav1.ManagedFieldsEntry, manager string) (string, time.Time, string) {
	var found *metav1.ManagedFieldsEntry
	for i := range fields {
		// Controllers write status all the time; they are nobody's rival.
		if e := &fields[i]; e.Manager != manager && e.Subresource != "status" && (found == nil || later(e, found)) {
			found = e
		}
	}
	if found == nil {
		return "", time.Time{}, ""
	}
	return found.Manager, timeOf(found), found.Subresource
}

func later(a, b *metav1.ManagedFieldsEntry) bool { return timeOf(a).After(timeOf(b)) }

func timeOf(e *metav1.ManagedFieldsEntry) time.Time {
	if e.Time == nil {
		return time.Time{}
	}
	return e.Time.Time
}

// lookup finds what stands at a path.
func lookup(v any, p fieldpath.Path) (any, bool) {
	for _, element := range p {
		switch {
		case element.FieldName != nil:
			m, ok := v.(map[string]any)
			if !ok {
				return nil, false
			}
			if v, ok = m[*element.FieldName]; !ok {
				return nil, false
			}
		case element.Key != nil:
			list, _ := v.([]any)
			i := slices.IndexFunc(list, func(item any) bool { return hasKey(item, *element.Key) })
			if i < 0 {
				return nil, false
			}
			v = list[i]
		case element.Value != nil:
			list, _ := v.([]any)
			i := slices.IndexFunc(list, func(item any) bool { return value.Equals(value.NewValueInterface(item), *element.Value) })
			if i < 0 {
				return nil, false
			}
			v = list[i]
		case element.Index != nil:
			list, _ := v.([]any)
			if *element.Index < 0 || *element.Index >= len(list) {
				return nil, false
			}
			v = list[*element.Index]
		}
	}
	return v, true
}

func hasKey(item any, key value.FieldList) bool {
	m, ok := item.(map[string]any)
	if !ok {
		return false
	}
	for _, f := range key {
		// Numbers are read as other types here and there.
		if !value.Equals(value.NewValueInterface(m[f.Name]), f.Value) {
			return false
		}
	}
	return true
}

// pathText writes a path the way policy.ignore and policy.strict take it:
// spec.template.spec.containers["app"].image.
func pathText(p fieldpath.Path) string {
	var b strings.Builder
	for _, element := range p {
		switch {
		case element.FieldName != nil:
			above := b.String()
			b.Reset()
			b.WriteString(FieldPath(above, *element.FieldName))
		case element.Key != nil:
			m := map[string]any{}
			for _, f := range *element.Key {
				m[f.Name] = f.Value.Unstructured()
			}
			name, ok := elementName(m, true)
			if !ok && len(*element.Key) > 0 {
				name = textOf((*element.Key)[0].Value.Unstructured())
			}
			b.WriteString("[" + strconv.Quote(name) + "]")
		case element.Value != nil:
			b.WriteString("[" + strconv.Quote(textOf((*element.Value).Unstructured())) + "]")
		case element.Index != nil:
			b.WriteString("[" + strconv.Itoa(*element.Index) + "]")
		}
	}
	return b.String()
}

// FieldPath is the path of a field in what stands at another path; that one may
// begin with the object it is in, and a space.
func FieldPath(above, name string) string {
	switch {
	case !plain(name):
		return above + "[" + strconv.Quote(name) + "]"
	case above == "" || strings.HasSuffix(above, " "):
		return above + name
	}
	return above + "." + name
}

// plain tells names that need no quotes between dots.
func plain(name string) bool {
	return name != "" && !strings.ContainsAny(name, "./[]\" ")
}

// hidden tells paths whose values are not to be shown.
func hidden(ref Ref, p fieldpath.Path) bool {
	if !ref.isSecret() || len(p) == 0 || p[0].FieldName == nil {
		return false
	}
	// Of a Secret only names are shown. Annotations are known to carry copies.
	switch *p[0].FieldName {
	case "type", "immutable":
		return false
	case "metadata":
		return len(p) < 2 || p[1].FieldName == nil || *p[1].FieldName != "labels"
	}
	return true
}

// shown is a value in few words; a missing one is empty.
func shown(v any, exists bool) string {
	if !exists {
		return ""
	}
	text, ok := v.(string)
	if !ok {
		text = compact(v)
	}
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return text
}

func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return string(b)
}
