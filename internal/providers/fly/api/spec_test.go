package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"
	"sigs.k8s.io/yaml"
)

// specFiles names directories with Fly's documents: OpenAPI documents
// machines-openapi*, and the schema of GraphQL, schema.graphql. With them, every
// request of the tests of this package is held against them.
const specFiles = "FORGED_FLY_SPEC"

// beyond is what the documents do not know and Fly does, by the last word of
// the path. The sources stand where the client uses it.
var beyond = map[string][]string{
	"{app_name}":   {"force"},
	"apps":         {"wait", "app_name", "app_role_id", "network"},
	"machines":     {"include_leases"},
	"{machine_id}": {"include_leases", "kill"},
	"secrets":      {"version"},
}

type specs struct {
	paths   map[string]map[string]call // by path, then method
	schemas map[string]json.RawMessage
	graph   *ast.Schema
}

type call struct {
	Parameters []struct {
		Name string `json:"name"`
		In   string `json:"in"`
	} `json:"parameters"`
	Body struct {
		Content map[string]struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"content"`
	} `json:"requestBody"`
}

var readSpecs = sync.OnceValues(func() (*specs, error) {
	s := &specs{paths: map[string]map[string]call{}, schemas: map[string]json.RawMessage{}}
	for _, dir := range filepath.SplitList(os.Getenv(specFiles)) {
		files, _ := filepath.Glob(filepath.Join(dir, "machines-openapi*"))
		for _, name := range files {
			raw, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			var document struct {
				Paths      map[string]map[string]json.RawMessage `json:"paths"`
				Components struct {
					Schemas map[string]json.RawMessage `json:"schemas"`
				} `json:"components"`
			}
			if err := yaml.Unmarshal(raw, &document); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			for path, methods := range document.Paths {
				s.paths[path] = map[string]call{}
				for method, text := range methods {
					var one call
					_ = json.Unmarshal(text, &one) // "parameters" of the path is a list
					s.paths[path][strings.ToUpper(method)] = one
				}
			}
			for schema, text := range document.Components.Schemas {
				s.schemas[schema] = text
			}
		}
		if raw, err := os.ReadFile(filepath.Join(dir, "schema.graphql")); err == nil {
			if s.graph, err = gqlparser.LoadSchema(&ast.Source{Name: "schema.graphql", Input: string(raw)}); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
})

// against is a transport whose requests are held against the documents.
type against struct {
	t    *testing.T
	next http.RoundTripper
}

func (h against) RoundTrip(r *http.Request) (*http.Response, error) {
	s, err := readSpecs()
	if err != nil {
		h.t.Error(err)
		return h.next.RoundTrip(r)
	}
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	path, rest := strings.CutPrefix(r.URL.EscapedPath(), "/v1")
	switch {
	case rest && len(s.paths) > 0:
		s.hold(h.t, r, path, body)
	case path == "/graphql" && s.graph != nil:
		s.holdQuery(h.t, body)
	}
	return h.next.RoundTrip(r)
}

func (s *specs) hold(t *testing.T, r *http.Request, path string, body []byte) {
	template, one, ok := s.find(r.Method, path)
	if !ok {
		t.Errorf("the documents know no %s %s", r.Method, path)
		return
	}
	known := slices.Clone(beyond[template[strings.LastIndex(template, "/")+1:]])
	for _, parameter := range one.Parameters {
		known = append(known, parameter.Name)
	}
	for name := range r.URL.Query() {
		if !slices.Contains(known, name) && !strings.HasPrefix(name, "metadata.") {
			t.Errorf("the documents know no parameter %q of %s %s", name, r.Method, template)
		}
	}
	if len(body) == 0 {
		return
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		t.Error(err)
	}
	s.fits(t, r.Method+" "+template, value, one.Body.Content["application/json"].Schema, known)
}

// find is the call of a path: of several the one with more words of its own.
func (s *specs) find(method, path string) (string, call, bool) {
	parts := strings.Split(path, "/")
	best, most := "", -1
	for template, methods := range s.paths {
		words := 0
		of := strings.Split(template, "/")
		fits := len(of) == len(parts)
		for i := 0; fits && i < len(of); i++ {
			if strings.HasPrefix(of[i], "{") {
				continue
			}
			fits = of[i] == parts[i]
			words++
		}
		if _, ok := methods[method]; ok && fits && words > most {
			best, most = template, words
		}
	}
	return best, s.paths[best][method], most >= 0
}

// fits tells of fields that the documents do not know.
func (s *specs) fits(t *testing.T, at string, value any, schema json.RawMessage, also []string) {
	var of struct {
		Ref        string                     `json:"$ref"`
		Properties map[string]json.RawMessage `json:"properties"`
		Additional json.RawMessage            `json:"additionalProperties"`
		Items      json.RawMessage            `json:"items"`
		AllOf      []json.RawMessage          `json:"allOf"`
	}
	_ = json.Unmarshal(schema, &of)
	if len(of.AllOf) == 1 { // a reference with a description of its own
		s.fits(t, at, value, of.AllOf[0], also)
		return
	}
	if of.Ref != "" {
		s.fits(t, at, value, s.schemas[of.Ref[strings.LastIndex(of.Ref, "/")+1:]], also)
		return
	}
	switch v := value.(type) {
	case map[string]any:
		for key, field := range v {
			inner, ok := of.Properties[key]
			if !ok {
				inner = of.Additional
			}
			if inner == nil && !slices.Contains(also, key) {
				t.Errorf("the documents know no %s.%s", at, key)
			}
			s.fits(t, at+"."+key, field, inner, nil)
		}
	case []any:
		for _, entry := range v {
			s.fits(t, at+"[]", entry, of.Items, nil)
		}
	}
}

func (s *specs) holdQuery(t *testing.T, body []byte) {
	var request struct {
		Query     string
		Variables map[string]any
	}
	if err := json.Unmarshal(body, &request); err != nil {
		t.Error(err)
		return
	}
	document, errs := gqlparser.LoadQueryWithRules(s.graph, request.Query, rules.NewDefaultRules())
	if len(errs) > 0 {
		t.Errorf("%s\nin %s", errs, request.Query)
		return
	}
	if input, ok := request.Variables["input"].(map[string]any); ok {
		delete(input, "prodPack") // flyctl's copy of the schema has it
	}
	if _, err := validator.VariableValues(s.graph, document.Operations[0], request.Variables); err != nil {
		t.Errorf("%v\nin %s", err, body)
	}
}
