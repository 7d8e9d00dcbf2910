package schema_test

import (
	"bytes"
	"fmt"
	"testing"

	"forged.dev/forged/schema"
)

// The same for texts of several lines, and for those that are no forge at all.
func TestMistakenFiles(t *testing.T) {
	const shop = `forge: "v1"
app: {name: "shop", image: {repository: "a/b", tag: "1"}}
environments: dev: platform: kind: "minikube"
`
	var out bytes.Buffer
	for _, test := range []struct {
		text string
		want int
	}{
		{`forge: "v1"
app: { nam: "shop", image: {repository: "a/b", tag: "1"} }
environment: dev: platform: kind: "minikube"
`, 2},
		{`forge: "v1"
app: { name: "shop", image: {repository: "a/b", tag: "1.4.2} }
environments: dev: platform: kind: "minikube"
`, 1},
		{shop + `_x: len("abc"
app: port: 8000
`, 1},
		{shop + `app: { args: ["${var.port}"] 
 port: ${var.port} }
`, 1},
		{shop + `# comment
app: port: 8000
`, 1},
		{`---
forge: v1
app:
  name: shop
environments:
  dev:
    platform:
      kind: minikube
`, 1},
		{`forge: "v1"
app:
  name: "shop"
  args:
    - foo
    - bar
`, 1},
		{`app {
  name = "shop"
}
`, 1},
		{shop + `<<<<<<< HEAD
app: port: 8000
=======
app: port: 9000
>>>>>>> branch
`, 1},
		{`forge: {
	forge: "v1"
	app: {name: "shop", image: {repository: "a/b", tag: "1"}}
	environments: dev: platform: kind: "minikube"
}
`, 1},
		{`forge: "v1"
app: {name: "shop", image: {repository: "a/b", tag: "1"}}
environments: [{name: "dev", platform: kind: "minikube"}]
`, 1},
		{`[1, 2]
`, 1},
		{`"foo"
`, 1},
		{`
`, 1},
		{`// only a comment
`, 1},
		{`import "encoding/jsno"
forge: "v1"
`, 1},
		{`import "list"
forge: "v1"
app: {name: "shop", image: {repository: "a/b", tag: "1"}}
environments: dev: platform: kind: "minikube"
`, 1},
		{`import "github.com/foo/bar"
forge: "v1"
app: {name: "shop", image: {repository: "a/b", tag: "1"}, env: A: bar.x}
environments: dev: platform: kind: "minikube"
`, 1},
		{`forge: "v1"
environments: {}
`, 2},
		{shop + `app: {
	port: 8000
`, 1},
		{shop + `app: args: ["a"
app: port: 3
`, 1},
		{shop + `app: { port: 8000 # the port
}
`, 1},
		{shop + `environments: local: {
	policy: interval: 30s
	domains: [api.example.com]
}
`, 1},
		{`forge: "v1"
app: {
  name: "shop"
  args:
    - foo
    - bar
}
`, 1},
		{shop + `resource "fly_app" "x" {
  a = 1
}
`, 1},
		{shop + `app: {
	port = 3
}
`, 1},
		{`forge: "v1"
app: {name: "shop", image: {repository: "a/b", tag: "1"}}
environments: {platform: kind: "minikube"}
`, 1},
		{`forge: "v1"
app: {name: "shop", image: {repository: "a/b", tag: "1"}}
environments: platform: {kind: "kubernetes", context: "c"}
`, 1},
		{`forge: "v1"
app: {name: "shop", image: {
	repository: https://ghcr.io/acme/shop
	tag: "1"
}}
environments: dev: platform: kind: "minikube"
`, 1},
		{shop + `app: env: A: "\(app.name) https://a.b [ ( "
app: args: ["\(app.name) https://a.b", "x"
app: port: 8000
`, 1},
		{shop + `app: {configFiles: "/a": text: """
	url: https://a.b
	""", port: 8000;}
`, 1},
	} {
		diags := diagnose(t, text(test.text))
		fmt.Fprintf(&out, "-- forge.cue --\n%s", test.text)
		if err := diags.Write(&out, schema.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		out.WriteByte('\n')
		if len(diags) != test.want {
			t.Errorf("%s: %d diagnostics", test.text, len(diags))
		}
	}
	golden(t, "testdata/mistaken-files.txt", out.Bytes())
}
