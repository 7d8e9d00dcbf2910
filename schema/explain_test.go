package schema_test

import (
	"bytes"
	"fmt"
	"testing"

	"forged.dev/forged/schema"
)

// Each of these texts, added to a valid forge, is one mistake: it is said
// once, at its place, in words that name what was meant.
func TestMistakes(t *testing.T) {
	const (
		fly  = `platform: {kind: "fly", org: "acme"}, regions: iad: {}, `
		fks  = `platform: {kind: "fks", org: "acme", cluster: "c", region: "iad", acknowledgeClosedBeta: true}, `
		kube = `platform: {kind: "kubernetes", context: "c"}, `
		acm  = `expose: {kind: "ingress", tls: {mode: "acm", arn: "arn:aws:acm:us-east-1:123456789012:certificate/0f"}}, domains: ["a.b"]`
	)
	var out bytes.Buffer
	for _, more := range []string{
		`app: secrets: A: sops: {file: "a", key: 3}`,
		`app: secrets: A: {sops: "a"}`,
		`app: migrate: {run: "before-deploy"}`,
		`app: migrate: {run: "always", args: ["x"]}`,
		`app: configFiles: "app.yaml": text: "x"`,
		`app: image: tag: 1.4`,
		`environments: other: platform: kind: "eks"`,
		`environments: other: {platform: kind: "fly", regions: iad: {}}`,
		`environments: other: {platform: {kind: "flyy", org: "acme", guest: cpus: 2}, regions: iad: machines: 2, scaling: idle: "stop"}`,
		`environments: other: {platform: {kind: "fly", org: "acme", strategy: "blue"}, regions: iad: {}, volumes: data: mount: "/data"}`,
		`environments: other: {` + fly + `services: redis: mode: "in-cluster"}`,
		`environments: other: {` + fly + `scaling: min: 2}`,
		`environments: other: {platform: {kind: "fly", org: "acme"}, regions: IAD: {}}`,
		`environments: other: {` + fly + `networkPolicy: "baseline"}`,
		`environments: other: {` + fly + `app: resources: cpu: "1"}`,
		`environments: other: {` + fly + `workers: mail: {args: ["x"], scaling: {min: 1, max: 3}}}`,
		`environments: other: {` + fks + `expose: kind: "ingress", domains: ["a.b"]}`,
		`environments: other: {` + fks + `scaling: {min: 2, max: 3}}`,
		`environments: other: {` + fks + `volumes: data: {mount: "/data", access: "ReadWriteMany"}}`,
		`environments: other: {platform: {kind: "kubernetes", context: "c", distribution: "ekss"}, ` + acm + `}`,
		`environments: other: {platform: {kind: "kubernetes", context: "c", distribution: "gke"}, ` + acm + `}`,
		`environments: other: {` + kube + `expose: {kind: "ingress"}, domains: ["a.b"]}`,
		`environments: other: {` + kube + `expose: {kind: "loadbalancer", tls: mode: "secret"}}`,
		`environments: other: {` + kube + `services: postgres: {mode: "fly-managed", plan: "basic", storageGB: 20}}`,
		`environments: other: {` + kube + `services: postgres: {mode: "external"}}`,
		`environments: other: {` + kube + `services: temporal: {mode: "cloud", namespace: "a.b", apiKey: env: "K"}}`,
		`environments: other: {` + kube + `charts: x: {kind: "oci", path: "a", url: "oci://a/b", version: "1"}}`,
		`environments: other: {` + kube + `charts: x: {kind: "git", path: "a"}}`,
		`environments: other: {` + kube + `charts: x: {kind: "path", path: "a", values: 3}}`,
		`environments: other: {` + kube + `policy: windows: [{from: "9:00", to: "10:00"}]}`,
		`environments: other: {` + kube + `policy: windows: [{days: ["monday"], from: "09:00", to: "10:00"}]}`,
		`environments: other: {` + kube + `policy: windows: {from: "09:00", to: "10:00"}}`,
		`environments: other: {` + kube + `policy: windows: [{from: "09:00"}]}`,
		`environments: other: {` + kube + `policy: ignore: [{kind: "Deployment"}]}`,
		`environments: other: {` + kube + `policy: ignore: [{kind: "Deployment", fields: ["spec.replicas"], names: "x"}]}`,
		`environments: other: {` + kube + `policy: ignore: [{kind: "Deployment", fields: ["/spec/replicas"]}]}`,
		`environments: other: {` + kube + `replicas: 3}`,
		`environments: other: {platform: kind: "compose", domains: ["a.b"]}`,
		`environments: other: {platform: kind: "compose", services: postgres: storage: "1Gi"}`,
		`environments: other: {platform: kind: "compose", expose: {kind: "port", port: "80"}}`,
		`notifications: ops: {kind: "slak", url: env: "HOOK"}`,
		`notifications: ops: {kind: "slack", url: env: "HOOK", on: ["explosion"]}`,
		`notifications: ops: {kind: "slack", url: "https://hooks"}`,
		`daemon: listen: ":80"`,
		`environmentz: {}`,

		`environments: other: platfrom: kind: "minikube"`,
		`environments: other: kind: "minikube"`,
		`environments: other: {platform: kind: "minikube", workers: mail: command: ["x"]}`,
		`app: port: 8000;`,
		`app: { env: {A: "1",, B: "2"} }`,
		`app: { args: ["a" "b"] }`,
		`app: { port: 8000 env: A: "1" }`,
		`app: args: [“a”]`,
		`app: { env: A: “a” }`,
		"app: po\u200brt: 8000",
		`app: { /* foo */ port: 8000 }`,
		`app: { port: {{ .Values.port }} }`,
		`app: port = 8000`,
		`app: env: LOG-LEVEL: "debug"`,
		`app: image: tag: 1.4.2`,
		`app: image: tag: v1.4.2`,
		`environments: [{name: "dev", platform: kind: "minikube"}]`,
		`_x: app.foo.bar`,
		`app: env: A: app.nam`,
		`_x: list.Range(0, 3, 1)`,
		`app: {env: A: "1", secrets: SESSION: env}`,
		`environments: local: workers: mail: args: [mail]`,
		`app: port: *9000 | 8000`,
		`environments: local: scaling: min: *2 | int`,
		`environments: b: platform: kind: "minikube" | "compose"`,
		`environments: local: policy: maxDelete: 1e999999999`,
		`app: image: tag: '1.4.2'`,
		`environments: local: app: image: tag: '1.4.2'`,
		`environments: local: platform: context: ""`,
		`environments: local: policy: timeout: "99999999h"`,
		`environments: "shop-": platform: kind: "minikube"`,
		`environments: local: app: env: FOO: [1]`,
		`environments: local: app: env: FOO: {a: 1}`,
		`environments: local: expose: {kind: "ingress", tls: true}`,
		`environments: local: services: postgres: false`,
		`app: secrets: x: "hunter2"`,
		`app: secrets: x: env: "FOO"`,
		`app: secrets: X: {value: "hunter2"}`,
		`app: secrets: X: {secretKeyRef: {name: "a", key: "b"}}`,
		`app: {configFiles: "/a": {file: "nope"}, env: foo: "x"}`,
		`environments: local: policy: ignore: [{kind: "Deployment", fields: ["spec"]}, {kind: "Deployment", fields: []}]`,
		`environments: prod: {platform: {kind: "kubernetes", context: "c"}, expose: {kind: "none", tls: mode: "secret"}}`,
		`environments: prod: {platform: {kind: "kubernetes", context: "c"}, expose: {kind: "none", className: "a"}}`,
		`environments: prod: {platform: {kind: "kubernetes", context: "c"}, services: redis: {mode: "external", url: generate: {}}}`,
		`environments: prod: {platform: {kind: "kubernetes", context: "c"}, services: redis: {mode: "external", url: "x"}}`,
		`environments: prod: {platform: {kind: "kubernetes", context: "c"}, services: redis: {mode: "external", url: {}}}`,
		`app: image: repository: "ghcr.io/a/b:1"`,
		`app: image: "ghcr.io/a/b:1"`,
		`app: env: [{name: "A", value: "b"}]`,
		`environments: local: workers: [{name: "mail"}]`,
		`environments: local: regions: ["iad"]`,
		`app: resources: requests: cpu: "1"`,
		`app: livenessProbe: httpGet: path: "/"`,
		`environments: local: ingress: host: "a.b"`,
		`environments: local: postgres: mode: "off"`,
		`environments: local: notifications: a: kind: "slack"`,
		`services: postgres: mode: "off"`,
		`app: services: postgres: mode: "off"`,
		`environments: local: services: postgres: enabled: false`,
		`environments: p: {platform: {kind: "kubernetes", context: "c"}, domains: ["a.b"], expose: {kind: "ingress", tls: {mode: "cert-manager", issuer: "x"}}}`,
		`environments: local: policy: prune: true`,
		`environments: local: policy: interval: 120`,
		`environments: local: policy: interval: "1d"`,
		`environments: local: services: postgres: storage: "20GB"`,
		`environments: local: services: postgres: storage: 20`,
		`app: resources: memory: 256Mi`,
		`app: resources: memory: 512`,
		`environments: local: policy: windows: [{days: ["Monday"], from: "09:00", to: "10:00"}]`,
		`environments: local: policy: windows: [{days: "mon-fri", from: "09:00", to: "10:00"}]`,
		`environments: local: policy: windows: [{days: ["mon-fri"], from: "09:00", to: "10:00"}]`,
		`environments: local: {domains: ["https://a.b/"], expose: kind: "ingress"}`,
		`environments: local: {domains: "a.b", expose: kind: "ingress"}`,
		`environments: d: platform: kind: "docker-compose"`,
		`app: secrets: SESSION: env: "${SESSION}"`,
		`environments: d: {platform: {kind: "fly", org: "a", region: "iad"}}`,
		`environments: d: {platform: {kind: "fly", org: "a"}, regions: iad: {}, scaling: {min: 2}}`,
		`environments: local: charts: x: {kind: "oci", url: "oci://a.b/c:1.0", version: "1"}`,
		`app: pоrt: 8000`,
		`environments: local: platform: kubeconfig: "~/.kube/config"`,
		`environments: local: app: image: repository: "a/b"`,
		`environments: local: app: port: 8000`,
		`environments: local: port: 8000`,
		`environments: local: replicas: 2`,
		`app.port: 3`,
		`app: configFiles: /app/x.yaml: text: "a"`,
		`app: args: "npm run start"`,
		`app: { args: ["a", "b" }`,
		`app: port: 8000 }`,
		`app.port: 3`,
		`app: configFiles: /app/x.yaml: text: "a"`,
		`app: env: A: some text`,
		`app: { name: 'x`,
		`environments: local: policy: interval: 30s`,
		`app: env: { A: "a\d" }`,
		`app: env: A: password123 hunter2`,
		`app: secrets: A: password.123.3 hunter2`,
		`environments: local: workers: mail: args: [mail]`,
		`environments: local: scaling: min: *2 | int`,
		`environments: local: policy: maxDelete: 1e999999999`,
		`app: resources: memory: 256Mi`,
		`app: resources: memory: 512`,
		`app: secrets: session: env: "session"`,
		`app: secrets: session: "a" + 3`,
		`app: secrets: session: {env: "A"} & {env: "B"}`,
		`app: secrets: session: nope`,
		`app: secrets: session: true`,
		`app: secrets: session: ["a"]`,
		`app: env: session: 3`,
		`app: env: session: {}`,
		`environments: "my_env": platform: kind: "minikube"`,
		`environments: Prod: platform: kind: "minikub"`,
		`environments: d: platform: kind: "docker-compose"`,
		`environments: d: platform: "minikube"`,
		`environments: d: platform: "minikub"`,
		`environments: d: "minikube"`,
		`environments: local: services: postgres: "external"`,
		`environments: local: services: postgres: mode: "disabled"`,
		`environments: local: services: postgres: version: 16`,
		`environments: local: services: postgres: version: "14"`,
		`environments: local: services: postgres: backup: true`,
		`environments: local: services: mysql: {}`,
		`environments: local: services: postgresql: {}`,
		`environments: local: expose: "ingress"`,
		`environments: local: expose: kind: "ingress"`,
		`app: health: "/healthz"`,
		`app: health: live: "healthz"`,
		`app: migrate: true`,
		`app: migrate: args: ["x"]`,
		`environments: local: workers: mail: {args: "npm run mail"}`,
		`environments: local: workers: mail: {args: []}`,
		`environments: local: workers: mail: {}`,
		`environments: local: workers: mail_x: args: ["a"]`,
		`environments: p: {platform: {kind: "kubernetes", context: "c", distribution: "eks"}, domains: ["a.b"], expose: {kind: "ingress", tls: {mode: "acm", arn: "arn:aws:acm:us-east-1:12345678901:certificate/0f"}}}`,
		`app: name: "Shop"`,
		`environments: local: app: image: "ghcr.io/a/b:1"`,
		`environments: local: app: image: tag: "ghcr.io/a/b:1"`,
		`environments: local: app: image: digest: "abc"`,
		`environments: local: image: tag: "2"`,
		`environments: local: policy: "observe"`,
		`environments: local: policy: mode: "auto"`,
		`environments: local: policy: interval: "2 minutes"`,
		`environments: local: scaling: "2"`,
		`environments: local: scaling: 2`,
		`environments: local: scaling: min: "2"`,
		`environments: local: scaling: min: 2.5`,
		`environments: local: scaling: min: 0`,
		`environments: local: scaling: min: -1`,
		`app: port: "8000"`,
		`app: port: 80000`,
		`app: port: "http"`,
		`app: resources: cpu: 0.5`,
		`app: resources: cpu: 1`,
		`app: resources: cpu: "0.5 cores"`,
		`app: volumes: data: {mount: "/data"}`,
		`app: args: true`,
		`environments: local: volumes: data: "/data"`,
		`app: configFiles: ["a"]`,
		`app: configFiles: "/a": "text"`,
		`environments: d: {platform: {kind: "fly", org: "a"}, regions: ["iad"]}`,
		`environments: d: {platform: {kind: "fly", org: "a"}, regions: iad: 2}`,
		`environments: d: {platform: {kind: "fly", org: "a"}, regions: iad: {}, services: postgres: mode: "managed"}`,
		`notifications: ops: {kind: "slack", url: {env: "HOOK"}, channel: "#ops"}`,
		`notifications: {kind: "slack", url: {env: "HOOK"}}`,
		`notifications: slack: "x"`,
		`app: image: {name: "a/b"}`,
		`environments: local: platform: {kind: "minikube", contxt: "a"}`,
		`environments: local: {environments: x: {}}`,
		`environments: local: app: env: "A=1"`,
		`environments: local: app: env: ["A=1"]`,
		`app: env: A: B`,
		`app: env: A: $HOME`,
		`environments: staging: environments.loca`,
		`_x: "\(app.nam)"`,
		`app: env: A: string`,
		`app: env: A: string @tag(a)`,
		`environments: {platform: kind: "minikube"}`,
		`environments: local: workers: args: ["x"]`,
	} {
		diags := diagnose(t, text(minimal+more))
		fmt.Fprintf(&out, "%s\n", more)
		if err := diags.Write(&out, schema.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		out.WriteByte('\n')
		if len(diags) != 1 {
			t.Errorf("%s: %d diagnostics", more, len(diags))
			for _, d := range diags {
				t.Log(d)
			}
		}
	}
	golden(t, "testdata/mistakes.txt", out.Bytes())
}

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
