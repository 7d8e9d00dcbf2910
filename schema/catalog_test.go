package schema_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cuelang.org/go/cue/format"

	"forged.dev/forged/schema"
)

func TestCatalog(t *testing.T) {
	id, name := regexp.MustCompile(`^F[0-9]{3}$`), regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	sentence := regexp.MustCompile(`[.!?]( |$)`)
	ids, names := map[string]bool{}, map[string]bool{}
	last := ""
	for g, group := range schema.Catalog() {
		for _, r := range group.Rules {
			if !id.MatchString(r.ID) || ids[r.ID] || r.ID <= last || r.ID[1] != byte('0'+g) {
				t.Errorf("%s: the id is malformed, used twice, or not in order", r.ID)
			}
			if !name.MatchString(r.Name) || names[r.Name] {
				t.Errorf("%s: the name %q is malformed or used twice", r.ID, r.Name)
			}
			ids[r.ID], names[r.Name], last = true, true, r.ID
			if r.Severity != schema.SeverityError && r.Severity != schema.SeverityWarning {
				t.Errorf("%s: severity %q", r.ID, r.Severity)
			}
			if n := len(sentence.FindAllString(r.Title, -1)); n != 1 || !strings.HasSuffix(r.Title, ".") {
				t.Errorf("%s: the title is not one sentence: %s", r.ID, r.Title)
			}
			if n := len(sentence.FindAllString(r.Why, -1)); n < 1 || n > 4 || !strings.HasSuffix(r.Why, ".") {
				t.Errorf("%s: %d sentences explain it: %s", r.ID, n, r.Why)
			}
			if (r.Wrong == "") != (r.Right == "") {
				t.Errorf("%s: half an example", r.ID)
			}
			for _, snippet := range []string{r.Wrong, r.Right} {
				if snippet == "" || r.Name == "syntax" && snippet == r.Wrong || strings.HasPrefix(snippet, "-- ") {
					continue
				}
				if want, err := format.Source([]byte(snippet)); err != nil || string(want) != snippet {
					t.Errorf("%s: the example is not formatted (%v):\n%s\nwant:\n%s", r.ID, err, snippet, want)
				}
			}
			for _, key := range []string{r.ID, strings.ToLower(r.ID), r.Name} {
				if got, ok := schema.RuleNamed(key); !ok || got != r {
					t.Errorf("%s is not found by %s", r.ID, key)
				}
			}
		}
	}
	if _, ok := schema.RuleNamed(""); ok {
		t.Error("there is a rule without a name")
	}
}

// Whoever has written an id down somewhere must be able to rely on it. The
// file only grows: it keeps the ids of rules that are no longer there.
func TestIDsAreStable(t *testing.T) {
	const file = "testdata/rules.txt"
	text, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	given, names := map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(text)) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		given[id], names[name] = name, id
	}
	for _, r := range schema.Rules() {
		switch {
		case given[r.ID] == "" && names[r.Name] == "":
			given[r.ID] = r.Name
			if !*update {
				t.Errorf("%s %s is not in %s; run with -update to give it its id for ever", r.ID, r.Name, file)
			}
		case given[r.ID] != r.Name:
			t.Errorf("%s was given to %q, and %q has %q; neither ever changes", r.ID, given[r.ID], r.Name, names[r.Name])
		}
	}
	if t.Failed() || !*update {
		return
	}
	var out strings.Builder
	for _, id := range slices.Sorted(func(yield func(string) bool) {
		for id := range given {
			if !yield(id) {
				return
			}
		}
	}) {
		fmt.Fprintf(&out, "%s %s\n", id, given[id])
	}
	if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Each example shows the mistake it stands for, and what is right is right.
func TestRuleExamples(t *testing.T) {
	for _, r := range schema.Rules() {
		if r.Wrong == "" {
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			said, err := r.Show(t.Context(), checks()...)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(said, func(d schema.Diagnostic) bool { return d.Rule == r.ID }) {
				t.Errorf("the example does not break the rule:\n%s", shown(t, said))
			}
			for _, d := range said {
				if d.Rule != r.ID && !notYet(d) {
					t.Errorf("the example breaks another rule: %s", d)
				}
			}
			_, warnings, err := schema.Load(t.Context(), schema.Example(r.Right), checks()...)
			warnings = slices.DeleteFunc(warnings, func(d schema.Diagnostic) bool { return notYet(d) && r.Name != d.Name })
			if err != nil || len(warnings) > 0 {
				t.Errorf("what is right: %v\n%s", err, shown(t, warnings))
			}
		})
	}
}

// notYet tells whether a warning is about what forged learns later.
func notYet(d schema.Diagnostic) bool { return d.Name == "unsupported" || d.Name == "partial" }

func shown(t *testing.T, d schema.Diagnostics) string {
	t.Helper()
	var b bytes.Buffer
	if err := d.Write(&b, schema.WriteOptions{Excerpt: true}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestReferenceRules keeps docs/reference/rules current.
func TestReferenceRules(t *testing.T) {
	const dir = "../docs/reference/rules"
	if *update {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	pages := map[string]bool{"README.md": true}
	golden(t, filepath.Join(dir, "README.md"), []byte(schema.RulesPage()))
	for _, r := range schema.Rules() {
		said, err := r.Show(t.Context(), checks()...)
		if err != nil {
			t.Fatal(err)
		}
		said = slices.DeleteFunc(said, func(d schema.Diagnostic) bool { return d.Rule != r.ID })
		pages[r.ID+".md"] = true
		golden(t, filepath.Join(dir, r.ID+".md"), []byte(r.Page(said)))
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range there {
		if !pages[page.Name()] {
			t.Errorf("%s is about no rule", page.Name())
		}
	}
}

// Every rule that code reports is in the catalogue, and every rule of the
// catalogue is reported somewhere.
func TestRulesOfTheCode(t *testing.T) {
	known, used := map[string]bool{}, map[string]bool{}
	for _, r := range schema.Rules() {
		known[r.Name] = true
	}
	// The argument that names the rule, by function.
	argument := map[string]int{"add": 2, "rule": 1, "ruleAt": 1, "diagnostic": 2}
	literal := func(e ast.Expr) string {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			s, _ := strconv.Unquote(lit.Value)
			return s
		}
		return ""
	}
	check := func(path string, e ast.Expr) {
		if s := literal(e); s != "" && !known[s] {
			t.Errorf("%s: the rule %q is not in the catalogue", path, s)
		}
	}
	for _, root := range []string{".", "../internal", "../cmd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "catalog") || path == "diagnostics.go" {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BasicLit:
					used[literal(n)] = true
				case *ast.CallExpr:
					if sel, ok := n.Fun.(*ast.SelectorExpr); ok && root == "." {
						if i, ok := argument[sel.Sel.Name]; ok && i < len(n.Args) {
							check(path, n.Args[i])
						}
					}
				case *ast.ValueSpec:
					for i, name := range n.Names {
						if strings.HasPrefix(name.Name, "rule") && i < len(n.Values) {
							check(path, n.Values[i])
						}
					}
				case *ast.CompositeLit:
					if sel, ok := n.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Finding" {
						for _, e := range n.Elts {
							if kv, ok := e.(*ast.KeyValueExpr); ok {
								if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Rule" {
									check(path, kv.Value)
								}
							}
						}
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range schema.Rules() {
		if !used[r.Name] {
			t.Errorf("nothing reports %s %s", r.ID, r.Name)
		}
	}
}
