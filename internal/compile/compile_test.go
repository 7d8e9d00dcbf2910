package compile_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
)

var update = flag.Bool("update", false, "write what the tests find into their golden files")

func readEnvironment(t *testing.T, name string) forge.Environment {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "environments", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var env forge.Environment
	if err := yaml.UnmarshalStrict(data, &env); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return env
}

func environmentNames(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "environments", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no environments: %v", err)
	}
	var names []string
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".yaml"))
	}
	return names
}

func TestEnvironmentGolden(t *testing.T) {
	for _, name := range environmentNames(t) {
		t.Run(name, func(t *testing.T) {
			resources, err := compile.Environment(readEnvironment(t, name))
			if err != nil {
				t.Fatal(err)
			}
			again, err := compile.Environment(readEnvironment(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(resources, again); diff != "" {
				t.Errorf("compiled twice, differs:\n%s", diff)
			}
			got, err := json.MarshalIndent(resources, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			golden := filepath.Join("testdata", "resources", name+".json")
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s differs (-update writes it):\n%s", golden, diff)
			}
		})
	}
}

// TestGraph holds what the engine relies on: needs come first, inputs come
// from needs, and their paths exist in the values.
func TestGraph(t *testing.T) {
	for _, name := range environmentNames(t) {
		t.Run(name, func(t *testing.T) {
			resources, err := compile.Environment(readEnvironment(t, name))
			if err != nil {
				t.Fatal(err)
			}
			seen := map[forge.ID]bool{}
			secretNames := map[string]bool{}
			for _, resource := range resources {
				needed := map[forge.ID]bool{}
				for _, need := range resource.Needs {
					if !seen[need] {
						t.Errorf("%s needs %s, which does not come before it", resource.ID, need)
					}
					needed[need] = true
				}
				if seen[resource.ID] {
					t.Errorf("%s is there twice", resource.ID)
				}
				seen[resource.ID] = true
				switch spec := resource.Spec.(type) {
				case forge.SecretsSpec:
					checkSecrets(t, spec)
					for _, object := range spec.Secrets {
						secretNames[object.Name] = true
					}
				case forge.ReleaseSpec:
					checkJSON(t, resource.ID.String(), spec.Values)
					for _, input := range spec.Inputs {
						if !needed[input.From] {
							t.Errorf("%s takes an input from %s, which it does not need", resource.ID, input.From)
						}
						of, isChecksum := strings.CutPrefix(input.Output, "checksum/")
						if !isChecksum || !secretNames[of] || input.Path[len(input.Path)-1] != of {
							t.Errorf("%s takes %q into %q, which is no checksum of a Secret", resource.ID, input.Output, input.Path)
						}
						if _, ok := spec.Values[input.Path[0]].(map[string]any); !ok || len(input.Path) != 2 {
							t.Errorf("%s has no map for the input %q", resource.ID, input.Path)
						}
					}
				}
			}
		})
	}
}

func checkSecrets(t *testing.T, spec forge.SecretsSpec) {
	t.Helper()
	entries := map[string]forge.SecretEntry{}
	previous := ""
	for _, object := range spec.Secrets {
		if object.Name <= previous {
			t.Errorf("Secret %q comes after %q: not sorted", object.Name, previous)
		}
		previous = object.Name
		key := ""
		for _, entry := range object.Entries {
			if entry.Key <= key {
				t.Errorf("%s: key %q comes after %q: not sorted", object.Name, entry.Key, key)
			}
			key = entry.Key
			entries[object.Name+"/"+entry.Key] = entry
		}
	}
	for name, entry := range entries {
		if (entry.Ref == nil) == (entry.Join == nil) {
			t.Errorf("%s: want either a reference or parts", name)
		}
		for _, part := range entry.Join {
			if part.Secret == "" {
				continue
			}
			if other, ok := entries[part.Secret+"/"+part.Key]; !ok || other.Ref == nil {
				t.Errorf("%s joins %s/%s, which is not there or not a reference", name, part.Secret, part.Key)
			}
			if !part.URLEscape {
				t.Errorf("%s joins %s/%s into a URL without escaping it", name, part.Secret, part.Key)
			}
		}
	}
}

// checkJSON makes sure that values survive being stored in a release record.
func checkJSON(t *testing.T, at string, value any) {
	t.Helper()
	switch value := value.(type) {
	case string, bool, int64, float64:
	case map[string]any:
		for key, inner := range value {
			checkJSON(t, at+"."+key, inner)
		}
	case []any:
		for i, inner := range value {
			checkJSON(t, fmt.Sprintf("%s[%d]", at, i), inner)
		}
	default:
		t.Errorf("%s is a %T", at, value)
	}
}

// TestEnvironmentDoesNotAlias: what is compiled shares nothing with the model,
// so that neither can change under the other.
func TestEnvironmentDoesNotAlias(t *testing.T) {
	env := readEnvironment(t, "full")
	resources, err := compile.Environment(env)
	if err != nil {
		t.Fatal(err)
	}
	before, err := json.Marshal(resources)
	if err != nil {
		t.Fatal(err)
	}
	env.App.Env["LOG_LEVEL"] = "changed"
	env.App.Args[0] = "changed"
	env.Domains[0] = "changed"
	env.Expose.Annotations["nginx.ingress.kubernetes.io/proxy-body-size"] = "changed"
	env.Workers[0].Args[0] = "changed"
	after, err := json.Marshal(resources)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, after) {
		t.Error("a change of the model changed the resources compiled from it")
	}
}

func TestEnvironmentRefuses(t *testing.T) {
	generate := forge.SecretRef{Generate: &forge.Generate{Alphabet: "alnum", Length: 32}}
	tests := []struct {
		name   string
		change func(*forge.Environment)
		want   string
	}{
		{"platform", func(e *forge.Environment) { e.Platform.Kind = "compose" }, `platform.kind "compose" is none of`},
		{"no namespace", func(e *forge.Environment) { e.Platform.Namespace = "" }, "platform.namespace is empty"},
		{"long name", func(e *forge.Environment) { e.App.Name = strings.Repeat("a", 50) }, "shorten app.name"},
		{"own Secret", func(e *forge.Environment) { e.App.Name, e.Name = "forged", "redis" }, `the Secret "forged-redis" would be both`},
		{"injected env", func(e *forge.Environment) { e.App.Env = map[string]string{"APP_DB": "x"} }, "app.env.APP_DB is set by forged from services.postgres"},
		{"injected secret", func(e *forge.Environment) { e.App.Secrets["REDIS_URL"] = generate }, "app.secrets.REDIS_URL is set by forged from services.redis"},
		{"two sources", func(e *forge.Environment) { e.App.Env = map[string]string{"SESSION_SIGNING_SECRET": "x"} }, "stands in app.env and in app.secrets"},
		{"control character", func(e *forge.Environment) { e.App.Env = map[string]string{"A": "a\u0085b"} }, "app.env.A holds the control character U+0085"},
		{"no text", func(e *forge.Environment) { e.App.Args = []string{"a", "\xff"} }, "app.args[1] is not UTF-8"},
		{"annotation", func(e *forge.Environment) { e.Expose.Annotations = map[string]string{"a/b": "\x7f"} }, "expose.annotations.a/b holds the control character U+007F"},
		{"worker's argument", func(e *forge.Environment) {
			e.Workers = []forge.Worker{{Name: "mails", HealthExec: []string{"\ufeff"}}}
		}, "workers.mails.health.exec[0] holds the control character U+FEFF"},
		{"no source", func(e *forge.Environment) { e.App.Secrets["A"] = forge.SecretRef{} }, "app.secrets.A must name exactly one source"},
		{"many sources", func(e *forge.Environment) { e.Services.Redis.Password = forge.SecretRef{Env: "A", File: "b"} }, "services.redis.password must name exactly one source"},
		{"no password", func(e *forge.Environment) { e.Services.Postgres.Password = forge.SecretRef{} }, "services.postgres.password must name exactly one source"},
		{"postgres mode", func(e *forge.Environment) { e.Services.Postgres.Mode = "external" }, `services.postgres.mode "external" is none of in-cluster, off`},
		{"redis mode", func(e *forge.Environment) { e.Services.Redis.Mode = "" }, `services.redis.mode "" is none of in-cluster, off`},
		{"postgres version", func(e *forge.Environment) { e.Services.Postgres.Version = "9" }, `services.postgres.version "9" is none of 15, 16, 17`},
		{"redis version", func(e *forge.Environment) { e.Services.Redis.Version = "6" }, `services.redis.version "6" is none of 7, 8`},
		{"redis memory", func(e *forge.Environment) { e.Services.Redis.MaxMemory = "much" }, `services.redis.maxMemory "much" is not a Redis memory size`},
		{"no redis memory", func(e *forge.Environment) { e.Services.Redis.MaxMemory = "0" }, `services.redis.maxMemory "0" is not a Redis memory size`},
		{"max below min", func(e *forge.Environment) { e.Scaling = forge.Scaling{Min: 3, Max: 2} }, "scaling.max 2 is below min 3"},
		{"no metric", func(e *forge.Environment) { e.Scaling = forge.Scaling{Min: 1, Max: 2} }, "an autoscaler needs cpuTarget or memoryTarget"},
		{"from nothing", func(e *forge.Environment) { e.Scaling = forge.Scaling{Max: 2, CPUTarget: 50} }, "an autoscaler cannot go below 1"},
		{"worker metric", func(e *forge.Environment) {
			e.Workers = []forge.Worker{{Name: "mails", Scaling: forge.Scaling{Min: 1, Max: 2}}}
		}, "workers.mails.scaling: max is above min"},
		{"worker twice", func(e *forge.Environment) { e.Workers = []forge.Worker{{Name: "mails"}, {Name: "mails"}} }, "workers.mails is there twice"},
		{"ingress without host", func(e *forge.Environment) { e.Expose.Kind = forge.ExposeIngress }, "domains is empty"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			env := readEnvironment(t, "minikube")
			test.change(&env)
			resources, err := compile.Environment(env)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
			if want := fmt.Sprintf("environment %q", env.Name); !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not name the %s", err, want)
			}
			if resources != nil {
				t.Errorf("resources besides an error: %v", resources)
			}
		})
	}
}

func TestEnvironmentReportsEverything(t *testing.T) {
	env := readEnvironment(t, "minikube")
	env.Platform.Namespace = ""
	env.Scaling = forge.Scaling{Min: 3, Max: 2}
	_, err := compile.Environment(env)
	for _, want := range []string{"platform.namespace", "scaling.max"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}

func TestForge(t *testing.T) {
	local, prod := readEnvironment(t, "minikube"), readEnvironment(t, "full")
	resources, err := compile.Forge(&forge.Forge{App: local.App, Environments: []forge.Environment{local, prod}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, resource := range resources {
		got = append(got, resource.ID.String())
	}
	want := []string{
		"local/namespace/shop-local", "local/secrets/shop", "local/release/postgres", "local/release/redis", "local/release/app",
		"prod/namespace/shop", "prod/secrets/shop", "prod/release/postgres", "prod/release/redis", "prod/release/app",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	t.Run("same place", func(t *testing.T) {
		twin := readEnvironment(t, "minikube")
		twin.Name = "twin"
		resources, err := compile.Forge(&forge.Forge{Environments: []forge.Environment{local, twin}})
		if err == nil || !strings.Contains(err.Error(), `belongs to environment "local" already`) || resources != nil {
			t.Errorf("got %v, %v", resources, err)
		}
	})
	t.Run("one is wrong", func(t *testing.T) {
		wrong := readEnvironment(t, "loadbalancer")
		wrong.Services.Redis.Version = "6"
		resources, err := compile.Forge(&forge.Forge{Environments: []forge.Environment{local, wrong}})
		if err == nil || !strings.Contains(err.Error(), `environment "staging"`) || resources != nil {
			t.Errorf("got %v, %v", resources, err)
		}
	})
}

// TestMinikube: the same as anywhere but for the size of the servers.
func TestMinikube(t *testing.T) {
	env := readEnvironment(t, "minikube")
	small := release(t, env, "postgres")
	env.Platform.Kind = forge.PlatformKubernetes
	large := release(t, env, "postgres")
	if cmp.Equal(small.Values["resources"], large.Values["resources"]) {
		t.Error("PostgreSQL asks for as much on a laptop as elsewhere")
	}
	delete(small.Values, "resources")
	delete(large.Values, "resources")
	if diff := cmp.Diff(large, small); diff != "" {
		t.Errorf("more than the resources differs:\n%s", diff)
	}
}

func release(t *testing.T, env forge.Environment, name string) forge.ReleaseSpec {
	t.Helper()
	resources, err := compile.Environment(env)
	if err != nil {
		t.Fatal(err)
	}
	for _, resource := range resources {
		if resource.ID.Kind == forge.KindRelease && resource.ID.Name == name {
			return resource.Spec.(forge.ReleaseSpec)
		}
	}
	t.Fatalf("no release %s", name)
	return forge.ReleaseSpec{}
}

func TestRedisMemoryLimit(t *testing.T) {
	tests := map[string]string{
		"512mb": "1088Mi",
		"512MB": "1088Mi",
		"1gb":   "2112Mi",
		"1g":    "1972Mi", // 10^9
		"100m":  "255Mi",  // 10^8
		"100kb": "65Mi",
		"1":     "65Mi",
	}
	for maxMemory, want := range tests {
		t.Run(maxMemory, func(t *testing.T) {
			env := readEnvironment(t, "minikube")
			env.Services.Redis.MaxMemory = maxMemory
			resources := release(t, env, "redis").Values["resources"].(map[string]any)
			if got := resources["memoryLimit"]; got != want {
				t.Errorf("got %v, want %s", got, want)
			}
		})
	}
}

// TestDurations: a shorter time than asked for could be too short.
func TestDurations(t *testing.T) {
	env := readEnvironment(t, "minikube")
	env.App.Health.Timeout = 1500 * time.Millisecond
	env.App.Health.Startup = 0
	health := release(t, env, "app").Values["health"].(map[string]any)
	if got := health["timeoutSeconds"]; got != int64(2) {
		t.Errorf("1.5 s became %v", got)
	}
	if got := health["startupSeconds"]; got != int64(1) {
		t.Errorf("nothing became %v", got)
	}
}
