package schema

import (
	"fmt"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/scanner"
	"cuelang.org/go/cue/token"
)

// maxNesting bounds how deep expressions and fields are nested. Parser and
// evaluator recurse, and a stack that overflows ends the process.
const maxNesting = 1000

// parse turns text into syntax and refuses what reaches outside of it.
func parse(src Source) ([]*ast.File, Diagnostics) {
	var files []*ast.File
	var diags Diagnostics
	if len(src.Files) == 0 {
		return nil, Diagnostics{{Severity: SeverityError, File: "forge.cue", Rule: "syntax", Message: "there is no file to read"}}
	}
	for _, f := range src.Files {
		at := func(p token.Pos, rule, message, hint string) {
			diags = append(diags, src.diagnostic(p, f.Name, rule, message, hint))
		}
		if len(f.Data) > MaxFileSize {
			at(token.NoPos, "size", "the file is larger than 1 MiB", "")
			continue
		}
		if p := tooDeep(f); p.IsValid() {
			at(p, "syntax", fmt.Sprintf("nested more than %d levels deep", maxNesting), "")
			continue
		}
		syntax, err := parser.ParseFile(f.Name, f.Data)
		if err != nil {
			// Whatever follows the first error of a line is a guess.
			line := -1
			for _, e := range errors.Errors(err) {
				if p := e.Position(); p.Line() != line {
					at(p, "syntax", sentence(e), "")
					line = p.Line()
				}
			}
			continue
		}
		files = append(files, syntax)
		outside(syntax, at)
	}
	for _, f := range files[min(1, len(files)):] {
		if f.PackageName() != files[0].PackageName() {
			diags = append(diags, src.diagnostic(f.Pos(), f.Filename, "package",
				fmt.Sprintf("%s, but %s %s", clause(f), files[0].Filename, strings.TrimPrefix(clause(files[0]), "it ")),
				"files that are read together begin with the same package clause"))
		}
	}
	return files, diags
}

func clause(f *ast.File) string {
	if n := f.PackageName(); n != "" {
		return "it is of package " + n
	}
	return "it has no package clause"
}

// outside reports what would read anything but the file itself.
func outside(f *ast.File, at func(p token.Pos, rule, message, hint string)) {
	for imp := range f.ImportSpecs() {
		path, err := literal.Unquote(imp.Path.Value)
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(path, "/")
		first, _, _ = strings.Cut(first, ":")
		switch {
		case first == "tool":
			at(imp.Path.Pos(), "import", fmt.Sprintf("package %q runs commands and has no place in a forge", path), "")
		case !standardLibrary[first]:
			at(imp.Path.Pos(), "import", fmt.Sprintf("package %q is not part of CUE's standard library", path),
				"a forge is read without network and modules: put the text into a second file beside this one")
		}
	}
	ast.Walk(f, func(n ast.Node) bool {
		a, ok := n.(*ast.Attribute)
		if ok {
			switch a.Name() {
			case "embed", "extern", "if", "tag", "inject":
				at(a.Pos(), "import", fmt.Sprintf("@%s has no effect in a forge", a.Name()), "write the value itself")
			}
		}
		return true
	}, nil)
}

// standardLibrary holds the first elements of the import paths that are
// compiled into CUE.
var standardLibrary = map[string]bool{
	"crypto": true, "encoding": true, "html": true, "list": true, "math": true, "net": true,
	"path": true, "regexp": true, "strconv": true, "strings": true, "struct": true,
	"text": true, "time": true, "uuid": true,
}

// tooDeep returns where the nesting exceeds maxNesting. It counts tokens, not
// syntax, and so needs no recursion: the tokens since the last comma of each
// open bracket are more than the levels they can make.
func tooDeep(f File) (where token.Pos) {
	defer func() {
		// The scanner does not expect every order of calls; the parser
		// will say what is wrong.
		if recover() != nil {
			where = token.NoPos
		}
	}()
	type bracket struct {
		tokens        int
		interpolation bool
	}
	var s scanner.Scanner
	s.Init(token.NewFile(f.Name, -1, len(f.Data)), f.Data, func(token.Pos, string, []any) {}, 0)
	open := []bracket{{}}
	depth := 0
	interpolation := false
	for {
		pos, tok, _ := s.Scan()
		top := &open[len(open)-1]
		switch tok {
		case token.EOF:
			return token.NoPos
		case token.COMMA:
			depth -= top.tokens
			top.tokens = 0
			continue
		case token.INTERPOLATION:
			interpolation = true
		case token.LPAREN, token.LBRACK, token.LBRACE:
			open = append(open, bracket{interpolation: interpolation && tok == token.LPAREN})
			top = &open[len(open)-1]
			interpolation = false
		case token.RPAREN, token.RBRACK, token.RBRACE:
			if len(open) == 1 {
				return token.NoPos // a syntax error
			}
			depth -= top.tokens
			resume := top.interpolation
			open = open[:len(open)-1]
			top = &open[len(open)-1]
			if resume {
				interpolation = strings.HasSuffix(s.ResumeInterpolation(), "(")
			}
		}
		top.tokens++
		if depth++; depth > maxNesting {
			return pos
		}
	}
}

// diagnostic makes a Diagnostic with the excerpt of its place.
func (s Source) diagnostic(p token.Pos, file, rule, message, hint string) Diagnostic {
	d := Diagnostic{Severity: SeverityError, File: file, Rule: rule, Message: message, Hint: hint}
	if p.IsValid() && p.File() != nil {
		pos := p.Position()
		d.File, d.Line, d.Col = pos.Filename, pos.Line, pos.Column
		d.line = s.line(d.File, d.Line)
	}
	return d
}

// line is a line of a file without its end, from 1.
func (s Source) line(file string, n int) string {
	for _, f := range s.Files {
		if f.Name != file {
			continue
		}
		text := string(f.Data)
		for ; n > 1; n-- {
			_, rest, ok := strings.Cut(text, "\n")
			if !ok {
				return ""
			}
			text = rest
		}
		text, _, _ = strings.Cut(text, "\n")
		const most = 200
		if len(text) > most {
			return "" // nothing a person wants to see
		}
		return strings.TrimSuffix(text, "\r")
	}
	return ""
}
