package schema

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"
)

// badValue reports a value that CUE refuses.
func (l *loader) badValue(p path, errs []errors.Error) {
	format, args := errs[0].Msg()
	v := l.user.LookupPath(selectors(l.user, p))
	k := l.at(p)
	pos := l.pos(p, false)
	if err := v.Err(); v.Exists() && err != nil {
		// The text disagrees with itself, whatever the schema says of it.
		errs = errors.Errors(err)
		format, args = errs[0].Msg()
	}
	if len(p) == 0 {
		l.add(p, pos, "value", "the file is not a set of fields", `a forge begins with forge: "v1", app and environments`)
		l.breaks(path{"app"})
		l.breaks(path{"notifications"})
		return
	}
	if k != nil && l.namesake(p, k, v) || v.Exists() && v.Err() != nil && k != nil && l.misfit(p, k) {
		return
	}
	switch {
	case v.Exists() && v.Err() != nil && k != nil && strings.HasPrefix(format, "conflicting values") && !l.private(p):
		var other token.Pos
		for _, q := range errors.Positions(errs[0]) {
			if l.ours(q) && q != pos {
				other = q
			}
		}
		hint := ""
		if other.IsValid() {
			hint = fmt.Sprintf("the other one is written at %s:%d:%d", other.Filename(), other.Line(), other.Column())
		}
		l.add(p, pos, "value", "it has two values: "+values(args), hint)
	case k != nil && k.ref == "#SecretRef" && v.Exists() && v.Err() == nil && v.IncompleteKind()&cue.StructKind == 0:
		message, hint, rule := l.refusal(p, k, v)
		l.add(p, pos, rule, message, hint)
	case strings.HasPrefix(format, "incomplete value"), v.Exists() && v.Err() == nil && !concrete(v):
		message, hint := l.openValue(p, k, v)
		l.add(p, pos, "value", message, hint)
	case strings.Contains(sentence(errs[0]), undefined) && !l.private(p):
		l.undefinedField(p, errs[0])
	case k == nil || !v.Exists() || v.Err() != nil:
		// The mistake is in an expression, about which CUE knows best.
		message := "its expression is wrong"
		if !l.private(p) {
			message = sentence(errs[0])
		}
		if !v.Exists() || v.Err() == nil {
			for _, q := range errors.Positions(errs[0]) {
				if l.ours(q) {
					pos = q
					break
				}
			}
		}
		l.add(p, pos, "value", message, "")
	default:
		message, hint, rule := l.refusal(p, k, v)
		l.add(p, pos, rule, message, hint)
	}
}

// openValue words that a value is not one value.
func (l *loader) openValue(p path, k *key, v cue.Value) (message, hint string) {
	if k == nil {
		return "it has no value yet", ""
	}
	if d, ok := v.Default(); ok && d.IsConcrete() && k.def != "" && !l.private(p) {
		return fmt.Sprintf("it has a default already, %s, and takes no second one", k.def), "write " + show(d)
	}
	if op, args := v.Expr(); op == cue.OrOp && !l.private(p) {
		var words []string
		for _, a := range args {
			if a.IsConcrete() {
				words = append(words, show(a))
			}
		}
		if len(words) == len(args) && len(words) > 1 {
			return "it has more than one possible value: " + strings.Join(words, ", "), "write one of them"
		}
	}
	return "it has no value yet", "write " + k.want()
}

// misfit reports the one of several values that are written for p that k would
// not take, whatever the others are.
func (l *loader) misfit(p path, k *key) bool {
	written := l.places().exprs[p.String()]
	if len(written) < 2 {
		return false
	}
	for _, e := range written {
		switch e.(type) {
		case *ast.BasicLit, *ast.ListLit, *ast.UnaryExpr:
		default:
			continue
		}
		v := l.ctx.BuildExpr(e)
		if v.Err() != nil || l.takes(k, v) {
			continue
		}
		message, hint, rule := l.refusal(p, k, v)
		l.add(p, e.Pos(), rule, message, hint)
		return true
	}
	return false
}

// takes tells whether a value by itself is what k wants, as far as its kind
// goes, and for scalars as a whole.
func (l *loader) takes(k *key, v cue.Value) bool {
	s, err := v.String()
	switch k.typ {
	case object, open:
		return v.IncompleteKind() == cue.StructKind
	case list:
		return v.IncompleteKind() == cue.ListKind
	case boolean:
		return v.IncompleteKind() == cue.BoolKind
	case text:
		return err == nil
	case enum:
		return err == nil && slices.Contains(k.enum, s)
	}
	return l.lang.LookupPath(cue.ParsePath(k.scalar)).Unify(v).Validate(cue.Concrete(true)) == nil
}

// namesake reports a name without quotes that was meant to be text, and is
// that of a field around it.
func (l *loader) namesake(p path, k *key, v cue.Value) bool {
	written := l.places().exprs[p.String()]
	if len(written) != 1 {
		return false
	}
	id, ok := written[0].(*ast.Ident)
	if !ok || k.typ == object || k.typ == open || k.typ == list {
		return false
	}
	if isText := v.IncompleteKind()&(cue.StructKind|cue.ListKind) == 0; isText && !slices.Contains(p, id.Name) || isText && v.Exists() && v.Err() == nil {
		return false
	}
	hint := "text is written in quotes"
	if !l.private(p) {
		hint = fmt.Sprintf("to write it as text, put it in quotes: %q", id.Name)
	}
	l.add(p, id.Pos(), "value", fmt.Sprintf("%s stands for the field of that name around it", id.Name), hint)
	return true
}

// sentence is the text of an error in one line without its path.
func sentence(e errors.Error) string {
	s := strings.TrimPrefix(e.Error(), strings.Join(e.Path(), ".")+": ")
	return strings.Join(strings.Fields(s), " ")
}

func values(args []any) string {
	if len(args) < 2 {
		return "they do not agree"
	}
	return fmt.Sprintf("%v and %v", args[0], args[1])
}

func concrete(v cue.Value) bool { return v.IsConcrete() || v.IncompleteKind() == cue.StructKind }

// show is a value as a person wrote it, in not too many characters.
func show(v cue.Value) string {
	switch v.IncompleteKind() {
	case cue.StructKind:
		return "{…}"
	case cue.ListKind:
		return "[…]"
	case cue.BytesKind:
		return "this value in single quotes"
	}
	b, err := v.MarshalJSON()
	if err != nil {
		return thisValue
	}
	const most = 60
	if r := []rune(string(b)); len(r) > most {
		return string(r[:most]) + "…"
	}
	return string(b)
}

// thisValue stands for a value that is not shown.
const thisValue = "this value"

// secretHint says what a reference to a secret may be. A value that somebody
// else decides on cannot be made up.
func secretHint(p path) string {
	const hint = `say where it is found, such as {env: "NAME"}, {file: "path"}, {sops: {file: "path", key: "a.b"}}`
	if last := p[len(p)-1]; p.matches("**.secrets.*") || last == "password" && p.matches("environments.*.services.*.password") {
		return hint + " or {generate: {}}"
	}
	return hint
}

// at returns the most telling of the keys at p: one that is read, if there is
// one.
func (l *loader) at(p path) *key {
	all := l.model.find(p)
	if read := slices.DeleteFunc(slices.Clone(all), func(f found) bool { return len(l.failing(p, f)) > 0 }); len(read) > 0 {
		return telling(read)
	}
	return telling(all)
}

// choices are the words that the enumeration at p accepts here, and all that
// it has anywhere.
func (l *loader) choices(p path) (here, anywhere []string) {
	for _, f := range l.model.find(p) {
		if f.typ != enum {
			continue
		}
		for _, e := range f.enum {
			if !slices.Contains(anywhere, e) {
				anywhere = append(anywhere, e)
			}
		}
		switch {
		case len(l.failing(p, f)) > 0:
		case here == nil:
			here = slices.Clone(f.enum)
		default:
			here = slices.DeleteFunc(here, func(e string) bool { return !slices.Contains(f.enum, e) })
		}
	}
	if len(here) == 0 {
		here = anywhere
	}
	return here, anywhere
}

// notHere words that a choice exists, and not beside what else is chosen.
func (l *loader) notHere(p path, shown, s string, allowed []string) (message, hint string) {
	if slices.Contains(allowed, s) {
		return "", ""
	}
	exists := false
	var because []condition
	for _, f := range l.model.find(p) {
		switch {
		case f.typ != enum:
		case slices.Contains(f.enum, s):
			exists = true
		case len(l.failing(p, f)) == 0:
			because = nil
			for _, w := range f.when {
				because = append(because, l.narrow(p, w))
			}
			if len(because) > 1 && because[1].tag.String() == "platform.distribution" {
				because = because[1:] // it says the kind, too
			}
		}
	}
	if !exists || len(because) == 0 {
		return "", ""
	}
	return fmt.Sprintf("%s is not possible when %s", shown, conditions(because)),
		"possible there: " + strings.ReplaceAll(quoted(allowed), " and ", ", ")
}

// narrow leaves of a condition the one value that makes it hold, and names
// what it looks at as seen from further below.
func (l *loader) narrow(p path, w placed) condition {
	c := w.condition
	if got, ok := l.tag(l.tagPath(p[:w.depth], c)); ok {
		c.want = []string{got}
	}
	if w.depth < len(p)-1 && len(c.tag) == 1 {
		c.tag = path{p[w.depth-1], c.tag[0]}
	}
	return c
}

// badName reports a name that is free to choose and not well formed.
func (l *loader) badName(p path, in *key) {
	last, hint := p[len(p)-1], ""
	for _, other := range []string{strings.ToUpper(last), strings.ToLower(last)} {
		if l.fits(in.names, other) {
			hint = fmt.Sprintf("did you mean %q?", other)
		}
	}
	if hint == "" {
		hint = nameFault(in.names, last)
	}
	if r := l.rewritten(&key{scalar: in.names}, last); hint == "" && !looksSecret(last) {
		hint = r
	}
	l.add(p, l.pos(p, true), "name", fmt.Sprintf("%q is not %s", last, comment(l.model.defs[in.names])), hint)
}

// missingKey reports a key that has to be written at p.
func (l *loader) missingKey(p path) {
	k := l.at(p)
	if l.isBroken(p) || k == nil {
		return
	}
	hint := k.doc
	if k.typ == enum {
		here, _ := l.choices(p)
		if hint = "write " + anyOf(here); len(here) == 1 {
			hint = fmt.Sprintf("write %s: %q", p[len(p)-1], here[0])
		}
	} else if example := k.example(); example != "" && !strings.Contains(k.doc, "such as") {
		hint += " For example: " + p[len(p)-1] + ": " + example
	}
	l.add(p, l.pos(p[:len(p)-1], true), "missing-key", "it has to be written", hint)
}
