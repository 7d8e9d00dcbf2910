package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// refusal says why v is not what k wants.
func (l *loader) refusal(p path, k *key, v cue.Value) (message, hint, rule string) {
	shown := show(v)
	s, err := v.String()
	isString := err == nil
	if lit := l.number(p); lit != "" && v.IncompleteKind()&cue.NumberKind != 0 {
		shown = lit
	}
	if l.private(p) || isString && (looksSecret(s) || k.typ == list && sensitive.MatchString(s)) {
		shown = thisValue
	}
	open := shown != thisValue // it may be repeated
	switch k.typ {
	case enum:
		return l.refusedChoice(p, v, shown, s, isString)
	case scalar, text:
		if p[len(p)-1] == "tag" && s == "latest" {
			return "the tag latest is refused: it names another image tomorrow", `name a version, such as "1.4.2", or a digest`, "latest"
		}
		message, hint := l.refusedScalar(p, k, v, shown)
		return message, hint, "value"
	case list:
		switch {
		case v.IncompleteKind() == cue.ListKind:
			return "the list is empty", "write at least one element", "value"
		case v.IncompleteKind() == cue.StructKind && k.elem.typ == object:
			hint = "write [" + shown + "]"
		case isString && open && slices.Contains(k.elem.enum, "mon"):
			if hint = dayWords(s); hint != "" {
				hint = "write [" + strings.TrimPrefix(hint, "write ") + "]"
			}
		case isString && open && k.elem.typ == text && strings.Contains(s, " ") && !strings.ContainsAny(s, "\"'\\$`|&;<>*?(){}"):
			hint = "write [" + strings.ReplaceAll(quoted(strings.Fields(s)), " and ", ", ") + "]"
		case isString && open && k.elem.typ == text && strings.Contains(s, " "):
			hint = `write each word for itself: ["…", "…"]`
		case isString && open && (k.elem.typ == text || k.elem.typ == scalar && l.fits(k.elem.scalar, s) || slices.Contains(k.elem.enum, s)):
			hint = "write [" + shown + "]"
		}
		return fmt.Sprintf("%s is not a list", shown), hint, "value"
	case object:
		return l.refusedObject(p, k, v, shown)
	case boolean:
		if isString && slices.Contains([]string{"true", "yes", "on", "1"}, strings.ToLower(s)) {
			hint = "write true"
		}
		if isString && slices.Contains([]string{"false", "no", "off", "0"}, strings.ToLower(s)) {
			hint = "write false"
		}
	}
	return fmt.Sprintf("%s is not %s", shown, k.want()), hint, "value"
}

// refusedChoice is refusal for an enumeration.
func (l *loader) refusedChoice(p path, v cue.Value, shown, s string, isString bool) (message, hint, rule string) {
	allowed, elsewhere := l.choices(p)
	if message, hint := l.notHere(p, shown, s, allowed); message != "" && isString {
		return message, hint, "not-on-platform"
	}
	if p.String() == "forge" && v.IncompleteKind() == cue.StructKind {
		l.breaks(path{"app"})
		l.breaks(path{"environments"})
		return "the forge is the top of the file, not a field of it", `write forge: "v1", and app and environments beside it`, "version"
	}
	if p.String() == "forge" {
		return fmt.Sprintf("%s is not a version of the language that this build reads", shown), `write forge: "v1"`, "version"
	}
	last := p[len(p)-1]
	if hint = synonym(s); hint != "" && !slices.ContainsFunc(allowed, func(a string) bool { return strings.Contains(hint, last+": "+strconv.Quote(a)) }) {
		hint = ""
	}
	on, err := v.Bool()
	switch {
	case hint != "":
	case slices.Contains(allowed, "mon") && isString && dayWords(s) != "":
		hint = dayWords(s)
	case err == nil && on && last == "prune":
		hint = `write "owned"`
	case err == nil && !on && slices.Contains(allowed, "off"):
		hint = `write "off"`
	case err == nil && !on && slices.Contains(allowed, "none"):
		hint = `write "none"`
	case err == nil && !on && slices.Contains(allowed, "never"):
		hint = `write "never"`
	case !isString && slices.Contains(elsewhere, shown):
		hint = fmt.Sprintf("write it in quotes: %q", shown)
	default:
		hint = didYouMean(s, allowed)
	}
	return fmt.Sprintf("%s is not %s", shown, anyOf(allowed)), hint, "value"
}

// refusedScalar is refusal for scalars and texts.
func (l *loader) refusedScalar(p path, k *key, v cue.Value, shown string) (message, hint string) {
	last, want := p[len(p)-1], k.want()
	s, err := v.String()
	isString, open := err == nil, shown != thisValue
	message = fmt.Sprintf("%s is not %s", shown, want)
	switch {
	case v.IncompleteKind()&(cue.StructKind|cue.ListKind) != 0:
	case v.IncompleteKind() == cue.BytesKind:
		hint = `text stands between " and "`
	case isString && s == "":
		message = "it is empty"
		if k.scalar != "#Text" {
			hint = "write " + want
		}
	case k.scalar == "#Path" && last == "kubeconfig" && strings.HasPrefix(s, "~"):
		message, hint = `"~" is not expanded`, "leave it out to use the usual kubeconfig, or write the whole path"
	case k.scalar == "#Duration" && isString && tooManyTime.MatchString(s):
		message = fmt.Sprintf("%s is more than 99999h", shown)
	case last == "repository" && isString && strings.ContainsAny(s, ":@"):
		hint = "the tag and the digest have keys of their own"
		if split := l.splitImage(s); split != "" && open {
			hint = "write " + split
		}
	case k.scalar == "#Tag" && isString && open && l.splitImage(s) != "":
		_, tag, _ := strings.Cut(l.splitImage(s), `", `)
		hint = "write " + tag
	case k.scalar == "#EnvName" && l.rewritten(k, s) != "":
		hint = l.rewritten(k, s) // it repeats nothing
	case !open:
	case isString && k.typ == scalar && l.fits(k.scalar, strings.ToLower(s)):
		hint = fmt.Sprintf("did you mean %q?", strings.ToLower(s))
	case isString && l.rewritten(k, s) != "":
		hint = l.rewritten(k, s)
	case isString && nameFault(k.scalar, s) != "":
		hint = nameFault(k.scalar, s)
	case isString && strings.Contains(want, "whole number"):
		if _, err := strconv.Atoi(s); err == nil {
			hint = "write it without quotes: " + s
		}
	case isString:
	case l.rewritten(k, shown) != "":
		hint = l.rewritten(k, shown)
	case k.typ == text || l.fits(k.scalar, shown):
		hint = fmt.Sprintf("write it in quotes: %q", shown)
	}
	return message, hint
}

// refusedObject is refusal for a set of fields.
func (l *loader) refusedObject(p path, k *key, v cue.Value, shown string) (message, hint, rule string) {
	last := p[len(p)-1]
	s, err := v.String()
	isString, open := err == nil, shown != thisValue
	if k.ref == "#SecretRef" {
		return "the value of a secret has no place in this file", secretHint(p), "secret-value"
	}
	message = fmt.Sprintf("%s is not a set of fields in braces", shown)
	if v.IncompleteKind() != cue.StructKind {
		if hint = byName[last]; last == "regions" {
			hint = "write each by its name: regions: {iad: {}}"
			if len(p) > 2 && p[0] == "environments" {
				if kind, _ := l.tag(p[:2].with("platform", "kind")); kind == "kubernetes" {
					hint = `write each by its name: regions: {east: {context: "…"}}`
				}
			}
		}
		if hint != "" {
			return message, hint, "value"
		}
	}
	if k.names != "" {
		return message, "", "value"
	}
	if split := l.splitImage(s); isString && open && last == "image" && split != "" {
		if !slices.Contains(k.children(), "repository") {
			_, split, _ = strings.Cut(split, `", `)
		}
		return message, "write image: {" + split + "}", "value"
	}
	for _, tag := range k.keys {
		if tag.typ != enum || tag.name != "kind" && tag.name != "mode" && tag.name != "run" {
			continue
		}
		here, _ := l.choices(p.with(tag.name))
		on, err := v.Bool()
		switch {
		case isString && slices.Contains(tag.enum, s):
			return message, fmt.Sprintf("write %s: %s: %q", last, tag.name, s), "value"
		case err == nil && !on && slices.Contains(here, "off"):
			return message, fmt.Sprintf(`write %s: %s: "off"`, last, tag.name), "value"
		case err == nil && !on && slices.Contains(here, "none"):
			return message, fmt.Sprintf(`write %s: %s: "none"`, last, tag.name), "value"
		case isString && open && nearest(s, here) != "":
			return message, fmt.Sprintf("write %s: %s: %q", last, tag.name, nearest(s, here)), "value"
		}
		if hint == "" {
			hint = fmt.Sprintf("write %s: %s: …, with %s", last, tag.name, anyOf(here))
		}
	}
	for _, c := range k.keys {
		on, err := v.Bool()
		switch {
		case err == nil && c.name == "enabled":
			return message, fmt.Sprintf("write %s: enabled: %t", last, on), "value"
		case open && (c.name == "machines" || c.name == "min" || c.name == "mount" || c.name == "live") && l.takes(c, v):
			return message, fmt.Sprintf("write %s: %s: %s", path{last}, c.name, shown), "value"
		case isString && open && c.name == "name" && c.typ == scalar && l.fits(c.scalar, s):
			return message, fmt.Sprintf("write %s: name: %q", last, s), "value"
		}
	}
	if hint == "" {
		hint = "known here: " + strings.Join(l.known(p), ", ")
	}
	return message, hint, "value"
}

// number is the one number that is written for p, as it is written.
func (l *loader) number(p path) string {
	written := l.places().exprs[p.String()]
	if len(written) != 1 {
		return ""
	}
	lit, ok := written[0].(*ast.BasicLit)
	if !ok || lit.Kind != token.INT && lit.Kind != token.FLOAT || len(lit.Value) > 30 {
		return ""
	}
	return lit.Value
}
