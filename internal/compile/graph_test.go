package compile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
)

// TestProperties holds what the engine and the providers rely on, for every
// environment of the examples, of the test data, and of a matrix of platforms
// and services.
func TestProperties(t *testing.T) {
	var all []forge.Environment
	for _, e := range examples(t) {
		all = append(all, e.forge.Environments...)
	}
	for _, name := range environmentNames(t) {
		all = append(all, readEnvironment(t, name))
	}
	all = append(all, matrix(t)...)
	for _, env := range all {
		services := env.Services
		name := strings.Join([]string{env.Name, env.Platform.Kind, services.Postgres.Mode, services.Redis.Mode, services.Temporal.Mode}, "/")
		t.Run(name, func(t *testing.T) {
			resources, err := compile.Environment(env)
			if err != nil {
				t.Fatal(err)
			}
			again, err := compile.Environment(env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(resources, again); diff != "" {
				t.Errorf("compiled twice, differs:\n%s", diff)
			}
			checkGraph(t, env, resources)
			checkProvided(t, env, resources)
		})
	}
}

// matrix are environments with every way to run a service on every platform.
func matrix(t *testing.T) []forge.Environment {
	t.Helper()
	base := map[string]forge.Environment{}
	for _, e := range examples(t) {
		for _, env := range e.forge.Environments {
			if base[env.Platform.Kind].Name == "" || len(env.Workers)+len(env.Volumes) > len(base[env.Platform.Kind].Workers)+len(base[env.Platform.Kind].Volumes) {
				base[env.Platform.Kind] = env
			}
		}
	}
	url := forge.SecretRef{Env: "URL"}
	var all []forge.Environment
	for _, kind := range []string{forge.PlatformCompose, forge.PlatformMinikube, forge.PlatformKubernetes, forge.PlatformFKS, forge.PlatformFly} {
		modes := func(more ...string) []string {
			if kind == forge.PlatformFly {
				return append([]string{forge.ModeExternal, forge.ModeOff}, more...)
			}
			return append([]string{forge.ModeExternal, forge.ModeOff, forge.ModeInCluster}, more...)
		}
		postgres, redis, temporal := modes(), modes(), modes(forge.ModeCloud)
		if kind == forge.PlatformFKS || kind == forge.PlatformFly {
			postgres, redis = append(postgres, forge.ModeFlyManaged), append(redis, forge.ModeUpstash)
		}
		if kind == forge.PlatformFly {
			postgres, redis, temporal = append(postgres, forge.ModeFlyUnmanaged), append(redis, forge.ModeFlyApp), append(temporal, forge.ModeFlyApp)
		}
		for _, p := range postgres {
			for _, r := range redis {
				for _, m := range temporal {
					if p == forge.ModeOff && (m == forge.ModeInCluster || m == forge.ModeFlyApp) {
						continue
					}
					env := base[kind]
					env.Services.Postgres = forge.Postgres{
						Mode: p, Version: "16", Database: "appdb", Storage: "1Gi", Password: url, URL: url, SSLMode: "verify-full", CABundle: url,
						ManageRoles: p == forge.ModeExternal, Admin: url, Cluster: "db", AppName: "pg", TLS: p == forge.ModeInCluster,
					}
					env.Services.Redis = forge.Redis{Mode: r, Version: "7", MaxMemory: "1gb", Eviction: "noeviction", Password: url, URL: url, CABundle: url, Name: "cache"}
					env.Services.Temporal = forge.Temporal{
						Mode: m, Version: "1.29.0", HistoryShards: 4, Namespace: "shop", Password: url, Address: "t:7233",
						ClientCert: url, ClientKey: url, Web: true, WebPublic: true,
					}
					all = append(all, env)
				}
			}
		}
	}
	if len(all) < 100 {
		t.Fatalf("only %d environments", len(all))
	}
	return all
}

// checkGraph: needs come first, ids are unique and carry the environment's
// name, what flows comes from where it is needed.
func checkGraph(t *testing.T, env forge.Environment, resources []forge.Resource) {
	t.Helper()
	seen := map[forge.ID]bool{}
	secretNames := map[string]bool{}
	for _, resource := range resources {
		if id := resource.ID; id.Environment != env.Name || id.Kind == "" || id.Name == "" || strings.Contains(id.Name, "/") {
			t.Errorf("the id %s", id)
		}
		var parsed forge.ID
		if err := parsed.UnmarshalText([]byte(resource.ID.String())); err != nil || parsed != resource.ID {
			t.Errorf("the id %s reads as %s, %v", resource.ID, parsed, err)
		}
		if seen[resource.ID] {
			t.Errorf("%s is there twice", resource.ID)
		}
		needed := map[forge.ID]bool{}
		for _, need := range resource.Needs {
			if !seen[need] {
				t.Errorf("%s needs %s, which does not come before it", resource.ID, need)
			}
			if needed[need] {
				t.Errorf("%s needs %s twice", resource.ID, need)
			}
			needed[need] = true
		}
		for _, before := range resource.After {
			if !seen[before] || needed[before] {
				t.Errorf("%s comes after %s, which does not come before it, or which it needs", resource.ID, before)
			}
		}
		seen[resource.ID] = true
		if cluster := resource.Target.Cluster; cluster != (forge.ID{}) && !needed[cluster] {
			t.Errorf("%s does not need the cluster it lives in", resource.ID)
		}
		flows := func(from forge.ID, output string) {
			if !needed[from] || output == "" {
				t.Errorf("%s takes %q from %s, which it does not need", resource.ID, output, from)
			}
		}
		switch spec := resource.Spec.(type) {
		case forge.SecretsSpec:
			checkSecrets(t, spec.Secrets, flows)
			for _, object := range spec.Secrets {
				secretNames[object.Name] = true
			}
		case forge.FlySecretsSpec:
			checkSecrets(t, spec.Apps, flows)
		case forge.ComposeSecretsSpec:
			checkSecrets(t, spec.Secrets, flows)
		case forge.ComposeProjectSpec:
			checkProject(t, spec)
			for _, input := range spec.Inputs {
				flows(input.From, input.Output)
			}
		case forge.FlyMachinesSpec:
			if spec.Secrets.Output != "" {
				flows(spec.Secrets.From, spec.Secrets.Output)
			}
		case forge.FlyJobSpec:
			flows(spec.Secrets.From, spec.Secrets.Output)
		case forge.ReleaseSpec:
			if (spec.Chart == "") == (spec.Source == nil) {
				t.Errorf("%s: want either an embedded chart or the user's", resource.ID)
			}
			checkJSON(t, resource.ID.String(), spec.Values)
			for _, input := range spec.Inputs {
				flows(input.From, input.Output)
				at := spec.Values
				for _, key := range input.Path[:len(input.Path)-1] {
					at, _ = at[key].(map[string]any)
				}
				if at == nil {
					t.Errorf("%s has no map for the input %q", resource.ID, input.Path)
				}
				if of, ok := strings.CutPrefix(input.Output, "checksum/"); ok && !secretNames[of] {
					t.Errorf("%s takes the checksum of %q, which is no Secret", resource.ID, of)
				}
			}
		}
	}
}

func checkSecrets(t *testing.T, objects []forge.SecretObject, flows func(forge.ID, string)) {
	t.Helper()
	entries := map[string]forge.SecretEntry{}
	previous := ""
	for _, object := range objects {
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
		if (entry.Ref == nil) == (entry.Join == nil) || entry.Ref != nil && entry.Ref.IsZero() {
			t.Errorf("%s: want either a reference or parts", name)
		}
		inURL := strings.Contains(name, "_URL")
		for i, part := range entry.Join {
			sources := 0
			for _, set := range []bool{part.Literal != "", part.Secret != "", part.Ref != nil, part.From != forge.ID{}} {
				if set {
					sources++
				}
			}
			if sources != 1 {
				t.Errorf("%s: part %d has %d sources", name, i, sources)
			}
			if part.Secret != "" {
				if other, ok := entries[part.Secret+"/"+part.Key]; !ok || other.Ref == nil {
					t.Errorf("%s joins %s/%s, which is not there or not a reference", name, part.Secret, part.Key)
				}
			}
			if part.From != (forge.ID{}) {
				flows(part.From, part.Output)
			}
			secret := part.Secret != "" || part.Field == "password" || part.Output == forge.OutputPassword
			if inURL && secret && !part.URLEscape {
				t.Errorf("%s joins a password into a URL without escaping it", name)
			}
		}
		if strings.HasSuffix(name, "/DATABASE_URL") {
			checkDatabaseURL(t, entry.Join)
		}
	}
}

// checkDatabaseURL: one scheme for every client, and always a port (pitfalls
// of apps that take the URL apart and put it together again).
func checkDatabaseURL(t *testing.T, parts []forge.SecretPart) {
	t.Helper()
	var shape strings.Builder
	for _, part := range parts {
		if part.Literal != "" {
			shape.WriteString(part.Literal)
		} else {
			shape.WriteString("<" + part.Key + part.Field + part.Output + ">")
		}
	}
	switch got, _, _ := strings.Cut(shape.String(), "?"); got {
	case "postgresql://appuser:<password>@shop-postgres:5432/appdb",
		"postgresql://appuser:<password>@till-postgres:5432/appdb",
		"postgresql://appuser:<password>@shop-postgres:5432/shop",
		"postgresql://appuser:<POSTGRES_PASSWORD>@postgres:5432/appdb",
		"postgresql://<user>:<password>@<host>:<port>/<path>",
		"postgresql://<user>:<password>@<host>:<port>/<database>":
	default:
		t.Errorf("DATABASE_URL is %s", got)
	}
}

// checkProject: services of Compose need what is there, without a circle.
func checkProject(t *testing.T, spec forge.ComposeProjectSpec) {
	t.Helper()
	var seen []string
	for _, service := range spec.Services {
		for _, need := range service.Needs {
			if !slices.Contains(seen, need) {
				t.Errorf("%s needs %s, which does not come before it", service.Name, need)
			}
		}
		seen = append(seen, service.Name)
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

// checkProvided: what no provider of this build knows is a gap.
func checkProvided(t *testing.T, env forge.Environment, resources []forge.Resource) {
	t.Helper()
	if len(compile.Gaps(&forge.Forge{Environments: []forge.Environment{env}})) > 0 {
		return
	}
	for _, resource := range resources {
		switch spec := resource.Spec.(type) {
		case forge.ReleaseSpec:
			if table := spec.Rules.Table; table != "" && table != forge.TableFKS {
				t.Errorf("%s: no provider has the rules %q", resource.ID, table)
			}
		case forge.FlyClusterSpec, forge.FlyCertificateSpec, forge.FlyPostgresSpec, forge.FlyPostgresAppSpec, forge.UpstashRedisSpec, forge.EndpointSpec:
		case forge.NamespaceSpec, forge.SecretsSpec, forge.ConfigSpec, forge.ClaimSpec, forge.JobSpec, forge.ImageSpec,
			forge.CertificateSpec, forge.IssuerSpec, forge.DNSSpec, forge.CheckSpec, forge.RolesSpec:
		default:
			t.Errorf("%s: no provider knows it, and it is no gap", resource.ID)
		}
		if resource.Target == (forge.Target{}) {
			t.Errorf("%s: no provider reaches it", resource.ID)
		}
	}
}
