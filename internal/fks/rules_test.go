package fks_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/fks"
)

var update = flag.Bool("update", false, "write what the tests find into their golden files")

// objects reads YAML as the API server would.
func objects(t testing.TB, text string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for dec := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
		o := &unstructured.Unstructured{}
		switch err := dec.Decode(&o.Object); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		case len(o.Object) > 0:
			all = append(all, o)
		}
	}
}

func written(t testing.TB, all []*unstructured.Unstructured) string {
	t.Helper()
	var texts []string
	for _, o := range all {
		out, err := yaml.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(out))
	}
	return strings.Join(texts, "---\n")
}

// told is the findings, each in a line, with what changes below it.
func told(findings []fks.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s %s %s: %s\n", f.Rule, f.Action, f.Object, f.Path)
		for _, side := range []struct{ sign, text string }{{"-", f.From}, {"+", f.To}} {
			for line := range strings.Lines(side.text) {
				fmt.Fprintf(&b, "    %s %s\n", side.sign, strings.TrimSuffix(line, "\n"))
			}
		}
	}
	return b.String()
}

func has(findings []fks.Finding, id string) bool {
	return slices.ContainsFunc(findings, func(f fks.Finding) bool { return f.Rule == id })
}

// Every rule has objects that break it and objects that keep it, and what comes
// out of those that break it changes no further. What is found and what comes
// out stand in the same file.
func TestEachRule(t *testing.T) {
	for _, r := range fks.Rules() {
		t.Run(r.ID, func(t *testing.T) {
			name := filepath.Join("testdata", "rules", r.ID+".txtar")
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatalf("the rule has no cases: %v", err)
			}
			parts := map[string]string{}
			for _, f := range archive.Files {
				parts[f.Name] = string(f.Data)
			}
			if parts["breaks.yaml"] == "" || parts["keeps.yaml"] == "" {
				t.Fatalf("%s lacks breaks.yaml or keeps.yaml", name)
			}
			given := objects(t, parts["breaks.yaml"])
			out, findings := fks.Fit(given, fks.Options{})
			if !has(findings, r.ID) {
				t.Errorf("what breaks it goes unnoticed:\n%s", told(findings))
			}
			for _, f := range findings {
				if f.Rule == r.ID && (f.Action != r.Action || f.Message != r.Message || f.Hint != r.Hint || f.Doc != r.Doc) {
					t.Errorf("%+v is not what the rule says", f)
				}
			}
			if _, findings := fks.Fit(objects(t, parts["keeps.yaml"]), fks.Options{}); has(findings, r.ID) {
				t.Errorf("what keeps it is found:\n%s", told(findings))
			}
			unchanged(t, out, fks.Options{})
			want := map[string]string{"findings": told(findings), "after.yaml": written(t, out)}
			if *update {
				archive.Files = archive.Files[:0]
				for _, part := range []string{"breaks.yaml", "findings", "after.yaml", "keeps.yaml"} {
					text, made := want[part]
					if !made {
						text = parts[part]
					}
					archive.Files = append(archive.Files, txtar.File{Name: part, Data: []byte(text)})
				}
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for part, text := range want {
				if diff := cmp.Diff(parts[part], text); diff != "" {
					t.Errorf("%s (-file +made):\n%s", part, diff)
				}
			}
		})
	}
}

// unchanged fails when objects that were fitted are changed by fitting them
// again.
func unchanged(t testing.TB, fitted []*unstructured.Unstructured, o fks.Options) {
	t.Helper()
	again, findings := fks.Fit(fitted, o)
	for _, f := range findings {
		if f.Action == fks.Drop || f.Action == fks.Rewrite {
			t.Errorf("fitting again finds %s in %s: %s", f.Rule, f.Object, f.Path)
		}
	}
	if diff := cmp.Diff(written(t, fitted), written(t, again)); diff != "" {
		t.Errorf("fitting again changes (-once +twice):\n%s", diff)
	}
}

// What breaks a rule that is allowed to be broken stays as it is, as far as that
// rule goes, and is warned about; a note stays a note.
func TestAllowed(t *testing.T) {
	for _, r := range fks.Rules() {
		t.Run(r.ID, func(t *testing.T) {
			archive, err := txtar.ParseFile(filepath.Join("testdata", "rules", r.ID+".txtar"))
			if err != nil {
				t.Fatal(err)
			}
			given := objects(t, string(archive.Files[0].Data))
			_, before := fks.Fit(given, fks.Options{})
			out, after := fks.Fit(given, fks.Options{Allow: []string{r.ID}})
			if !has(after, r.ID) {
				t.Fatal("what is allowed goes unnoticed")
			}
			paths := map[string]bool{}
			for _, f := range after {
				if f.Rule != r.ID {
					continue
				}
				paths[f.Object+f.Path] = true
				if want := fks.Warn; f.Action != want && r.Action != fks.Note {
					t.Errorf("it is a matter of %s, not of %s", f.Action, want)
				}
				if f.From != "" || f.To != "" {
					t.Errorf("what stays is shown as changed: %+v", f)
				}
			}
			for _, f := range before {
				if f.Rule == r.ID && !paths[f.Object+f.Path] && r.Name != "autoscaled-replicas" {
					t.Errorf("%s: %s is not found any more", f.Object, f.Path)
				}
			}
			for _, o := range out {
				if slices.Contains(strings.Split(o.GetAnnotations()[fks.Annotation], ","), r.ID) {
					t.Errorf("%s is said to be changed by it", o.GetName())
				}
			}
			unchanged(t, out, fks.Options{Allow: []string{r.ID}})
		})
	}
}

// The table says of itself what it has to: ids in order, names for people, one
// sentence, what to do, where it is said.
func TestTable(t *testing.T) {
	id := regexp.MustCompile(`^FKS[1-5]\d\d$`)
	names, last := map[string]bool{}, ""
	for _, r := range fks.Rules() {
		if !id.MatchString(r.ID) || r.ID <= last {
			t.Errorf("%s comes after %s", r.ID, last)
		}
		last = r.ID
		if names[r.Name] || r.Name == "" {
			t.Errorf("%s: the name %q is not its own", r.ID, r.Name)
		}
		names[r.Name] = true
		if !strings.HasSuffix(r.Message, ".") || strings.Contains(r.Message, ". ") {
			t.Errorf("%s: not one sentence: %s", r.ID, r.Message)
		}
		if strings.HasSuffix(r.Hint, ".") || r.Hint == "" && (r.Action == fks.Error || r.Action == fks.Warn) {
			t.Errorf("%s: %q is no hint", r.ID, r.Hint)
		}
		if r.Doc != fks.Undocumented && !strings.HasPrefix(r.Doc, "https://fly.io/") {
			t.Errorf("%s: %q is no public document", r.ID, r.Doc)
		}
		if len(r.Kinds) == 0 {
			t.Errorf("%s is about every kind", r.ID)
		}
		if found, ok := fks.RuleNamed(r.Name); !ok || found.ID != r.ID {
			t.Errorf("%s is not found by its name", r.ID)
		}
	}
	files, err := filepath.Glob("testdata/rules/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if _, ok := fks.RuleNamed(strings.TrimSuffix(filepath.Base(name), ".txtar")); !ok {
			t.Errorf("%s is of no rule: an id that was given once stays", name)
		}
	}
}

// ids are those that have been published, and what each is about. Rows are
// added, and never taken away or given another meaning.
func TestAppendOnly(t *testing.T) {
	var b bytes.Buffer
	for _, r := range fks.Rules() {
		fmt.Fprintf(&b, "%s %s %s %s\n", r.ID, r.Name, strings.Join(r.Kinds, ","), r.Path)
	}
	const name = "testdata/ids.txt"
	was, err := os.ReadFile(name)
	if err != nil && !*update {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for line := range strings.Lines(string(was)) {
		if !strings.Contains(b.String(), line) {
			t.Errorf("this row is gone or means something else: %s", line)
		}
	}
	if len(was) != b.Len() {
		t.Errorf("%s does not know all rows: go test ./internal/fks -run AppendOnly -update", name)
	}
}

func TestReference(t *testing.T) {
	const name = "../../docs/reference/fks-rules.md"
	if *update {
		if err := os.WriteFile(name, []byte(fks.Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), fks.Reference()); diff != "" {
		t.Errorf("%s is not what the table says: go test ./internal/fks -run Reference -update (-file +made):\n%s", name, diff)
	}
}
