package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
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
	switch {
	case len(p) == 0:
		l.add(p, pos, "value", "the file is not a set of fields", `a forge begins with forge: "v1", app and environments`)
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
	case strings.HasPrefix(format, "incomplete value"), v.Exists() && v.Err() == nil && !concrete(v):
		hint := ""
		if k != nil {
			hint = "write " + k.want()
		}
		l.add(p, pos, "value", "it has no value yet", hint)
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

// refusal says why v is not what k wants.
func (l *loader) refusal(p path, k *key, v cue.Value) (message, hint, rule string) {
	last := p[len(p)-1]
	shown := show(v)
	s, err := v.String()
	isString := err == nil
	if l.private(p) || isString && looksSecret(s) {
		shown = thisValue
	}
	switch k.typ {
	case enum:
		allowed, elsewhere := l.choices(p)
		if message, hint := l.notHere(p, shown, s, allowed); message != "" && isString {
			return message, hint, "not-on-platform"
		}
		if p.String() == "forge" && v.IncompleteKind() == cue.StructKind {
			return "the forge is the top of the file, not a field of it", `write forge: "v1", and app and environments beside it`, "version"
		}
		if p.String() == "forge" {
			return fmt.Sprintf("%s is not a version of the language that this build reads", shown), `write forge: "v1"`, "version"
		}
		if hint = synonym(s); hint == "" {
			hint = didYouMean(s, allowed)
		}
		if !isString && slices.Contains(elsewhere, shown) {
			hint = fmt.Sprintf("write it in quotes: %q", shown)
		}
		return fmt.Sprintf("%s is not %s", shown, anyOf(allowed)), hint, "value"
	case scalar, text:
		if last == "tag" && s == "latest" {
			return "the tag latest is refused: it names another image tomorrow", `name a version, such as "1.4.2", or a digest`, "latest"
		}
		want := k.want()
		switch {
		case isString && k.typ == scalar && l.fits(k.scalar, strings.ToLower(s)) && shown != thisValue:
			hint = fmt.Sprintf("did you mean %q?", strings.ToLower(s))
		case last == "repository" && strings.ContainsAny(s, ":@"):
			hint = "the tag and the digest have keys of their own"
		case !isString && shown != thisValue && (k.typ == text || l.fits(k.scalar, shown)):
			hint = fmt.Sprintf("write it in quotes: %q", shown)
		case isString && strings.Contains(want, "whole number"):
			if _, err := strconv.Atoi(s); err == nil {
				hint = "write it without quotes: " + s
			}
		}
		return fmt.Sprintf("%s is not %s", shown, want), hint, "value"
	case list:
		if isString && shown != thisValue {
			hint = "write [" + shown + "]"
		}
		if v.IncompleteKind() == cue.ListKind {
			return "the list is empty", "write at least one element", "value"
		}
		return fmt.Sprintf("%s is not a list", shown), hint, "value"
	case object:
		if k.ref == "#SecretRef" {
			return "the value of a secret has no place in this file", secretHint, "secret-value"
		}
		if k.names != "" {
			return fmt.Sprintf("%s is not a set of fields in braces", shown), "", "value"
		}
		for _, tag := range k.keys {
			if tag.typ == enum && slices.Contains(tag.enum, s) {
				return fmt.Sprintf("%s is not a set of fields in braces", shown), fmt.Sprintf("write %s: %s: %q", last, tag.name, s), "value"
			}
		}
		return fmt.Sprintf("%s is not a set of fields in braces", shown), "known here: " + strings.Join(k.children(), ", "), "value"
	}
	if isString && (s == "true" || s == "false") {
		hint = "write it without quotes: " + s
	}
	return fmt.Sprintf("%s is not %s", shown, k.want()), hint, "value"
}

// show is a value as a person wrote it, in not too many characters.
func show(v cue.Value) string {
	switch v.IncompleteKind() {
	case cue.StructKind:
		return "{…}"
	case cue.ListKind:
		return "[…]"
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

// secretHint says what a reference to a secret may be.
const secretHint = `say where it is found, such as {env: "NAME"}, {file: "path"}, {sops: {file: "path", key: "a.b"}} or {generate: {}}`

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

// unknownKey reports a key that is written and not allowed at p.
func (l *loader) unknownKey(p path) {
	last, pos := p[len(p)-1], l.pos(p, true)
	if all := l.model.find(p); len(all) > 0 {
		if when := l.unread(p, all); when != "" {
			l.add(p, pos, "unread-key", "it is read only when "+when, "")
			return
		}
	}
	var names []string
	for _, f := range l.model.find(p[:len(p)-1]) {
		if len(l.failing(p[:len(p)-1], f)) > 0 {
			continue
		}
		for _, c := range f.keys {
			if c.obsolete == "" && !slices.Contains(names, c.name) && l.holds(p[:len(p)-1], c.when) != no {
				names = append(names, c.name)
			}
		}
	}
	hint := didYouMean(last, names)
	if hint == "" {
		hint = moved(p)
	}
	if hint == "" && len(names) > 0 {
		hint = "known here: " + strings.Join(names, ", ")
	}
	l.add(p, pos, "unknown-key", fmt.Sprintf("unknown key %q", last), hint)
}

// unread says under which conditions a key would be read: those that do not
// hold, with the values of one kind or mode put together.
func (l *loader) unread(p path, all []found) string {
	var groups []condition
	var others []string
	for _, f := range all {
		failing := l.failing(p, f)
		if len(failing) == 0 {
			return ""
		}
		if len(failing) > 1 {
			if s := conditions(failing); !slices.Contains(others, s) {
				others = append(others, s)
			}
			continue
		}
		i := slices.IndexFunc(groups, func(c condition) bool { return slices.Equal(c.tag, failing[0].tag) })
		if i < 0 {
			i = len(groups)
			groups = append(groups, condition{tag: failing[0].tag})
		}
		for _, w := range failing[0].want {
			if !slices.Contains(groups[i].want, w) {
				groups[i].want = append(groups[i].want, w)
			}
		}
	}
	var s []string
	for _, g := range groups {
		s = append(s, g.String())
	}
	return strings.Join(append(s, others...), ", or when ")
}

// badName reports a name that is free to choose and not well formed.
func (l *loader) badName(p path, in *key) {
	last, hint := p[len(p)-1], ""
	for _, other := range []string{strings.ToUpper(last), strings.ToLower(last)} {
		if l.fits(in.names, other) {
			hint = fmt.Sprintf("did you mean %q?", other)
		}
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
		hint = "write " + anyOf(here)
	}
	l.add(p, l.pos(p[:len(p)-1], true), "missing-key", "it has to be written", hint)
}
