package schema

import (
	"strconv"
	"strings"
	"unicode"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// path names a place in a forge: environments, prod, domains, 0.
type path []string

// String is the path as CUE writes it.
func (p path) String() string {
	var b strings.Builder
	for i, s := range p {
		if i > 0 {
			b.WriteByte('.')
		}
		if strings.ContainsFunc(s, func(r rune) bool {
			return r != '-' && r != '_' && r != '#' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
		}) || s == "" {
			s = strconv.Quote(s)
		}
		b.WriteString(s)
	}
	return b.String()
}

// with is p with further elements; p keeps its own.
func (p path) with(more ...string) path {
	return append(append(make(path, 0, len(p)+len(more)), p...), more...)
}

// place is where a field is written.
type place struct{ label, value token.Pos }

// index knows where the fields of a forge are written, as far as they are
// written out: fields that a comprehension makes, or that come by reference,
// are not in it.
type index struct {
	places   map[string]place
	children map[string][]string   // names of regular fields, in order
	exprs    map[string][]ast.Expr // values, one for each time that it is written
	closed   map[string]string     // names of the definitions that values are made from
}

func newIndex(files []*ast.File) *index {
	x := &index{places: map[string]place{}, children: map[string][]string{}, exprs: map[string][]ast.Expr{}, closed: map[string]string{}}
	for _, f := range files {
		x.decls(nil, f.Decls)
	}
	return x
}

func (x *index) decls(at path, decls []ast.Decl) {
	for _, d := range decls {
		switch d := d.(type) {
		case *ast.Field:
			name, ident, err := ast.LabelName(d.Label)
			if err != nil {
				continue
			}
			p := at.with(name)
			if _, ok := x.places[p.String()]; !ok {
				x.places[p.String()] = place{d.Label.Pos(), d.Value.Pos()}
				if !ident || !strings.HasPrefix(name, "_") && !strings.HasPrefix(name, "#") {
					x.children[at.String()] = append(x.children[at.String()], name)
				}
			}
			x.expr(p, d.Value)
		case *ast.EmbedDecl:
			x.expr(at, d.Expr)
		}
	}
}

func (x *index) expr(at path, e ast.Expr) {
	x.exprs[at.String()] = append(x.exprs[at.String()], e)
	switch e := e.(type) {
	case *ast.StructLit:
		x.decls(at, e.Elts)
	case *ast.ListLit:
		for i, elt := range e.Elts {
			p := at.with(strconv.Itoa(i))
			x.places[p.String()] = place{elt.Pos(), elt.Pos()}
			x.expr(p, elt)
		}
	case *ast.ParenExpr:
		x.expr(at, e.X)
	case *ast.Ident:
		if strings.HasPrefix(e.Name, "#") {
			x.closed[at.String()] = e.Name
		}
	case *ast.BinaryExpr:
		if e.Op == token.AND {
			x.expr(at, e.X)
			x.expr(at, e.Y)
		}
	}
}
