package schema_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"forged.dev/forged/schema"
)

// BenchmarkLoad reads a forge of that many environments, each with services,
// a worker and secrets.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var s strings.Builder
			s.WriteString(strings.Replace(minimal, "environments: local: platform: kind: \"minikube\"\n", "", 1))
			for i := range n {
				fmt.Fprintf(&s, `environments: "env-%d": {
	platform: {kind: "kubernetes", context: "cluster-%d"}
	app: {env: LOG_LEVEL: "DEBUG", secrets: SESSION_SIGNING_SECRET: generate: {}}
	domains: ["shop-%d.example.com"]
	expose: {kind: "ingress", tls: {mode: "secret", name: "shop-tls"}}
	services: postgres: storage: "50Gi"
	scaling: {min: 2, max: 6, cpuTarget: 70}
	workers: mail: args: ["mail"]
	policy: mode: "apply"
}
`, i, i, i)
			}
			src := text(s.String())
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := schema.Load(context.Background(), src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
