package helm

import (
	"errors"
	"strings"
	"testing"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func provider(files map[string]string) *Provider {
	return New(Options{Embedded: func(string) ([]charts.File, error) {
		var out []charts.File
		for name, text := range files {
			out = append(out, charts.File{Name: name, Data: []byte(text)})
		}
		return out, nil
	}})
}

func TestRenderKeyFollowsEverythingThatCouldChangeTheOutcome(t *testing.T) {
	secrets := forge.ID{Environment: "dev", Kind: forge.KindSecrets, Name: "shop"}
	base := func() (forge.ReleaseSpec, reconcile.Request) {
		spec := forge.ReleaseSpec{
			Name: "shop", Namespace: "shop-dev", Chart: "app",
			Values: map[string]any{"a": "1", "sums": map[string]any{}},
			Inputs: []forge.Input{{Path: []string{"sums", "env"}, From: secrets, Output: "checksum/env"}},
		}
		return spec, reconcile.Request{
			Resource: forge.Resource{ID: forge.ID{Environment: "dev", Kind: forge.KindRelease, Name: "app"}},
			Inputs:   map[forge.ID]reconcile.Outputs{secrets: {"checksum/env": {Value: "abc"}}},
		}
	}
	chart := map[string]string{"Chart.yaml": "name: app\nversion: 1.0.0\n"}
	desire := func(p *Provider, spec forge.ReleaseSpec, req reconcile.Request, sealing *seal) (desired, error) {
		return (&handle{p: p, req: req, spec: spec, seal: sealing}).desire(t.Context(), "", false)
	}
	usual := newSeal("the usual key")
	key := func(p *Provider, spec forge.ReleaseSpec, req reconcile.Request) string {
		t.Helper()
		d, err := desire(p, spec, req, usual)
		if err != nil || d.missing != nil {
			t.Fatalf("desire: %v, missing %v", err, d.missing)
		}
		return d.key
	}
	spec, req := base()
	first := key(provider(chart), spec, req)
	if again := key(provider(chart), spec, req); again != first {
		t.Errorf("same inputs, other key: %s and %s", first, again)
	}
	if _, written := spec.Values["sums"].(map[string]any)["env"]; written {
		t.Error("desire wrote into the values of the spec")
	}

	for name, change := range map[string]func(*forge.ReleaseSpec, *reconcile.Request, map[string]string){
		"value":     func(s *forge.ReleaseSpec, _ *reconcile.Request, _ map[string]string) { s.Values["a"] = "2" },
		"namespace": func(s *forge.ReleaseSpec, _ *reconcile.Request, _ map[string]string) { s.Namespace = "other" },
		"name":      func(s *forge.ReleaseSpec, _ *reconcile.Request, _ map[string]string) { s.Name = "other" },
		"chart": func(_ *forge.ReleaseSpec, _ *reconcile.Request, c map[string]string) {
			c["Chart.yaml"] = "name: app\nversion: 1.0.1\n"
		},
		"input": func(_ *forge.ReleaseSpec, r *reconcile.Request, _ map[string]string) {
			r.Inputs[secrets]["checksum/env"] = reconcile.Output{Value: "def"}
		},
	} {
		spec, req := base()
		c := map[string]string{"Chart.yaml": chart["Chart.yaml"]}
		change(&spec, &req, c)
		if key(provider(c), spec, req) == first {
			t.Errorf("%s changed, the key did not", name)
		}
	}

	spec, req = base()
	req.Inputs = nil
	d, err := desire(provider(chart), spec, req, usual)
	if err != nil || d.key != "" || reconcile.KindOf(d.missing) != reconcile.Waiting {
		t.Errorf("missing input: key %q, missing %v, err %v", d.key, d.missing, err)
	}

	spec, req = base()
	if d, err := desire(provider(chart), spec, req, newSeal("another key")); err != nil || d.key == first || newSeal("another key").made(first) || !usual.made(first) {
		t.Errorf("another key of checksums: key %q, err %v", d.key, err)
	}
	if d, err := desire(provider(chart), spec, req, nil); err != nil || d.key != "" || reconcile.KindOf(d.missing) != reconcile.Waiting {
		t.Errorf("no key of checksums: key %q, missing %v, err %v", d.key, d.missing, err)
	}
}

func TestParseManifest(t *testing.T) {
	objs, err := parseManifest(`---
# Source: app/templates/a.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
---
# only a comment
---
# Source: app/templates/list.yaml
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: b}}
- {apiVersion: v1, kind: Secret, metadata: {name: c}}
`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objs {
		got = append(got, o.GetKind()+"/"+o.GetName())
	}
	if s := strings.Join(got, " "); s != "ConfigMap/a Service/b Secret/c" {
		t.Errorf("got %s", s)
	}
	for name, text := range map[string]string{
		"key twice": "# Source: app/templates/a.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: x}\ndata: {k: y}\n",
		"no kind":   "# Source: app/templates/a.yaml\nmetadata: {name: a}\n",
		"not YAML":  "# Source: app/templates/a.yaml\n\tfoo: [\n",
	} {
		_, err := parseManifest(text)
		var e *reconcile.Error
		if !errors.As(err, &e) || e.Kind != reconcile.Invalid || !strings.Contains(err.Error(), "app/templates/a.yaml") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChangedFields(t *testing.T) {
	o := func(text string) object { return object{json: []byte(text)} }
	got := changedFields(
		o(`{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"x"},"spec":{"replicas":2,"gone":true,"c":[{"name":"app","image":"a:1"}],"l":[1,2]}}`),
		o(`{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"x","labels":{"app.kubernetes.io/name":"x"}},"spec":{"replicas":3,"m":{"a":"b"},"c":[{"name":"app","image":"a:2"}],"l":[1]}}`),
	)
	var lines []string
	for _, c := range got {
		lines = append(lines, strings.TrimSpace(c.Path)+": "+c.From+" → "+c.To)
	}
	want := `metadata.labels:  → {"app.kubernetes.io/name":"x"}
spec.c["app"].image: a:1 → a:2
spec.gone: true → 
spec.l: [1,2] → [1]
spec.m:  → {"a":"b"}
spec.replicas: 2 → 3`
	if s := strings.Join(lines, "\n"); s != want {
		t.Errorf("got\n%s\nwant\n%s", s, want)
	}
}
