package schema

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// model is the schema as a tree of keys: what the reference documents and
// what diagnostics say is wanted. It is read from the same CUE that decides,
// and knows just the constructs that the head of forge.cue allows.
type model struct {
	root *key
	defs map[string]*ast.Field
}

// key is one key of the language.
type key struct {
	name     string
	doc      string      // plain sentences
	when     []condition // all of them
	required bool
	optional bool   // may be left out and has no default
	obsolete string // what to do instead of writing it; empty: it is not deprecated
	def      string
	typ      typ
	enum     []string // of typ enum
	scalar   string   // of typ scalar: its definition, such as #Duration
	what     string   // of typ scalar: what it is
	ref      string   // of typ object: its definition, if it has one
	keys     []*key   // of typ object; one name may occur under several conditions
	elem     *key     // of typ list, and of typ object with free names
	names    string   // of typ object with free names: the definition of a name, or string
	nonEmpty bool     // of typ list
}

// condition is the condition of an `if`: a kind or mode, seen from the object
// that the `if` is in, has one of some values.
type condition struct {
	tag  path
	want []string
}

func (c condition) String() string {
	if slices.Equal(c.want, []string{"true"}) {
		return c.tag.String() + " is true"
	}
	return c.tag.String() + " is " + strings.ReplaceAll(quoted(c.want), " and ", " or ")
}

type typ int

const (
	object typ = iota
	list
	enum
	scalar
	text
	boolean
	open // anything
)

func newModel() (*model, error) {
	f, err := parser.ParseFile("schema.cue", definition+scalars, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	m := &model{defs: map[string]*ast.Field{}}
	var forge *ast.Field
	for _, d := range f.Decls {
		field, ok := d.(*ast.Field)
		if !ok {
			continue
		}
		name, _, err := ast.LabelName(field.Label)
		if err != nil {
			return nil, err
		}
		m.defs[name] = field
		if name == "#Forge" {
			forge = field
		}
	}
	m.root = &key{}
	return m, m.fill(m.root, forge.Value, nil)
}

// fill reads what e allows into k.
func (m *model) fill(k *key, e ast.Expr, when []condition) error {
	switch e := e.(type) {
	case *ast.StructLit:
		k.typ = object
		if len(e.Elts) == 1 {
			if _, ok := e.Elts[0].(*ast.Ellipsis); ok {
				k.typ = open
			}
		}
		return m.object(k, e, when)
	case *ast.ListLit:
		k.typ, k.elem = list, &key{}
		for _, elt := range e.Elts {
			if more, ok := elt.(*ast.Ellipsis); ok {
				return m.fill(k.elem, more.Type, when)
			}
			k.nonEmpty = true
		}
		return nil
	case *ast.BasicLit:
		k.typ = enum
		s, err := literal.Unquote(e.Value)
		k.enum = append(k.enum, s)
		return err
	case *ast.UnaryExpr:
		if e.Op == token.MUL {
			lit, err := constant(e.X)
			k.def = lit
			if err != nil || strings.HasPrefix(lit, `"`) {
				return m.fill(k, e.X, when)
			}
			return nil // the other side of | says what it is
		}
	case *ast.BinaryExpr:
		if e.Op == token.OR {
			if err := m.fill(k, e.X, when); err != nil {
				return err
			}
			return m.fill(k, e.Y, when)
		}
	case *ast.Ident:
		switch e.Name {
		case "string":
			k.typ = text
			return nil
		case "bool":
			k.typ = boolean
			return nil
		}
		d, ok := m.defs[e.Name]
		if !ok {
			return fmt.Errorf("%s is not defined", e.Name)
		}
		if s, ok := d.Value.(*ast.StructLit); ok {
			k.typ, k.ref = object, e.Name
			return m.object(k, s, when)
		}
		k.typ, k.scalar, k.what, k.enum = scalar, e.Name, comment(d), nil
		return nil
	}
	return fmt.Errorf("%s: %T has no place in the schema", k.name, e)
}

func (m *model) object(k *key, s *ast.StructLit, when []condition) error {
	for _, d := range s.Elts {
		switch d := d.(type) {
		case *ast.Field:
			if free, ok := d.Label.(*ast.ListLit); ok {
				name := free.Elts[0]
				if a, ok := name.(*ast.Alias); ok {
					name = a.Expr
				}
				id, ok := name.(*ast.Ident)
				if !ok {
					return fmt.Errorf("%T is no name for the schema", name)
				}
				k.names = id.Name
				k.elem = &key{}
				if err := m.fill(k.elem, d.Value, when); err != nil {
					return err
				}
				continue
			}
			name, _, err := ast.LabelName(d.Label)
			if err != nil {
				return err
			}
			c := &key{
				name: name, doc: comment(d), when: slices.Clone(when),
				required: d.Constraint == token.NOT, optional: d.Constraint == token.OPTION,
			}
			for _, a := range d.Attrs {
				if a.Name() == "deprecated" {
					_, body := a.Split()
					if c.obsolete, err = literal.Unquote(body); err != nil {
						return fmt.Errorf("%s: %w", name, err)
					}
				}
			}
			k.keys = append(k.keys, c)
			if err := m.fill(c, d.Value, nil); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if c.typ == enum && len(c.enum) == 1 && !c.required && c.def == "" {
				c.def = strconv.Quote(c.enum[0])
			}
		case *ast.EmbedDecl:
			if err := m.fill(k, d.Expr, when); err != nil {
				return err
			}
		case *ast.Comprehension:
			cond, err := newCondition(d.Clauses[0].(*ast.IfClause).Condition)
			if err != nil {
				return err
			}
			if err := m.object(k, d.Value.(*ast.StructLit), append(slices.Clone(when), cond)); err != nil {
				return err
			}
		}
	}
	return nil
}

func newCondition(e ast.Expr) (condition, error) {
	switch e := e.(type) {
	case *ast.Ident:
		return condition{path{e.Name}, []string{"true"}}, nil
	case *ast.BinaryExpr:
		if e.Op == token.LOR {
			x, err := newCondition(e.X)
			if err != nil {
				return condition{}, err
			}
			y, err := newCondition(e.Y)
			if err != nil || !slices.Equal(x.tag, y.tag) {
				return condition{}, errors.Join(err, fmt.Errorf("%v and %v are two conditions", x, y))
			}
			x.want = append(x.want, y.want...)
			return x, nil
		}
		lit, ok := e.Y.(*ast.BasicLit)
		if e.Op != token.EQL || !ok {
			break
		}
		want, err := literal.Unquote(lit.Value)
		if err != nil {
			return condition{}, err
		}
		switch x := e.X.(type) {
		case *ast.Ident:
			return condition{path{x.Name}, []string{want}}, nil
		case *ast.SelectorExpr:
			of, _, err := ast.LabelName(x.Sel)
			if id, ok := x.X.(*ast.Ident); ok && err == nil {
				return condition{path{id.Name, of}, []string{want}}, nil
			}
		}
	}
	return condition{}, fmt.Errorf("%T is no condition for the schema", e)
}

func constant(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return e.Value, nil
	}
	return "", fmt.Errorf("%T is no default for the schema", e)
}

// comment is the doc comment of a field as one line.
func comment(n ast.Node) string {
	var words []string
	for _, g := range ast.Comments(n) {
		if g.Doc {
			words = append(words, strings.Fields(g.Text())...)
		}
	}
	return strings.Join(words, " ")
}

// found is a key at a path and the conditions under which it is read there.
type found struct {
	*key
	when []placed
}

// placed is a condition of the object that is that deep in the path.
type placed struct {
	depth int
	condition
}

// find returns the keys at p: several where a name occurs under several
// conditions, none where the language has no such place. Elements of lists
// and of objects with free names count as keys.
func (m *model) find(p path) []found {
	at := []found{{key: m.root}}
	for depth, name := range p {
		var next []found
		for _, f := range at {
			for _, c := range f.keys {
				if c.name != name {
					continue
				}
				when := slices.Clip(f.when)
				for _, w := range c.when {
					when = append(when, placed{depth, w})
				}
				next = append(next, found{c, when})
			}
			if f.elem != nil {
				next = append(next, found{f.elem, f.when})
			}
		}
		at = next
	}
	return at
}

// has tells whether the object at p has a key of that name; names that are
// free to choose do not count.
func (m *model) has(p path, name string) bool {
	return slices.ContainsFunc(m.find(p), func(f found) bool {
		return slices.ContainsFunc(f.keys, func(c *key) bool { return c.name == name })
	})
}

// at returns the most telling of the keys at p, nil when there is none.
func (m *model) at(p path) *key { return telling(m.find(p)) }

func telling(all []found) *key {
	for _, k := range all {
		if k.doc != "" {
			return k.key
		}
	}
	if len(all) > 0 {
		return all[0].key
	}
	return nil
}

// want says what k wants, as in "want …".
func (k *key) want() string {
	switch k.typ {
	case object:
		return "fields in braces"
	case list:
		if k.nonEmpty {
			return "a list that is not empty"
		}
		return "a list in brackets"
	case enum:
		return anyOf(k.enum)
	case scalar:
		return k.what
	case boolean:
		return "true or false"
	case open:
		return "a set of fields in braces"
	}
	return "a string"
}

// children are the names of an object's keys, each once.
func (k *key) children() []string {
	var names []string
	for _, c := range k.keys {
		if !slices.Contains(names, c.name) {
			names = append(names, c.name)
		}
	}
	return names
}
