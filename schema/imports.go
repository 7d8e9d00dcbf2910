package schema

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	slashpath "path"
	"slices"
	"strings"
	"syscall"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// follow reads the packages that files import, and those that these import.
func (t *tree) follow(files []File) ([]Package, error) {
	var packages []Package
	seen := map[string]bool{}
	for queue := imports(files); len(queue) > 0; queue = queue[1:] {
		p := packagePath(queue[0])
		if seen[p] {
			continue
		}
		if seen[p] = true; len(seen) > maxFiles {
			return nil, t.failure(t.start, refuse("", "it imports more than %d packages", maxFiles))
		}
		pkg := Package{Path: p}
		files, err := t.importPackage(ast.ParseImportPath(p))
		var f *failed
		switch r, ok := errors.AsType[*refusal](err); {
		case err == nil:
			pkg.Files = files
			queue = append(queue, imports(files)...)
		case ok && errors.As(err, &f):
			pkg.Problem, pkg.Hint = fmt.Sprintf("%s cannot be read: %s", t.name(f.at), r.message), r.hint
		case ok:
			pkg.Problem, pkg.Hint = r.message, r.hint
		default:
			return nil, t.failure(t.start, err)
		}
		packages = append(packages, pkg)
	}
	slices.SortFunc(packages, func(a, b Package) int { return cmp.Compare(a.Path, b.Path) })
	return packages, nil
}

// importPackage reads an imported package, from the module itself or from what
// is vendored in its cue.mod.
func (t *tree) importPackage(p ast.ImportPath) ([]File, error) {
	if !t.inModule {
		if t.stop != "" {
			return nil, refuse("a module begins where only those may write who may write to the forge", "there is no module: the directory cue.mod above is left alone, because %s", t.stop)
		}
		return nil, refuse("nothing is fetched: a package is a directory of the module around the file, which forged init makes", "there is no module: neither here nor above is a directory cue.mod")
	}
	if first, _, _ := strings.Cut(p.Path, "/"); first == "." || first == ".." {
		return nil, refuse("write the whole path, beginning with that of the module", "its path is relative")
	}
	for elem := range strings.SplitSeq(p.Path, "/") {
		if elem == "" || strings.HasPrefix(elem, ".") || elem == "cue.mod" || strings.ContainsAny(elem, "\\:\x00") {
			return nil, refuse("", "it is not an import path")
		}
	}
	if !ast.IsValidIdent(p.Qualifier) || p.Qualifier == "_" {
		return nil, refuse(fmt.Sprintf(`write the name of the package behind the path: "%s:name"`, p.Path), "its name cannot be told from its path")
	}
	if err := t.readModule(); err != nil {
		return nil, err
	}
	rest, ok := strings.CutPrefix(p.Path+"/", t.modulePath+"/")
	if ok && t.modulePath != "" {
		if p.Version != "" && p.Version != t.moduleMajor {
			return nil, refuse("", "this module is %s@%s", t.modulePath, t.moduleMajor)
		}
		return t.ofModule(slashpath.Clean(rest), p.Qualifier)
	}
	var files []File
	found := false
	for _, in := range []string{"gen", "pkg", "usr"} {
		base := slashpath.Join("cue.mod", in)
		dir := slashpath.Join(base, p.Path)
		if there, err := t.isDir(dir); err != nil {
			return nil, err
		} else if !there {
			continue
		}
		more, err := t.collect(dir, base, p.Qualifier)
		if err != nil {
			return nil, err
		}
		found = true
		files = append(files, more...)
	}
	if len(files) > 0 {
		return files, nil
	}
	vendored := t.name(slashpath.Join("cue.mod", "pkg", p.Path))
	hint := "nothing is fetched while a forge is read: copy the package to " + vendored
	switch {
	case found:
		return nil, refuse("", "there is no file of package %s in %s", p.Qualifier, vendored)
	case t.moduleFault != nil:
		return nil, t.moduleFault
	}
	return nil, refuse(hint, "it is neither in this module, %s, nor vendored", t.modulePath)
}

// ofModule reads a package of the module itself.
func (t *tree) ofModule(dir, pkg string) ([]File, error) {
	there, err := t.isDir(dir)
	if err != nil {
		return nil, err
	}
	for at := dir; at != "."; at = slashpath.Dir(at) {
		own := slashpath.Join(at, "cue.mod")
		if _, err := t.root.Stat(own); err == nil {
			return nil, refuse("", "%s is a module of its own", t.name(at))
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return nil, &failed{own, t.outside(err)}
		}
	}
	if !there {
		return nil, refuse("", "there is no directory %s", t.name(dir))
	}
	files, err := t.collect(dir, ".", pkg)
	if err != nil || len(files) > 0 {
		return files, err
	}
	for _, f := range t.listed[dir] {
		if f.pkg != "" {
			return nil, refuse(fmt.Sprintf(`write ":%s" behind the path`, f.pkg), "the files in %s are of package %s, not %s", t.name(dir), f.pkg, pkg)
		}
	}
	return nil, refuse("", "there is no file of package %s in %s", pkg, t.name(dir))
}

// isDir tells whether there is a directory, and takes note of where it is
// missing.
func (t *tree) isDir(dir string) (bool, error) {
	for at := dir; at != "."; at = slashpath.Dir(at) {
		info, err := t.root.Stat(at)
		if err == nil && info.IsDir() {
			t.looked[at] = true
			return at == dir, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return false, &failed{at, t.outside(err)}
		}
	}
	t.looked["."] = true
	return dir == ".", nil
}

// readModule finds out how the module is called.
func (t *tree) readModule() error {
	if t.moduleRead {
		return nil
	}
	t.moduleRead = true
	const at = "cue.mod/module.cue"
	t.looked["cue.mod"] = true
	data, err := t.read(at)
	if err == nil {
		err = t.count(len(data))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.moduleFault = refuse(`cue mod init writes it; its first line is module: "example.com/name"`, "there is no %s, which names the module", t.name(at))
	case err != nil:
		return &failed{at, err}
	default:
		f := File{t.name(at), data}
		if t.modulePath, t.moduleMajor = moduleName(f); t.modulePath == "" {
			t.moduleFault = refuse(`write module: "example.com/name"`, "%s does not name the module", f.Name)
		}
	}
	return nil
}

// moduleName reads the name of a module and its major version out of its file.
func moduleName(f File) (name, major string) {
	if found := look(f); found.strays || len(found.faults)+len(found.texts) > 0 {
		return "", ""
	}
	syntax, err := parser.ParseFile(f.Name, f.Data)
	if err != nil {
		return "", ""
	}
	for _, d := range syntax.Decls {
		field, ok := d.(*ast.Field)
		if !ok {
			continue
		}
		lit, ok := field.Value.(*ast.BasicLit)
		if label, _, err := ast.LabelName(field.Label); err != nil || label != "module" || !ok || lit.Kind != token.STRING {
			continue
		}
		if s, err := literal.Unquote(lit.Value); err == nil {
			p := ast.ParseImportPath(s)
			if name := strings.Trim(p.Path, "/"); name != "" {
				return name, cmp.Or(p.Version, "v0")
			}
		}
	}
	return "", ""
}

// imports are the import paths in files that are not part of this program.
func imports(files []File) []string {
	var paths []string
	for _, f := range files {
		// A file of which this makes no sense is Load's to refuse.
		syntax := parsedHead(f, parser.ImportsOnly)
		if syntax == nil {
			continue
		}
		for spec := range syntax.ImportSpecs() {
			if p, err := literal.Unquote(spec.Path.Value); err == nil && !builtIn(p) {
				paths = append(paths, p)
			}
		}
	}
	return paths
}

// builtIn tells whether a package is part of this program: of CUE's standard
// library, or the schema.
func builtIn(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".") || ast.ParseImportPath(importPath).Path == schemaPath
}

// packagePath is the one way of writing an import path.
func packagePath(importPath string) string {
	return ast.ParseImportPath(importPath).Canonical().String()
}
