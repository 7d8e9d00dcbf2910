// Package forged_test guards the tree as a whole: which package may import
// which, what each file may do, and which modules are used at all.
package forged_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "forged.dev/forged/"

// arrows says what a package may import of this module, by path without the
// module; "..." covers what lies below. Tests may import more. The rooms are
// described in docs/architecture.md.
var arrows = map[string][]string{
	"internal/forge":                      {},
	"internal/secret":                     {"internal/forge", "internal/secret/sops"},
	"internal/secret/detect":              {},
	"internal/secret/sops":                {},
	"internal/secret/entries":             {"internal/forge", "internal/secret", "internal/reconcile"},
	"internal/secret/redact":              {"internal/secret", "internal/secret/detect"},
	"schema":                              {"internal/fks", "internal/forge", "internal/secret/detect"},
	"internal/report":                     {"schema"},
	"internal/fks":                        {},
	"internal/hostcert":                   {},
	"internal/scram":                      {"internal/secret"},
	"internal/apart":                      {},
	"internal/evaluate":                   {"internal/apart", "internal/forge", "schema"},
	"internal/localfiles":                 {"internal/fks", "internal/forge"},
	"charts":                              {},
	"internal/compile":                    {"internal/forge", "charts"},
	"internal/reconcile":                  {"internal/forge", "internal/secret"},
	"internal/rbac":                       {"internal/forge"},
	"internal/providers/kubernetes":       {"internal/forge", "internal/secret", "internal/secret/entries", "internal/secret/redact", "internal/reconcile"},
	"internal/providers/objects":          {"internal/forge", "internal/secret", "internal/reconcile", "internal/providers/kubernetes"},
	"internal/providers/jobs":             {"internal/forge", "internal/secret", "internal/reconcile", "internal/providers/kubernetes"},
	"internal/providers/sights":           {"internal/forge", "internal/reconcile", "internal/providers/kubernetes"},
	"internal/providers/endpoint":         {"internal/forge", "internal/reconcile", "internal/providers/kubernetes", "internal/providers/sights"},
	"internal/providers/certificates":     {"internal/forge", "internal/hostcert", "internal/secret", "internal/reconcile", "internal/providers/kubernetes", "internal/providers/objects", "internal/providers/sights"},
	"internal/providers/helm":             {"internal/forge", "internal/secret", "internal/reconcile", "internal/providers/kubernetes", "internal/providers/helm/chartsource", "internal/providers/helm/render", "internal/apart", "charts"},
	"internal/providers/helm/offline":     {"internal/reconcile", "internal/providers/helm/chartsource", "internal/providers/helm/render", "internal/apart", "charts"},
	"internal/providers/helm/render":      {"internal/apart", "charts"},
	"internal/providers/helm/chartsource": {"internal/forge", "internal/secret", "internal/reconcile", "charts"},
	"internal/providers/external":         {"internal/forge", "internal/secret", "internal/scram", "internal/reconcile", "internal/providers/kubernetes", "internal/providers/objects"},
	"internal/providers/flypostgres":      {"internal/forge", "internal/secret", "internal/scram", "internal/reconcile", "internal/providers/fly", "internal/providers/fly/api"},
	"internal/providers/upstash":          {"internal/forge", "internal/reconcile", "internal/providers/fly", "internal/providers/fly/api"},
	"internal/providers/fks":              {"internal/fks", "internal/forge", "internal/secret", "internal/reconcile", "internal/providers/fly", "internal/providers/fly/api", "internal/providers/kubernetes"},
	"internal/providers/minikube":         {"internal/forge", "internal/reconcile", "internal/providers/kubernetes"},
	"internal/providers/fly":              {"internal/forge", "internal/hostcert", "internal/secret", "internal/secret/entries", "internal/reconcile", "internal/providers/fly/api"},
	"internal/providers/fly/api":          {"internal/secret"},
	"internal/daemon":                     {},
	"internal/server":                     {"internal/daemon", "internal/forge", "internal/reconcile"},
	"cmd/forged":                          {"..."},

	// What stands around the product and is not part of it.
	"internal/sandboxtest":            {"internal/forge"},
	"internal/faultproxy":             {},
	"internal/flyemulator":            {"internal/flyemulator/graphql"},
	"internal/flyemulator/graphql":    {},
	"internal/servicetest":            {},
	"internal/secret/sopstest":        {},
	"internal/providers/fly/flytest":  {"internal/flyemulator", "internal/forge", "internal/secret", "internal/reconcile", "internal/providers/fly", "internal/providers/fly/api", "internal/reconcile/providertest"},
	"internal/reconcile/providertest": {"internal/faultproxy", "internal/forge", "internal/secret", "internal/reconcile"},
	"internal/reconcile/world":        {"internal/forge", "internal/secret", "internal/reconcile"},
	"bench":                           {"..."},
	"bench/validate":                  {},
	"hack/child":                      {"internal/reconcile"},
	"hack/demo":                       {"..."},
	"hack/soak":                       {"..."},
	"hack/soak/fks":                   {"..."},
	"hack/soak/fly":                   {"..."},
}

type listed struct {
	ImportPath, Name, Doc, Dir                   string
	Imports, TestImports, XTestImports           []string
	GoFiles, CgoFiles, TestGoFiles, XTestGoFiles []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Dir,Imports,TestImports,XTestImports,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		if len(p.GoFiles) == 0 {
			continue // tests only
		}
		may, known := arrows[path]
		if !known {
			t.Errorf("%s is not in the table: say what it may import", path)
			continue
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			if ours && !slices.Contains(may, "...") && !slices.Contains(may, to) {
				t.Errorf("%s imports %s", path, to)
			}
			if strings.HasPrefix(to, "cmd/") {
				t.Errorf("%s imports a command", path)
			}
		}
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo: the binary is to be static", path)
		}
	}
}

// TestHelmInOneRoom: the next major version of Helm is one room away: one
// package, and what lies below it.
func TestHelmInOneRoom(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		imports := p.Imports
		switch path {
		case "hack/demo", "hack/soak": // they play somebody who uses helm by hand
			continue
		case "charts": // its tests render with the real thing
		default:
			imports = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		}
		for _, imported := range imports {
			if strings.HasPrefix(imported, "helm.sh/helm/") && path != "internal/providers/helm" && !strings.HasPrefix(path, "internal/providers/helm/") {
				t.Errorf("%s imports %s", path, imported)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && len(strings.Fields(p.Doc)) < 5 {
			t.Errorf("%s: no package comment worth the name: %q", p.ImportPath, p.Doc)
		}
		switch p.Name {
		case "utils", "util", "common", "helpers", "helper", "misc", "shared":
			t.Errorf("%s is named for nothing", p.ImportPath)
		}
	}
}

// parsed calls f with every Go file of the module, tests included.
func parsed(t *testing.T, f func(path string, fset *token.FileSet, file *ast.File)) {
	t.Helper()
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		f(filepath.ToSlash(path), fset, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCalls: library code does not print, ends no process and keeps no random
// waiting in tests.
func TestCalls(t *testing.T) {
	library := func(path string) bool {
		return strings.HasPrefix(path, "internal/") || strings.HasPrefix(path, "schema/") || strings.HasPrefix(path, "charts/")
	}
	test := func(path string) bool { return strings.HasSuffix(path, "_test.go") }
	code := func(path string) bool { return library(path) && !test(path) }
	// In a bubble of testing/synctest a sleep is exact and takes no time.
	synctest := map[string]bool{}
	parsed(t, func(path string, _ *token.FileSet, file *ast.File) {
		for _, i := range file.Imports {
			if i.Path.Value == `"testing/synctest"` {
				synctest[filepath.Dir(path)] = true
			}
		}
	})
	sleeps := func(path string) bool { return test(path) && !synctest[filepath.ToSlash(filepath.Dir(path))] }
	forbidden := map[string]func(path string) bool{
		"fmt.Print": code, "fmt.Printf": code, "fmt.Println": code,
		"log.Fatal": code, "log.Fatalf": code, "log.Print": code, "log.Printf": code, "log.Println": code,
		"os.Exit":    code,
		"time.Sleep": sleeps,
		"t.Skip":     test, "t.Skipf": test, "t.SkipNow": test,
	}
	parsed(t, func(path string, fset *token.FileSet, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok {
				if where := forbidden[x.Name+"."+sel.Sel.Name]; where != nil && where(path) {
					t.Errorf("%s: %s.%s", fset.Position(call.Pos()), x.Name, sel.Sel.Name)
				}
			}
			return true
		})
		if !library(path) || test(path) {
			return
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: init has side effects nobody asked for", fset.Position(f.Pos()))
			}
		}
	})
}

// TestDependencies: every module that is required directly is justified in
// docs/decisions/dependencies.md, and nothing else is listed there. No module
// is replaced, so that `go install` of a version works.
func TestDependencies(t *testing.T) {
	required := requirements(t)
	text, err := os.ReadFile("docs/decisions/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	justified := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) >= 4 {
			if name := strings.Trim(cells[1], " `"); strings.Contains(name, ".") {
				justified[name] = strings.TrimSpace(cells[2]) != ""
			}
		}
	}
	imported := map[string]bool{}
	for _, p := range packages(t) {
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			best := ""
			for m := range required {
				if (path == m || strings.HasPrefix(path, m+"/")) && len(m) > len(best) {
					best = m
				}
			}
			if best != "" {
				imported[best] = true
			}
		}
	}
	for path, indirect := range required {
		switch {
		case imported[path] && indirect:
			t.Errorf("%s is imported and stands in go.mod as indirect", path)
		case !imported[path] && !indirect:
			t.Errorf("%s is required and nobody imports it", path)
		case !indirect && !justified[path]:
			t.Errorf("%s is not justified in docs/decisions/dependencies.md", path)
		}
		delete(justified, path)
	}
	for path := range justified {
		t.Errorf("%s is justified and not required", path)
	}
}

// requirements are the modules go.mod requires, with whether indirectly.
func requirements(t *testing.T) map[string]bool {
	t.Helper()
	out, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Replace []any
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if len(mod.Replace) > 0 {
		t.Error("go.mod replaces modules")
	}
	required := map[string]bool{}
	for _, r := range mod.Require {
		required[r.Path] = r.Indirect
	}
	return required
}

// TestLinks: every relative link in the documentation leads to something.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	checked := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			to := string(m[1])
			if strings.Contains(to, "://") {
				continue
			}
			checked++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), to)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", path, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked == 0 {
		t.Error("no links found")
	}
}

// TestPromisesHaveTests: a test that the documentation names as the keeper of a
// promise exists. P/Name is a subtest of the providers' conformance suite.
func TestPromisesHaveTests(t *testing.T) {
	var suite strings.Builder
	tests := map[string]bool{}
	parsed(t, func(path string, _ *token.FileSet, file *ast.File) {
		if strings.HasPrefix(path, "internal/reconcile/providertest/") {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			suite.Write(text)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasSuffix(path, "_test.go") {
				tests[f.Name.Name] = true
			}
		}
	})
	checked := 0
	named := regexp.MustCompile("`((?:Test|Fuzz|P/)[A-Za-z]+)`")
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	decisions, err := filepath.Glob("docs/decisions/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(pages, decisions...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(text, -1) {
			checked++
			name, sub := strings.CutPrefix(string(m[1]), "P/")
			if sub && !strings.Contains(suite.String(), `"`+name+`"`) || !sub && !tests[name] {
				t.Errorf("%s: there is no %s", path, m[1])
			}
		}
	}
	if checked == 0 {
		t.Error("no test is named")
	}
}
