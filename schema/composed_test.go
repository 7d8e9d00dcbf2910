package schema_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

const composed = "../examples/composed"

func loadComposed(t *testing.T, tags ...string) (map[string]forge.Environment, schema.Diagnostics) {
	t.Helper()
	src, err := schema.Read(composed)
	if err != nil {
		t.Fatal(err)
	}
	src.Tags = tags
	f, _, err := schema.Load(context.Background(), src)
	if d, ok := errors.AsType[schema.Diagnostics](err); ok {
		return nil, d
	}
	if err != nil {
		t.Fatal(err)
	}
	environments := map[string]forge.Environment{}
	for _, e := range f.Environments {
		environments[e.Name] = e
	}
	return environments, nil
}

// The example says in its comments what the tags do.
func TestComposedExample(t *testing.T) {
	for _, test := range []struct {
		tags       []string
		image      string
		most       int
		level      string
		diagnostic string
	}{
		{image: "1.4.2", most: 6},
		{tags: []string{"version=1.4.3"}, image: "1.4.3", most: 6},
		{tags: []string{"most=8", "debug"}, image: "1.4.2", most: 8, level: "DEBUG"},
		{tags: []string{"version=latest"}, diagnostic: filepath.Join(composed, "forge.cue") + ":26:8: error: app.image.tag: "},
		{tags: []string{"most=0"}, diagnostic: filepath.Join(composed, "environments.cue")},
		{tags: []string{"debugging"}, diagnostic: `there is no tag "debugging"`},
	} {
		t.Run(strings.Join(test.tags, " "), func(t *testing.T) {
			environments, diags := loadComposed(t, test.tags...)
			if test.diagnostic != "" {
				if len(diags) != 1 || !strings.Contains(diags[0].String(), test.diagnostic) {
					t.Errorf("%v, want %s", diags, test.diagnostic)
				}
				return
			}
			prod, ok := environments["prod"]
			if !ok || len(environments) != 3 {
				t.Fatalf("%v, %v", environments, diags)
			}
			if prod.App.Image.Tag != test.image || prod.Scaling.Max != test.most ||
				prod.App.Env["LOG_LEVEL"] != test.level || prod.App.Env["LOG_FORMAT"] != "json" {
				t.Errorf("%+v", prod)
			}
			if small, large := environments["dev"].App.Resources, prod.App.Resources; small.CPU != "100m" || large.CPU != "1" {
				t.Errorf("dev %+v, prod %+v", small, large)
			}
		})
	}
}

// CUE's own command reads the packages and the tags of the example as forged
// does, with and without the language beside it.
func TestComposedExampleInCUE(t *testing.T) {
	w := newWorkspace(t)
	err := filepath.WalkDir(composed, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(composed, name)
		w.write(t, filepath.ToSlash(rel), string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	vet := func(wantErr string, args ...string) {
		t.Helper()
		out, err := w.run(t, append([]string{"vet", "-c", "."}, args...)...)
		if (err != nil) != (wantErr != "") || !strings.Contains(out, wantErr) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	vet("")
	beside, _ := schema.Workspace("forge", []string{"dev", "prod", "staging"})
	for name, text := range beside {
		w.write(t, name, text)
	}
	vet("")
	vet("", "-t", "version=1.4.3", "-t", "debug", "-t", "most=8")
	vet("app.image.tag", "-t", "version=latest")
	vet("most", "-t", "most=many")
	vet("debugging", "-t", "debugging")
	out, err := w.run(t, "export", "-e", "environments.prod.scaling.max", ".", "-t", "most=8")
	if err != nil || strings.TrimSpace(out) != "8" {
		t.Errorf("%v\n%s", err, out)
	}
}
