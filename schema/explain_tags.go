package schema

import (
	"bytes"
	"fmt"
	"slices"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"
)

// explainTags reports the tags that are to blame for errors of CUE: those that
// are not set, and those whose value their field does not accept. It returns
// the errors that do not follow from these.
func (l *loader) explainTags(errs []errors.Error) []errors.Error {
	if len(l.text.tags) == 0 {
		return errs
	}
	// Beside a key that is not allowed CUE does not look for missing values;
	// the text by itself has no such keys.
	all := append(slices.Clip(errs), errors.Errors(l.user.Validate(cue.Concrete(true)))...)
	var broken []path
	for _, t := range l.text.tags {
		v := l.user.LookupPath(t.label)
		known := len(t.label.Selectors()) > 0 && v.Exists()
		if t.set == nil && known && settled(v) || t.set != nil && (!known || v.Err() == nil) {
			continue
		}
		var blamed []path
		for _, e := range all {
			if p := cuePath(e.Path()); l.follows(e, t, v) && !settled(l.whole.LookupPath(selectors(l.whole, p))) {
				blamed = append(blamed, p)
			}
		}
		if len(blamed) == 0 {
			continue
		}
		broken = append(append(broken, t.at), blamed...)
		if t.set == nil {
			l.add(t.at, t.value.Pos(), "tag", fmt.Sprintf("it has no value: tag %q is not set", t.name),
				"write "+t.example()+", or give it a default: "+t.defaulted())
			continue
		}
		given := fmt.Sprintf("%q, which was", *t.set)
		if unlessSecret(t.name, "") != "" {
			given = "what was"
		}
		l.add(t.at, t.value.Pos(), "tag", fmt.Sprintf("it does not accept %s given with -t %s=…", given, t.name), l.src.accepts(t))
	}
	for _, p := range broken {
		l.breaks(p)
	}
	return slices.DeleteFunc(errs, func(e errors.Error) bool {
		p := cuePath(e.Path())
		return slices.ContainsFunc(broken, func(q path) bool {
			return slices.Equal(p, q) || len(p) < len(q) && slices.Equal(p, q[:len(p)])
		})
	})
}

// settled tells whether v is one value, if need be by default.
func settled(v cue.Value) bool {
	v, _ = v.Default()
	return v.Err() == nil && v.IsConcrete() && v.Kind()&(cue.StructKind|cue.ListKind) == 0
}

// accepts is a hint that repeats what is written behind the colon.
func (s Source) accepts(t *tag) string {
	f, _ := s.file(t.file)
	from, to := t.value.Pos().Offset(), t.value.End().Offset()
	if from >= to || to > len(f.Data) || to-from > 80 || bytes.ContainsAny(f.Data[from:to], "\n\r") {
		return ""
	}
	return "it is written to be " + string(f.Data[from:to])
}

// defaulted is the field with a default, for a hint.
func (t *tag) defaulted() string {
	switch t.typ {
	case "bool":
		return "*false | bool"
	case "int":
		return "*1 | int"
	case "number":
		return "*1 | number"
	}
	return `*"…" | string`
}

// follows tells whether an error of CUE is there because of a tag: it is at
// its field, or at one that refers to it.
func (l *loader) follows(e errors.Error, t *tag, v cue.Value) bool {
	if cuePath(e.Path()).String() == t.at.String() {
		return true
	}
	within := []ast.Node{t.value}
	if v.Exists() {
		// A field that refers to another one is as incomplete as that one is.
		if n := cue.Dereference(v).Source(); n != nil {
			within = append(within, n)
		}
	}
	for _, p := range append(e.InputPositions(), e.Position()) {
		if p.IsValid() && (p == t.attr || slices.ContainsFunc(within, func(n ast.Node) bool { return contains(n, p) })) {
			return true
		}
	}
	return false
}

// contains tells whether a position is in the text of a node.
func contains(n ast.Node, p token.Pos) bool {
	from, to := n.Pos(), n.End()
	return from.IsValid() && to.IsValid() && p.Filename() == from.Filename() && p.Offset() >= from.Offset() && p.Offset() < to.Offset()
}

// breaks marks a path like one with a diagnostic.
func (l *loader) breaks(p path) {
	if l.broken == nil {
		l.broken = map[string]bool{}
	}
	for n := range len(p) + 1 {
		l.broken[p[:n].String()] = true
	}
}
