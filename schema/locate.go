package schema

import (
	"slices"
	"strconv"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/token"
)

// fields are the names of the regular fields of v in the order they are
// written.
func fields(v cue.Value) []string {
	it, err := v.Fields()
	if err != nil {
		return nil
	}
	var names []string
	for it.Next() {
		// Of two lists that contradict each other CUE makes numbered fields.
		if name := it.Selector(); name.IsString() {
			names = append(names, name.Unquoted())
		}
	}
	return names
}

// fields are the names that are written at p, also where CUE gives up on the
// struct because of an error in it.
func (l *loader) fields(p path) []string {
	names := fields(l.user.LookupPath(selectors(l.user, p)))
	for _, name := range l.places().children[p.String()] {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (l *loader) places() *index {
	if l.index == nil {
		l.index = newIndex(l.files)
	}
	return l.index
}

// selectors is p as a path into v, where numbers may index lists.
func selectors(v cue.Value, p path) cue.Path {
	var sels []cue.Selector
	for _, s := range p {
		if v.IncompleteKind() == cue.ListKind {
			if i, err := strconv.Atoi(s); err == nil {
				sels = append(sels, cue.Index(i))
				v = v.LookupPath(cue.MakePath(cue.Index(i)))
				continue
			}
		}
		sel := cue.Str(s)
		sels = append(sels, sel)
		v = v.LookupPath(cue.MakePath(sel))
	}
	return cue.MakePath(sels...)
}

// isObject tells whether the language has fields at p.
func (l *loader) isObject(p path) bool {
	k := l.model.at(p)
	return k != nil && k.typ == object
}

func (l *loader) written(p path) bool {
	return l.user.LookupPath(selectors(l.user, p)).Exists()
}

// pos is where p is written: its value, or what encloses it.
func (l *loader) pos(p path, label bool) token.Pos {
	for n := len(p); n > 0; n-- {
		if at, ok := l.places().places[p[:n].String()]; ok {
			if label || n < len(p) {
				return at.label
			}
			return at.value
		}
		if v := l.user.LookupPath(selectors(l.user, p[:n])); v.Exists() && l.ours(v.Pos()) {
			return v.Pos()
		}
	}
	return token.NoPos
}

// ours tells whether a position is in the text and not in the schema.
func (l *loader) ours(p token.Pos) bool {
	_, ok := l.src.file(p.Filename())
	return ok && p.IsValid()
}

// add reports a mistake at p.
func (l *loader) add(p path, pos token.Pos, rule, message, hint string) {
	d := l.src.diagnostic(pos, l.src.Name(), rule, discreet(message), discreet(hint))
	d.Path = p.String()
	d.private = l.private(p) || rule == "secret-value" || rule == "secret-like" || rule == "secret-source"
	l.diags = append(l.diags, d)
	if l.broken == nil {
		l.broken = map[string]bool{}
	}
	for n := range len(p) + 1 {
		l.broken[p[:n].String()] = true
	}
}

// isBroken tells whether there is a diagnostic at p or below.
func (l *loader) isBroken(p path) bool { return l.broken[p.String()] }
