package schema

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"cuelang.org/go/cue/ast"
)

// manyRows is how many rows an object must have to become a section.
const manyRows = 8

// Reference is the language in Markdown, made from the schema and its
// comments.
func Reference() string {
	m, err := newModel()
	if err != nil {
		panic(err) // it is embedded and tested
	}
	r := &reference{m: m, links: map[string]string{}}
	r.collect(&scope{keys: []*key{m.root}}, "The file")
	for _, name := range r.shared {
		def := &key{}
		if err := m.fill(def, ast.NewIdent(name), nil); err != nil {
			panic(err)
		}
		r.collect(&scope{at: path{name}, keys: []*key{def}}, title(name))
	}
	r.b.WriteString(referenceHead)
	for _, s := range r.sections {
		r.section(s)
		if slices.Equal(s.place.at, path{"environments", "*"}) {
			r.platforms()
		}
	}
	r.b.WriteString("\n## Rules\n\n" + rulesHead + "\n")
	rulesTable(&r.b, "rules/")
	return r.b.String()
}

// reference is what Reference works on.
type reference struct {
	m        *model
	b        strings.Builder
	sections []section
	shared   []string          // definitions with a section of their own
	links    map[string]string // anchors of sections, by place or definition
}

// section describes one object.
type section struct {
	title string
	place *scope
}

// collect finds the sections: a large object is one, and so is a definition.
// What is below a section is described there and nowhere else.
func (r *reference) collect(s *scope, heading string) {
	r.sections = append(r.sections, section{heading, s})
	r.links[s.at.String()] = anchor(heading)
	r.below(s)
}

func (r *reference) below(s *scope) {
	for _, name := range s.names() {
		c := s.child(name)
		if e := c.elem(); e != nil {
			c = e
		}
		switch ref := r.m.made(c); {
		case ref != "":
			if !slices.Contains(r.shared, ref) {
				r.shared = append(r.shared, ref)
				r.links[ref] = anchor(title(ref))
			}
		case c.rows(r.m) >= manyRows && !c.onlySections(r.m):
			r.collect(c, shown(c.at))
		default:
			r.below(c)
		}
	}
	if e := s.elem(); e != nil && len(s.names()) == 0 {
		r.below(e)
	}
}

// made names the definition that a place is made of alone, one of many keys.
func (m *model) made(s *scope) string {
	k := s.keys[0]
	if k.typ != object || k.ref == "" || k.ref == "#App" || k.ref == "#Environment" {
		return ""
	}
	def := &key{}
	if err := m.fill(def, ast.NewIdent(k.ref), nil); err != nil || !slices.Equal(def.children(), k.children()) {
		return "" // it is embedded among other keys
	}
	return k.ref
}

// rows are the rows that describe what is below s.
func (s *scope) rows(m *model) int {
	n := 0
	for _, name := range s.names() {
		c := s.child(name)
		if e := c.elem(); e != nil && e.leaf().typ == object {
			c = e
		}
		if c.leaf().typ == object && m.made(c) == "" && len(c.names()) > 0 {
			n += c.rows(m)
		} else {
			n++
		}
	}
	return n
}

// onlySections tells whether all that is in s is large by itself.
func (s *scope) onlySections(m *model) bool {
	return !slices.ContainsFunc(s.names(), func(name string) bool { return s.child(name).rows(m) < manyRows })
}

// shown is a path as the reference has it.
func shown(p path) string {
	return strings.ReplaceAll(strings.Join(p, "."), "*", "NAME")
}

// title makes a heading of the name of a definition.
func title(def string) string {
	if def == "#SecretRef" {
		return "Secrets" // what people look for
	}
	var b strings.Builder
	for i, c := range def[1:] {
		if i > 0 && unicode.IsUpper(c) {
			b.WriteByte(' ')
			c = unicode.ToLower(c)
		}
		b.WriteRune(c)
	}
	return b.String()
}

func anchor(title string) string {
	return strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(title, ".", ""), " ", "-"))
}

func (r *reference) section(s section) {
	fmt.Fprintf(&r.b, "\n## %s\n\n", s.title)
	if d := r.m.defs[s.place.at.String()]; d != nil && comment(d) != "" {
		r.b.WriteString(comment(d) + "\n\n")
	}
	// Where several blocks describe the place, each of its keys says when it
	// is read.
	texts := s.place.texts()
	for _, k := range texts {
		r.b.WriteString(meaning(k, k.when) + "\n\n")
	}
	r.b.WriteString("| Key | Accepts | Default | Meaning |\n| --- | --- | --- | --- |\n")
	r.rows(s.place, "", len(texts) > 1, s.place)
}

// texts are the keys that describe s; where a name is free, it is described
// with the object around it.
func (s *scope) texts() []*key {
	var all []*key
	for ; s != nil && len(all) == 0; s = s.above {
		for _, k := range s.keys {
			if k.doc != "" {
				all = append(all, k)
			}
		}
		if len(s.at) > 0 && s.at[len(s.at)-1] != "*" {
			break
		}
	}
	return all
}

// rows writes the keys of s: each in a row, and those of objects under their
// path unless they have a section. Conditions are those below the section,
// or with its own.
func (r *reference) rows(s *scope, prefix string, own bool, of *scope) {
	for _, name := range s.names() {
		c := s.child(name)
		name = prefix + name
		key := name
		e := c
		for next := e.elem(); next != nil && (e.leaf().typ == object || next.leaf().typ == object); next = e.elem() {
			if e.leaf().typ == list {
				name += "[]"
			} else {
				name += ".NAME"
			}
			e = next
		}
		link := r.links[e.at.String()]
		if ref := r.m.made(e); ref != "" {
			link = r.links[ref]
		}
		whole := e.leaf().typ == object && link == ""
		if !whole {
			key = name
		}
		for _, k := range c.keys {
			if k.doc == "" {
				continue // only a default of a key that is described
			}
			accepts := r.accepts(e, k)
			switch {
			case link != "":
				accepts = "[keys](#" + link + ")"
			case whole:
				accepts = c.holds()
			}
			when := append(c.around(k, of, own), k.when...)
			fmt.Fprintf(&r.b, "| `%s` | %s | %s | %s |\n", key, escaped(accepts), c.fallback(k), escaped(meaning(k, when)))
		}
		if whole {
			r.rows(e, name+".", own, of)
		}
	}
}

// holds says in what form the keys below s are there: its own row tells what
// all of them are for.
func (s *scope) holds() string {
	switch {
	case s.leaf().typ == list:
		return "a list, each with the keys below"
	case s.elem() != nil:
		return "names, each with the keys below"
	}
	return "the keys below"
}

// accepts says what a key accepts: k, or the elements below it, e.
func (r *reference) accepts(e *scope, k *key) string {
	switch k.typ {
	case object:
		if k.elem != nil {
			return r.accepts(e, e.leaf().key)
		}
	case list:
		s := "a list of " + plural(k.elem)
		if k.nonEmpty {
			s += ", at least one"
		}
		return s
	case enum:
		return ticked(k.enum)
	case open:
		return "anything"
	}
	return k.want()
}

// plural says what the elements of a list are.
func plural(k *key) string {
	switch k.typ {
	case enum:
		return ticked(k.enum)
	case scalar:
		return "texts; each is " + k.what
	case object:
		return "objects"
	}
	return "strings"
}

func ticked(values []string) string {
	q := make([]string, len(values))
	for i, v := range values {
		q[i] = fmt.Sprintf("`%q`", v)
	}
	return strings.Join(q, ", ")
}

// fallback is the default of k, one of the keys of s, and those that other
// blocks of the schema give it.
func (s *scope) fallback(k *key) string {
	if k.def != "" {
		return "`" + k.def + "`"
	}
	var defaults []string
	where := map[string][][]condition{}
	for _, other := range s.keys {
		if other == k || other.doc != "" || other.def == "" {
			continue
		}
		if !slices.Contains(defaults, other.def) {
			defaults = append(defaults, other.def)
		}
		where[other.def] = append(where[other.def], append(s.around(other, nil, true), other.when...))
	}
	var parts []string
	long := false
	for _, def := range defaults {
		part := "`" + def + "`"
		if when := s.either(where[def]); when != "" {
			part += " when " + when
		}
		parts = append(parts, part)
		long = long || strings.Contains(part, ", or when ")
	}
	if long {
		parts = []string{"see [Platforms](#platforms)"}
	}
	switch {
	case k.required && len(parts) > 0:
		parts = append(parts, "else it must be written")
	case k.required:
		parts = append(parts, "must be written")
	}
	return strings.Join(parts, "; ")
}

// either says that one of several conjunctions holds; empty when one always
// does.
func (s *scope) either(all [][]condition) string {
	var parts []string
	merged := condition{}
	for _, when := range all {
		if len(when) == 1 && (merged.tag == nil || slices.Equal(merged.tag, when[0].tag)) {
			merged.tag, merged.want = when[0].tag, append(slices.Clone(merged.want), when[0].want...)
			continue
		}
		parts = append(parts, conditions(when))
	}
	if merged.tag != nil {
		holder, _ := s.resolve(merged.tag)
		if !slices.ContainsFunc(holder.find(merged.tag).leaf().values(), func(v string) bool { return !slices.Contains(merged.want, v) }) {
			return ""
		}
		parts = append(parts, merged.String())
	}
	return strings.Join(parts, ", or when ")
}

// around are the conditions of the blocks that lead to a key of s: from the
// top, or from a place on the way, with its own or without.
func (s *scope) around(k *key, from *scope, own bool) []condition {
	var all []condition
	for at := s.above; at != nil; at = at.above {
		if from != nil && !own && len(at.at) <= len(from.at) {
			break
		}
		i := slices.IndexFunc(at.keys, func(above *key) bool { return slices.Contains(above.keys, k) || above.elem == k })
		if i < 0 {
			break
		}
		k = at.keys[i]
		all = append(slices.Clone(k.when), all...)
	}
	return all
}

func meaning(k *key, when []condition) string {
	s := k.doc
	if len(when) > 0 {
		s += " Read when " + conditions(when) + "."
	}
	if k.obsolete != "" {
		s += " Deprecated: " + k.obsolete + "."
	}
	return s
}

func conditions(when []condition) string {
	var s []string
	for _, c := range when {
		if text := c.String(); !slices.Contains(s, text) {
			s = append(s, text)
		}
	}
	return strings.Join(s, " and ")
}

// escaped keeps a text inside its cell of a table.
func escaped(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

const referenceHead = `# The language of forge.cue

<!-- Made from schema/*.cue by go test ./schema -run Reference -update. -->

A ` + "`forge.cue`" + ` describes one app and the environments it is deployed to. It is [CUE](https://cuelang.org): JSON with
comments, fewer quotes and commas, and with names for what is used twice. ` + "`examples/`" + ` has a commented example for each
platform, and ` + "`examples/invalid`" + ` shows what is refused and how. [editors.md](../editors.md) tells how to see all this
in an editor.

- The top of the file is the forge: there is nothing around it. A file without a package clause stands alone; the files
  of one package in one directory are one forge.
- Reading is hermetic: no network, no environment variables, no file outside the CUE module. Packages of CUE's standard
  library and of the module may be imported, and values that differ from run to run come in through tags (` + "`-t KEY=VALUE`" + `).
- A key that is not listed here is an error, and so is a key that nothing reads because of another choice.
- Fields whose name begins with ` + "`_`" + ` and definitions are yours: write there what several environments share.
- An environment is laid over the shared app: ` + "`env`, `secrets` and `configFiles`" + ` are merged by name and the environment
  wins; a tag or a digest replaces both of the shared app; ` + "`args`" + ` are replaced as a whole; ` + "`resources`" + ` one by one.
- ` + "`forged render --config`" + ` shows a forge with every default written.
`
