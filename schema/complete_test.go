package schema_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/schema"
)

// validExamples are the forges that people copy, by file.
func validExamples(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("../examples/*.cue")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d examples, %v", len(names), err)
	}
	return names
}

// What Fill writes is the same forge again, and filling that changes nothing.
func TestFillRoundTrip(t *testing.T) {
	type text struct {
		name string
		src  schema.Source
	}
	var all []text
	for _, name := range validExamples(t) {
		src, err := schema.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text{filepath.Base(name), src})
	}
	for name, body := range onePerPlatform {
		all = append(all, text{name, whole(body)})
	}
	for _, x := range all {
		t.Run(x.name, func(t *testing.T) {
			c, _, err := schema.Fill(t.Context(), x.src)
			if err != nil {
				t.Fatal(err)
			}
			text, err := c.CUE()
			if err != nil {
				t.Fatal(err)
			}
			again := x.src
			again.Files, again.Packages = []schema.File{{Name: "again.cue", Data: text}}, nil
			c2, _, err := schema.Fill(t.Context(), again)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if d := cmp.Diff(c.Forge, c2.Forge); d != "" {
				t.Errorf("CUE (-before +after):\n%s", d)
			}
			data, err := json.MarshalIndent(c.Value(), "", " ")
			if err != nil {
				t.Fatal(err)
			}
			data2, err := json.MarshalIndent(c2.Value(), "", " ")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(data), string(data2)); d != "" {
				t.Errorf("filled twice (-before +after):\n%s", d)
			}
			again.Files = []schema.File{{Name: "again.cue", Data: data}}
			f, _, err := schema.Load(t.Context(), again)
			if err != nil {
				t.Fatalf("%v\n%s", err, data)
			}
			if d := cmp.Diff(c.Forge, f); d != "" {
				t.Errorf("JSON (-before +after):\n%s", d)
			}
		})
	}
}

func TestFillText(t *testing.T) {
	src := whole(`environments: {
	local: platform: kind: "minikube"
	prod: {
		platform: {kind: "kubernetes", context: "prod"}
		workers: mail: args: ["mail"]
		scaling: {min: 2, max: 4, cpuTarget: 80}
	}
}
notifications: {
	all: {kind: "slack", url: env: "SLACK"}
	some: {kind: "slack", url: env: "SLACK", environments: ["local", "prod"]}
	other: {kind: "slack", url: env: "SLACK", environments: ["local"]}
}
_mine: "not shown"
#Mine: "not shown"
`)
	c, _, err := schema.Fill(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	c.Environments("prod")
	text, err := c.CUE()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/filled.cue", text)
	if _, _, err := schema.Load(t.Context(), schema.Source{Files: []schema.File{{Name: "filled.cue", Data: text}}}); err != nil {
		t.Errorf("a part of a forge is none: %v", err)
	}
}

func whole(body string) schema.Source {
	return schema.Source{Files: []schema.File{{Name: "forge.cue", Data: []byte(`forge: "v1"
app: {name: "shop", image: {repository: "ghcr.io/acme/shop", tag: "1.4.2"}}
` + body)}}}
}

// onePerPlatform says as little as each platform allows.
var onePerPlatform = map[string]string{
	"compose":    `environments: dev: platform: kind: "compose"`,
	"minikube":   `environments: dev: {platform: kind: "minikube", domains: ["shop.local"], expose: {kind: "ingress", tls: mode: "self-signed"}}`,
	"kubernetes": `environments: dev: platform: {kind: "kubernetes", context: "dev"}`,
	"eks": `environments: dev: {
	platform: {kind: "kubernetes", distribution: "eks", context: "dev"}
	domains: ["shop.example.com"]
	expose: {kind: "ingress", tls: {mode: "acm", arn: "arn:aws:acm:us-east-1:123456789012:certificate/0f1e2d3c"}}
}`,
	"gke": `environments: dev: {
	platform: {kind: "kubernetes", distribution: "gke", context: "dev"}
	domains: ["shop.example.com"]
	expose: {kind: "ingress", tls: mode: "gke-managed"}
}`,
	"charts": `environments: dev: {
	platform: {kind: "kubernetes", context: "dev"}
	charts: search: {
		kind: "repository", url: "https://charts.example.com", name: "search", version: "1.2.3"
		values: {replicas: 2, "a-b": [{c: "x\ny", d: [1, 2.5, null]}, []], _e: {}, f: "a\"b"}
	}
	policy: windows: [{days: ["mon"], from: "09:00", to: "10:00"}]
}
notifications: team: {kind: "slack", url: env: "SLACK_URL"}`,
	"fks": `environments: dev: {platform: {kind: "fks", org: "acme", cluster: "prod", region: "iad", acknowledgeClosedBeta: true}}`,
	"fly": `environments: dev: {platform: {kind: "fly", org: "acme"}, regions: iad: {}}`,
}
