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
	k := l.model.at(p)
	pos := l.pos(p, false)
	if err := v.Err(); v.Exists() && err != nil {
		// The text disagrees with itself, whatever the schema says of it.
		errs = errors.Errors(err)
		format, args = errs[0].Msg()
	}
	switch {
	case len(p) == 0:
		l.add(p, pos, "value", "the file is not a set of fields", `a forge begins with forge: "v1", app and environments`)
	case v.Exists() && v.Err() != nil && k != nil && strings.HasPrefix(format, "conflicting values") && !sensitive.MatchString(p.String()):
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
		if !sensitive.MatchString(p.String()) {
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
	if sensitive.MatchString(p.String()) {
		shown = "this value"
	}
	s, err := v.String()
	isString := err == nil
	enums := map[string]bool{}
	var all []string
	for _, k := range l.model.all(p) {
		for _, e := range k.enum {
			if k.typ == enum && !enums[e] {
				enums[e] = true
				all = append(all, e)
			}
		}
	}
	switch k.typ {
	case enum:
		if note, ok := laterValues[last][s]; ok && isString {
			if l.later == nil {
				l.later = map[string]bool{}
			}
			l.later[p[:len(p)-1].String()] = true
			return fmt.Sprintf("%s is not supported by this build yet", shown), orElse(note, "this build has "+quoted(all)), "unsupported"
		}
		if p.String() == "forge" && v.IncompleteKind() == cue.StructKind {
			return "the forge is the top of the file, not a field of it", `write forge: "v1", and app and environments beside it`, "version"
		}
		if p.String() == "forge" {
			return fmt.Sprintf("%s is not a version of the language that this build reads", shown), `write forge: "v1"`, "version"
		}
		hint = didYouMean(s, all)
		if !isString && enums[shown] {
			hint = fmt.Sprintf("write it in quotes: %q", shown)
		}
		return fmt.Sprintf("%s is not %s", shown, anyOf(all)), hint, "value"
	case scalar, text:
		if last == "tag" && s == "latest" {
			return "the tag latest is refused: it names another image tomorrow", `name a version, such as "1.4.2", or a digest`, "latest"
		}
		want := k.want()
		switch {
		case isString && k.typ == scalar && l.fits(k.scalar, strings.ToLower(s)) && shown != "this value":
			hint = fmt.Sprintf("did you mean %q?", strings.ToLower(s))
		case last == "repository" && strings.ContainsAny(s, ":@"):
			hint = "the tag and the digest have keys of their own"
		case !isString && shown != "this value" && (k.typ == text || l.fits(k.scalar, shown)):
			hint = fmt.Sprintf("write it in quotes: %q", shown)
		case isString && strings.Contains(want, "whole number"):
			if _, err := strconv.Atoi(s); err == nil {
				hint = "write it without quotes: " + s
			}
		}
		return fmt.Sprintf("%s is not %s", shown, want), hint, "value"
	case list:
		if isString && shown != "this value" {
			hint = "write [" + shown + "]"
		}
		if v.IncompleteKind() == cue.ListKind {
			return "the list is empty", "write at least one element", "value"
		}
		return fmt.Sprintf("%s is not a list", shown), hint, "value"
	case object:
		if slices.Contains(p, "secrets") || last == "password" {
			return "the value of a secret has no place in this file", `say where it is found: {env: "NAME"}, {file: "path"} or {generate: {}}`, "secret-value"
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
		return "this value"
	}
	const most = 60
	if r := []rune(string(b)); len(r) > most {
		return string(r[:most]) + "…"
	}
	return string(b)
}

// unknownKey reports a key that is written and not allowed at p, beside keys.
func (l *loader) unknownKey(p path, beside []*key) {
	last, pos := p[len(p)-1], l.pos(p, true)
	var when, names []string
	for _, k := range beside {
		for _, c := range k.keys {
			if c.name == last {
				when = append(when, conditions(c.when))
			} else if !slices.Contains(names, c.name) && l.holds(p[:len(p)-1], c.when) != no {
				names = append(names, c.name)
			}
		}
	}
	if len(when) > 0 {
		l.add(p, pos, "unread-key", "it is read only when "+strings.Join(slices.Compact(when), ", or when "), "")
		return
	}
	if note, ok := laterKey(p); ok && !l.laterPlatform(p) {
		l.add(p, pos, "unsupported", "it is not supported by this build yet", note)
		return
	}
	if l.besideLater(p) {
		return
	}
	hint := didYouMean(last, names)
	if hint == "" && len(names) > 0 {
		hint = "known here: " + strings.Join(names, ", ")
	}
	l.add(p, pos, "unknown-key", fmt.Sprintf("unknown key %q", last), hint)
}

// besideLater tells whether p belongs to something that this build does not
// have, and that is reported by itself.
func (l *loader) besideLater(p path) bool {
	parent := p[:len(p)-1]
	return l.later[parent.String()] || l.laterPlatform(p) || slices.ContainsFunc(l.fields(parent), func(name string) bool {
		_, ok := laterKey(parent.with(name))
		return ok && isSecret(parent)
	})
}

// laterPlatform tells whether p is a key of an environment whose platform
// this build does not have.
func (l *loader) laterPlatform(p path) bool {
	return len(p) == 3 && l.later[p[:2].with("platform").String()]
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
func (l *loader) missingKey(p path, k *key) {
	if l.isBroken(p) || k == nil {
		return
	}
	hint := k.doc
	if k.typ == enum {
		hint = "write " + anyOf(k.enum)
	}
	l.add(p, l.pos(p[:len(p)-1], true), "missing-key", "it has to be written", hint)
}
