package flyemulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"
)

// specFiles names the OpenAPI documents of the Machines API and of Managed
// Postgres: files, or directories with files machines-openapi*. With them,
// every answer in the tests of this package is held against them.
const specFiles = "FORGED_FLY_SPEC"

// document is what is needed of an OpenAPI document.
type document struct {
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas   map[string]*schema   `json:"schemas"`
		Responses map[string]*response `json:"responses"`
	} `json:"components"`
}

type operation struct {
	Responses map[string]*response `json:"responses"`
}

type response struct {
	Ref     string `json:"$ref"`
	Content map[string]struct {
		Schema *schema `json:"schema"`
	} `json:"content"`
}

type schema struct {
	Ref        string             `json:"$ref"`
	Type       string             `json:"type"`
	Enum       []any              `json:"enum"`
	Properties map[string]*schema `json:"properties"`
	Additional *schema            `json:"additionalProperties"`
	Items      *schema            `json:"items"`
	AllOf      []*schema          `json:"allOf"`
}

// documents reads them once.
var documents = sync.OnceValues(func() ([]*document, error) {
	var files []string
	for _, name := range filepath.SplitList(os.Getenv(specFiles)) {
		if found, _ := filepath.Glob(filepath.Join(name, "machines-openapi*")); len(found) > 0 {
			files = append(files, found...)
		} else {
			files = append(files, name)
		}
	}
	var all []*document
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", specFiles, err)
		}
		d := new(document)
		if err := yaml.Unmarshal(raw, d); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", specFiles, name, err)
		}
		all = append(all, d)
	}
	return all, nil
})

// find is the operation of a request, and how the document writes its path.
func find(docs []*document, method, path string) (d *document, template string, op *operation) {
	parts, best := strings.Split(strings.TrimSuffix(path, "/"), "/"), -1
	for _, one := range docs {
		for t, operations := range one.Paths {
			words, fits := 0, strings.Count(t, "/") == len(parts)-1
			for i, p := range strings.Split(t, "/") {
				switch {
				case !fits || i >= len(parts):
				case strings.HasPrefix(p, "{"):
				case p == parts[i]:
					words++
				default:
					fits = false
				}
			}
			raw, ok := operations[strings.ToLower(method)]
			if !fits || !ok || words <= best {
				continue
			}
			o := new(operation)
			if json.Unmarshal(raw, o) == nil {
				d, template, op, best = one, t, o, words
			}
		}
	}
	return d, template, op
}

// deviations are answers in which the service differs from its document, by
// the call, or by the field.
var deviations = map[string]string{
	"POST /apps/{app_name}/volumes 201":                       "measured by users of the API",
	"POST /apps/{app_name}/volumes/{volume_id}/snapshots 201": "a mode",
	"GET /apps/{app_name}/machines/{machine_id}/lease":        "an envelope around the lease: flyctl's source",
	"POST /apps/{app_name}/machines/{machine_id}/lease":       "an envelope around the lease: flyctl's source",
	"GET /platform/regions":                                   "capitals: measured by users of the API",
	"POST /platform/placements":                               "capitals: flyctl's source",

	".app_role":            "newer than the document",
	".cname_target":        "newer than the document",
	".cordoned":            "newer than the document",
	".version":             "newer than the document",
	".network":             "of addresses: flyctl's source",
	".egress":              "of addresses: flyctl's source",
	".lease":               "newer than the document",
	".host_dedication_key": "in the examples of the documentation",
	".autostop":            "a boolean in answers: the newer document says so",
	".deleted_at":          "of a deleted cluster that is read: a mode",
}

// deviates says whether the difference is one of the deviations.
func deviates(name string) bool {
	for deviation := range deviations {
		if strings.HasPrefix(deviation, ".") && strings.HasSuffix(name, deviation) || strings.HasPrefix(name, deviation) {
			return true
		}
	}
	return false
}

// checked holds the answers against the documents.
type checked struct {
	t    testing.TB
	next http.RoundTripper
}

func (c checked) RoundTrip(r *http.Request) (*http.Response, error) {
	c.t.Helper()
	answer, err := c.next.RoundTrip(r)
	path, isMachines := strings.CutPrefix(r.URL.Path, "/v1")
	if err != nil || !isMachines {
		return answer, err
	}
	docs, err := documents()
	if err != nil {
		c.t.Fatal(err)
	}
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	answer.Body = io.NopCloser(bytes.NewReader(raw))
	d, template, op := find(docs, r.Method, path)
	if op == nil {
		return answer, nil
	}
	for _, wrong := range op.wrong(d, answer, raw) {
		name := r.Method + " " + template + " " + wrong[0]
		if !deviates(name) {
			c.t.Errorf("%s: not as the document says: %s, in %.300s", name, wrong[1], raw)
		}
	}
	return answer, nil
}

// wrong says where an answer differs, and how.
func (o *operation) wrong(d *document, answer *http.Response, raw []byte) [][2]string {
	status := strconv.Itoa(answer.StatusCode)
	r := o.Responses[status]
	if r != nil && r.Ref != "" {
		r = d.Components.Responses[r.Ref[strings.LastIndex(r.Ref, "/")+1:]]
	}
	if r == nil {
		if answer.StatusCode >= 400 {
			return nil // the document names few of them
		}
		return [][2]string{{status, "no such status"}}
	}
	s := r.Content["application/json"].Schema
	if s == nil {
		return nil
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return [][2]string{{status, err.Error()}}
	}
	return s.wrong(d, "", v)
}

func (s *schema) wrong(d *document, path string, v any) [][2]string {
	if s.Ref != "" {
		return d.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]].wrong(d, path, v)
	}
	if len(s.AllOf) > 0 {
		return s.AllOf[0].wrong(d, path, v)
	}
	differs := [][2]string{{path, fmt.Sprintf("%v is not of type %s", v, s.Type)}}
	var out [][2]string
	switch v := v.(type) {
	case nil:
		if s.Type == "array" {
			return differs
		}
	case map[string]any:
		if s.Type != "object" {
			return differs
		}
		for name, field := range v {
			switch p := s.Properties[name]; {
			case p != nil:
				out = append(out, p.wrong(d, path+"."+name, field)...)
			case s.Additional != nil:
				out = append(out, s.Additional.wrong(d, path+"."+name, field)...)
			case len(s.Properties) > 0:
				out = append(out, [2]string{path + "." + name, "no such field"})
			}
		}
	case []any:
		if s.Type != "array" {
			return differs
		}
		for _, one := range v {
			out = append(out, s.Items.wrong(d, path+"[]", one)...)
		}
	case string:
		if s.Type != "string" {
			return differs
		}
	case bool:
		if s.Type != "boolean" {
			return differs
		}
	case float64:
		if s.Type != "number" && (s.Type != "integer" || v != float64(int64(v))) {
			return differs
		}
	}
	if len(s.Enum) > 0 && v != nil && !slices.Contains(s.Enum, v) {
		return [][2]string{{path, fmt.Sprintf("%v is none of %v", v, s.Enum)}}
	}
	return out
}

// notEmulated are calls of the documents that the emulator does not have.
var notEmulated = []string{
	"/apps/{app_name}/secretkeys", "/tokens/kms", "/tokens/oidc", "/tokens/authenticate", "/tokens/authorize",
}

// TestDocumentedCalls: what the documents have is here, or is said to be
// missing; what is said to be missing is.
func TestDocumentedCalls(t *testing.T) {
	docs, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	e := New(Options{})
	defer e.Close()
	for _, d := range docs {
		for path, operations := range d.Paths {
			for method := range operations {
				if method == "parameters" {
					continue
				}
				r, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(method), "http://fly/v1"+strings.NewReplacer("{", "", "}", "").Replace(path), http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				found, _, _ := e.match(r)
				missing := slices.ContainsFunc(notEmulated, func(p string) bool { return strings.HasPrefix(path, p) })
				switch {
				case found == nil && !missing:
					t.Errorf("%s %s is not there", strings.ToUpper(method), path)
				case found != nil && missing:
					t.Errorf("%s %s is there, and said to be missing", strings.ToUpper(method), path)
				}
			}
		}
	}
}
