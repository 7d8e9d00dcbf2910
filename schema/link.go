package schema

import (
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// instance is the program as CUE builds it.
func (p *program) instance() (*build.Instance, error) {
	var ctx *build.Context
	load := func(_ token.Pos, path string) *build.Instance {
		files, ok := p.packages[path]
		if ast.ParseImportPath(path).Path == schemaPath {
			files, ok = schemaPackage(), true
		}
		if !ok {
			return nil // of the standard library
		}
		return instance(ctx, path, files)
	}
	ctx = build.NewContext(build.Loader(load))
	inst := instance(ctx, "", p.files)
	return inst, inst.Err
}

func instance(ctx *build.Context, path string, files []*ast.File) *build.Instance {
	inst := ctx.NewInstance("", nil)
	inst.ImportPath = path
	inst.CanonicalImportPath = func(path string) string {
		if strings.Contains(path, ".") {
			return packagePath(path)
		}
		return path
	}
	for _, f := range files {
		_ = inst.AddSyntax(f) // kept in inst.Err
	}
	_ = inst.Complete() // likewise
	return inst
}

// schemaPackage is the syntax of the embedded schema as a package.
func schemaPackage() []*ast.File {
	var files []*ast.File
	for _, text := range []string{definition, scalars} {
		f, err := parser.ParseFile("schema.cue", "package v1\n"+text)
		if err != nil {
			panic(err) // it is embedded and tested
		}
		files = append(files, f)
	}
	return files
}

// dropSchema takes away what tells other tools what a forge is: v1.#Forge, and
// names of environments for editors. Here it would only say everything a second time.
func dropSchema(f *ast.File) {
	var schema *ast.ImportSpec
	name := ""
	for spec := range f.ImportSpecs() {
		if path, err := literal.Unquote(spec.Path.Value); err == nil && ast.ParseImportPath(path).Path == schemaPath {
			schema, name = spec, ast.ParseImportPath(path).Qualifier
			if spec.Name != nil {
				name = spec.Name.Name
			}
		}
	}
	if schema == nil {
		return
	}
	n := len(f.Decls)
	f.Decls = slices.DeleteFunc(f.Decls, func(d ast.Decl) bool {
		switch d := d.(type) {
		case *ast.EmbedDecl:
			return isDefinition(d.Expr, name, "#Forge")
		case *ast.Field: // environments: {dev?: v1.#Environment}
			label, _, err := ast.LabelName(d.Label)
			s, ok := d.Value.(*ast.StructLit)
			return err == nil && label == "environments" && ok && !slices.ContainsFunc(s.Elts, func(e ast.Decl) bool {
				named, ok := e.(*ast.Field)
				return !ok || named.Constraint != token.OPTION || !isDefinition(named.Value, name, "#Environment")
			})
		}
		return false
	})
	used := n == len(f.Decls) // an import that is not used is a mistake
	ast.Walk(f, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		used = used || ok && id != schema.Name && id.Name == name
		_, isPackage := n.(*ast.Package)
		return !isPackage
	}, nil)
	if used {
		return
	}
	for d := range f.ImportDecls() {
		d.Specs = slices.DeleteFunc(d.Specs, func(s *ast.ImportSpec) bool { return s == schema })
	}
	f.Decls = slices.DeleteFunc(f.Decls, func(d ast.Decl) bool {
		imp, ok := d.(*ast.ImportDecl)
		return ok && len(imp.Specs) == 0
	})
}

// isDefinition tells whether an expression is a definition of the schema.
func isDefinition(e ast.Expr, schema, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	of, ok := sel.X.(*ast.Ident)
	def, isIdent := sel.Sel.(*ast.Ident)
	return ok && isIdent && of.Name == schema && def.Name == name
}
