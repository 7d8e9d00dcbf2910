package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/token"
)

// JSONSchema is the language as JSON Schema, draft 2020-12, for a forge that is
// written as JSON or YAML, and for editors that know nothing of CUE. What needs
// a look at two places is not in it; forged validate finds that.
func JSONSchema() []byte {
	m, err := newModel()
	if err != nil {
		panic(err) // it is embedded and tested
	}
	text, err := jsonSchema(m)
	if err != nil {
		panic(err)
	}
	return text
}

// node is a JSON object; its keys are sorted when it is written.
type node = map[string]any

// schemaWriter holds the definitions that are used, by name.
type schemaWriter struct {
	m     *model
	defs  node
	texts map[string]string // names of definitions by what they say
	err   error
}

func jsonSchema(m *model) ([]byte, error) {
	w := &schemaWriter{m: m, defs: node{}, texts: map[string]string{}}
	root := w.object(&scope{at: path{"Forge"}, keys: []*key{m.root}})
	maps.Copy(root, node{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"$id":         "https://" + schemaPath + ".schema.json",
		"title":       "forge",
		"description": "One app and the environments it is deployed to.",
		"$defs":       w.defs,
	})
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return b.Bytes(), w.err
}

// place is the schema of one place.
func (w *schemaWriter) place(s *scope) node {
	l := s.leaf()
	out := node{}
	switch l.typ {
	case object:
		if ref := w.definition(s, l); ref != "" {
			out["$ref"] = ref
		} else {
			out = w.shared(s, w.object(s))
		}
	case list:
		out["type"] = "array"
		if e := s.elem(); e != nil {
			out["items"] = w.place(e)
		}
		if l.nonEmpty {
			out["minItems"] = 1
		}
	case enum:
		out["enum"] = l.enum
	case scalar:
		for _, name := range l.scalar {
			w.scalar(name)
		}
		if out["$ref"] = "#/$defs/" + l.scalar[0][1:]; len(l.scalar) > 1 {
			w.fail(fmt.Errorf("%s is of %s", s.at, strings.Join(l.scalar, " and ")))
		}
	case text:
		out["type"] = "string"
	case boolean:
		out["type"] = "boolean"
	case open:
		out["type"] = "object"
	}
	if l.doc != "" {
		out["description"] = l.doc
	}
	if l.def != "" {
		out["default"] = json.RawMessage(l.def)
	}
	if l.gone != "" {
		out["deprecated"] = true
		out["description"] = strings.TrimSuffix(l.doc, ".") + ". Deprecated: " + l.gone + "."
	}
	return out
}

// object is the schema of a place with keys: for each value of the tag that
// decides most, the keys there are then.
func (w *schemaWriter) object(s *scope) node {
	if tag := s.tag(); tag != nil {
		return w.branches(s, tag)
	}
	out := node{"type": "object", "additionalProperties": false}
	if e := s.elem(); e != nil {
		out["additionalProperties"] = w.place(e)
		for _, k := range s.keys {
			if k.names != "" && k.names != "string" {
				w.scalar(k.names)
				out["propertyNames"] = node{"$ref": "#/$defs/" + k.names[1:]}
			}
		}
	}
	properties, required := node{}, []string{}
	for _, name := range s.names() {
		c := s.child(name)
		properties[name] = w.place(c)
		if mustWrite(c) {
			required = append(required, name)
		}
	}
	if len(properties) > 0 {
		out["properties"] = properties
	}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// branches says what holds for each value of a tag. The keys are listed in the
// branches alone, as they are closed.
func (w *schemaWriter) branches(s *scope, tag path) node {
	below := tag[len(s.at):]
	l := s.find(below).leaf()
	type branch struct {
		values []any
		then   node
		text   string
	}
	var all []*branch
	for _, v := range l.values() {
		then := w.object(s.choose(tag, v))
		text, err := json.Marshal(then)
		w.fail(err)
		var value any = v
		if l.typ == boolean {
			value = v == "true"
		}
		i := slices.IndexFunc(all, func(b *branch) bool { return b.text == string(text) })
		if i < 0 {
			all = append(all, &branch{nil, then, string(text)})
			i = len(all) - 1
		}
		all[i].values = append(all[i].values, value)
	}
	if len(all) == 1 {
		return all[0].then
	}
	var cases []any
	for _, b := range all {
		b.then = w.shared(s, b.then, b.values...)
		absent := slices.ContainsFunc(b.values, func(v any) bool { return fmt.Sprint(v) == l.fallback() })
		cases = append(cases, node{"if": has(below, node{"enum": b.values}, !absent), "then": b.then})
	}
	// Whatever the value is, it is one of these.
	out := has(below, w.place(s.find(below)), l.must)
	out["type"] = "object"
	out["allOf"] = cases
	return out
}

// shared moves a large schema to the definitions, so that it is there once. Its
// name is its place, and what is chosen there.
func (w *schemaWriter) shared(s *scope, of node, chosen ...any) node {
	const large = 300 // bytes
	data, err := json.Marshal(of)
	w.fail(err)
	text := string(data)
	if len(text) < large {
		return of
	}
	at, ok := w.texts[text]
	if !ok {
		parts := []string{}
		for _, name := range s.at {
			if name != "*" {
				parts = append(parts, name)
			}
		}
		for _, tag := range slices.Sorted(maps.Keys(s.chosen)) {
			if v := s.chosen[tag]; v != "true" && v != "false" {
				parts = append(parts, v)
			}
		}
		for _, v := range chosen {
			parts = append(parts, fmt.Sprint(v))
		}
		at = strings.Join(parts, ".")
		for n := 2; w.defs[at] != nil; n++ {
			at = fmt.Sprintf("%s.%d", strings.Join(parts, "."), n)
		}
		w.texts[text], w.defs[at] = at, of
	}
	return node{"$ref": "#/$defs/" + at}
}

// has asks for a value at a path, or for its absence when it need not be
// there.
func has(p path, value node, must bool) node {
	for _, name := range slices.Backward(p) {
		value = node{"properties": node{name: value}}
		if must {
			value["required"] = []string{name}
		}
	}
	return value
}

// mustWrite tells whether a place has to be written: itself, or something in
// it whatever else is written.
func mustWrite(s *scope) bool {
	l := s.leaf()
	if l.must || l.typ != object || l.optional || s.elem() != nil {
		return l.must
	}
	if tag := s.tag(); tag != nil {
		t := s.find(tag[len(s.at):]).leaf()
		if t.must {
			return true
		}
		s = s.choose(tag, t.fallback())
		return mustWrite(s)
	}
	return slices.ContainsFunc(s.names(), func(name string) bool { return mustWrite(s.child(name)) })
}

// definition names the definition that a place is made of alone.
func (w *schemaWriter) definition(s *scope, l leaf) string {
	if len(s.keys) != 1 || l.ref == "" {
		return ""
	}
	def := &key{}
	if err := w.m.fill(def, ast.NewIdent(l.ref), nil); err != nil {
		w.fail(err)
		return ""
	}
	if !slices.Equal(def.children(), l.children()) || len(def.children()) == 0 {
		return "" // it is embedded among other keys
	}
	name := l.ref[1:]
	if _, ok := w.defs[name]; !ok {
		w.defs[name] = node{} // it is being made
		out := w.object(&scope{at: path{name}, keys: []*key{def}})
		if doc := comment(w.m.defs[l.ref]); doc != "" {
			out["description"] = doc
		}
		w.defs[name] = out
	}
	return "#/$defs/" + name
}

// scalar makes the definition of a named scalar.
func (w *schemaWriter) scalar(name string) {
	if _, ok := w.defs[name[1:]]; ok {
		return
	}
	d := w.m.defs[name]
	out := node{"description": sentenceOf(comment(d))}
	w.fail(constraint(out, d.Value))
	w.defs[name[1:]] = out
}

func (w *schemaWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// constraint writes what a named scalar asks for.
func constraint(out node, e ast.Expr) error {
	switch e := e.(type) {
	case *ast.Ident:
		switch e.Name {
		case "int":
			out["type"] = "integer"
			return nil
		case "string", "number":
			out["type"] = e.Name
			return nil
		}
	case *ast.BinaryExpr:
		if e.Op == token.AND {
			if err := constraint(out, e.X); err != nil {
				return err
			}
			return constraint(out, e.Y)
		}
	case *ast.UnaryExpr:
		lit, ok := e.X.(*ast.BasicLit)
		if !ok {
			break
		}
		switch e.Op {
		case token.MAT:
			pattern, err := literal.Unquote(lit.Value)
			out["type"] = "string"
			if _, twice := out["pattern"]; twice {
				return fmt.Errorf("two patterns at %s", e.Pos())
			}
			out["pattern"] = pattern
			return err
		case token.NEQ:
			value, err := literal.Unquote(lit.Value)
			out["not"] = node{"const": value}
			return err
		case token.GEQ:
			out["minimum"] = json.RawMessage(lit.Value)
			return nil
		case token.LEQ:
			out["maximum"] = json.RawMessage(lit.Value)
			return nil
		}
	}
	return fmt.Errorf("%T at %s has no form in JSON Schema", e, e.Pos())
}

// sentenceOf makes a sentence of what completes "… is not".
func sentenceOf(noun string) string {
	return strings.ToUpper(noun[:1]) + noun[1:] + "."
}
