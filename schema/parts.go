package schema

import (
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// Evaluated as a whole, a forge needs memory for all of its environments at
// once, and the collector goes over all of it again and again. Environments
// seldom refer to each other; where they do not, one is forgotten before the
// next is looked at. What is unusual, and whatever is wrong, is evaluated as a
// whole: that decides, and this is only a shorter way to the same answer.

// parts decodes a forge part by part. It is not ok where the parts may depend
// on each other, or where anything is wrong.
func (l *loader) parts() (w wire, ok bool) {
	if !independent(l.files) || l.user.Validate() != nil {
		return wire{}, false
	}
	top := map[string]cue.Value{}
	it, err := l.user.Fields()
	if err != nil {
		return wire{}, false
	}
	for it.Next() {
		top[it.Selector().Unquoted()] = it.Value()
	}
	language := l.lang.LookupPath(cue.MakePath(cue.Def("Forge"), cue.Str("forge").Required()))
	if !top["forge"].Exists() || language.Unify(top["forge"]).Validate(cue.Concrete(true)) != nil {
		return wire{}, false
	}
	w.app = &wireApp{}
	if !top["app"].Exists() || !l.part("#App", top["app"], w.app) {
		return wire{}, false
	}
	ok = top["environments"].Exists() && l.elements(top["environments"], func(name string, v cue.Value) bool {
		w.envs = append(w.envs, wireEnv{name: name})
		return l.part("#Environment", v, &w.envs[len(w.envs)-1])
	})
	if n := top["notifications"]; ok && n.Exists() {
		w.notifications = map[string]wireNotification{}
		ok = l.elements(n, func(name string, v cue.Value) bool {
			var n wireNotification
			ok := l.part("#Notification", v, &n)
			w.notifications[name] = n
			return ok
		})
	}
	for name := range top {
		switch name {
		case "forge", "app", "environments", "notifications":
		default:
			return wire{}, false
		}
	}
	w.sort()
	return w, ok
}

// part completes and decodes one part of a forge.
func (l *loader) part(definition string, v cue.Value, to any) bool {
	v = l.lang.LookupPath(cue.ParsePath(definition)).Unify(v)
	if v.Validate(cue.Concrete(true), cue.Final()) != nil {
		return false
	}
	data, err := v.MarshalJSON()
	return err == nil && strictJSON(data, to) == nil
}

// elements calls f for each field of an object with free names.
func (l *loader) elements(v cue.Value, f func(name string, v cue.Value) bool) bool {
	it, err := v.Fields()
	if err != nil {
		return false
	}
	for it.Next() {
		if name := it.Selector().Unquoted(); !l.fits("#Name", name) || !f(name, it.Value()) {
			return false
		}
	}
	return true
}

// independent tells whether no part of a forge can see what another part has
// become: no expression refers to one of the parts, and each is written out
// where it is, so that no reference is given another meaning by embedding.
func independent(files []*ast.File) bool {
	d := &dependencies{parts: map[ast.Node]bool{}}
	for _, f := range files {
		d.decls(nil, f.Decls)
	}
	for _, f := range files {
		if d.found {
			break
		}
		ast.Walk(f, d.refers, nil)
	}
	return !d.found
}

type dependencies struct {
	parts map[ast.Node]bool // values of the parts, which references lead to
	found bool
}

// decls looks at the fields of the forge, and at those of its environments and
// notifications.
func (d *dependencies) decls(in []string, decls []ast.Decl) {
	for _, decl := range decls {
		switch decl := decl.(type) {
		case *ast.Field:
			name, _, err := ast.LabelName(decl.Label)
			if err != nil {
				name = "" // a pattern, or an expression
			}
			switch {
			case strings.HasPrefix(name, "_"), strings.HasPrefix(name, "#"):
				// It is of no part, and means the same everywhere.
			case decl.Constraint != token.ILLEGAL:
				d.found = true
			case len(in) == 0 && (name == "environments" || name == "notifications"):
				d.parts[decl.Value] = true
				s, ok := decl.Value.(*ast.StructLit)
				if !ok {
					d.found = true
					return
				}
				d.decls([]string{name}, s.Elts)
			case len(in) == 0 && name == "":
				d.found = true
			default:
				d.parts[decl.Value] = true
			}
		case *ast.Comprehension:
			s, ok := decl.Value.(*ast.StructLit)
			if !ok || decl.Fallback != nil {
				d.found = true
				return
			}
			d.decls(in, s.Elts)
		case *ast.ImportDecl, *ast.Package, *ast.CommentGroup, *ast.Attribute, *ast.LetClause:
		default:
			d.found = true
		}
	}
}

// refers looks for references to parts, and for aliases, which are references
// by another name.
func (d *dependencies) refers(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.Package, *ast.ImportDecl:
		return false
	case *ast.Alias:
		d.found = true
	case *ast.Field:
		if n.Alias != nil {
			d.found = true
		}
		if _, ok := n.Label.(*ast.Ident); ok {
			// The name of a field is no reference.
			ast.Walk(n.Value, d.refers, nil)
			return false
		}
	case *ast.SelectorExpr:
		ast.Walk(n.X, d.refers, nil)
		return false
	case *ast.Ident:
		if n.Node != nil && d.parts[n.Node] {
			d.found = true
		}
		switch n.Name {
		case "forge", "app", "environments", "notifications":
			d.found = true // also from another file
		}
	}
	return !d.found
}
