package fks

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Fit brings objects into a form that Fly Kubernetes can run, and says what had
// to be done and what cannot be had. The objects are looked at together: what
// one of them says may change another. What is given is not changed, and what
// is returned has been copied; lists come back as what is in them. To fit again
// changes nothing.
func Fit(objects []*unstructured.Unstructured, o Options) ([]*unstructured.Unstructured, []Finding) {
	f := &fitting{Options: o}
	for _, given := range objects {
		if given != nil {
			f.add(copied(given.Object).(map[string]any))
		}
	}
	for _, r := range table() {
		f.apply(r)
	}
	out := make([]*unstructured.Unstructured, 0, len(f.objects))
	for _, o := range f.objects {
		if o.gone {
			continue
		}
		swept(o.fields)
		o.sign()
		out = append(out, &unstructured.Unstructured{Object: o.fields})
	}
	return out, f.sorted()
}

// Rules are the table, in the order in which they are applied.
func Rules() []Rule { return table() }

// RuleNamed finds a rule by its id or its name.
func RuleNamed(name string) (Rule, bool) {
	for _, r := range table() {
		if strings.EqualFold(r.ID, name) || r.Name == name {
			return r, true
		}
	}
	return Rule{}, false
}

// fitting is one Fit under way.
type fitting struct {
	Options

	objects  []*object
	findings []Finding
}

// object is one of those that are fitted.
type object struct {
	fields map[string]any
	kind   string // with its group: Deployment.apps
	rules  map[string]bool
	// allowed are places that a rule has passed over because it may be broken:
	// those that come after it in the table leave them alone too.
	allowed map[string]bool
	gone    bool
}

func (f *fitting) add(fields map[string]any) {
	if text(fields, "kind") == "List" && text(fields, "apiVersion") == "v1" {
		for _, item := range items(fields, "items") {
			f.add(item)
		}
		return
	}
	o := &object{fields: fields, kind: text(fields, "kind"), rules: map[string]bool{}, allowed: map[string]bool{}}
	if group, _, ok := strings.Cut(text(fields, "apiVersion"), "/"); ok {
		o.kind += "." + group
	}
	f.objects = append(f.objects, o)
}

// namespace of an object; what has none gets that of the options.
func (f *fitting) namespace(o *object) string {
	return cmp.Or(text(below(o.fields, "metadata"), "namespace"), f.Namespace)
}

func (o *object) name() string { return text(below(o.fields, "metadata"), "name") }

// Title names an object for people, as findings do.
func Title(fields map[string]any) string {
	metadata := below(fields, "metadata")
	title := text(fields, "kind") + " "
	if namespace := text(metadata, "namespace"); namespace != "" {
		title += namespace + "/"
	}
	return title + text(metadata, "name")
}

// is tells whether an object is of one of the kinds; *.example.com is every
// kind of that group.
func (o *object) is(kinds []string) bool {
	return len(kinds) == 0 || slices.ContainsFunc(kinds, func(kind string) bool {
		group, all := strings.CutPrefix(kind, "*")
		return kind == o.kind || all && strings.HasSuffix(o.kind, group)
	})
}

// sign writes the rules that changed an object into its annotation.
func (o *object) sign() {
	if len(o.rules) == 0 {
		return
	}
	metadata, ok := o.fields["metadata"].(map[string]any)
	if !ok {
		return
	}
	annotations, ok := metadata["annotations"].(map[string]any)
	if !ok {
		if metadata["annotations"] != nil {
			return // no API server takes it
		}
		annotations = map[string]any{}
		metadata["annotations"] = annotations
	}
	for id := range strings.SplitSeq(text(annotations, Annotation), ",") {
		if id != "" {
			o.rules[id] = true
		}
	}
	annotations[Annotation] = strings.Join(slices.Sorted(maps.Keys(o.rules)), ",")
}

// apply has one rule look at all objects.
func (f *fitting) apply(r Rule) {
	for _, o := range f.objects {
		if o.gone || !o.is(r.Kinds) {
			continue
		}
		for _, path := range spelled(r.Path, o.kind) {
			// All places first: a change may move them.
			var places []match
			find(o, steps(path), r.When.Absent, func(m match) { places = append(places, m) })
			for _, m := range places {
				f.look(r, m)
			}
		}
	}
}

func (f *fitting) look(r Rule, m match) {
	at := m.path()
	if m.of.allowed[at] || f.has(r.Unless, m) || !r.When.holds(m) || r.holds != nil && !r.holds(f, m) {
		return
	}
	found := Finding{
		Rule: r.ID, Action: r.Action, Object: Title(m.of.fields), Path: at,
		Message: r.Message, Hint: r.Hint, Doc: r.Doc, Harmless: r.Harmless,
	}
	if slices.Contains(f.Allow, r.ID) {
		if r.Action != Note {
			found.Action = Warn
		}
		if r.Action != Note && r.Action != Warn {
			m.of.allowed[at] = true
		}
		f.findings = append(f.findings, found)
		return
	}
	switch r.Action {
	case Drop:
		found.From = shown(m, m.value)
		if r.change != nil {
			r.change(f, m)
		}
		m.take()
		m.of.rules[r.ID] = true
	case Rewrite:
		found.From = shown(m, m.value)
		to := r.change(f, m)
		found.To = to
		m.of.rules[r.ID] = true
	}
	f.findings = append(f.findings, found)
}

// has tells whether the cluster has what makes a rule void.
func (f *fitting) has(c Capability, m match) bool {
	switch known := f.Capabilities; {
	case c.APIGroup != "":
		return slices.Contains(known.APIGroups, c.APIGroup)
	case c.IngressClass:
		class := cmp.Or(text(below(m.of.fields, "spec"), "ingressClassName"), text(below(m.of.fields, "metadata", "annotations"), "kubernetes.io/ingress.class"))
		if class != "" {
			return slices.Contains(known.IngressClasses, class)
		}
		return len(known.IngressClasses) > 0
	case c.StorageClass:
		class, _ := m.value.(string)
		if len(m.keys) == 0 {
			class = m.of.name()
		}
		return slices.Contains(known.StorageClasses, class)
	}
	return false
}

// allows tells whether a rule does nothing about an object of that kind.
func (f *fitting) allows(id string) bool {
	r, _ := RuleNamed(id)
	return slices.Contains(f.Allow, id) || r.Unless.APIGroup != "" && slices.Contains(f.Capabilities.APIGroups, r.Unless.APIGroup)
}

// sorted are the findings by object, rule and path, each once.
func (f *fitting) sorted() []Finding {
	key := func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Path, b.Path))
	}
	slices.SortStableFunc(f.findings, key)
	return slices.CompactFunc(f.findings, func(a, b Finding) bool { return key(a, b) == 0 })
}

// holds tells whether a rule is about what is at a place.
func (w When) holds(m match) bool {
	if !m.there {
		return w.Absent
	}
	some := func(set []string) func(any) bool {
		return func(v any) bool { return slices.Contains(set, fmt.Sprint(v)) }
	}
	values, list := m.value.([]any)
	if !list {
		values = []any{m.value}
	}
	switch {
	case w.More > 0:
		n := 0
		for _, item := range values {
			if item != (removed{}) {
				n++
			}
		}
		return list && n > w.More
	case w.Over != "":
		is, err := resource.ParseQuantity(fmt.Sprint(m.value))
		return err == nil && is.Cmp(resource.MustParse(w.Over)) > 0
	case len(w.OneOf) > 0:
		return slices.ContainsFunc(values, some(w.OneOf))
	case empty(m.value):
		return w.Absent
	case len(w.NoneOf) > 0:
		return slices.ContainsFunc(values, func(v any) bool { return !some(w.NoneOf)(v) })
	}
	return true
}

// empty tells whether a value says nothing.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

// copied is a value that shares nothing with the one given.
func copied(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, in := range v {
			out[key] = copied(in)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = copied(v[i])
		}
		return out
	}
	return v
}
