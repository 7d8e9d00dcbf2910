package localfiles_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/apart"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/localfiles"
	"forged.dev/forged/internal/providers/helm/offline"
	"forged.dev/forged/internal/providers/helm/render"
)

// options are as the program has them.
func options(render bool) localfiles.Options {
	return localfiles.Options{Render: render, Open: func(ctx context.Context, path string) (localfiles.Chart, error) {
		c, err := offline.Open(ctx, path)
		if err != nil {
			return nil, err
		}
		c.Apart = templates
		return c, nil
	}}
}

// templates renders charts in a child of this binary.
var templates = render.NewChild(apart.Bounds{Memory: 192 << 20}, "templates")

// TestMain is a child's side when this binary is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "templates" {
		if err := render.Serve(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func check(dir string, env forge.Environment, shared ...forge.ConfigFile) []string {
	return checkWith(dir, options(false), env, shared...)
}

func checkWith(dir string, o localfiles.Options, env forge.Environment, shared ...forge.ConfigFile) []string {
	env.Name = "dev"
	env.App.ConfigFiles = append(shared, env.App.ConfigFiles...)
	var found []string
	all, err := localfiles.Check(context.Background(), dir, &forge.Forge{App: forge.App{ConfigFiles: shared}, Environments: []forge.Environment{env}}, o)
	if err != nil {
		found = append(found, err.Error())
	}
	for _, f := range all {
		found = append(found, fmt.Sprintf("%s %s: %s", f.Rule, strings.Join(f.Path, "."), strings.ReplaceAll(f.Message, dir, "DIR")))
	}
	return found
}

func chart(name, path string) forge.NamedChart {
	return forge.NamedChart{Name: name, Chart: forge.Chart{Kind: forge.ChartPath, Path: path}}
}

// much adds a little more than 20 MiB of templates to a chart.
func much(chart map[string]string) map[string]string {
	for i := range 21 {
		chart[fmt.Sprintf("templates/t%d.yaml", i)] = strings.Repeat("a", 1<<20)
	}
	return chart
}

func TestCheckEnds(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"Chart.yaml": head, "templates/a.yaml": "{{ now }}"})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("interrupted")
	cancel(gone)
	found, err := localfiles.Check(ctx, dir, &forge.Forge{Environments: []forge.Environment{{Charts: []forge.NamedChart{chart("x", dir)}}}}, options(true))
	if !errors.Is(err, gone) || found != nil {
		t.Errorf("%v, %v", found, err)
	}
}

const head = "apiVersion: v2\nname: x\nversion: 1.0.0\n"

func TestCharts(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"a chart", map[string]string{"Chart.yaml": head, "templates/a.yaml": "a: {{ .Values.a | quote }}\n"}, nil},
		{"words that are no calls", map[string]string{
			"Chart.yaml": head, "templates/a.yaml": "# now\na: {{ .Values.now }} {{ \"randAlpha\" }} {{/* lookup */}}\n", "README.md": "{{ now }}",
		}, nil},
		{"a template that Helm cannot read", map[string]string{"Chart.yaml": head, "templates/a.yaml": "{{ now "}, nil},
		{"a chart that asks the clock, chance and the cluster", map[string]string{
			"Chart.yaml":           head,
			"templates/a.yaml":     "a: {{ now | unixEpoch }}\n",
			"templates/_h.tpl":     "{{ define \"x\" }}\n{{ if .a }}{{ with (lookup \"v1\" \"Secret\" \"a\" \"b\").data }}{{ . }}{{ else }}{{ (randAlphaNum 8) | b64enc }}{{ end }}{{ end }}{{ end }}",
			"templates/sub/b.yaml": "{{ range until 3 }}\n\n{{ $ca := genCA \"a\" 1 }}{{ end }}",
		}, []string{"chart-impure environments.dev.charts.x.path: it is not reproducible: " +
			"lookup in templates/_h.tpl:2, randAlphaNum in templates/_h.tpl:2, now in templates/a.yaml:1, and 1 more"}},
		{"a chart in a chart", map[string]string{"Chart.yaml": head, "charts/y/Chart.yaml": head, "charts/y/templates/a.yaml": "{{ uuidv4 }}"}, []string{
			"chart-impure environments.dev.charts.x.path: it is not reproducible: uuidv4 in charts/y/templates/a.yaml:1",
		}},
		{"no Chart.yaml", map[string]string{"templates/a.yaml": ""}, []string{
			"chart-source environments.dev.charts.x.path: DIR/chart is not a chart: Chart.yaml file is missing",
		}},
		{"nothing", nil, []string{"chart-source environments.dev.charts.x.path: DIR/chart is not a chart: it is not there"}},
		{"much to find", map[string]string{"Chart.yaml": head, "templates/a.yaml": "{{ now }}" + strings.Repeat("{{now}}\n", (1<<20-9)/8)}, []string{
			"chart-impure environments.dev.charts.x.path: it is not reproducible: " +
				"now in templates/a.yaml:1, now in templates/a.yaml:2, now in templates/a.yaml:3, and 131067 more",
		}},
		{"many variables", map[string]string{"Chart.yaml": head, "templates/a.yaml": strings.Repeat("{{$a:=1}}", 50_000) + "{{$z:=1}}" + strings.Repeat("{{$z}}", 80_000)}, []string{
			"chart-source environments.dev.charts.x.path: DIR/chart is not a chart: templates/a.yaml has too many variables",
		}},
		{"conditions in conditions", map[string]string{"Chart.yaml": head, "templates/a.yaml": strings.Repeat("{{- if 1 }}", 501) + strings.Repeat("{{ end }}", 501)}, []string{
			"chart-source environments.dev.charts.x.path: DIR/chart is not a chart: templates/a.yaml nests too deep",
		}},
		{"conditions after conditions", map[string]string{"Chart.yaml": head, "templates/a.yaml": "{{ if 1 }}" + strings.Repeat("{{ else if 2 }}", 50_000) + "{{ end }}"}, []string{
			"chart-source environments.dev.charts.x.path: DIR/chart is not a chart: templates/a.yaml nests too deep",
		}},
		{"many conditions", map[string]string{"Chart.yaml": head, "templates/a.yaml": strings.Repeat("{{ if 1 }}{{ else if 2 }}{{ else }}{{ end }}", 2000)}, nil},
		{"much text", much(map[string]string{"Chart.yaml": head}), []string{
			"chart-source environments.dev.charts.x.path: DIR/chart is not a chart: its templates are larger than 20 MiB",
		}},
		{"too large", map[string]string{"Chart.yaml": head, "templates/a.yaml": strings.Repeat("a", 1<<20+1)}, []string{
			"chart-source environments.dev.charts.x.path: DIR/chart is not a chart: templates/a.yaml is larger than 1 MiB",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "chart"), test.files)
			if test.files == nil {
				_ = os.Remove(filepath.Join(dir, "chart"))
			}
			got := check(dir, forge.Environment{Charts: []forge.NamedChart{chart("x", filepath.Join(dir, "chart"))}})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A link does not lead out of a chart, and a pipe is not waited for.
func TestChartThatReachesOut(t *testing.T) {
	for _, test := range []struct {
		name, to, want string
	}{
		{"b.yaml", "../../secret/templates/b.yaml", "templates/b.yaml is a link that leads nowhere, or out of it: path escapes from parent"},
		{"more", "../../secret", "templates/more is a link that leads nowhere, or out of it: path escapes from parent"},
		{"loop", ".", "templates/loop is a link to a directory; copy that instead"},
		{"pipe.yaml", "", "templates/pipe.yaml is not a regular file"},
	} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"chart/Chart.yaml": head, "chart/templates/a.yaml": "", "secret/templates/b.yaml": "{{ now }}"})
		at := filepath.Join(dir, "chart/templates", test.name)
		err := syscall.Mkfifo(at, 0o600)
		if test.to != "" {
			err = errors.Join(os.Remove(at), os.Symlink(test.to, at))
		}
		if err != nil {
			t.Fatal(err)
		}
		got := check(dir, forge.Environment{Charts: []forge.NamedChart{chart("x", filepath.Join(dir, "chart"))}})
		if diff := cmp.Diff([]string{"chart-source environments.dev.charts.x.path: DIR/chart is not a chart: " + test.want}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestAppChartIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"Chart.yaml": head, "templates/a.yaml": "{{ now }}"})
	c := chart("x", dir)
	env := forge.Environment{Charts: []forge.NamedChart{c}}
	env.App.Chart = &c.Chart
	if got := check(dir, env); len(got) != 2 || !strings.HasPrefix(got[0], "chart-impure environments.dev.app.chart.path: ") {
		t.Error(got)
	}
}

// Charts that are fetched are looked at when they have been fetched.
func TestChartElsewhere(t *testing.T) {
	c := chart("x", "")
	c.Kind, c.URL = forge.ChartOCI, "oci://example.com/x"
	if got := check(t.TempDir(), forge.Environment{Charts: []forge.NamedChart{c}}); got != nil {
		t.Error(got)
	}
}

func TestConfigFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.yaml": "a", "large.yaml": strings.Repeat("a", 1<<20+1)})
	file := func(at, name string) forge.ConfigFile { return forge.ConfigFile{Path: at, File: name} }
	env := forge.Environment{}
	env.App.ConfigFiles = []forge.ConfigFile{file("/a", filepath.Join(dir, "a.yaml")), file("/d", "."), file("/l", "large.yaml"), {Path: "/t", Text: "x"}}
	want := []string{
		"config-file app.configFiles./m.file: missing.yaml cannot be read: no such file or directory",
		"config-file environments.dev.app.configFiles./d.file: . is not a regular file",
		"config-file environments.dev.app.configFiles./l.file: large.yaml is larger than 1 MiB",
	}
	if diff := cmp.Diff(want, check(dir, env, file("/b", "a.yaml"), file("/m", "missing.yaml"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
