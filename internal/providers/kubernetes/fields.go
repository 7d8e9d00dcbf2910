package kubernetes

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// pattern is the path of a field as forge.cue writes it:
// spec.template.spec.containers["app"].image. In brackets stands *, the place
// in a list, or a name: of a key, or of the element of a list.
type pattern []segment

// segment is one part of a pattern.
type segment struct {
	name   string
	index  int
	quoted bool // name is a key or an element's
	any    bool
	isAt   bool // index counts
}

// parsePattern reads a path. The language has checked its form already.
func parsePattern(text string) (pattern, error) {
	var p pattern
	rest := text
	for rest != "" {
		switch {
		case strings.HasPrefix(rest, "["):
			q, tail, err := bracket(rest)
			if err != nil {
				return nil, fmt.Errorf("field path %s: %w", text, err)
			}
			p, rest = append(p, q), tail
		default:
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, fmt.Errorf("field path %s: an empty name", text)
			}
			p, rest = append(p, segment{name: rest[:end]}), rest[end:]
		}
		rest = strings.TrimPrefix(rest, ".")
	}
	if len(p) == 0 {
		return nil, fmt.Errorf("field path %q is empty", text)
	}
	return p, nil
}

func bracket(text string) (segment, string, error) {
	if inner, ok := strings.CutPrefix(text, `["`); ok {
		name, tail, ok := strings.Cut(inner, `"]`)
		if !ok {
			return segment{}, "", fmt.Errorf("a bracket is not closed")
		}
		return segment{name: name, quoted: true}, tail, nil
	}
	inner, tail, ok := strings.Cut(text[1:], "]")
	if !ok {
		return segment{}, "", fmt.Errorf("a bracket is not closed")
	}
	if inner == "*" {
		return segment{any: true}, tail, nil
	}
	n, err := strconv.Atoi(inner)
	if err != nil {
		return segment{}, "", fmt.Errorf("[%s] is neither *, nor a number, nor a name in quotes", inner)
	}
	return segment{index: n, isAt: true}, tail, nil
}

// String writes a pattern as parsePattern reads it.
func (p pattern) String() string {
	var b strings.Builder
	for i, q := range p {
		switch {
		case q.any:
			b.WriteString("[*]")
		case q.isAt:
			fmt.Fprintf(&b, "[%d]", q.index)
		case q.quoted:
			b.WriteString(`["` + q.name + `"]`)
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(q.name)
		}
	}
	return b.String()
}

// matches tells whether an element of a path is meant.
func (q segment) matches(e fieldpath.PathElement) bool {
	switch {
	case q.any:
		return true
	case e.FieldName != nil:
		return !q.isAt && q.name == *e.FieldName
	case e.Key != nil:
		return q.quoted && slices.ContainsFunc(*e.Key, func(f value.Field) bool { return textOf(f.Value.Unstructured()) == q.name })
	case e.Value != nil:
		return q.quoted && textOf((*e.Value).Unstructured()) == q.name
	case e.Index != nil:
		return q.isAt && q.index == *e.Index
	}
	return false
}

// above tells whether the pattern names the path itself or something it is
// in; partly, whether it names something inside of the path.
func (p pattern) above(path fieldpath.Path) bool {
	return len(p) <= len(path) && p.agrees(path[:len(p)])
}

func (p pattern) inside(path fieldpath.Path) bool {
	return len(p) > len(path) && p[:len(path)].agrees(path)
}

func (p pattern) agrees(path fieldpath.Path) bool {
	for i, e := range path {
		if !p[i].matches(e) {
			return false
		}
	}
	return true
}

// elementKeys are fields by which elements of lists are told apart, in the
// order in which they say it best.
var elementKeys = []string{"containerPort", "port", "mountPath", "devicePath", "ip", "topologyKey", "name", "type", "uid", "key"}

// elementName is the name a list element goes by in managedFields. Those of
// Services are known by their port; elsewhere, as in a Gateway, that is a field
// like any other.
func elementName(item any, service bool) (string, bool) {
	m, ok := item.(map[string]any)
	if !ok {
		return textOf(item), item != nil
	}
	for _, key := range elementKeys {
		if v, ok := m[key]; ok && (key != "port" || service) {
			return textOf(v), true
		}
	}
	return "", false
}

// called tells whether a list element goes by a name.
func called(item any, name string) bool {
	m, ok := item.(map[string]any)
	if !ok {
		return textOf(item) == name
	}
	return slices.ContainsFunc(elementKeys, func(key string) bool {
		v, ok := m[key]
		return ok && textOf(v) == name
	})
}

// textOf is a scalar as text.
func textOf(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return fmt.Sprint(v)
}

// resolved puts the names that managedFields uses in the place of other names
// of list elements, and of places in lists, as far as obj has the elements.
func (p pattern) resolved(obj map[string]any) pattern {
	out := slices.Clone(p)
	service := obj["kind"] == "Service" && obj["apiVersion"] == "v1"
	var at any = obj
	for i, q := range p {
		switch v := at.(type) {
		case map[string]any:
			at = v[q.name]
		case []any:
			if q.any {
				return out // each element may be another; what follows stays
			}
			n := q.index
			if q.quoted {
				n = slices.IndexFunc(v, func(item any) bool { return called(item, q.name) })
			}
			if n < 0 || n >= len(v) {
				return out
			}
			if name, ok := elementName(v[n], service); ok {
				out[i] = segment{name: name, quoted: true}
			}
			at = v[n]
		default:
			return out
		}
	}
	return out
}

// cut takes everything the pattern names out of a value.
func (p pattern) cut(v any) any {
	if len(p) == 0 {
		return v
	}
	q, last := p[0], len(p) == 1
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			if !q.any && (q.isAt || q.name != key) {
				continue
			}
			if last {
				delete(v, key)
			} else {
				v[key] = p[1:].cut(child)
			}
		}
		return v
	case []any:
		kept := make([]any, 0, len(v))
		for i, item := range v {
			switch {
			case !q.means(i, item):
				kept = append(kept, item)
			case !last:
				kept = append(kept, p[1:].cut(item))
			}
		}
		return kept
	default:
		return v
	}
}

// means tells whether an element of a list is meant.
func (q segment) means(i int, item any) bool {
	return q.any || q.isAt && q.index == i || q.quoted && called(item, q.name)
}

// overlay puts into v what the pattern names in live.
func (p pattern) overlay(v, live any) any {
	if len(p) == 0 {
		return live
	}
	q := p[0]
	switch v := v.(type) {
	case map[string]any:
		theirs, _ := live.(map[string]any)
		for key := range v {
			if !q.any && (q.isAt || q.name != key) {
				continue
			}
			if other, ok := theirs[key]; ok {
				v[key] = p[1:].overlay(v[key], other)
			} else if len(p) == 1 {
				delete(v, key)
			}
		}
	case []any:
		theirs, _ := live.([]any)
		for i, item := range v {
			if q.means(i, item) && i < len(theirs) {
				v[i] = p[1:].overlay(item, theirs[i])
			}
		}
	}
	return v
}

// put sets what stands at a path. Elements of lists are made from depth on;
// above it one that is not there means that nothing is set.
func put(v any, path fieldpath.Path, depth int, to any) (any, bool) {
	if len(path) == 0 {
		return to, true
	}
	e := path[0]
	switch {
	case e.FieldName != nil:
		m, ok := v.(map[string]any)
		if !ok && v != nil {
			return v, false
		}
		if m == nil {
			m = map[string]any{}
		}
		child, ok := put(m[*e.FieldName], path[1:], depth-1, to)
		if ok {
			m[*e.FieldName] = child
		}
		return m, ok
	case e.Key != nil, e.Value != nil:
		list, ok := v.([]any)
		if !ok && v != nil {
			return v, false
		}
		i := slices.IndexFunc(list, func(item any) bool { return is(item, e) })
		if i < 0 {
			if depth > 1 {
				return v, false
			}
			list, i = append(list, newElement(e)), len(list)
		}
		child, ok := put(list[i], path[1:], depth-1, to)
		if ok {
			list[i] = child
		}
		return list, ok
	default:
		return v, false
	}
}

// is tells whether an element of a list is the one a path means.
func is(item any, e fieldpath.PathElement) bool {
	if e.Key != nil {
		return hasKey(item, *e.Key)
	}
	return value.Equals(value.NewValueInterface(item), *e.Value)
}

func newElement(e fieldpath.PathElement) any {
	if e.Value != nil {
		return (*e.Value).Unstructured()
	}
	m := map[string]any{}
	for _, f := range *e.Key {
		m[f.Name] = f.Value.Unstructured()
	}
	return m
}

// cutPath takes what stands at a path out of a value.
func cutPath(v any, path fieldpath.Path) any {
	if len(path) == 0 {
		return v
	}
	e, last := path[0], len(path) == 1
	switch v := v.(type) {
	case map[string]any:
		if e.FieldName == nil {
			return v
		}
		if child, ok := v[*e.FieldName]; ok && last {
			delete(v, *e.FieldName)
		} else if ok {
			v[*e.FieldName] = cutPath(child, path[1:])
		}
		return v
	case []any:
		if e.Key == nil && e.Value == nil {
			return v
		}
		i := slices.IndexFunc(v, func(item any) bool { return is(item, e) })
		switch {
		case i < 0:
			return v
		case last:
			return slices.Delete(v, i, i+1)
		}
		v[i] = cutPath(v[i], path[1:])
		return v
	default:
		return v
	}
}
