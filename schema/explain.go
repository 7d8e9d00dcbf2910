package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
)

// CUE decides what is wrong; this file says it in the words of the language.
// An error of CUE is used for its path and its format, never for its text
// where the model knows better: the text of one mistake in a choice of three
// is four errors about values that nobody wrote.

// cuePath is the path of an error of CUE, from the top of the file.
func cuePath(elems []string) path {
	var p path
	for i, s := range elems {
		if i == 0 && s == "#Forge" {
			continue
		}
		if u, err := strconv.Unquote(s); err == nil {
			s = u
		}
		p = append(p, s)
	}
	return p
}

// explain turns what CUE reports into diagnostics, and looks for the unknown
// and missing keys that CUE does not report beside other errors.
func (l *loader) explain(errs []errors.Error) {
	m, err := newModel()
	if err != nil {
		panic(err) // it is embedded and tested
	}
	l.model = m

	l.explainClosed(errs)
	byPath := map[string][]errors.Error{}
	var order []path
	for _, e := range errs {
		p := cuePath(e.Path())
		if len(byPath[p.String()]) == 0 {
			order = append(order, p)
		}
		byPath[p.String()] = append(byPath[p.String()], e)
	}
	// Values first: a wrong kind or mode makes its neighbours look wrong.
	var keys, later []path
	l.without = l.nameless()
	for _, p := range order {
		if slices.ContainsFunc(l.without, func(q path) bool { return len(q) <= len(p) && slices.Equal(q, p[:len(q)]) }) {
			continue
		}
		switch format, _ := byPath[p.String()][0].Msg(); {
		case len(p) == 0:
			later = append(later, p)
		case strings.HasPrefix(format, "field not allowed"), strings.HasPrefix(format, "field is required"), strings.HasPrefix(format, "required field missing"):
			keys = append(keys, p)
		default:
			if v := l.user.LookupPath(selectors(l.user, p)); !v.Exists() || v.IncompleteKind() == cue.StructKind && l.isObject(p) {
				later = append(later, p)
				continue
			}
			l.badValue(p, byPath[p.String()])
		}
	}
	l.walk(nil, []*key{m.root})
	// What is left follows from what is reported, unless nothing is reported
	// near it: then CUE knows something that the model does not.
	for _, p := range keys {
		switch {
		case l.isBroken(p[:min(2, len(p))]):
		case l.written(p):
			l.unknownKey(p)
		default:
			l.missingKey(p)
		}
	}
	for _, p := range later {
		if !l.isBroken(p[:min(2, len(p))]) {
			l.badValue(p, byPath[p.String()])
		}
	}
	if len(l.diags) == 0 {
		// A mistake must never pass because it could not be worded.
		l.badValue(order[0], errs)
	}
}

// explainClosed reports what a definition of the text itself forbids: CUE
// closes what begins with #, also against the defaults of the schema, and then
// everything that is left out looks missing.
func (l *loader) explainClosed(errs []errors.Error) {
	refused := func(errs []errors.Error) (all []path) {
		for _, e := range errs {
			if format, _ := e.Msg(); strings.HasPrefix(format, "field not allowed") {
				if p := cuePath(e.Path()); l.model.at(p) != nil {
					all = append(all, p)
				}
			}
		}
		return all
	}
	for _, p := range refused(errors.Errors(l.user.Validate())) {
		_, name := l.closedBy(p)
		l.add(p, l.pos(p, true), "closed", fmt.Sprintf("%s does not allow %q", name, p[len(p)-1]), openHint(name))
	}
	for _, p := range refused(errs) {
		if at, name := l.closedBy(p); at != nil && !l.isBroken(at) && !l.written(p) {
			l.add(at, l.pos(at, true), "closed", fmt.Sprintf("%s does not allow the defaults that belong here, %s among them", name, p), openHint(name))
		}
	}
}

// closedBy names the definition that closes p, and where it is used; nil when
// that cannot be told.
func (l *loader) closedBy(p path) (at path, name string) {
	for n := len(p); n > 0; n-- {
		if name := l.places().closed[p[:n].String()]; name != "" {
			return p[:n], name
		}
	}
	return nil, "a definition of this file"
}

func openHint(name string) string {
	to := "_name"
	if bare, ok := strings.CutPrefix(name, "#"); ok {
		to = "_" + bare
	}
	return "what begins with # is closed; call it " + to + ", and it can be added to"
}

// walk reports unknown and missing keys from p downwards; keys are what the
// language has there.
func (l *loader) walk(p path, keys []*key) {
	if l.written(p) && len(l.fields(p)) == 0 && l.user.LookupPath(selectors(l.user, p)).IncompleteKind() != cue.StructKind {
		return // reported, or a list
	}
	if !slices.ContainsFunc(keys, func(k *key) bool { return k.typ == object }) {
		return // reported
	}
	if len(p) == 1 && p[0] == "environments" && l.written(p) && len(l.fields(p)) == 0 {
		l.rule(p, "no-environment", "there is no environment", "write one, such as environments: dev: platform: kind: \"minikube\"")
	}
	known := map[string][]*key{} // by name; not those whose condition does not hold
	unsure := map[string]bool{}  // names whose condition cannot be judged
	for _, k := range keys {
		for _, c := range k.keys {
			switch l.holds(p, c.when) {
			case yes:
				known[c.name] = append(known[c.name], c)
			case unclear:
				unsure[c.name] = true
			}
		}
		if k.elem != nil && k.typ == object {
			for _, name := range l.fields(p) {
				switch q := p.with(name); {
				case slices.ContainsFunc(l.without, func(o path) bool { return slices.Equal(o, p) }):
				case l.fits(k.names, name):
					l.walk(q, []*key{k.elem})
				case !l.isBroken(q):
					l.badName(q, k)
				}
			}
			return
		}
	}
	if l.borrowed(p, keys) {
		return
	}
	for _, name := range l.fields(p) {
		if q := p.with(name); !l.isBroken(q) && known[name] == nil && !unsure[name] {
			l.unknownKey(q)
		}
	}
	for _, k := range keys {
		for _, c := range k.keys {
			q, all := p.with(c.name), known[c.name]
			if len(all) == 0 || all[0] != c {
				continue
			}
			required := slices.ContainsFunc(all, func(k *key) bool { return k.required }) &&
				!slices.ContainsFunc(all, func(k *key) bool { return k.def != "" })
			switch {
			case l.undecided(q, all):
			case l.written(q) || !required && !c.optional:
				l.walk(q, all)
			case required && !unsure[c.name]:
				l.missingKey(q)
			}
		}
	}
}

// nameless reports objects whose elements have names, and that are written as
// if they were such an element.
func (l *loader) nameless() []path {
	candidates := []path{{"environments"}, {"notifications"}}
	for _, name := range l.fields(path{"environments"}) {
		for _, key := range []string{"workers", "volumes", "charts"} {
			candidates = append(candidates, path{"environments", name, key})
		}
	}
	var found []path
	for _, p := range candidates {
		k := l.model.at(p)
		if k == nil || k.elem == nil {
			continue
		}
		known := k.elem.children()
		names := l.fields(p)
		isKey := func(name string) bool { return slices.Contains(known, name) }
		i := slices.IndexFunc(names, func(name string) bool {
			return slices.ContainsFunc(k.elem.keys, func(c *key) bool { return c.required && c.name == name })
		})
		if i < 0 || !slices.ContainsFunc(names, isKey) || slices.ContainsFunc(names, func(name string) bool { return !isKey(name) }) {
			continue
		}
		at := p.with(names[i])
		if slices.ContainsFunc(k.elem.keys, func(c *key) bool { return c.required && l.written(at.with(c.name)) }) {
			continue // it is its name
		}
		l.add(at, l.pos(at, true), "name", "it has no name around it", byName[p[len(p)-1]])
		for _, name := range names {
			l.breaks(p.with(name))
		}
		found = append(found, p)
	}
	return found
}

// undecided reports a value that is several values.
func (l *loader) undecided(p path, keys []*key) bool {
	v := l.user.LookupPath(selectors(l.user, p))
	if !v.Exists() || v.Err() != nil || l.isBroken(p) || v.IsConcrete() || v.IncompleteKind()&(cue.StructKind|cue.ListKind) != 0 ||
		slices.ContainsFunc(keys, func(k *key) bool { return k.def != "" }) {
		return false
	}
	if d, _ := v.Default(); d.IsConcrete() {
		return false
	}
	if op, _ := v.Expr(); op != cue.OrOp {
		return false
	}
	message, hint := l.openValue(p, keys[0], v)
	l.add(p, l.pos(p, false), "value", message, hint)
	return true
}

// borrowed reports a reference to a secret that is the name of a field around
// it, where the name of a variable was meant.
func (l *loader) borrowed(p path, keys []*key) bool {
	if !slices.ContainsFunc(keys, func(k *key) bool { return k.ref == "#SecretRef" }) {
		return false
	}
	written := l.places().exprs[p.String()]
	if len(written) != 1 || l.isBroken(p) {
		return false
	}
	id, ok := written[0].(*ast.Ident)
	if !ok || !slices.ContainsFunc(l.fields(p), func(name string) bool { return l.model.at(p.with(name)) == nil }) {
		return false
	}
	l.add(p, id.Pos(), "reference", fmt.Sprintf("%s stands for the field of that name around it, which says of no secret where it is", id.Name), secretHint(p))
	return true
}

// answer is yes, no, or that it depends on something that is wrong.
type answer int

const (
	no answer = iota
	yes
	unclear
)

// holds tells whether the conditions of a key of the object at p hold.
func (l *loader) holds(p path, when []condition) answer {
	a := yes
	for _, c := range when {
		switch got, ok := l.tag(l.tagPath(p, c)); {
		case !ok:
			a = unclear
		case !slices.Contains(c.want, got):
			return no
		}
	}
	return a
}

// tagPath is the path of what a condition of the object at p looks at.
func (l *loader) tagPath(p path, c condition) path {
	for len(p) > 0 && !l.model.has(p, c.tag[0]) {
		p = p[:len(p)-1]
	}
	return p.with(c.tag...)
}

// keys are the keys at p that are read, as far as that can be told: those
// that no condition rules out.
func (l *loader) keys(p path) []*key {
	var keys []*key
	for _, f := range l.model.find(p) {
		if len(l.failing(p, f)) == 0 {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// failing are the conditions because of which a key at p is not read.
func (l *loader) failing(p path, f found) []condition {
	var failing []condition
	for _, w := range f.when {
		if l.holds(p[:w.depth], []condition{w.condition}) == no {
			failing = append(failing, w.condition)
		}
	}
	return failing
}

// tag is the value of a kind or mode, written or by default; not ok when it
// is missing or wrong.
func (l *loader) tag(p path) (value string, ok bool) {
	keys := l.keys(p)
	if len(keys) == 0 || l.isBroken(p) {
		return "", false
	}
	v := l.user.LookupPath(selectors(l.user, p))
	if !v.Exists() {
		for _, k := range keys {
			if k.def != "" {
				return strings.Trim(k.def, `"`), true
			}
		}
		return "", false
	}
	if b, err := v.Bool(); err == nil {
		return strconv.FormatBool(b), true
	}
	s, err := v.String()
	return s, err == nil
}

// fits tells whether a string is of a definition of the schema.
func (l *loader) fits(def, s string) bool {
	if def == "string" {
		return true
	}
	d := l.lang.LookupPath(cue.ParsePath(def))
	return d.Unify(l.ctx.Encode(s)).Validate(cue.Concrete(true)) == nil
}
