package compile_test

import (
	"encoding/json"
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
		"prod/certificate/app", "prod/dns/app",
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
