package helm

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/reconcile"
)

// Charts that cannot work say why, in words that lead to the mistake, and do
// nothing. What only the API server finds wrong may leave the rest of a first
// install behind, which is brought to its end when the chart is mended.
func TestBadCharts(t *testing.T) {
	const (
		head = "apiVersion: v2\nname: bad\nversion: 1.0.0\n"
		good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}\ndata: {a: b}\n"
	)
	configMap := func(name, more string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n" + more
	}
	for _, test := range []struct {
		name  string
		files map[string]string
		words []string
		begun bool // what is right of it is there
	}{
		{"YAML that is none", map[string]string{"templates/x.yaml": configMap("x", "data: {a: [b}\n")}, []string{"templates/x.yaml", "line 3"}, false},
		{"a key twice", map[string]string{"templates/x.yaml": configMap("x", "data: {a: b}\ndata: {a: c}\n")}, []string{"templates/x.yaml", `"data" already set`}, false},
		{
			"an object twice",
			map[string]string{"templates/x.yaml": configMap("x", "data: {a: b}\n"), "templates/y.yaml": configMap("x", "data: {a: c}\n")},
			[]string{"ConfigMap", "templates/x.yaml", "templates/y.yaml"},
			false,
		},
		{
			"another namespace",
			map[string]string{"templates/x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad-x, namespace: default}\ndata: {a: b}\n"},
			[]string{"ConfigMap", "default", "NAMESPACE"},
			false,
		},
		{"an unknown kind", map[string]string{"templates/x.yaml": "apiVersion: GROUP/v1\nkind: Unicorn\nmetadata: {name: x}\n"}, []string{"Unicorn", "GROUP"}, false},
		{"an object of 2 MB", map[string]string{"templates/x.yaml": configMap("x", "data: {a: {{ repeat 2000000 \"x\" }}}\n")}, []string{"ConfigMap NAMESPACE/x"}, false},
		{"an object of 5 MB", map[string]string{"templates/x.yaml": configMap("x", "data: {a: {{ repeat 5000000 \"x\" }}}\n")}, []string{"templates/x.yaml", "1 MiB"}, false},
		{"a mistake in a template", map[string]string{"templates/x.yaml": "# one\n# two\na: {{ .Values.deep.er }}\n"}, []string{"templates/x.yaml:3:13", ".Values.deep.er"}, false},
		{"a template that is none", map[string]string{"templates/x.yaml": "a: {{ if }}\n"}, []string{"templates/x.yaml:1", "missing value for if"}, false},
		{"a template that fails on purpose", map[string]string{"templates/x.yaml": "{{ fail \"give it a host\" }}\n"}, []string{"templates/x.yaml:1", "give it a host"}, false},
		{"a value that is required", map[string]string{"templates/x.yaml": "a: {{ required \"name the host\" .Values.host }}\n"}, []string{"name the host"}, false},
		{"a word that is a truth value in YAML", map[string]string{"templates/x.yaml": configMap("x", "data: {enabled: yes}\n")}, []string{"ConfigMap", "enabled", "quote"}, false},
		{"values that it refuses", map[string]string{"values.schema.json": `{"required": ["host"]}`}, []string{"host"}, false},
		{"no kind", map[string]string{"templates/x.yaml": "apiVersion: v1\nmetadata: {name: x}\n"}, []string{"templates/x.yaml"}, false},
		{"no name", map[string]string{"templates/x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x-}\n"}, []string{"templates/x.yaml", "generateName"}, false},
		{
			"a field that is none",
			map[string]string{"templates/x.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replica: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a:1}]}}}\n"},
			[]string{"Deployment", "replica"},
			true,
		},
		{"another Kubernetes", map[string]string{"Chart.yaml": head + "kubeVersion: \">=9.0\"\n"}, []string{">=9.0"}, false},
		{"a library", map[string]string{"Chart.yaml": head + "type: library\n"}, []string{"library"}, false},
		{
			"a dependency that is not there",
			map[string]string{"Chart.yaml": head + "dependencies: [{name: db, version: 1.x, repository: \"https://charts.example.com\"}]\n"},
			[]string{"db", "helm dependency build"},
			false,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{"Chart.yaml": head, "templates/first.yaml": good}
			for name, text := range test.files {
				files[name] = text
			}
			h := newHazard(t, "", files)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var err error
			for range 10 {
				var steps []reconcile.Step
				steps, err = h.pass(ctx, h.request())
				if err == nil && len(steps) > 0 && steps[len(steps)-1].Blocked != "" {
					err = fmt.Errorf("%s", steps[len(steps)-1].Blocked)
				}
				if reconcile.KindOf(err) != reconcile.Stale {
					break
				}
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, word := range test.words {
				word = strings.NewReplacer("NAMESPACE", h.env.Namespace, "GROUP", h.env.Namespace+".example.com").Replace(word)
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%v\ndoes not say %q", err, word)
				}
			}
			if n := len(err.Error()); n > 2000 {
				t.Errorf("an error of %d characters", n)
			}
			maps, err := h.env.Client.CoreV1().ConfigMaps(h.env.Namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range maps.Items {
				if (m.Name == "first" || m.Name == "x") && !test.begun {
					t.Errorf("ConfigMap %s was made all the same", m.Name)
				}
			}
			there, err := h.env.Client.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=bad-x"})
			if err != nil || len(there.Items) > 0 {
				t.Errorf("in another namespace: %v, %v", there, err)
			}
		})
	}
}
