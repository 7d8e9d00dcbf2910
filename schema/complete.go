package schema

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cuelang.org/go/cue/format"
	"cuelang.org/go/cue/literal"

	"forged.dev/forged/internal/forge"
)

// Complete is a forge with everything that it leaves out.
type Complete struct {
	Forge *forge.Forge

	root    field
	written func(path) bool
}

// field is one key in the order of the language, or an element of a list.
type field struct {
	name   string
	at     path
	fields []field // of an object
	list   []field // of a list
	value  any     // of anything else
	kind   typ     // object, list, or open for a value
	made   bool    // out of other values, by rules that CUE does not know
}

// Fill reads a forge as [Load] does, and keeps every value that is meant:
// written, by default, or made out of others, such as the name of a namespace.
// Written as text the result is the same forge again.
func Fill(ctx context.Context, src Source, checks ...Check) (*Complete, Diagnostics, error) {
	f, warnings, err := Load(ctx, src, checks...)
	if err != nil {
		return nil, nil, err
	}
	text, diags := newProgram(src)
	l := &loader{src: src, text: text, files: text.files, complete: true}
	if len(diags) > 0 || l.load() == nil {
		return nil, nil, fmt.Errorf("read %s: it was valid a moment ago", src.Name())
	}
	tree, err := l.tree()
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", src.Name(), err)
	}
	m, err := newModel()
	if err != nil {
		return nil, nil, err
	}
	isMade := map[string]bool{}
	for _, v := range derived(f) {
		if set(tree, v.at, v.value) {
			isMade[v.at.String()] = true
		}
	}
	c := &Complete{Forge: f, written: func(p path) bool {
		return l.user.LookupPath(selectors(l.user, p)).Exists()
	}}
	c.root = ordered(&scope{keys: []*key{m.root}, chosen: choices{}}, nil, tree, isMade, false)
	return c, warnings, nil
}

// tree is what is meant, as JSON has it. Hidden fields and definitions are
// not part of it.
func (l *loader) tree() (map[string]any, error) {
	text, err := l.whole.MarshalJSON()
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var tree map[string]any
	return tree, dec.Decode(&tree)
}

// made is a value that package schema makes out of others.
type made struct {
	at    path
	value any
}

// derived are all such values of a forge.
func derived(f *forge.Forge) []made {
	var all []made
	for i := range f.Environments {
		e := &f.Environments[i]
		add := func(value any, at ...string) {
			switch value {
			case "", 0, nil:
			default:
				all = append(all, made{path{"environments", e.Name}.with(at...), value})
			}
		}
		p := e.Platform
		add(p.Namespace, "platform", "namespace")
		add(p.Project, "platform", "project")
		add(p.AppName, "platform", "appName")
		add(written(p.Token), "platform", "token")
		add(p.Inventory, "platform", "inventory")
		if e.Expose.Kind == forge.ExposeIngress {
			add(e.Expose.RedirectHTTP, "expose", "redirectHTTP")
		}
		add(e.Expose.TLS.Secret, "expose", "tls", "secretName")
		add(e.Expose.TLS.Certificate, "expose", "tls", "certificate")
		pg, redis := e.Services.Postgres, e.Services.Redis
		add(written(pg.Password), "services", "postgres", "password")
		add(pg.Cluster, "services", "postgres", "cluster")
		add(pg.Region, "services", "postgres", "region")
		add(written(redis.Password), "services", "redis", "password")
		add(redis.Name, "services", "redis", "name")
		add(redis.Region, "services", "redis", "region")
		add(written(e.Services.Temporal.Password), "services", "temporal", "password")
		add(e.Scaling.Max, "scaling", "max")
		for _, w := range e.Workers {
			add(w.Scaling.Max, "workers", w.Name, "scaling", "max")
		}
		for _, r := range e.Regions {
			add(r.Namespace, "regions", r.Name, "namespace")
		}
	}
	return all
}

// written is a reference to a secret as the language has it, nil for none.
func written(r forge.SecretRef) any {
	switch {
	case r.Generate != nil:
		return map[string]any{"generate": map[string]any{"alphabet": r.Generate.Alphabet, "length": r.Generate.Length, "rotation": r.Generate.Rotation}}
	case r.Env != "":
		return map[string]any{"env": r.Env}
	}
	return nil // only these two are ever made
}

// set puts a value into a tree, unless there is one, or no place for it.
func set(tree map[string]any, at path, value any) bool {
	for _, name := range at[:len(at)-1] {
		below, ok := tree[name].(map[string]any)
		if !ok {
			return false
		}
		tree = below
	}
	last := at[len(at)-1]
	if _, ok := tree[last]; ok {
		return false
	}
	tree[last] = value
	return true
}

// ordered is a value with its keys in the order of the language. Keys that the
// language does not have there are left out: something derived may have no
// place on every platform.
func ordered(s *scope, at path, value any, isMade map[string]bool, made bool) field {
	out := field{at: at, kind: open, value: value, made: made || isMade[at.String()]}
	if len(at) > 0 {
		out.name = at[len(at)-1]
	}
	if s == nil || s.leaf().typ == open {
		return out
	}
	switch value := value.(type) {
	case map[string]any:
		out.kind, out.value = object, nil
		for tag := s.tag(); tag != nil; tag = s.tag() {
			s = s.choose(tag, valueAt(value, tag[len(s.at):]))
		}
		for _, name := range s.names() {
			if v, ok := value[name]; ok {
				out.fields = append(out.fields, ordered(s.child(name), at.with(name), v, isMade, out.made))
			}
		}
		if e := s.elem(); e != nil {
			for _, name := range slices.Sorted(maps.Keys(value)) {
				out.fields = append(out.fields, ordered(e, at.with(name), value[name], isMade, out.made))
			}
		}
	case []any:
		out.kind, out.value = list, nil
		for i, v := range value {
			out.list = append(out.list, ordered(s.elem(), at.with(fmt.Sprint(i)), v, isMade, out.made))
		}
	}
	return out
}

// valueAt is the value at a path as choices have it.
func valueAt(value any, p path) string {
	for _, name := range p {
		below, ok := value.(map[string]any)
		if !ok {
			return ""
		}
		value = below[name]
	}
	return fmt.Sprint(value)
}

// Environments leaves only the named environments in the result, and what is
// told about them.
func (c *Complete) Environments(names ...string) {
	gone := func(name string) bool { return !slices.Contains(names, name) }
	for i, f := range c.root.fields {
		switch f.name {
		case "environments":
			c.root.fields[i].fields = slices.DeleteFunc(slices.Clone(f.fields), func(e field) bool { return gone(e.name) })
		case "notifications":
			c.root.fields[i].fields = slices.DeleteFunc(slices.Clone(f.fields), func(n field) bool {
				about := slices.IndexFunc(n.fields, func(f field) bool { return f.name == "environments" })
				if about < 0 {
					return false
				}
				left := &n.fields[about]
				left.list = slices.DeleteFunc(left.list, func(e field) bool { name, ok := e.value.(string); return ok && gone(name) })
				return len(left.list) == 0
			})
		}
	}
}

// CUE is the forge as text. Behind each value that is not written stands
// where it comes from.
func (c *Complete) CUE() ([]byte, error) {
	var b bytes.Buffer
	for _, f := range c.root.fields {
		c.write(&b, f)
	}
	return format.Source(b.Bytes())
}

func (c *Complete) write(b *bytes.Buffer, f field) {
	fmt.Fprintf(b, "%s: ", label(f.name))
	switch {
	case f.kind == object && len(f.fields) > 0:
		b.WriteString("{\n")
		for _, sub := range f.fields {
			c.write(b, sub)
		}
		b.WriteString("}\n")
		return
	case f.kind == list && len(f.list) > 0 && f.list[0].kind == object:
		b.WriteString("[\n")
		for _, e := range f.list {
			b.WriteString("{\n")
			for _, sub := range e.fields {
				c.write(b, sub)
			}
			b.WriteString("},\n")
		}
		b.WriteString("]\n")
		return
	}
	literalOf(b, f.json())
	switch {
	case f.made:
		b.WriteString(" // made by forged")
	case !c.written(f.at):
		b.WriteString(" // default")
	}
	b.WriteString("\n")
}

// literalOf writes any value of JSON.
func literalOf(b *bytes.Buffer, value any) {
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 {
			b.WriteString("{}")
			return
		}
		b.WriteString("{\n")
		for _, name := range slices.Sorted(maps.Keys(v)) {
			fmt.Fprintf(b, "%s: ", label(name))
			literalOf(b, v[name])
			b.WriteString("\n")
		}
		b.WriteString("}")
	case []any:
		b.WriteString("[")
		for i, e := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			literalOf(b, e)
		}
		b.WriteString("]")
	case string:
		form := literal.String
		if strings.Contains(v, "\n") {
			form = form.WithOptionalTabIndent(1)
		}
		b.WriteString(form.Quote(v))
	case nil:
		b.WriteString("null")
	default:
		fmt.Fprint(b, v)
	}
}

// json is a field as JSON has it.
func (f field) json() any {
	switch f.kind {
	case object:
		out := map[string]any{}
		for _, sub := range f.fields {
			out[sub.name] = sub.json()
		}
		return out
	case list:
		out := []any{}
		for _, e := range f.list {
			out = append(out, e.json())
		}
		return out
	}
	return f.value
}

// Value is the forge as JSON has it: maps, slices, strings, numbers and bools.
func (c *Complete) Value() map[string]any {
	out, _ := c.root.json().(map[string]any)
	return out
}
