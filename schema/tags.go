package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/token"
)

// tag is a field that takes its value from outside: name: string @tag(sha).
type tag struct {
	name  string
	typ   string   // string, int, number or bool
	short []string // values that can be given by themselves
	at    path
	label cue.Path
	file  string
	attr  token.Pos
	value ast.Expr // as written
	field *ast.Field
	set   *string // the value that was given
}

// setTags finds the tags of the forge and gives them their values.
func (p *program) setTags(s *switches) {
	pkg := "_"
	for _, f := range p.files {
		if f.PackageName() != "" {
			pkg = ":" + f.PackageName()
		}
	}
	for _, f := range p.files {
		(&tagFinder{program: p, file: f.Filename, pkg: pkg}).decls(f.Decls, nil, nil, true)
	}
	for _, given := range p.src.Tags {
		p.setTag(given, s)
	}
	p.refer()
}

func (p *program) setTag(given string, s *switches) {
	wrong := func(message, hint string) { p.add(token.NoPos, p.src.Name(), "tag", message, hint) }
	name, value, hasValue := strings.Cut(given, "=")
	if !ast.IsValidIdent(name) {
		wrong(fmt.Sprintf("-t %s gives no tag a value", unlessSecret(name, given)), "write -t name=value")
		return
	}
	found := !hasValue && s.asked[name]
	for _, t := range p.tags {
		switch {
		case hasValue && t.name == name:
		case !hasValue && slices.Contains(t.short, name):
			value = name
		default:
			continue
		}
		found = true
		if t.set != nil && *t.set != value {
			wrong(fmt.Sprintf("tag %q is given two values", t.name), "a tag has one value; write -t "+t.name+"=… once")
			return
		}
		lit := t.literal(value)
		if lit == nil {
			wrong(fmt.Sprintf("tag %q is %s, not %s", t.name, kinds[t.typ], unlessSecret(t.name, fmt.Sprintf("%q", value))), "write "+t.example())
			return
		}
		if t.set == nil {
			t.set = &value
			t.inject(lit)
		}
	}
	if found {
		return
	}
	message := fmt.Sprintf("there is no tag %q", name)
	known := map[string]bool{}
	for _, t := range p.tags {
		if t.name == name {
			wrong(fmt.Sprintf("tag %q has no value", name), "write "+t.example())
			return
		}
		if len(t.name) > longest {
			continue
		}
		known[t.name] = hasValue
		for _, short := range t.short {
			known[short] = !hasValue
		}
	}
	for name := range s.asked {
		known[name] = !hasValue
	}
	if _, ok := known[name]; ok {
		wrong(fmt.Sprintf("tag %q takes no value", name), "write -t "+name)
		return
	}
	names := slices.Sorted(maps.Keys(known))
	if pkg, ok := p.foreign[name]; ok {
		wrong(message, fmt.Sprintf("that of package %q is for those who evaluate it by itself: a tag belongs into a file of the forge", pkg))
		return
	}
	hint := "this forge has no tags; a field becomes one with @tag(" + name + ") behind its value"
	if near := didYouMean(name, names); near != "" {
		hint = near
	} else if len(names) > 0 {
		hint = "the tags of this forge are " + strings.Join(names, ", ")
	}
	wrong(message, hint)
}

var kinds = map[string]string{"string": "a string", "int": "an int", "number": "a number", "bool": "true or false"}

// unlessSecret is text that came with a tag, unless its name says not to show it.
func unlessSecret(name, text string) string {
	if sensitive.MatchString(name) {
		return "what was given"
	}
	return text
}

// example is what to write on the command line.
func (t *tag) example() string {
	if len(t.short) > 0 {
		return "-t " + strings.Join(t.short, " or -t ")
	}
	switch t.typ {
	case "bool":
		return "-t " + t.name + "=true"
	case "int", "number":
		return "-t " + t.name + "=1"
	}
	return "-t " + t.name + "=VALUE"
}

// literal is a value as CUE writes it; nil if it is not of the tag's type.
func (t *tag) literal(value string) ast.Expr {
	var lit *ast.BasicLit
	switch t.typ {
	case "string":
		if !utf8.ValidString(value) {
			return nil
		}
		lit = ast.NewString(value)
	case "bool":
		truth, ok := truths[strings.TrimSpace(value)]
		if !ok {
			return nil
		}
		lit = ast.NewBool(truth)
	default:
		var info literal.NumInfo
		minus, digits := "", value
		if d, ok := strings.CutPrefix(value, "-"); ok {
			minus, digits = "-", d
		}
		if err := literal.ParseNum(digits, &info); err != nil || t.typ == "int" && !info.IsInt() {
			return nil
		}
		kind := token.FLOAT
		if info.IsInt() {
			kind = token.INT
		}
		lit = ast.NewLit(kind, digits)
		if minus != "" {
			lit.ValuePos = t.attr
			return &ast.UnaryExpr{OpPos: t.attr, Op: token.SUB, X: lit}
		}
	}
	lit.ValuePos = t.attr
	return lit
}

// truths are the ways in which cue lets a tag say yes and no.
var truths = map[string]bool{
	"1": true, "t": true, "T": true, "true": true, "TRUE": true, "True": true,
	"0": false, "f": false, "F": false, "false": false, "FALSE": false, "False": false,
}

// inject unifies the field with a value.
func (t *tag) inject(lit ast.Expr) {
	both := &ast.BinaryExpr{X: t.field.Value, OpPos: t.attr, Op: token.AND, Y: lit}
	if alias, ok := t.field.Value.(*ast.Alias); ok {
		both.X, alias.Expr = alias.Expr, both
		return
	}
	t.field.Value = both
}

// refer lets the references to fields with a tag refer to their new values.
func (p *program) refer() {
	values := map[ast.Node]ast.Node{}
	for _, t := range p.tags {
		if t.field.Value != t.value {
			values[t.value] = t.field.Value
		}
	}
	if len(values) == 0 {
		return
	}
	for _, f := range p.files {
		ast.Walk(f, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && id.Node != nil {
				if now, ok := values[id.Node]; ok {
					id.Node = now
				}
			}
			return true
		}, nil)
	}
}

// tagFinder finds the fields with a @tag in one file.
type tagFinder struct {
	*program
	file string
	pkg  string // scope of hidden fields
}

// decls looks through the fields at a path. Where known is false, it is not
// known how their values are looked up.
func (f *tagFinder) decls(decls []ast.Decl, at path, label []cue.Selector, known bool) {
	for _, d := range decls {
		switch d := d.(type) {
		case *ast.Field:
			f.fieldDecl(d, at, label, known)
		case *ast.EmbedDecl:
			f.node(d.Expr, at, label, known)
		case *ast.Attribute:
			if d.Name() == "tag" {
				f.add(d.Pos(), f.file, "tag", "@tag has no effect here", "it stands behind the value of a field")
			}
		default:
			f.node(d, nil, nil, false)
		}
	}
}

func (f *tagFinder) fieldDecl(d *ast.Field, at path, label []cue.Selector, known bool) {
	name, ident, err := ast.LabelName(d.Label)
	if err != nil || d.Constraint != token.ILLEGAL {
		f.none(d, "a field that is optional, required or a pattern has no tag")
		return
	}
	at = at.with(name)
	sel := cue.Str(name)
	switch {
	case ident && strings.HasPrefix(name, "_"):
		sel = cue.Hid(name, f.pkg)
	case ident && strings.HasPrefix(name, "#"):
		sel = cue.Def(name)
	}
	label = append(slices.Clip(label), sel)
	for _, a := range d.Attrs {
		if a.Name() != "tag" {
			continue
		}
		t, message, hint := parseTag(a)
		if message != "" {
			f.add(a.Pos(), f.file, "tag", message, hint)
			continue
		}
		t.at, t.file, t.field, t.value = at, f.file, d, d.Value
		if known {
			t.label = cue.MakePath(label...)
		}
		f.tags = append(f.tags, t)
	}
	f.node(d.Value, at, label, known)
}

// node looks for fields inside of an expression.
func (f *tagFinder) node(n ast.Node, at path, label []cue.Selector, known bool) {
	ast.Walk(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StructLit:
			f.decls(n.Elts, at, label, known)
		case *ast.Field:
			f.fieldDecl(n, at, label, known)
		case *ast.ListLit:
			f.none(n, "a field within a list has no tag")
		case *ast.Comprehension:
			f.none(n, "a field that a comprehension makes has no tag")
		default:
			return true
		}
		return false
	}, nil)
}

// none reports the tags at a place that can have none.
func (f *tagFinder) none(n ast.Node, message string) {
	ast.Walk(n, func(n ast.Node) bool {
		if a, ok := n.(*ast.Attribute); ok && a.Name() == "tag" {
			f.add(a.Pos(), f.file, "tag", message, "give a hidden field the tag, _name: string @tag(name), and refer to it")
		}
		return true
	}, nil)
}

// parseTag reads @tag(name,type=int,short=a|b). With a message there is no tag.
func parseTag(a *ast.Attribute) (t *tag, message, hint string) {
	t = &tag{typ: "string", attr: a.Pos()}
	_, body := a.Split()
	for i, arg := range arguments(body) {
		key, value, isOption := strings.Cut(arg, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if i == 0 {
			if t.name = arg; !ast.IsValidIdent(arg) {
				return nil, fmt.Sprintf("@tag(%s) has no name", body), "write @tag(name), or @tag(name,type=int)"
			}
			continue
		}
		if s, err := literal.Unquote(value); err == nil {
			value = s
		}
		switch {
		case isOption && key == "type":
			if t.typ = value; kinds[value] == "" {
				return nil, fmt.Sprintf("%q is not a type of tags", value), "write type=int, type=number, type=bool, or nothing for a string"
			}
		case isOption && key == "short":
			for s := range strings.SplitSeq(value, "|") {
				if s = strings.TrimSpace(s); !ast.IsValidIdent(s) {
					return nil, fmt.Sprintf("%q is not a short form: it is no name", s), "write short=prod|staging"
				}
				t.short = append(t.short, s)
			}
		case isOption && key == "var":
			return nil, "a forge does not read the clock, the machine or the user", "write @tag(" + t.name + `) and give the value: -t ` + t.name + "=VALUE"
		default:
			options := []string{"type", "short"}
			hint := "a tag has the options type and short"
			if near := didYouMean(key, options); near != "" {
				hint = near
			}
			return nil, fmt.Sprintf("%q is not an option of a tag", key), hint
		}
	}
	return t, "", ""
}

// arguments splits the body of an attribute at its commas.
func arguments(body string) []string {
	var args []string
	depth, quoted, begin := 0, false, 0
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == ')' || c == ']' || c == '}':
			depth--
		case c == ',' && depth == 0:
			args = append(args, strings.TrimSpace(body[begin:i]))
			begin = i + 1
		}
	}
	return append(args, strings.TrimSpace(body[begin:]))
}
