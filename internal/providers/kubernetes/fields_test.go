package kubernetes

import (
	"encoding/json"
	"testing"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

func TestPatterns(t *testing.T) {
	path := fieldpath.MakePathOrDie
	app := fieldpath.KeyByFields("name", "app")
	http := fieldpath.KeyByFields("containerPort", 80, "protocol", "TCP")
	for _, tt := range []struct {
		pattern string
		path    fieldpath.Path
		above   bool
		inside  bool
	}{
		{"spec.replicas", path("spec", "replicas"), true, false},
		{"spec", path("spec", "replicas"), true, false},
		{"spec.replicas", path("spec"), false, true},
		{"spec.replicas", path("spec", "paused"), false, false},
		{"spec.containers[*].image", path("spec", "containers", app, "image"), true, false},
		{`spec.containers["app"].image`, path("spec", "containers", app, "image"), true, false},
		{`spec.containers["app"]`, path("spec", "containers", app, "image"), true, false},
		{`spec.containers["other"].image`, path("spec", "containers", app, "image"), false, false},
		{"spec.containers.app.image", path("spec", "containers", app, "image"), false, false},
		{`spec.containers[*].ports["80"].hostPort`, path("spec", "containers", app, "ports", http, "hostPort"), true, false},
		{`metadata.annotations["a.b/c"]`, path("metadata", "annotations", "a.b/c"), true, false},
		{"metadata.annotations[*]", path("metadata", "annotations", "a.b/c"), true, false},
		{`metadata.finalizers["a/b"]`, path("metadata", "finalizers", fieldpath.MakePathOrDie(0)[0]), false, false},
		{"spec.rules[0].host", path("spec", "rules"), false, true},
		{"spec.rules[0]", path("spec", "rules", 0), true, false},
	} {
		p, err := parsePattern(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		if p.String() != tt.pattern {
			t.Errorf("%s is written as %s", tt.pattern, p)
		}
		if p.above(tt.path) != tt.above || p.inside(tt.path) != tt.inside {
			t.Errorf("%s and %s: above %t, inside %t", tt.pattern, tt.path, p.above(tt.path), p.inside(tt.path))
		}
	}
	for _, wrong := range []string{"", "spec..replicas", "spec[", "spec[x]", `spec["x]`} {
		if p, err := parsePattern(wrong); err == nil {
			t.Errorf("%q is taken for %q", wrong, p)
		}
	}
}

// managedFields tells elements of lists apart by their keys, people by their
// names and places.
func TestPatternsAreResolved(t *testing.T) {
	obj := map[string]any{"spec": map[string]any{"containers": []any{
		map[string]any{"name": "init"},
		map[string]any{"name": "app", "ports": []any{map[string]any{"name": "http", "containerPort": int64(80)}}},
	}}}
	service := map[string]any{"apiVersion": "v1", "kind": "Service", "spec": map[string]any{"ports": []any{map[string]any{"name": "web", "port": int64(8080)}}}}
	gateway := map[string]any{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "spec": map[string]any{"listeners": []any{map[string]any{"name": "web", "port": int64(80)}}}}
	for _, tt := range []struct {
		obj        map[string]any
		from, want string
	}{
		{service, `spec.ports["web"].nodePort`, `spec.ports["8080"].nodePort`},
		{gateway, `spec.listeners["web"].tls`, `spec.listeners["web"].tls`},
		{gateway, "spec.listeners[0].tls", `spec.listeners["web"].tls`},
	} {
		p, err := parsePattern(tt.from)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.resolved(tt.obj).String(); got != tt.want {
			t.Errorf("%s became %s, want %s", tt.from, got, tt.want)
		}
	}
	for from, want := range map[string]string{
		"spec.containers[1].image":                      `spec.containers["app"].image`,
		"spec.containers[7].image":                      "spec.containers[7].image",
		`spec.containers["app"].ports["http"].hostPort`: `spec.containers["app"].ports["80"].hostPort`,
		"spec.containers[*].image":                      "spec.containers[*].image",
		"spec.replicas":                                 "spec.replicas",
	} {
		p, err := parsePattern(from)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.resolved(obj).String(); got != want {
			t.Errorf("%s became %s, want %s", from, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for pattern, want := range map[string]string{
		"a":           `{"l":[{"name":"x","v":1},{"name":"y","v":2}]}`,
		"l":           `{"a":{"b":1,"c":2}}`,
		"a.b":         `{"a":{"c":2},"l":[{"name":"x","v":1},{"name":"y","v":2}]}`,
		"a[*]":        `{"a":{},"l":[{"name":"x","v":1},{"name":"y","v":2}]}`,
		"l[*].v":      `{"a":{"b":1,"c":2},"l":[{"name":"x"},{"name":"y"}]}`,
		`l["y"]`:      `{"a":{"b":1,"c":2},"l":[{"name":"x","v":1}]}`,
		"l[0].v":      `{"a":{"b":1,"c":2},"l":[{"name":"x"},{"name":"y","v":2}]}`,
		"a.b.c":       `{"a":{"b":1,"c":2},"l":[{"name":"x","v":1},{"name":"y","v":2}]}`,
		`nothing."x"`: `{"a":{"b":1,"c":2},"l":[{"name":"x","v":1},{"name":"y","v":2}]}`,
	} {
		var v map[string]any
		if err := json.Unmarshal([]byte(`{"a":{"b":1,"c":2},"l":[{"name":"x","v":1},{"name":"y","v":2}]}`), &v); err != nil {
			t.Fatal(err)
		}
		p, err := parsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		p.cut(v)
		if got := string(mustJSON(t, v)); got != want {
			t.Errorf("without %s: %s, want %s", pattern, got, want)
		}
	}
}

// A path that the plan shows is one that policy.ignore takes, and means the same.
func TestShownPathsCanBeIgnored(t *testing.T) {
	key := func(pairs ...any) fieldpath.PathElement {
		var fields value.FieldList
		for i := 0; i < len(pairs); i += 2 {
			fields = append(fields, value.Field{Name: pairs[i].(string), Value: value.NewValueInterface(pairs[i+1])})
		}
		fields.Sort()
		return fieldpath.PathElement{Key: &fields}
	}
	set := value.NewValueInterface("x.example/finalizer")
	field := func(name string) fieldpath.PathElement { return fieldpath.PathElement{FieldName: &name} }
	for want, p := range map[string]fieldpath.Path{
		`spec.replicas`: {field("spec"), field("replicas")},
		`spec.template.spec.containers["app"].image`:    {field("spec"), field("template"), field("spec"), field("containers"), key("name", "app"), field("image")},
		`spec.containers["app"].ports["8080"].hostPort`: {field("spec"), field("containers"), key("name", "app"), field("ports"), key("containerPort", int64(8080), "protocol", "TCP"), field("hostPort")},
		`metadata.annotations["example.com/note"]`:      {field("metadata"), field("annotations"), field("example.com/note")},
		`metadata.finalizers["x.example/finalizer"]`:    {field("metadata"), field("finalizers"), {Value: &set}},
		`data["app.yaml"]`:                              {field("data"), field("app.yaml")},
		`spec.unknown["v"].x`:                           {field("spec"), field("unknown"), key("other", "v"), field("x")},
	} {
		text := pathText(p)
		if text != want {
			t.Errorf("shown as %s, want %s", text, want)
		}
		pattern, err := parsePattern(text)
		if err != nil || !pattern.above(p) {
			t.Errorf("%s does not mean what it was made of: %v", text, err)
		}
	}
}
