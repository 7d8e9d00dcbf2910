package compile_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cuelang.org/go/cue/format"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

var update = flag.Bool("update", false, "write what the tests find into their golden files")

// example is one of the files that people read.
type example struct {
	name  string
	forge *forge.Forge
}

func examples(t *testing.T) []example {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "examples", "*.cue"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	var all []example
	for _, file := range files {
		src, err := schema.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		src.Dir = "" // paths are as they are written
		f, _, err := schema.Load(t.Context(), src, compile.Check)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, example{strings.TrimSuffix(filepath.Base(file), ".cue"), f})
	}
	return all
}

// TestExamples: what each example asks for, on the platform it is for.
func TestExamples(t *testing.T) {
	for _, e := range examples(t) {
		t.Run(e.name, func(t *testing.T) {
			resources, err := compile.Forge(e.forge)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", e.name+".golden"), resources)
		})
	}
}

// TestExamplesAreFormatted: people copy them. The smallest is small.
func TestExamplesAreFormatted(t *testing.T) {
	for _, e := range examples(t) {
		file := filepath.Join("..", "..", "examples", e.name+".cue")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		formatted, err := format.Source(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(formatted), string(text)); diff != "" {
			t.Errorf("%s is not formatted:\n%s", file, diff)
		}
		if lines := strings.Count(string(text), "\n"); e.name == "minimal" && lines > 15 {
			t.Errorf("%s has %d lines", file, lines)
		}
	}
}

// TestEnvironmentGolden: what environments ask for that reach into corners.
func TestEnvironmentGolden(t *testing.T) {
	for _, name := range environmentNames(t) {
		t.Run(name, func(t *testing.T) {
			resources, err := compile.Environment(readEnvironment(t, name))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", "resources", name+".golden"), resources)
		})
	}
}

func golden(t *testing.T, file string, resources []forge.Resource) {
	t.Helper()
	got := readable(t, resources)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-update writes it):\n%s", file, diff)
	}
}

// readable is resources as a person reads them: YAML without what is not set.
// Values of charts are complete.
func readable(t *testing.T, resources []forge.Resource) []byte {
	t.Helper()
	var b strings.Builder
	for _, r := range resources {
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		if err := json.Unmarshal(data, &tree); err != nil {
			t.Fatal(err)
		}
		set, _ := withoutEmpty(tree)
		text, err := yaml.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	return []byte(b.String())
}

func withoutEmpty(value any) (any, bool) {
	switch value := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, inner := range value {
			if key == "Values" && inner != nil {
				out[key] = inner
			} else if inner, ok := withoutEmpty(inner); ok {
				out[key] = inner
			}
		}
		return out, len(out) > 0
	case []any:
		var out []any
		for _, inner := range value {
			inner, _ = withoutEmpty(inner)
			out = append(out, inner)
		}
		return out, len(out) > 0
	case string:
		return value, value != "" && value != "//" // the id of nothing
	case float64:
		return value, value != 0
	case bool:
		return value, value
	default:
		return nil, false
	}
}
