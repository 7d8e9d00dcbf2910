package kubernetes

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Lens says which fields of an object count, besides those we own: a text of
// one line for each rule, sorted. It is empty for nearly all objects. It is
// kept with the baseline that was taken through it: two digests can only be
// compared if they were.
//
// A line is a mark, the path as it was written, and, where that differs, a tab
// and the path in the words of managedFields.
type Lens string

// Marks of lines.
const (
	markIgnored  = '-' // a rule of policy.ignore
	markScaled   = '^' // an autoscaler sets it
	markGivenUp  = '~' // the manifest leaves it to somebody else
	markStrict   = '+' // a rule of policy.strict
	markProjects = '=' // the kind has no managedFields: the paths we set, as JSON
)

// line is one rule of a lens.
type line struct {
	mark byte
	rule string  // as it was written
	path pattern // as it is looked for
}

func (l Lens) lines() []line {
	var all []line
	for text := range strings.Lines(string(l)) {
		text = strings.TrimSuffix(text, "\n")
		if text == "" {
			continue
		}
		rule, names, renamed := strings.Cut(text[1:], "\t")
		one := line{mark: text[0], rule: rule}
		if !renamed {
			names = rule
		}
		if one.mark != markProjects {
			path, err := parsePattern(names)
			if err != nil {
				continue // of another version of forged; its digest does not match then
			}
			one.path = path
		}
		all = append(all, one)
	}
	return all
}

func (l Lens) has(mark byte) bool {
	return slices.ContainsFunc(l.lines(), func(one line) bool { return one.mark == mark })
}

// lensOf writes lines down. obj is where the names of list elements are
// looked up.
func lensOf(lines []line, obj *unstructured.Unstructured) Lens {
	var texts []string
	for _, one := range lines {
		text := string(one.mark) + one.rule
		if one.mark != markProjects && obj != nil {
			if names := one.path.resolved(obj.Object).String(); names != one.rule {
				text += "\t" + names
			}
		}
		texts = append(texts, text+"\n")
	}
	slices.Sort(texts)
	return Lens(strings.Join(slices.Compact(texts), ""))
}

// view is a lens that is ready for use.
type view struct {
	ignored []pattern
	strict  []pattern
	project *fieldpath.Set // nil: by ownership
}

func (l Lens) view() view {
	var v view
	for _, one := range l.lines() {
		switch one.mark {
		case markStrict:
			v.strict = append(v.strict, one.path)
		case markProjects:
			v.project = fieldpath.NewSet()
			if err := v.project.FromJSON(strings.NewReader(one.rule)); err != nil {
				v.project = fieldpath.NewSet()
			}
		default:
			v.ignored = append(v.ignored, one.path)
		}
	}
	return v
}

// covers tells whether one of the patterns names the path or something it is
// in. Our own marks are never covered: without them nothing would be seen.
func covers(patterns []pattern, path fieldpath.Path) bool {
	return !ourMark(path) && slices.ContainsFunc(patterns, func(p pattern) bool { return p.above(path) })
}

func ourMark(path fieldpath.Path) bool {
	if len(path) != 3 || path[0].FieldName == nil || path[1].FieldName == nil || path[2].FieldName == nil || *path[0].FieldName != "metadata" {
		return false
	}
	key := *path[2].FieldName
	return *path[1].FieldName == "labels" && key == LabelInstance || *path[1].FieldName == "annotations" && key == AnnotationOwner
}

// masked takes what is ignored out of a set of fields. A field that can only
// be owned as a whole is ignored as a whole.
func (v view) masked(set *fieldpath.Set) *fieldpath.Set {
	if len(v.ignored) == 0 {
		return set
	}
	leaves := set.Leaves()
	kept := fieldpath.NewSet()
	set.Iterate(func(p fieldpath.Path) {
		if covers(v.ignored, p) {
			return
		}
		if leaves.Has(p) && slices.ContainsFunc(v.ignored, func(q pattern) bool { return q.inside(p) }) {
			return
		}
		kept.Insert(p.Copy())
	})
	return kept
}

// extras are the fields under strict paths that others hold and we do not.
func (v view) extras(fields []metav1.ManagedFieldsEntry, manager string) *fieldpath.Set {
	extras := fieldpath.NewSet()
	if len(v.strict) == 0 {
		return extras
	}
	ours, err := fieldSet(entryOf(fields, manager))
	if err != nil {
		return extras
	}
	for i := range fields {
		if !rival(&fields[i], manager) {
			continue
		}
		set, err := fieldSet(&fields[i])
		if err != nil {
			continue
		}
		set.Iterate(func(p fieldpath.Path) {
			if !ours.Has(p) && covers(v.strict, p) && !serverMade(p) {
				extras.Insert(p.Copy())
			}
		})
	}
	return extras
}

// rival tells entries of others that hold fields of the object itself. What
// is written through a subresource has rules of its own.
func rival(e *metav1.ManagedFieldsEntry, manager string) bool {
	return e.Subresource == "" && (e.Manager != manager || e.Operation != metav1.ManagedFieldsOperationApply)
}

// serverMade tells fields that Kubernetes' own controllers keep beside the
// spec, and would put back at once.
func serverMade(p fieldpath.Path) bool {
	return len(p) == 3 && p[2].FieldName != nil && strings.HasPrefix(*p[2].FieldName, "deployment.kubernetes.io/")
}

// yield adapts what is about to be sent: fields that are ignored are left to
// whoever holds them, and stay as they are where nobody but us does. Leaving
// out what only we hold would take it away.
func (v view) yield(payload, live *unstructured.Unstructured, manager string) error {
	fields := live.GetManagedFields()
	ours, err := fieldSet(entryOf(fields, manager))
	if err != nil {
		return err
	}
	theirs := fieldpath.NewSet()
	for i := range fields {
		if e := &fields[i]; e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "" {
			continue
		}
		set, err := fieldSet(&fields[i])
		if err != nil {
			return err
		}
		theirs = theirs.Union(set)
	}
	marks := map[string]string{}
	if note, ok := payload.GetAnnotations()[AnnotationOwner]; ok {
		marks[AnnotationOwner] = note
	}
	label := payload.GetLabels()[LabelInstance]
	whole := ours.Union(theirs).Leaves()
	for _, p := range v.ignored {
		if v.inWhole(p, whole) {
			p.overlay(payload.Object, live.DeepCopy().Object)
			continue
		}
		p.cut(payload.Object)
		ours.Leaves().Iterate(func(path fieldpath.Path) {
			if !p.above(path) || theirs.Has(path) {
				return
			}
			value, ok := lookup(live.Object, path)
			if !ok {
				return
			}
			if _, isMap := value.(map[string]any); isMap && !prefixed(theirs, path).Empty() {
				value = map[string]any{} // what is in it is theirs
			}
			put(payload.Object, path.Copy(), len(p), value)
		})
	}
	if label != "" {
		labels := payload.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[LabelInstance] = label
		payload.SetLabels(labels)
	}
	if len(marks) > 0 {
		notes := payload.GetAnnotations()
		if notes == nil {
			notes = map[string]string{}
		}
		notes[AnnotationOwner] = marks[AnnotationOwner]
		payload.SetAnnotations(notes)
	}
	return nil
}

// inWhole tells whether the pattern names something inside of a field that
// can only be owned as a whole.
func (v view) inWhole(p pattern, leaves *fieldpath.Set) bool {
	found := false
	leaves.Iterate(func(path fieldpath.Path) { found = found || p.inside(path) })
	return found
}

func prefixed(set *fieldpath.Set, path fieldpath.Path) *fieldpath.Set {
	for _, e := range path {
		set = set.WithPrefix(e)
	}
	return set
}

// wanted is what a lens is expected to say, apart from what only a manifest
// tells; missing tells whether l does not say all of it, dropped what l says
// beyond it.
func (l Lens) against(wanted []line) (missing bool, dropped []pattern) {
	if l == "" {
		return len(wanted) > 0, nil
	}
	has := l.lines()
	same := func(a, b line) bool { return a.mark == b.mark && a.rule == b.rule }
	for _, w := range wanted {
		if !slices.ContainsFunc(has, func(h line) bool {
			return same(h, w) || w.mark == markScaled && h.mark == markGivenUp && h.rule == w.rule
		}) {
			missing = true
		}
	}
	for _, h := range has {
		if h.mark == markGivenUp || h.mark == markProjects {
			continue
		}
		if !slices.ContainsFunc(wanted, func(w line) bool { return same(h, w) }) {
			dropped = append(dropped, h.path)
		}
	}
	return missing, dropped
}

// kept are the lines that stay whatever the rules say: what the manifest
// alone told.
func (l Lens) kept() []line {
	return slices.DeleteFunc(l.lines(), func(h line) bool { return h.mark != markGivenUp && h.mark != markProjects })
}
