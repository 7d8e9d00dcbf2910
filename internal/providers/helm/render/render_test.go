package render_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/apart"
	"forged.dev/forged/internal/providers/helm/render"
)

// TestMain is a child's side when this binary is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		if err := render.Serve(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func child(t *testing.T, b apart.Bounds) *render.Child {
	t.Helper()
	c := render.NewChild(b, "serve")
	t.Cleanup(c.Close)
	return c
}

func input(files map[string]string) render.Input {
	in := render.Input{
		Name: "shop", Namespace: "shop-prod", Revision: 3,
		Serves: &render.Serves{Version: "v1.30.1", Major: "1", Minor: "30", APIs: []string{"apps/v1", "apps/v1/Deployment", "v1"}},
	}
	files["Chart.yaml"] = "apiVersion: v2\nname: shop\nversion: 1.0.0\n"
	for name, text := range files {
		in.Files = append(in.Files, charts.File{Name: name, Data: []byte(text)})
	}
	return in
}

// cluster is what is looked up in it, by kind, namespace and name.
type cluster map[string]map[string]any

func (c cluster) Namespaced(_, kind string) (bool, error) {
	if kind == "Unicorn" {
		return false, errors.New("there are no unicorns")
	}
	return kind != "Node", nil
}

func (c cluster) Find(_, kind, namespace, name string) (map[string]any, error) {
	if kind == "Secret" {
		return nil, errors.New("it may not be read")
	}
	return c[kind+" "+namespace+"/"+name], nil
}

// What a child makes of a chart is what the same function makes of it here,
// with every type of value, and with text that is no text.
func TestChildRendersTheSame(t *testing.T) {
	t.Parallel()
	in := input(map[string]string{
		"values.yaml":           "gone: {a: 1}\nfive: 5\n",
		"files/binary":          "\xff\xfe",
		"templates/NOTES.txt":   "{{ lookup \"v1\" \"Secret\" \"a\" \"b\" }}",
		"templates/_none.tpl":   `{{ define "x" }}{{ end }}`,
		"templates/binary.yaml": `{{ .Files.Get "files/binary" }}`,
		"templates/values.yaml": `{{ range $k, $v := .Values }}{{ $k }}: {{ kindOf $v }} {{ $v }}{{ "\n" }}{{ end }}{{ .Values.gone }} {{ .Values.list }}`,
		"templates/release.yaml": `{{ .Release.Name }} {{ .Release.Namespace }} {{ .Release.Revision }} {{ .Release.IsInstall }} {{ .Release.IsUpgrade }}
{{ .Capabilities.KubeVersion.Version }} {{ .Capabilities.APIVersions.Has "apps/v1/Deployment" }} {{ .Capabilities.APIVersions.Has "batch/v1" }}`,
		"templates/lookup.yaml": `{{ $m := lookup "v1" "ConfigMap" "shop-prod" "one" }}{{ kindOf $m.spec.whole }} {{ kindOf $m.spec.part }} {{ $m.metadata.name }}
{{ lookup "v1" "ConfigMap" "shop-prod" "two" }} {{ len (lookup "v1" "Node" "" "").items }}`,
	})
	in.Values = map[string]any{
		"int": 3, "long": int64(1 << 53), "float": 3.0, "huge": 1e21, "text": "é<&>\u2028", "yes": true, "gone": nil,
		"number": json.Number("3.10"), "list": []any{1, "a", nil, map[string]any{}}, "map": map[string]any{"a": int64(1)},
	}
	c := cluster{
		"ConfigMap shop-prod/one": {"metadata": map[string]any{"name": "one"}, "spec": map[string]any{"whole": int64(3), "part": 3.5}},
		"Node /":                  {"items": []any{map[string]any{"metadata": map[string]any{"name": "a"}}}},
	}
	want, err := render.Here(in, c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := child(t, apart.Bounds{}).Render(t.Context(), in, c)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, noted := got.Texts["shop/templates/NOTES.txt"]; noted || !got.Heard.Version || !got.Heard.APIs["apps/v1/Deployment"] || got.Heard.All || len(got.Heard.APIs) != 2 {
		t.Errorf("%+v", got)
	}
	if text := got.Texts["shop/templates/binary.yaml"]; text != "\xff\xfe" {
		t.Errorf("%q", text)
	}
	if text := got.Texts["shop/templates/lookup.yaml"]; text != "int64 float64 one\nmap[] 1" {
		t.Errorf("%q", text)
	}
	in = input(map[string]string{"templates/dice.yaml": "{{ randAlphaNum 20 }}"})
	in.Twice = true
	got, err = child(t, apart.Bounds{}).Render(t.Context(), in, c)
	if err != nil || len(got.Texts) != 1 || got.Texts["shop/templates/dice.yaml"] == got.Again["shop/templates/dice.yaml"] {
		t.Errorf("twice: %v, %v", got, err)
	}
}

// A chart may ask for any amount of memory and time: in one step, step by step,
// by nesting, or in what comes out. That is an error which says what it is, and
// the process that asked holds nothing of it.
func TestHostileTemplates(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		template string
		want     error
		words    string
	}{
		"a long range":         {`{{ range until 10000000000 }}{{ end }}`, apart.ErrMemory, ""},
		"text repeated":        {`{{ repeat 10000000000 "x" }}`, apart.ErrMemory, ""},
		"text that doubles":    {`{{ $x := "xxxxxxxx" }}{{ range until 40 }}{{ $x = print $x $x }}{{ end }}`, apart.ErrMemory, ""},
		"no end":               {`{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}`, apart.ErrTime, ""},
		"a template in itself": {`{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}`, nil, "exceeded maximum template depth"},
		"much text":            {`{{ range until 3000 }}{{ repeat 3000 "x" }}{{ "\n---\n" }}{{ end }}`, nil, "9015000 bytes long; forged takes 8 MiB"},
		"a large object":       {`{{ repeat 5000000 "x" }}`, nil, "shop/templates/x.yaml makes an object of 5000000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := 2 * time.Minute // of a machine with other work
			if errors.Is(test.want, apart.ErrTime) {
				limit = time.Second
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), limit, apart.ErrTime)
			defer cancel()
			_, err := child(t, apart.Bounds{Time: limit, Memory: 192 << 20}).Render(ctx, input(map[string]string{"templates/x.yaml": test.template}), cluster{})
			if test.want != nil && !errors.Is(err, test.want) || err == nil || !strings.Contains(err.Error(), test.words) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// What a cluster answers with an error is that error, and not that of a
// template.
func TestLookupThatFails(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		`{{ lookup "v1" "Secret" "shop" "x" }}`:       "it may not be read",
		`{{ lookup "horn/v1" "Unicorn" "shop" "x" }}`: "there are no unicorns",
		`{{ fail "no" }}`:                             "execution error at (shop/templates/x.yaml:1:3): no",
	} {
		_, err := child(t, apart.Bounds{}).Render(t.Context(), input(map[string]string{"templates/x.yaml": template}), cluster{})
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v", template, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	gone := errors.New("no longer wanted")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(200*time.Millisecond, func() { cancel(gone) })
	in := input(map[string]string{"templates/x.yaml": `{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}`})
	if _, err := child(t, apart.Bounds{}).Render(ctx, in, cluster{}); !errors.Is(err, gone) {
		t.Error(err)
	}
}

// One process renders many charts, one after the other, and none of them finds
// anything of the one before. What has come to a bad end is not used again, and
// one that the system has ended while it waited is no error of the next chart.
func TestChildIsUsedAgain(t *testing.T) {
	t.Parallel()
	c := child(t, apart.Bounds{Memory: 192 << 20})
	started := 0
	c.OnStart(func(int) { started++ })
	ask := func(template string) (render.Output, error) {
		return c.Render(t.Context(), input(map[string]string{"templates/x.yaml": template}), cluster{})
	}
	good := func() {
		t.Helper()
		out, err := ask(`{{ .Release.Name }}{{ include "x" . }}{{ define "x" }}!{{ end }}`)
		if err != nil || out.Texts["shop/templates/x.yaml"] != "shop!" {
			t.Errorf("%v, %v", out, err)
		}
	}
	for range 20 {
		good()
		if _, err := ask(`{{ fail "no" }}`); err == nil {
			t.Error("no error")
		}
		if _, err := ask(`{{ lookup "v1" "Secret" "shop" "x" }}`); err == nil || err.Error() != "it may not be read" {
			t.Error(err)
		}
		if _, err := ask(`{{ include "x" . }}`); err == nil || !strings.Contains(err.Error(), "no template") {
			t.Errorf("it knows the chart before: %v", err)
		}
	}
	if started != 1 {
		t.Errorf("%d processes", started)
	}
	if _, err := ask(`{{ range until 10000000000 }}{{ end }}`); !errors.Is(err, apart.ErrMemory) {
		t.Error(err)
	}
	good()
	c.KillIdle()
	good()
}

// A child whose parent is gone ends, and a person who finds the command is told
// that it is not for people.
func TestServe(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"nothing": "", "a person who types": "hello, is anybody there?\n", "half": "\x00\x00\x00\x00\x00\x00\x00\x09{}",
		"no question": "\x00\x00\x00\x00\x00\x00\x00\x02[]",
	} {
		if err := render.Serve(t.Context(), strings.NewReader(in), io.Discard); err == nil || !strings.Contains(err.Error(), "for forged itself") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
