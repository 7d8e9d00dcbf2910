package fks_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/fks"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm/offline"
	"forged.dev/forged/schema"
)

// rendered are the objects of a chart.
func rendered(t *testing.T, c *offline.Chart, release, namespace string, values map[string]any) string {
	t.Helper()
	texts, err := c.Render(t.Context(), release, namespace, values)
	if err != nil {
		t.Fatal(err)
	}
	var names, all []string
	for name := range texts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.TrimSpace(texts[name]) != "" && !strings.HasSuffix(name, ".tpl") {
			all = append(all, strings.TrimPrefix(strings.TrimSpace(texts[name]), "---\n")+"\n")
		}
	}
	return strings.Join(all, "---\n")
}

// forges are environments on Fly Kubernetes: the example, and one that has in the
// cluster what can be there.
func forges(t *testing.T) map[string]*forge.Forge {
	t.Helper()
	all := map[string]*forge.Forge{}
	for name, file := range map[string]string{"example": "../../examples/fks.cue", "in-cluster": "testdata/own/in-cluster.cue"} {
		src, err := schema.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		f, diagnostics, err := schema.Load(context.Background(), src, compile.Check, compile.Gaps)
		if err != nil {
			t.Fatal(err, diagnostics)
		}
		all[name] = f
	}
	return all
}

// Our own charts lose on Fly Kubernetes what these files say, and nothing in
// them is refused.
func TestOwnCharts(t *testing.T) {
	for name, f := range forges(t) {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for _, env := range f.Environments {
				resources, err := compile.Environment(env)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range resources {
					spec, ok := r.Spec.(forge.ReleaseSpec)
					if !ok || spec.Chart == "" {
						continue
					}
					files, err := charts.Files(spec.Chart)
					if err != nil {
						t.Fatal(err)
					}
					given := objects(t, rendered(t, offline.Of(files), spec.Name, spec.Namespace, spec.Values))
					out, findings := fks.Fit(given, fks.Options{Allow: spec.Rules.Allow, Namespace: spec.Namespace})
					unchanged(t, out, fks.Options{Allow: spec.Rules.Allow, Namespace: spec.Namespace})
					b.WriteString("# " + spec.Name + "\n" + told(findings))
					for _, found := range findings {
						if found.Action == fks.Error {
							t.Errorf("%s %s: %s: %s", found.Rule, found.Object, found.Path, found.Message)
						}
					}
				}
			}
			golden(t, filepath.Join("testdata", "own", name+".txt"), b.String())
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-update writes it; -file +made):\n%s", name, diff)
	}
}
