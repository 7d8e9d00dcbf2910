package schema

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
)

// both judges a source part by part and as a whole.
func both(t *testing.T, src Source) (parts bool, diff string) {
	t.Helper()
	type outcome struct {
		Forge       *forge.Forge
		Diagnostics Diagnostics
	}
	judge := func(complete bool) (o outcome, whole bool) {
		text, diags := newProgram(src)
		if len(diags) > 0 {
			return outcome{Diagnostics: src.sorted(diags)}, true
		}
		l := &loader{src: src, text: text, files: text.files, complete: complete}
		o.Forge = l.load()
		o.Diagnostics = src.sorted(l.diags)
		return o, l.whole.Exists()
	}
	a, whole := judge(false)
	b, _ := judge(true)
	return !whole, cmp.Diff(b, a, cmp.AllowUnexported(Diagnostic{}))
}

// A forge means the same part by part and as a whole.
func TestParts(t *testing.T) {
	short := 0
	check := func(name string, src Source) {
		t.Run(name, func(t *testing.T) {
			parts, diff := both(t, src)
			if diff != "" {
				t.Errorf("(-whole +parts):\n%s", diff)
			}
			if parts {
				short++
			}
		})
	}
	for _, pattern := range []string{"../examples/*.cue", "../examples/invalid/*.cue"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatal(len(names), err)
		}
		for _, name := range names {
			src, err := Read(name)
			if err != nil {
				t.Fatal(err)
			}
			check(filepath.Base(name), src)
		}
	}
	for _, r := range Rules() {
		for kind, text := range map[string]string{"wrong": r.Wrong, "right": r.Right} {
			if text != "" {
				check(r.Name+"/"+kind, Example(text))
			}
		}
	}
	if short < 80 {
		t.Errorf("only %d forges were judged part by part", short)
	}
}

// What may depend on another part is judged as a whole, and with the same
// outcome; the rest is not.
func TestIndependent(t *testing.T) {
	const head = "package forge\nimport \"strings\"\n_up: strings.ToUpper(\"x\")\nforge: \"v1\"\napp: {name: \"shop\", image: {repository: \"shop\", tag: \"1\"}}\n"
	for _, test := range []struct {
		text  string
		parts bool
	}{
		{`environments: dev: platform: kind: "minikube"`, true},
		{`environments: {dev: platform: kind: "minikube"}`, true},
		{`_base: platform: kind: "minikube"
			environments: dev: _base`, true},
		{`_base: {platform: kind: _kind, _kind: "minikube"}
			environments: dev: _base & {policy: mode: "observe"}`, true},
		{`#base: {platform: {kind: "minikube", ...}, ...}
			environments: dev: #base`, true},
		{`let kind = "minikube"
			environments: dev: platform: "kind": kind`, true},
		{`for n in ["a", "b"] {environments: "\(n)": platform: {kind: "kubernetes", context: n}}`, true},
		{`environments: {for n in ["a", "b"] {"\(n)": {platform: {"kind": "kubernetes", context: n}}}}`, true},
		{`environments: [string]: policy: mode: "observe"
			environments: dev: platform: kind: "minikube"`, true},
		{`environments: {_base: platform: kind: "minikube", dev: _base}`, true},
		{`environments: dev: {platform: {kind: "minikube"}, if platform.kind == "minikube" {policy: mode: "observe"}}`, true},
		{`environments: dev: {platform: {kind: "minikube"}, policy: {}, if policy.mode == "apply" {policy: interval: "1m"}}`, true},
		{`notifications: ops: {kind: "slack", url: env: "HOOK"}
			environments: dev: platform: kind: "minikube"`, true},

		{`environments: dev: platform: kind: "minikube"
			environments: prod: environments.dev & {policy: {}}`, false},
		{`environments: {dev: {platform: kind: "minikube"}, prod: {dev, platform: namespace: "other"}}`, false},
		{`environments: dev: {platform: kind: "minikube", app: env: NAME: app.name}`, false},
		{`environments: dev: {platform: kind: "minikube"}
			_all: {for n, e in environments if e.expose != _|_ {"\(n)": e.expose.kind}}
			environments: prod: {platform: kind: "minikube", platform: namespace: "x", if _all.dev != _|_ {policy: mode: "observe"}}`, false},
		{`X=environments: dev: platform: kind: "minikube"
			environments: prod: {platform: {kind: "minikube", namespace: "x"}, policy: mode: X.dev.policy.mode}`, false},
		{`environments: D=dev: platform: kind: "minikube"
			environments: prod: {platform: {kind: "minikube", namespace: "x"}}`, false},
		{`_e: {dev: {platform: kind: "minikube"}, prod: {dev, platform: namespace: "x"}}
			environments: _e`, false},
		{`_e: environments: dev: platform: kind: "minikube"
			_e`, false},
		{`environments: dev: platform: kind: "minikube"
			environments: prod?: platform: kind: "fly"`, false},
	} {
		src := Source{Files: []File{{Name: "forge.cue", Data: []byte(head + test.text)}}}
		parts, diff := both(t, src)
		if diff != "" {
			t.Errorf("%s (-whole +parts):\n%s", test.text, diff)
		}
		if parts != test.parts {
			_, diags := newProgram(src)
			b, _ := json.Marshal(diags)
			t.Errorf("%s: part by part: %t, want %t %s", test.text, parts, test.parts, b)
		}
	}
}
