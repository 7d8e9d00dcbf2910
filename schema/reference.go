package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
)

// sections are the parts of the reference. What is below one of these paths,
// or of one of these definitions, is described there and nowhere else.
var sections = []struct{ at, title string }{
	{"", "The file"},
	{"app", "app"},
	{"environments.NAME", "environments.NAME"},
	{"environments.NAME.platform", "environments.NAME.platform"},
	{"environments.NAME.app", "environments.NAME.app"},
	{"environments.NAME.expose", "environments.NAME.expose"},
	{"environments.NAME.services.postgres", "environments.NAME.services.postgres"},
	{"environments.NAME.services.redis", "environments.NAME.services.redis"},
	{"environments.NAME.scaling", "environments.NAME.scaling"},
	{"environments.NAME.workers.NAME", "environments.NAME.workers.NAME"},
	{"environments.NAME.policy", "environments.NAME.policy"},
	{"#Resources", "Resources"},
	{"#SecretRef", "Secrets"},
}

// Reference is the language in Markdown, made from the schema and its
// comments.
func Reference() string {
	m, err := newModel()
	if err != nil {
		panic(err) // it is embedded and tested
	}
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, s := range sections {
		k := &key{}
		if strings.HasPrefix(s.at, "#") {
			if err := m.fill(k, ast.NewIdent(s.at), nil); err != nil {
				panic(err)
			}
		} else {
			k = m.root
			for _, name := range strings.FieldsFunc(s.at, func(r rune) bool { return r == '.' }) {
				k = child(k, name)
			}
		}
		fmt.Fprintf(&b, "\n## %s\n\n", s.title)
		if doc := sectionDoc(m, k, s.at); doc != "" {
			b.WriteString(doc + "\n\n")
		}
		b.WriteString("| Key | Accepts | Default | Meaning |\n| --- | --- | --- | --- |\n")
		m.rows(&b, k, s.at, "")
	}
	b.WriteString("\n## Rules\n\nEvery mistake has a rule, which `forged validate -o json` names.\n\n| Rule | Asks for |\n| --- | --- |\n")
	for _, rule := range slices.Sorted(maps.Keys(Rules)) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", rule, Rules[rule])
	}
	return b.String()
}

func child(k *key, name string) *key {
	if name == "NAME" {
		return k.elem
	}
	for _, c := range k.keys {
		if c.name == name {
			return c
		}
	}
	panic("no key " + name)
}

func sectionDoc(m *model, k *key, at string) string {
	if d := m.defs[at]; d != nil {
		return comment(d)
	}
	return k.doc
}

// rows writes the keys of k: each in a row, those of objects under their
// path unless they have a section.
func (m *model) rows(b *strings.Builder, k *key, at, prefix string) {
	for _, c := range k.keys {
		if c.doc == "" {
			continue // only a default of a key that is described
		}
		name, below := prefix+c.name, c.name
		if at != "" {
			below = at + "." + c.name
		}
		elem := c
		for elem.typ == object && elem.elem != nil {
			elem, below = elem.elem, below+".NAME"
		}
		link := linkTo(below, elem)
		if c.typ == object && c.elem == nil && link == "" {
			m.rows(b, c, below, name+".")
			continue
		}
		if c.elem != nil && c.typ == object {
			name += ".NAME"
		}
		accepts := m.accepts(elem)
		if link != "" {
			accepts = "[keys](#" + link + ")"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", name, accepts, m.fallback(k, c), strings.ReplaceAll(m.meaning(c), "|", `\|`))
	}
}

// linkTo is the anchor of the section that describes a key.
func linkTo(at string, k *key) string {
	for _, s := range sections[1:] {
		if s.at == at || k.typ == object && s.at == k.ref {
			return strings.ToLower(strings.ReplaceAll(s.title, ".", ""))
		}
	}
	return ""
}

func (m *model) accepts(k *key) string {
	switch k.typ {
	case list:
		s := "a list of strings"
		if k.elem.typ == scalar {
			s = "a list; each element " + k.elem.what
		}
		if k.nonEmpty {
			s += ", at least one"
		}
		return s
	case enum:
		q := make([]string, len(k.enum))
		for i, e := range k.enum {
			q[i] = fmt.Sprintf("`%q`", e)
		}
		return strings.Join(q, ", ")
	}
	return k.want()
}

func (m *model) fallback(in, k *key) string {
	s := ""
	switch {
	case k.def != "":
		s = "`" + k.def + "`"
	case k.required:
		s = "must be written"
	}
	if len(k.when) > 0 {
		return s
	}
	for _, c := range in.keys {
		if c != k && c.name == k.name && c.def != "" {
			s = fmt.Sprintf("`%s` when %s, else %s", c.def, conditions(c.when), s)
		}
	}
	return s
}

func (m *model) meaning(k *key) string {
	if len(k.when) == 0 {
		return k.doc
	}
	return k.doc + " Read when " + conditions(k.when) + "."
}

func conditions(when []condition) string {
	s := make([]string, len(when))
	for i, c := range when {
		s[i] = c.String()
	}
	return strings.Join(s, " and ")
}

const referenceHead = `# The language of forge.cue

<!-- Made from schema/*.cue by go test ./schema -run Reference -update. -->

A ` + "`forge.cue`" + ` describes one app and the environments it is deployed to. It is [CUE](https://cuelang.org): JSON with
comments, fewer quotes and commas, and with names for what is used twice. ` + "`examples/forge.cue`" + ` is a commented example, and
` + "`examples/invalid`" + ` shows what is refused and how.

- The top of the file is the forge: there is nothing around it. A package clause is optional; the files of one package
  in one directory may be read together.
- Reading is hermetic: no network, no modules, no environment variables. Packages of CUE's standard library may be
  imported. A file has 1 MiB at most.
- A key that is not listed here is an error, and so is a key that nothing reads because of another choice.
- Fields whose name begins with ` + "`_`" + ` are yours: write there what several environments share.
- An environment is laid over the shared app: ` + "`env` and `secrets`" + ` are merged by name and the environment wins; a tag or a
  digest replaces both of the shared app; ` + "`args`" + ` are replaced as a whole; ` + "`resources`" + ` one by one.
- ` + "`DATABASE_URL`, `APP_DB`, `APP_DB_USER` and `REDIS_URL`" + ` are made by forged for services that it runs, and cannot be
  written then. Names that begin with ` + "`PRODUCTION_` or `DEVELOPMENT_`" + ` are refused.
- ` + "`policy.interval` and `policy.timeout`" + ` are at least 10s; ` + "`scaleDownWindow`" + ` is at most 1h.
`
