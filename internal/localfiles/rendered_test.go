package localfiles_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
)

// Charts are rendered twice with the values that the forge has for them: what
// differs then differs always, and what would go wrong is told before a cluster
// tells it.
func TestRenderedCharts(t *testing.T) {
	const (
		random = `{{ if .Values.generate }}
apiVersion: v1
kind: Secret
metadata: {name: auth}
stringData:
  password: {{ randAlphaNum 16 | quote }}
{{ end }}
`
		scaler = `apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  maxReplicas: 5
`
		web = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: {{ .Release.Namespace }}}
spec:
  {{- if not .Values.autoscaling }}
  replicas: 2
  {{- end }}
  template: {}
`
	)
	object := func(kind, name, more string) string {
		return "---\napiVersion: v1\nkind: " + kind + "\nmetadata: {name: " + name + more + "}\n"
	}
	at := func(rule, text string) string { return rule + " environments.dev.charts.x.path: " + text }
	for _, test := range []struct {
		name   string
		files  map[string]string
		values map[string]any
		want   []string
	}{
		{"a chart that renders the same", map[string]string{"templates/web.yaml": web}, nil, nil},
		{
			"a random value",
			map[string]string{"templates/web.yaml": web, "templates/secret.yaml": random},
			map[string]any{"generate": true},
			[]string{at("chart-impure", "it is not reproducible: randAlphaNum in templates/secret.yaml:6; different each time: Secret auth")},
		},
		{
			"more memory than there is",
			map[string]string{"templates/web.yaml": "{{ range until 10000000000 }}{{ end }}"},
			nil,
			[]string{at("chart-render", "it does not render without a cluster: its templates need more than 192 MiB of memory; allow more with FORGED_MAX_MEMORY")},
		},
		{"a random value that the values switch off", map[string]string{"templates/web.yaml": web, "templates/secret.yaml": random}, nil, nil},
		{"one that is generated unless it is there", map[string]string{"templates/secret.yaml": `{{ $old := lookup "v1" "Secret" .Release.Namespace "auth" }}
apiVersion: v1
kind: Secret
metadata: {name: auth}
data:
  {{ if $old }}a: {{ $old.data.a }}{{ else }}a: {{ randAlphaNum 8 | b64enc }}{{ end }}
`}, nil, []string{at("chart-impure", "it is not reproducible: lookup in templates/secret.yaml:1, randAlphaNum in templates/secret.yaml:6; different each time: Secret auth")}},
		{
			"the time, which two renderings may not show",
			map[string]string{"templates/a.yaml": object("ConfigMap", "a", "") + "data: {at: \"{{ now | date \"2006\" }}\"}\n"},
			nil,
			[]string{at("chart-impure", "it is not reproducible: now in templates/a.yaml:5")},
		},
		{
			"a call in a template of templates",
			map[string]string{"templates/_h.tpl": "{{ define \"pw\" }}{{ genPassword }}{{ end }}", "templates/a.yaml": "a: b\n"},
			nil,
			[]string{at("chart-render", `it does not render without a cluster: parse error at (templates/_h.tpl:1): function "genPassword" not defined`)},
		},
		{"a certificate made in a template of templates", map[string]string{
			"templates/_h.tpl":  "{{ define \"ca\" }}\n{{ $ca := genCA \"x\" 10 }}{{ $ca.Cert | b64enc }}{{ end }}",
			"templates/ca.yaml": object("ConfigMap", "ca", "") + "data: {ca: {{ include \"ca\" . }}}\n",
		}, nil, []string{at("chart-impure", "it is not reproducible: genCA in templates/_h.tpl:2; different each time: ConfigMap ca")}},
		{
			"an autoscaler and a number of replicas",
			map[string]string{"templates/web.yaml": web, "templates/hpa.yaml": scaler},
			nil,
			[]string{at("chart-replicas", "templates/web.yaml sets replicas of Deployment web, which HorizontalPodAutoscaler web scales")},
		},
		{"an autoscaler alone", map[string]string{"templates/web.yaml": web, "templates/hpa.yaml": scaler}, map[string]any{"autoscaling": true}, nil},
		{
			"a mistake in a template",
			map[string]string{"templates/a.yaml": "a: b\n\nc: {{ .Values.deep.er }}\n"},
			nil,
			[]string{at("chart-render", `it does not render without a cluster: templates/a.yaml:3:13: executing "templates/a.yaml" at <.Values.deep.er>: nil pointer evaluating interface {}.er`)},
		},
		{
			"what is required",
			map[string]string{"templates/a.yaml": "a: {{ required \"name the host\" .Values.host }}\n"},
			nil,
			[]string{at("chart-render", `it does not render without a cluster: execution error at (templates/a.yaml:1:6): name the host`)},
		},
		{
			"values that the chart refuses",
			map[string]string{"templates/a.yaml": "", "values.schema.json": `{"properties": {"level": {"enum": ["info"]}}}`},
			map[string]any{"level": "x"},
			[]string{at("chart-render", "it does not render without a cluster: values don't meet the specifications of the schema(s) in the following chart(s):\nx:\n- at '/level': value must be 'info'\n")},
		},
		{
			"a key twice",
			map[string]string{"templates/a.yaml": object("ConfigMap", "a", "") + "data: {a: b}\ndata: {a: c}\n"},
			nil,
			[]string{at("chart-render", `templates/a.yaml renders to what cannot be read: error converting YAML to JSON: yaml: unmarshal errors: line 6: key "data" already set in map`)},
		},
		{
			"an object twice",
			map[string]string{"templates/a.yaml": object("ConfigMap", "a", ""), "templates/b.yaml": object("ConfigMap", "a", "")},
			nil,
			[]string{at("chart-render", "templates/a.yaml and templates/b.yaml both make ConfigMap a")},
		},
		{
			"another namespace",
			map[string]string{"templates/a.yaml": object("ConfigMap", "a", ", namespace: kube-system")},
			nil,
			[]string{at("chart-render", "templates/a.yaml puts ConfigMap a into the namespace kube-system; this environment has shop-dev")},
		},
		{
			"no kind",
			map[string]string{"templates/a.yaml": "a: b\n"},
			nil,
			[]string{at("chart-render", "templates/a.yaml renders to an object without apiVersion or kind")},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "chart"), map[string]string{"Chart.yaml": head})
			write(t, filepath.Join(dir, "chart"), test.files)
			c := chart("x", filepath.Join(dir, "chart"))
			c.Values = test.values
			env := forge.Environment{Platform: forge.Platform{Namespace: "shop-dev"}, Charts: []forge.NamedChart{c}}
			env.App.Name = "shop"
			got := checkWith(dir, options(true), env)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if strings.Contains(strings.Join(got, ""), dir) {
				t.Error("the text depends on where the chart lies")
			}
		})
	}
}
