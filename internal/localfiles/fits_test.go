package localfiles_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
)

// A chart for Fly Kubernetes is looked at with its eyes: what it does not have is
// a mistake, what may not do what it says a warning, and what is only said in
// another way stands in one line.
func TestChartsForFlyKubernetes(t *testing.T) {
	const web = `apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Values.name | default "web" }}}
spec:
  template:
    metadata: {labels: {app: web}}
    spec:
      imagePullSecrets: [{name: registry}]
      {{- if .Values.wait }}
      initContainers: [{name: wait, image: "busybox:1"}]
      {{- end }}
      containers:
        - name: web
          image: web:1
          livenessProbe: {tcpSocket: {port: 80}}
          resources: {limits: {cpu: 1, memory: {{ .Values.memory | default "512Mi" }}}}
`
	const sidecars = `
{{- range until 5 }}
---
apiVersion: v1
kind: Pod
metadata: {name: pod-{{ . }}}
spec:
  containers:
    - {name: a, image: "a:1", resources: {limits: {cpu: 1, memory: 256Mi}}}
    - {name: b, image: "b:1", resources: {limits: {cpu: 1, memory: 256Mi}}}
{{- end }}
`
	const definition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: stalls.example.com}
spec: {group: example.com}
`
	at := func(rule, text string) string { return rule + " environments.dev.charts.x.path: " + text }
	unsaid := at("fks-support", "FKS213: Nothing is said of registries that ask who pulls (Deployment web, spec.template.spec.imagePullSecrets)")
	refused := "FKS202: Init containers are not supported (Deployment web, spec.template.spec.initContainers)"
	for _, test := range []struct {
		name     string
		platform forge.Platform
		files    map[string]string
		values   map[string]any
		want     []string
	}{
		{
			"elsewhere",
			forge.Platform{Kind: forge.PlatformKubernetes},
			map[string]string{"templates/web.yaml": web},
			map[string]any{"wait": true},
			nil,
		},
		{
			"what is taken out",
			forge.Platform{Kind: forge.PlatformFKS},
			map[string]string{"templates/web.yaml": web},
			map[string]any{"memory": "500Mi"},
			[]string{unsaid, at("fks-support", "some of what it renders to is left out or written differently: FKS301, FKS306")},
		},
		{
			"what cannot be had",
			forge.Platform{Kind: forge.PlatformFKS},
			map[string]string{"templates/web.yaml": web},
			map[string]any{"wait": true},
			[]string{at("fks-refused", refused), unsaid, at("fks-support", "some of what it renders to is left out or written differently: FKS306")},
		},
		{
			"what is let through",
			forge.Platform{Kind: forge.PlatformFKS, Allow: []string{"FKS202", "FKS306"}},
			map[string]string{"templates/web.yaml": web},
			map[string]any{"wait": true},
			[]string{
				at("fks-support", refused), unsaid,
				at("fks-support", "FKS306: Probes are not supported: rollouts do not wait until it is ready, and nothing restarts what hangs (Deployment web, spec.template.spec.containers[0].livenessProbe)"),
			},
		},
		{
			"many places",
			forge.Platform{Kind: forge.PlatformFKS},
			map[string]string{"templates/pods.yaml": sidecars},
			nil,
			[]string{at("fks-refused", "FKS201: A pod has one container: sidecars are not supported (Pod pod-0, spec.containers; Pod pod-1, spec.containers; Pod pod-2, spec.containers; and 2 more)")},
		},
		{
			"an operator",
			forge.Platform{Kind: forge.PlatformFKS},
			map[string]string{"crds/a.yaml": definition, "crds/README.md": "# not an object", "templates/a.yaml": "apiVersion: example.com/v1\nkind: Stall\nmetadata: {name: a}\n"},
			nil,
			[]string{at("fks-support", "FKS120: What an operator makes of such objects is made in the cluster, where these rules do not see it: its init containers, sidecars and probes are not fitted (CustomResourceDefinition stalls.example.com)")},
		},
		{
			"a chart that does not render",
			forge.Platform{Kind: forge.PlatformFKS},
			map[string]string{"templates/a.yaml": "a: {{ required \"name the host\" .Values.host }}\n"},
			nil,
			[]string{at("chart-render", "it does not render without a cluster: execution error at (templates/a.yaml:1:6): name the host")},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "chart"), map[string]string{"Chart.yaml": head})
			write(t, filepath.Join(dir, "chart"), test.files)
			c := chart("x", filepath.Join(dir, "chart"))
			c.Values = test.values
			test.platform.Namespace = "shop-dev"
			env := forge.Environment{Platform: test.platform, Charts: []forge.NamedChart{c}}
			env.App.Name = "shop"
			if diff := cmp.Diff(test.want, checkWith(dir, options(true), env)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			// The app's own chart is looked at in the same way.
			env.Charts, env.App.Chart = nil, &c.Chart
			if got := checkWith(dir, options(true), env); len(got) != len(test.want) {
				t.Errorf("of the chart of the app it says %q", got)
			}
		})
	}
}
