package schema

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"
)

// addCompileErrors reports errors that CUE found before there were values:
// names that stand for nothing.
func (l *loader) addCompileErrors(err error) {
	for _, f := range l.src.Files {
		if at, ok := looksYAML(string(f.Data)); ok {
			t := newWrongText(f, at)
			l.diags = append(l.diags, l.src.diagnostic(t.pos(at), f.Name, "syntax", "this looks like YAML", notYAML))
		}
	}
	if len(l.diags) > 0 {
		return
	}
	if m, err := newModel(); err == nil { // it is embedded and tested
		l.model = m
	}
	dashes := map[int]bool{}        // lines of lists in the style of YAML
	unknown := map[token.Pos]bool{} // packages
	all := errors.Errors(err)
	slices.SortStableFunc(all, func(a, b errors.Error) int {
		return strings.Compare(fmt.Sprint(strings.HasPrefix(b.Error(), "builtin")), fmt.Sprint(strings.HasPrefix(a.Error(), "builtin")))
	})
	for _, e := range all[:min(len(all), maxDiagnostics)] {
		format, args := e.Msg()
		rule, message, hint, pos := "syntax", sentence(e), "", e.Position()
		name, _ := first(args).(string)
		switch {
		case strings.HasPrefix(format, "reference %q not found"):
			rule, hint = "reference", "text is written in quotes; a name refers to another field of the file"
			if strings.HasPrefix(name, "$") {
				hint = "a value from outside comes with a tag: a field with @tag(name) is given with -t name=…"
			}
			if pkg := packageNamed(name); pkg != "" && l.selectors()[pos] != nil {
				hint = fmt.Sprintf("write import %q at the top of the file", pkg)
			}
			if t, ok := l.textAt(pos); ok && dash.MatchString(t.line) {
				if dashes[pos.Line()] || dashes[pos.Line()-1] {
					dashes[pos.Line()] = true
					continue
				}
				dashes[pos.Line()] = true
				rule, message, hint = "syntax", "a list is written in brackets", dashHint
			}
		case strings.HasPrefix(format, "builtin package %q undefined"):
			rule, message = "import", fmt.Sprintf("package %q is not part of CUE's standard library", name)
			hint = didYouMean(name, standardPackages)
			unknown[pos] = true
		case strings.HasPrefix(format, "imported and not used"):
			if unknown[pos] {
				continue
			}
			rule, message, hint = "import", "it is imported and not used", "leave the import out"
		case strings.HasPrefix(format, "unreferenced alias"):
			if t, ok := l.textAt(pos); ok {
				if _, after, _ := strings.Cut(t.line, "\x00"); strings.Contains(after, "=") {
					pos, message, hint = t.pos(t.offset+strings.IndexByte(after, '=')), notAssigned, assignHint
				}
			}
		}
		p := cuePath(e.Path())
		private := l.private(p)
		if private && rule == "reference" {
			message = "a name here stands for no field"
		}
		d := l.src.diagnostic(pos, l.src.Name(), rule, message, hint)
		d.Path, d.private = p.String(), private
		l.diags = append(l.diags, d)
	}
}

// dash matches an element of a list in the style of YAML, with a zero byte at
// the name that CUE reports.
var dash = regexp.MustCompile(`^\s*-\s+\x00`)

func first(args []any) any {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}

// textAt is the text around a position.
func (l *loader) textAt(pos token.Pos) (wrongText, bool) {
	f, ok := l.src.file(pos.Filename())
	if !ok || !pos.IsValid() {
		return wrongText{}, false
	}
	return newWrongText(f, pos.Offset()), true
}

// selectors are the selectors of the text, by where their names and their
// operands are.
func (l *loader) selectors() map[token.Pos]*ast.SelectorExpr {
	if l.selected == nil {
		l.selected = map[token.Pos]*ast.SelectorExpr{}
		for _, f := range l.files {
			ast.Walk(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					l.selected[s.X.Pos()], l.selected[s.Sel.Pos()] = s, s
				}
				return true
			}, nil)
		}
	}
	return l.selected
}

// standardPackages are the packages that are compiled into CUE and of use in a
// forge.
var standardPackages = []string{
	"crypto/ed25519", "crypto/hmac", "crypto/md5", "crypto/sha1", "crypto/sha256", "crypto/sha512",
	"encoding/base64", "encoding/csv", "encoding/hex", "encoding/json", "encoding/toml", "encoding/yaml",
	"html", "list", "math", "math/big", "math/bits", "net", "path", "regexp", "strconv", "strings", "struct",
	"text/tabwriter", "text/template", "time", "uuid",
}

// packageNamed is the import path of a package by the name it is used with.
func packageNamed(name string) string {
	i := slices.IndexFunc(standardPackages, func(p string) bool { return p[strings.LastIndexByte(p, '/')+1:] == name })
	if i < 0 {
		return ""
	}
	return standardPackages[i]
}

// undefined is how CUE begins to say that a selector leads to no field.
const undefined = "undefined field: "

// undefinedField reports a selector that leads to no field.
func (l *loader) undefinedField(p path, e errors.Error) {
	_, name, _ := strings.Cut(sentence(e), undefined)
	pos := e.Position()
	for _, q := range errors.Positions(e) {
		if l.ours(q) {
			pos = q
			break
		}
	}
	message, hint := fmt.Sprintf("there is no field %s", name), ""
	if s := l.selectors()[pos]; s != nil && s.Sel.Pos() == pos {
		if of, ok := selection(s.X); ok {
			message = fmt.Sprintf("there is no field %s in %s", name, of)
			if near := nearest(name, l.places().children[of.String()]); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			} else if l.model.has(of, name) {
				hint = "it is not written, and defaults cannot be referred to: write it there, or the value itself here"
			}
		}
	}
	l.add(p, pos, "reference", message, hint)
}

// selection is the path that an expression of names with dots between them
// leads to from the top of the file.
func selection(e ast.Expr) (path, bool) {
	switch e := e.(type) {
	case *ast.Ident:
		return path{e.Name}, true
	case *ast.SelectorExpr:
		of, ok := selection(e.X)
		name, _, err := ast.LabelName(e.Sel)
		return of.with(name), ok && err == nil
	}
	return nil, false
}
