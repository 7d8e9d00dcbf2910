package schema_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cuelang.org/go/cue/format"
	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/schema"
)

var update = flag.Bool("update", false, "write golden files")

// golden compares got with a file, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v (run with -update to write it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; run with -update to accept):\n%s", name, diff)
	}
}

// source reads a file and names it without its directory.
func source(t *testing.T, name string) schema.Source {
	t.Helper()
	src, err := schema.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	src.Files[0].Name = filepath.Base(name)
	return src
}

func diagnose(t *testing.T, src schema.Source) schema.Diagnostics {
	t.Helper()
	_, _, err := schema.Load(context.Background(), src)
	diags, ok := errors.AsType[schema.Diagnostics](err)
	if err != nil && !ok {
		t.Fatal(err)
	}
	return diags
}

// checks are what other packages look at in a forge.
func checks() []schema.Check { return []schema.Check{compile.Check, compile.Gaps} }

// Each file of examples/invalid has beside it what forged says of it.
func TestInvalidExamples(t *testing.T) {
	names, err := filepath.Glob("../examples/invalid/*.cue")
	if err != nil || len(names) < 60 {
		t.Fatalf("%d examples, %v", len(names), err)
	}
	rules := map[string]bool{}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			_, diags, err := schema.Load(t.Context(), source(t, name), checks()...)
			if err != nil && !errors.As(err, &diags) {
				t.Fatal(err)
			}
			if len(diags) == 0 {
				t.Fatal("nothing is said of it")
			}
			var out bytes.Buffer
			if err := diags.Write(&out, schema.WriteOptions{Excerpt: true}); err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(name, ".cue")+".txt", out.Bytes())
			for _, d := range diags {
				rules[d.Name] = true
				if d.Rule == "" {
					t.Errorf("the rule %q is not in the catalogue", d.Name)
				}
			}
			if strings.Contains(out.String(), "not-a-real-secret") {
				t.Error("a secret is shown")
			}
		})
	}
	for _, r := range schema.Rules() {
		if !rules[r.Name] && !slices.Contains(withoutExample, r.Name) {
			t.Errorf("no example breaks %s %s", r.ID, r.Name)
		}
	}
}

// withoutExample are rules that one file alone cannot break.
var withoutExample = []string{"size", "package", "secret-missing", "chart-source", "chart-impure", "chart-render", "chart-replicas", "fks-refused", "compile"}

// The examples are what people copy.
func TestExamplesAreFormatted(t *testing.T) {
	names, err := filepath.Glob("../examples/*/*.cue")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, "../examples/forge.cue", "forge.cue", "scalars.cue") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := format.Source(text)
		if err != nil {
			if filepath.Base(name) == "syntax.cue" {
				continue
			}
			t.Error(err)
		}
		if *update {
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(string(want), string(text)); diff != "" {
			t.Errorf("%s is not formatted (-want +got):\n%s", name, diff)
		}
	}
}
