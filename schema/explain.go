package schema

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"
)

// CUE decides what is wrong; this file says it in the words of the language.
// An error of CUE is used for its path and its format, never for its text
// where the model knows better: the text of one mistake in a choice of three
// is four errors about values that nobody wrote.

// addCompileErrors reports errors that CUE found before there were values.
func (l *loader) addCompileErrors(err error) {
	for _, e := range errors.Errors(err) {
		format, _ := e.Msg()
		d := l.src.diagnostic(e.Position(), l.src.name(), "syntax", sentence(e), "")
		d.Path = cuePath(e.Path()).String()
		if strings.HasPrefix(format, "reference %q not found") {
			d.Rule, d.Hint = "reference", "text is written in quotes; a name refers to another field of the file"
		}
		l.diags = append(l.diags, d)
	}
}

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
	for _, p := range order {
		switch format, _ := byPath[p.String()][0].Msg(); {
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
		case l.written(p) && m.at(p) != nil:
			l.add(p, l.pos(p, true), "value", "a definition in this file does not allow it here",
				"what begins with # is closed; a name that begins with _ can be added to")
		case l.written(p):
			l.unknownKey(p, nil)
		default:
			l.missingKey(p, m.at(p))
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

// walk reports unknown and missing keys from p downwards; keys are what the
// language has there.
func (l *loader) walk(p path, keys []*key) {
	if l.written(p) && len(l.fields(p)) == 0 && l.user.LookupPath(selectors(l.user, p)).IncompleteKind() != cue.StructKind {
		return // reported, or a list
	}
	if !slices.ContainsFunc(keys, func(k *key) bool { return k.typ == object }) {
		return // reported
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
				case l.fits(k.names, name):
					l.walk(q, []*key{k.elem})
				case !l.isBroken(q):
					l.badName(q, k)
				}
			}
			return
		}
	}
	for _, name := range l.fields(p) {
		if q := p.with(name); !l.isBroken(q) && known[name] == nil && !unsure[name] {
			l.unknownKey(q, keys)
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
			case l.written(q) || !required && !c.optional:
				l.walk(q, all)
			case required && !unsure[c.name]:
				l.missingKey(q, all[0])
			}
		}
	}
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
		at := p
		for len(at) > 0 && len(l.model.all(at.with(c.tag[0]))) == 0 {
			at = at[:len(at)-1]
		}
		at = at.with(c.tag...)
		switch got, ok := l.tag(at); {
		case !ok:
			a = unclear
		case got != c.want:
			return no
		}
	}
	return a
}

// tag is the value of a kind or mode, written or by default; not ok when it
// is missing or wrong.
func (l *loader) tag(p path) (value string, ok bool) {
	k := l.model.at(p)
	if k == nil || l.isBroken(p) {
		return "", false
	}
	v := l.user.LookupPath(selectors(l.user, p))
	if !v.Exists() {
		return strings.Trim(k.def, `"`), k.def != ""
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
	return d.Unify(l.lang.Context().Encode(s)).Validate(cue.Concrete(true)) == nil
}

// fields are the names of the regular fields of v in the order they are
// written.
func fields(v cue.Value) []string {
	it, err := v.Fields()
	if err != nil {
		return nil
	}
	var names []string
	for it.Next() {
		names = append(names, it.Selector().Unquoted())
	}
	return names
}

// fields are the names that are written at p, also where CUE gives up on the
// struct because of an error in it.
func (l *loader) fields(p path) []string {
	names := fields(l.user.LookupPath(selectors(l.user, p)))
	for _, name := range l.places().children[p.String()] {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (l *loader) places() *index {
	if l.index == nil {
		l.index = newIndex(l.files)
	}
	return l.index
}

// selectors is p as a path into v, where numbers may index lists.
func selectors(v cue.Value, p path) cue.Path {
	var sels []cue.Selector
	for _, s := range p {
		if v.IncompleteKind() == cue.ListKind {
			if i, err := strconv.Atoi(s); err == nil {
				sels = append(sels, cue.Index(i))
				v = v.LookupPath(cue.MakePath(cue.Index(i)))
				continue
			}
		}
		sel := cue.Str(s)
		sels = append(sels, sel)
		v = v.LookupPath(cue.MakePath(sel))
	}
	return cue.MakePath(sels...)
}

// isObject tells whether the language has fields at p.
func (l *loader) isObject(p path) bool {
	k := l.model.at(p)
	return k != nil && k.typ == object
}

func (l *loader) written(p path) bool {
	return l.user.LookupPath(selectors(l.user, p)).Exists()
}

// pos is where p is written: its value, or what encloses it.
func (l *loader) pos(p path, label bool) token.Pos {
	for n := len(p); n > 0; n-- {
		if at, ok := l.places().places[p[:n].String()]; ok {
			if label || n < len(p) {
				return at.label
			}
			return at.value
		}
		if v := l.user.LookupPath(selectors(l.user, p[:n])); v.Exists() && l.ours(v.Pos()) {
			return v.Pos()
		}
	}
	return token.NoPos
}

// ours tells whether a position is in the text and not in the schema.
func (l *loader) ours(p token.Pos) bool {
	return p.IsValid() && slices.ContainsFunc(l.src.Files, func(f File) bool { return f.Name == p.Filename() })
}

// add reports a mistake at p.
func (l *loader) add(p path, pos token.Pos, rule, message, hint string) {
	d := l.src.diagnostic(pos, l.src.name(), rule, message, hint)
	d.Path = p.String()
	if sensitive.MatchString(d.Path) || sensitive.MatchString(d.line) {
		d.line = ""
	}
	l.diags = append(l.diags, d)
	if l.broken == nil {
		l.broken = map[string]bool{}
	}
	for n := range len(p) + 1 {
		l.broken[p[:n].String()] = true
	}
}

// isBroken tells whether there is a diagnostic at p or below.
func (l *loader) isBroken(p path) bool { return l.broken[p.String()] }

// sensitive matches paths and lines that may hold a secret by mistake.
var sensitive = regexp.MustCompile(`(?i)secret|passw|token|credential|_key`)

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
