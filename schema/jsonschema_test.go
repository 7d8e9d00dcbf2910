package schema_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cuelang.org/go/cue/cuecontext"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"forged.dev/forged/schema"
)

// compiled is the language as a JSON Schema that is valid itself.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema.JSONSchema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("forge.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("forge.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON evaluates a file by itself, without the language.
func asJSON(name string, text []byte) (any, error) {
	v := cuecontext.New().CompileBytes(text)
	data, err := v.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(data))
}

func TestJSONSchemaAcceptsValid(t *testing.T) {
	s := compiled(t)
	check := func(t *testing.T, name string, src schema.Source) {
		t.Run(name, func(t *testing.T) {
			c, _, err := schema.Fill(t.Context(), src)
			if err != nil {
				t.Fatal(err)
			}
			text, err := c.CUE()
			if err != nil {
				t.Fatal(err)
			}
			doc, err := asJSON(name, text)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Validate(doc); err != nil {
				t.Errorf("with defaults: %v", err)
			}
			if doc, err := asJSON(name, src.Files[0].Data); err == nil {
				if err := s.Validate(doc); err != nil {
					t.Errorf("as written: %v", err)
				}
			}
		})
	}
	for _, name := range validExamples(t) {
		src, err := schema.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		check(t, filepath.Base(name), src)
	}
	for _, name := range slices.Sorted(maps.Keys(onePerPlatform)) {
		check(t, name, whole(onePerPlatform[name]))
	}
}

// A JSON Schema sees one place at a time. What it cannot see is listed; all
// else that is invalid it refuses.
func TestJSONSchemaRefusesInvalid(t *testing.T) {
	s := compiled(t)
	names, err := filepath.Glob("../examples/invalid/*.cue")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d examples, %v", len(names), err)
	}
	var accepted []string
	refused := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := asJSON(name, text)
		if err != nil {
			continue // it is no JSON
		}
		if s.Validate(doc) == nil {
			accepted = append(accepted, filepath.Base(name))
		} else {
			refused++
		}
	}
	if refused == 0 {
		t.Error("nothing is refused")
	}
	golden(t, "testdata/beyond-jsonschema.txt", []byte(strings.Join(accepted, "\n")+"\n"))
}

// Every mistake at one place is found, and only by the right branch.
func TestJSONSchemaMistakes(t *testing.T) {
	s := compiled(t)
	for name, tt := range map[string]struct{ env, where string }{
		"unknown key":          {`{platform: kind: "minikube", replicas: 1}`, "/environments/dev"},
		"key of another kind":  {`{platform: kind: "compose", domains: ["a.example.com"]}`, "/environments/dev"},
		"value of another":     {`{platform: kind: "compose", expose: kind: "ingress"}`, "/environments/dev/expose/kind"},
		"mode of another":      {`{platform: kind: "minikube", services: postgres: mode: "fly-managed"}`, "/environments/dev/services/postgres/mode"},
		"missing with kind":    {`{platform: kind: "kubernetes"}`, "/environments/dev/platform"},
		"missing below kind":   {`{platform: {kind: "kubernetes", context: "c"}, expose: kind: "ingress"}`, "/environments/dev/expose"},
		"missing kind":         {`{platform: {}}`, "/environments/dev/platform"},
		"missing platform":     {`{}`, "/environments/dev"},
		"pattern":              {`{platform: kind: "minikube", policy: interval: "soon"}`, "/environments/dev/policy/interval"},
		"distribution decides": {`{platform: {kind: "kubernetes", distribution: "gke", context: "c"}, expose: {kind: "ingress", tls: {mode: "acm", arn: "x"}}}`, "/environments/dev/expose/tls/mode"},
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := asJSON(name, whole("environments: dev: " + tt.env).Files[0].Data)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Validate(doc)
			if err == nil {
				t.Fatal("it is accepted")
			}
			if !strings.Contains(err.Error(), "'"+tt.where+"'") {
				t.Errorf("the mistake is not at %s: %v", tt.where, err)
			}
		})
	}
}
