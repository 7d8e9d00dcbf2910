package schema

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// maxDiagnostics is how many mistakes are told that need no evaluation. More of
// them have one cause, and nobody reads them all.
const maxDiagnostics = 1000

// program is the syntax of a forge and of what it imports.
type program struct {
	src      Source
	files    []*ast.File            // its own, without those that an @if leaves out
	packages map[string][]*ast.File // what it imports, by path
	tags     []*tag                 // fields whose value may come from outside
	foreign  map[string]string      // tags of imported packages, with these
	links    int
	diags    Diagnostics
}

// parse is the syntax of the forge itself.
func parse(src Source) ([]*ast.File, Diagnostics) {
	p, diags := newProgram(src)
	return p.files, diags
}

// newProgram turns text into syntax, sets the tags and refuses what reaches
// outside of the text.
func newProgram(src Source) (*program, Diagnostics) {
	p := &program{src: src, packages: map[string][]*ast.File{}, foreign: map[string]string{}}
	text := 0
	all := src.all()
	for _, f := range all {
		text += len(f.Data)
	}
	switch {
	case len(src.Files) == 0:
		p.add(token.NoPos, src.Name(), "syntax", "there is no file to read", "")
	case len(all) > maxFiles:
		p.add(token.NoPos, src.Name(), "size", fmt.Sprintf("it has more than %d files", maxFiles), "")
	case text > maxText:
		p.add(token.NoPos, src.Name(), "size", fmt.Sprintf("its files are larger than %d MiB", maxText>>20), "")
	}
	if len(p.diags) > 0 {
		return p, p.diags
	}
	switches := p.switches()
	for _, f := range p.parse(src.Files, switches) {
		dropSchema(f)
		p.outside(f, "")
		p.files = append(p.files, f)
	}
	if len(p.files) == 0 && len(p.diags) == 0 {
		p.add(token.NoPos, src.Name(), "tag", "@if and @ignore leave nothing of it",
			"give the tag with -t")
	}
	for _, f := range p.files[min(1, len(p.files)):] {
		if f.PackageName() != p.files[0].PackageName() {
			p.add(f.Pos(), f.Filename, "package",
				fmt.Sprintf("%s, but %s %s", clause(f), p.files[0].Filename, strings.TrimPrefix(clause(p.files[0]), "it ")),
				"files that are read together begin with the same package clause")
		}
	}
	if len(p.diags) == 0 && empty(p.files) {
		p.add(token.NoPos, src.Name(), "missing-key", "the file is empty", "forged init writes one to begin with")
	}
	p.follow(p.files, nil, switches)
	p.setTags(switches)
	return p, p.diags
}

// empty tells whether files have no fields, or anything else that means
// something.
func empty(files []*ast.File) bool {
	return !slices.ContainsFunc(files, func(f *ast.File) bool {
		return slices.ContainsFunc(f.Decls, func(d ast.Decl) bool {
			switch d.(type) {
			case *ast.Package, *ast.ImportDecl, *ast.CommentGroup, *ast.Attribute:
				return false
			}
			return true
		})
	})
}

func (p *program) add(pos token.Pos, file, rule, message, hint string) {
	if len(p.diags) == maxDiagnostics {
		return
	}
	p.diags = append(p.diags, p.src.diagnostic(pos, file, rule, message, hint))
}

// parse turns files into syntax, without those that are left out.
func (p *program) parse(from []File, switches *switches) []*ast.File {
	var files []*ast.File
	for _, f := range from {
		if len(f.Data) > MaxFileSize {
			p.add(token.NoPos, f.Name, "size", "the file is larger than 1 MiB", "")
			continue
		}
		found := look(f)
		if len(found.faults) > 0 {
			p.faulty(f, found.faults)
			continue
		}
		if p.links += found.links; p.links > maxLinks {
			p.add(token.NoPos, f.Name, "size", fmt.Sprintf("there are more than %d fields and calls in all files together, with two operators counted as one of them", maxLinks/2), "")
			return files
		}
		syntax, err := parser.ParseFile(f.Name, f.Data)
		if err != nil {
			p.syntaxError(f, err)
			continue
		}
		if at, ok := bareAddress(syntax, f.Data); ok {
			p.add(at, f.Name, "syntax", notQuoted, addressHint)
			continue
		}
		if p.included(syntax, switches) {
			files = append(files, syntax)
		}
	}
	return files
}

// faulty reports why a file is not parsed.
func (p *program) faulty(f File, faults []fault) {
	first := slices.MinFunc(faults, func(a, b fault) int { return a.pos.Offset() - b.pos.Offset() })
	t := newWrongText(f, first.pos.Offset())
	t.unread = true
	p.explainSyntax(t, first.message)
}

func clause(f *ast.File) string {
	if n := f.PackageName(); n != "" {
		return "it is of package " + n
	}
	return "it has no package clause"
}

// follow takes in what files import. above are the packages on the way to
// them, of which none may come again.
func (p *program) follow(files []*ast.File, above []string, switches *switches) {
	for _, f := range files {
		for spec := range f.ImportSpecs() {
			path, err := literal.Unquote(spec.Path.Value)
			if err != nil || builtIn(path) {
				continue
			}
			path = packagePath(path)
			if i := slices.Index(above, path); i >= 0 {
				p.add(spec.Path.Pos(), f.Filename, "import", fmt.Sprintf("package %q imports itself", path), circle(above[i:]))
				continue
			}
			if _, ok := p.packages[path]; ok {
				continue
			}
			i := slices.IndexFunc(p.src.Packages, func(pkg Package) bool { return pkg.Path == path })
			if i < 0 {
				p.add(spec.Path.Pos(), f.Filename, "import", fmt.Sprintf("package %q is not here", path),
					"only packages of the module around the file can be imported, and those of CUE's standard library")
				p.packages[path] = nil
				continue
			}
			pkg := p.src.Packages[i]
			if pkg.Problem != "" {
				p.add(spec.Path.Pos(), f.Filename, "import", fmt.Sprintf("package %q: %s", path, pkg.Problem), pkg.Hint)
				p.packages[path] = nil
				continue
			}
			imported := p.parse(pkg.Files, switches)
			for _, f := range imported {
				p.outside(f, path)
			}
			p.follow(imported, append(slices.Clip(above), path), switches)
			p.packages[path] = imported
		}
	}
}

// circle says how a package imports itself by way of others.
func circle(by []string) string {
	if len(by) < 2 {
		return ""
	}
	return "by way of " + strings.Join(by[1:], ", ")
}

// outside reports what would read anything but text that is there. imported is
// the package of the file, empty for the forge itself.
func (p *program) outside(f *ast.File, imported string) {
	at := func(pos token.Pos, rule, message, hint string) { p.add(pos, f.Filename, rule, message, hint) }
	for spec := range f.ImportSpecs() {
		path, err := literal.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(path, "/")
		first, _, _ = strings.Cut(first, ":")
		switch {
		case first == "tool":
			at(spec.Path.Pos(), "import", fmt.Sprintf("package %q runs commands and has no place in a forge", path), "")
		case !strings.Contains(first, ".") && !standardLibrary[first]:
			at(spec.Path.Pos(), "import", fmt.Sprintf("package %q is not part of CUE's standard library", path),
				"the path of any other package begins with that of its module, and has a dot in its first part")
		}
	}
	header := map[*ast.Attribute]bool{}
	for _, a := range buildAttributes(f) {
		header[a] = true
	}
	ast.Walk(f, func(n ast.Node) bool {
		a, ok := n.(*ast.Attribute)
		if !ok {
			return true
		}
		switch a.Name() {
		case "embed", "extern", "inject":
			at(a.Pos(), "import", fmt.Sprintf("@%s has no effect in a forge", a.Name()), "write the value itself")
		case "if":
			if imported == "" && !header[a] {
				at(a.Pos(), "tag", "@if has no effect here", "it stands before the package clause and is about the whole file")
			}
		case "tag":
			if imported != "" {
				_, body := a.Split()
				p.foreign[arguments(body)[0]] = imported
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
