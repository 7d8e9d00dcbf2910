package charts_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
)

var update = flag.Bool("update", false, "write what the tests find into their golden files")

// rendering is one chart with one set of values.
type rendering struct {
	name      string // chart/set or environment/release
	chart     string
	release   string
	namespace string
	values    map[string]any
}

func (r rendering) render(t *testing.T) string {
	t.Helper()
	return mustRender(t, r.chart, r.release, r.namespace, r.values)
}

// renderings are all value sets and all releases of all environments: what
// holds for every chart is tested on every one of them.
func renderings(t *testing.T) []rendering {
	t.Helper()
	var all []rendering
	for _, chart := range charts.Names() {
		all = append(all, valueSets(t, chart)...)
	}
	for _, env := range environments(t) {
		all = append(all, env.releases...)
	}
	return all
}

// valueSets are the sets of values in testdata, for one chart.
func valueSets(t *testing.T, chart string) []rendering {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "values", chart, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no values for %s: %v", chart, err)
	}
	var sets []rendering
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]any{}
		if err := yaml.UnmarshalStrict(data, &values); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		set := strings.TrimSuffix(filepath.Base(file), ".yaml")
		sets = append(sets, rendering{chart + "/" + set, chart, "shop-" + chart, "shop-prod", values})
	}
	return sets
}

// environment is one of compile's, with its releases ready to render.
type environment struct {
	name     string
	env      forge.Environment
	secrets  forge.SecretsSpec
	made     map[string][]string // what no chart makes, with its keys, by kind and name
	jobs     []forge.JobSpec
	releases []rendering
}

func environments(t *testing.T) []environment {
	t.Helper()
	dir := filepath.Join("..", "internal", "compile", "testdata", "environments")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no environments: %v", err)
	}
	var all []environment
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e := environment{made: map[string][]string{}, name: strings.TrimSuffix(filepath.Base(file), ".yaml")}
		if err := yaml.UnmarshalStrict(data, &e.env); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		resources, err := compile.Environment(e.env)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, resource := range resources {
			switch spec := resource.Spec.(type) {
			case forge.SecretsSpec:
				e.secrets = spec
				for _, object := range spec.Secrets {
					for _, entry := range object.Entries {
						e.made["secret/"+object.Name] = append(e.made["secret/"+object.Name], entry.Key)
					}
				}
			case forge.CertificateSpec:
				e.made["secret/"+spec.Secret] = []string{"tls.crt", "tls.key", "ca.crt"}
			case forge.ConfigSpec:
				for _, file := range spec.Files {
					e.made["config/"+spec.Name] = append(e.made["config/"+spec.Name], file.Key)
				}
			case forge.ClaimSpec:
				e.made["claim/"+spec.Name] = []string{}
			case forge.JobSpec:
				e.jobs = append(e.jobs, spec)
			case forge.ReleaseSpec:
				e.releases = append(e.releases, rendering{
					e.name + "/" + spec.Name, spec.Chart, spec.Name, spec.Namespace, withInputs(t, spec),
				})
			}
		}
		all = append(all, e)
	}
	return all
}

// withInputs puts a made-up output where each input goes, as the installer
// puts the real one.
func withInputs(t *testing.T, spec forge.ReleaseSpec) map[string]any {
	t.Helper()
	values := clone(spec.Values)
	for _, input := range spec.Inputs {
		at := values
		for _, key := range input.Path[:len(input.Path)-1] {
			inner, ok := at[key].(map[string]any)
			if !ok {
				t.Fatalf("%s: no map at %q for the input %q", spec.Name, key, input.Path)
			}
			at = inner
		}
		at[input.Path[len(input.Path)-1]] = "checksum-of-" + input.Output
	}
	return values
}

func TestGolden(t *testing.T) {
	for _, r := range renderings(t) {
		t.Run(r.name, func(t *testing.T) {
			got := r.render(t)
			golden := filepath.Join("testdata", "golden", filepath.FromSlash(r.name)+".yaml")
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s differs (-update writes it):\n%s", golden, diff)
			}
		})
	}
}

// TestReproducible: the same values give the same bytes, also after they have
// been through JSON, as release records keep them.
func TestReproducible(t *testing.T) {
	for _, r := range renderings(t) {
		t.Run(r.name, func(t *testing.T) {
			first := r.render(t)
			if again := r.render(t); again != first {
				t.Error(cmp.Diff(first, again))
			}
			stored, err := json.Marshal(r.values)
			if err != nil {
				t.Fatal(err)
			}
			read := map[string]any{}
			if err := json.Unmarshal(stored, &read); err != nil {
				t.Fatal(err)
			}
			r.values = read
			if again := r.render(t); again != first {
				t.Error(cmp.Diff(first, again))
			}
		})
	}
}
