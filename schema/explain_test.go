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
