package schema_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

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
	want := `forge.cue:9:16: environments.local.expose.kind: "ingres" is not one of "none", "ingress", "loadbalancer"`
	if got := diags[:1].Error(); got != want {
		t.Error(got)
	}
	if got := diags.Error(); got != want+" (and 1 more)" {
		t.Error(got)
	}
	if got := (schema.Diagnostic{File: "f", Line: 3, Message: "m"}).String(); got != "f:3: m" {
		t.Error(got)
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
		`app: secrets: A: {sops: "a", path: "b"}`,
		`environments: other: platform: {kind: "fly", org: "acme"}, environments: other: regions: iad: {}`,
	} {
		if diags := diagnose(t, text(strings.Replace(minimal, `local: platform: kind: "minikube"`, `local: platform: kind: string | *"minikube"`, 1)+more)); len(diags) != 1 {
			t.Errorf("%s: %d diagnostics", more, len(diags))
			for _, d := range diags {
				t.Log(d)
			}
		}
	}
}
