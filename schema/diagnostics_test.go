package schema_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

const mistakes = minimal + `environments: local: {
	expose:	kind: "ingres" // with a tab before the value
	app: secrets: TOKEN: "hunter2"
}
`

func TestWrite(t *testing.T) {
	diags := diagnose(t, text(mistakes))
	for _, test := range []struct {
		name    string
		options schema.WriteOptions
	}{
		{"plain", schema.WriteOptions{}},
		{"excerpt", schema.WriteOptions{Excerpt: true}},
		{"color", schema.WriteOptions{Excerpt: true, Color: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := diags.Write(&out, test.options); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out.String(), "hunter2") {
				t.Error("a secret is shown")
			}
			golden(t, "testdata/write-"+test.name+".txt", out.Bytes())
		})
	}
}

func TestJSON(t *testing.T) {
	out, err := json.MarshalIndent(diagnose(t, text(mistakes)), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/diagnostics.json", append(out, '\n'))
}

func TestError(t *testing.T) {
	diags := diagnose(t, text(mistakes))
	want := `forge.cue:9:16: error: environments.local.expose.kind: "ingres" is not one of "none", "ingress", "gateway" [F107]`
	if got := diags[:1].Error(); got != want {
		t.Error(got)
	}
	if got := diags.Error(); got != want+" (and 1 more)" {
		t.Error(got)
	}
	warning := schema.Diagnostic{Severity: schema.SeverityWarning, File: "f", Line: 3, Message: "m"}
	if got := warning.String(); got != "f:3: warning: m" {
		t.Error(got)
	}
	mixed := append(schema.Diagnostics{warning}, diags[1])
	if got := mixed.Error(); got != diags[1].String() || mixed.Errors() != 1 || mixed.Warnings() != 1 {
		t.Error(got)
	}
}

// A terminal shows what is there and obeys none of it; the mark is below what
// it marks, however wide that is.
func TestExcerpt(t *testing.T) {
	for name, test := range map[string]struct{ line, want string }{
		"tab":        {"_x: {\"a\":\t\"b\"},\tapp: port: \"x\"", "  | _x: {\"a\":\t\"b\"},\tapp: port: \"x\"\n  |          \t     \t           ^~~\n"},
		"wide":       {"_x: \"日本\", app: port: \"端末\"", "  | _x: \"日本\", app: port: \"端末\"\n  |                        ^~~~~~\n"},
		"combining":  {"_x: \"e\u0301\", app: port: \"e\u0301\"", "  | _x: \"e\u0301\", app: port: \"e\u0301\"\n  |                     ^~~\n"},
		"escape":     {"_x: \"\u202e\", app: port: \"\x1b[31m\"", "  | _x: \"\ufffd\", app: port: \"\ufffd[31m\"\n  |                     ^~~~~~~\n"},
		"number":     {"app: port: 70000 // much", "  | app: port: 70000 // much\n  |            ^~~~~\n"},
		"list":       {"app: port: [1]", "  | app: port: [1]\n  |            ^\n"},
		"expression": {`_x: 1, app: port: "\(_x)"`, `  | _x: 1, app: port: "\(_x)"` + "\n  |                   ^\n"},
		"secret":     {`app: {secrets: A: generate: {}, port: "x"}`, ""},
		"long":       {`app: port: "` + strings.Repeat("x", 200) + `"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			diags := diagnose(t, text(minimal+test.line+"\n"))
			if len(diags) != 1 {
				t.Fatalf("%d diagnostics: %v", len(diags), diags)
			}
			var out bytes.Buffer
			if err := diags.Write(&out, schema.WriteOptions{Excerpt: true}); err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(out.String(), "\n")
			rest, _, _ = strings.Cut(rest, "  hint:")
			if rest != test.want {
				t.Errorf("%q\nwant\n%q", rest, test.want)
			}
			if strings.ContainsAny(out.String(), "\x1b\u202e") {
				t.Errorf("%q", out.String())
			}
		})
	}
}

// What is found after loading has its place too, as far as the text alone
// shows it.
func TestFind(t *testing.T) {
	src := text(minimal + "_shared: db: password: env: \"A\"\nenvironments: local: services: _shared\n")
	known := schema.Diagnostics{{Severity: schema.SeverityWarning, File: "forge.cue", Line: 5, Col: 2, Name: "x", Message: "known"}}
	got := src.Find(known,
		forge.Finding{Path: []string{"app", "image", "tag"}, Rule: "compile", Message: "a"},
		forge.Finding{Path: []string{"environments", "local", "services", "redis", "password"}, Rule: "secret-missing", Message: "b"},
		forge.Finding{Path: []string{"environments", "none"}, Rule: "unsupported", Message: "c"},
		forge.Finding{Rule: "no-such-rule", Message: "d"},
	)
	var all []string
	for _, d := range got {
		all = append(all, d.String())
	}
	want := []string{
		"forge.cue: error: d",
		"forge.cue:5:2: warning: known",
		"forge.cue:5:39: error: app.image.tag: a [F318]",
		"forge.cue:7:1: warning: environments.none: c [F601]",
		"forge.cue:9:22: error: environments.local.services.redis.password: b [F203]",
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	if got := src.Find(known); !cmp.Equal(got, known, cmp.AllowUnexported(schema.Diagnostic{})) {
		t.Error(got)
	}
}

// Editors count in UTF-16 code units.
func TestSpan(t *testing.T) {
	diags := diagnose(t, text(minimal+"_x: \"😀é\", app: port: \"😀\"\n"))
	if len(diags) != 1 {
		t.Fatal(diags)
	}
	if start, end := diags[0].Span(); start != 23 || end != 27 {
		t.Errorf("%d to %d; in bytes %d to %d", start, end, diags[0].Col, diags[0].EndCol)
	}
	if start, end := (schema.Diagnostic{Col: 3, EndCol: 5}).Span(); start != 3 || end != 5 {
		t.Errorf("%d to %d", start, end)
	}
}

// A secret that is written by mistake is shown nowhere, however it is wrong.
func TestNoSecretInDiagnostics(t *testing.T) {
	const canary = "c4n4ry"
	for _, more := range []string{
		`app: secrets: TOKEN: "` + canary + `"`,
		`app: secrets: TOKEN: ["` + canary + `"]`,
		`app: secrets: TOKEN: value: "` + canary + `"`,
		`app: secrets: TOKEN: generate: "` + canary + `"`,
		`app: secrets: TOKEN: generate: alphabet: "` + canary + `"`,
		`app: secrets: TOKEN: env: "` + canary + `"`,
		`app: secrets: TOKEN: {env: "A"} & {env: "` + canary + `"}`,
		`app: secrets: TOKEN: env: "` + canary + `" & 3`,
		`app: secrets: TOKEN: env: "` + canary + `" + 3`,
		`app: secret: TOKEN: "` + canary + `"`,
		`app: secrets: "` + canary + `"`,
		`_secrets: TOKEN: "` + canary + `", app: secrets: _secrets`,
		`environments: local: services: redis: password: "` + canary + `"`,
		`environments: local: services: redis: password: "` + canary + `" & "other"`,
		`environments: local: services: redis: passwrd: "` + canary + `"`,
		`app: env: API_TOKEN: ["` + canary + `"]`,
		`password: "` + canary + `"`,
		// CUE cannot read it, or knows no value yet.
		`app: secrets: TOKEN: 3 "` + canary + `"`,
		"app: secrets: {\n\tSESSION: " + canary + " x\n}",
		"app: secrets: {\n\tSESSION " + canary + "\n}",
		"app: secrets: {\n\tSESSION: \"" + canary + "\n}",
		"app: secrets: {\n\tSESSION: \"\"\"\n\t\t" + canary + " \\q\n\t\t\"\"\"\n}",
		"app: secrets: {\n\tSESSION: " + canary + "\n}",
		"app: secrets: { // }\n\tA: \"}\", SESSION: " + canary + "\n}",
		"_x: \"\"\"\n\t" + canary + " \\q\n\t\"\"\"\n",
	} {
		diags := diagnose(t, text(minimal+more))
		if len(diags) == 0 {
			t.Errorf("%s: it is valid", more)
		}
		var out bytes.Buffer
		if err := diags.Write(&out, schema.WriteOptions{Excerpt: true}); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(diags)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String()+string(b), canary) {
			t.Errorf("%s:\n%s", more, out.String())
		}
	}
}

// One mistake is one diagnostic, whatever depends on it.
func TestOneDiagnosticPerMistake(t *testing.T) {
	for _, more := range []string{
		`environments: local: platform: kind: "x"`,
		`environments: other: platform: kind: "kubernets", environments: other: expose: {kind: "ingress", tls: mode: "none"}, environments: other: domains: ["a.b"]`,
		`environments: local: expose: {kind: "ingres", className: "x", tls: {mode: "secret", name: "x"}}`,
		`environments: local: services: postgres: {mode: "in_cluster", version: "16", storage: "1Gi"}`,
		`environments: local: services: redis: {persistence: "no", storage: "1Gi"}`,
		`environments: local: {scaling: {min: 0, max: 3, cpuTarget: 70}}`,
		`environments: local: {scaling: {min: "2", max: 3, cpuTarget: 70}}`,
		`environments: local: 3`,
		`environments: local: {}, environments: local: platform: {context: 3}`,
		`app: resources: memory: "lots"`,
		`app: secrets: A: {sops: {file: "a", key: "b"}, file: "c"}`,
		`environments: other: platform: {kind: "fly", org: "acme"}, environments: other: regions: iad: {machines: "1", primary: true}`,
	} {
		if diags := diagnose(t, text(strings.Replace(minimal, `local: platform: kind: "minikube"`, `local: platform: kind: string | *"minikube"`, 1)+more)); len(diags) != 1 {
			t.Errorf("%s: %d diagnostics", more, len(diags))
			for _, d := range diags {
				t.Log(d)
			}
		}
	}
}
