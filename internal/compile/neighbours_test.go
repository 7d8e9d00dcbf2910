package compile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

// TestNeighbours: names that two environments would share are found at the
// later one.
func TestNeighbours(t *testing.T) {
	const head = "forge: \"v1\"\napp: {name: \"shop\", image: {repository: \"shop\", tag: \"1\"}}\n"
	fly := func(name, more string) string {
		return `environments: "` + name + `": {
			platform: {kind: "fly", org: "acme"}
			regions: iad: primary: true
			` + more + "\n}\n"
	}
	cluster := func(name, more string) string {
		return `environments: "` + name + `": {
			platform: {kind: "kubernetes", context: "acme"}
			` + more + "\n}\n"
	}
	const off = `services: postgres: mode: "off"` + "\n"
	ingress := func(domain, create string) string {
		return `domains: ["` + domain + `"]
			expose: {kind: "ingress", tls: {mode: "cert-manager", issuer: ` + create + `}}`
	}
	tests := []struct {
		name string
		text string
		want []string // path, rule and message
	}{
		{"an app of Redis", fly("a", off+`services: redis: mode: "fly-app"`) + fly("a-redis", off), []string{
			"environments/a-redis/platform/appName same-fly-app the Fly app shop-a-redis is already that of environment a",
		}},
		{"an app of Redis is later", fly("b", off+`services: redis: mode: "fly-app"`) + fly("a", off+`platform: appName: "shop-b-redis"`), []string{
			"environments/b/services/redis same-fly-app the Fly app shop-b-redis is already that of environment a",
		}},
		{"apps of Temporal", fly("a", `services: temporal: {mode: "fly-app", web: enabled: true}`) + fly("a-temporal", off) + fly("a-temporal-web", off), []string{
			"environments/a-temporal/platform/appName same-fly-app the Fly app shop-a-temporal is already that of environment a",
			"environments/a-temporal-web/platform/appName same-fly-app the Fly app shop-a-temporal-web is already that of environment a",
		}},
		{"no page, no app", fly("a", `services: temporal: mode: "fly-app"`) + fly("a-temporal-web", off), nil},
		{"the database is the app", fly("a", `services: postgres: {mode: "fly-unmanaged", appName: "shop-a"}`), []string{
			"environments/a/services/postgres/appName same-fly-app the Fly app shop-a is already another one of this environment",
		}},
		{"the database is another app", fly("a", off) + fly("b", `services: postgres: {mode: "fly-unmanaged", appName: "shop-a"}`), []string{
			"environments/b/services/postgres/appName same-fly-app the Fly app shop-a is already that of environment a",
		}},
		{
			"one server, two databases", fly("a", `services: postgres: {mode: "fly-unmanaged", appName: "pg", database: "a"}`) +
				fly("b", `services: postgres: {mode: "fly-unmanaged", appName: "pg", database: "b"}`), nil,
		},
		{
			"one cluster, two databases, two Temporals", fly("a", `services: {postgres: {cluster: "db", database: "a"}, temporal: mode: "fly-app"}`) +
				fly("b", `services: {postgres: {cluster: "db", database: "b"}, temporal: mode: "fly-app"}`), []string{
				"environments/b/services/temporal same-database Temporal's database in cluster db is already that of environment a",
			},
		},
		{"a project of another's name", `environments: {
			a: platform: kind: "compose"
			b: {platform: {kind: "compose", project: "shop-a"}, expose: port: 8001}
		}`, []string{
			"environments/b/platform/project same-project the project shop-a is already that of environment a",
		}},
		{"a cluster of another's name", fly("a", "") + fly("b", `services: postgres: cluster: "shop-a-db"`), []string{
			"environments/b/services/postgres same-database database appdb of cluster shop-a-db is already that of environment a",
		}},
		{"a Redis of another's name", fly("a", off+`services: redis: mode: "upstash"`) + fly("b", off+`services: redis: {mode: "upstash", name: "shop-a-redis"}`), []string{
			"environments/b/services/redis same-database database shop-a-redis is already that of environment a",
		}},
		{"ports", `environments: {
			a: platform: kind: "compose"
			b: platform: {kind: "compose", bind: "0.0.0.0"}
			c: platform: {kind: "compose", bind: "127.0.0.2"}
			d: platform: {kind: "compose", bind: "::"}
			e: {platform: {kind: "compose", bind: "::"}, expose: port: 8001}
			f: {platform: {kind: "compose", bind: "10.0.0.1"}, expose: port: 8001}
			g: {platform: kind: "compose", expose: kind: "none"}
		}`, []string{
			"environments/b/expose/port same-project port 8000 of 0.0.0.0 is already that of environment a",
			"environments/d/expose/port same-project port 8000 of :: is already that of environment a",
			"environments/f/expose/port same-project port 8001 of 10.0.0.1 is already that of environment e",
		}},
		{"one directory of data", `environments: {
			a: platform: kind: "compose"
			b: {platform: kind: "compose", expose: port: 8001}
		}`, nil},
		{
			"an issuer of the whole cluster", cluster("a", ingress("a.example.com", `create: email: "ops@example.com"`)) +
				cluster("b", ingress("b.example.com", `create: email: "dev@example.com"`)), []string{
				"environments/b/expose/tls/issuer object-name the ClusterIssuer letsencrypt-prod of context acme is already that of environment a",
			},
		},
		{
			"an issuer of the namespace", cluster("a", ingress("a.example.com", `{kind: "Issuer", create: email: "ops@example.com"}`)) +
				cluster("b", ingress("b.example.com", `{kind: "Issuer", create: email: "dev@example.com"}`)), nil,
		},
		{"an issuer that is there", cluster("a", ingress("a.example.com", `create: email: "ops@example.com"`)) + cluster("b", ingress("b.example.com", "{}")), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			src := schema.Source{Files: []schema.File{{Name: "forge.cue", Data: []byte(head + test.text)}}}
			f, _, err := schema.Load(t.Context(), src)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, found := range compile.Check(f) {
				got = append(got, strings.Join(found.Path, "/")+" "+found.Rule+" "+found.Message)
				if found.Hint == "" {
					t.Errorf("no hint: %s", found.Message)
				}
				if rule, ok := schema.RuleNamed(found.Rule); !ok || rule.Severity != schema.SeverityError {
					t.Errorf("%q is no rule that refuses", found.Rule)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if _, err := compile.Forge(f); (err != nil) != (len(test.want) > 0) {
				t.Errorf("compiled: %v", err)
			}
		})
	}
}

// TestNeighboursAtFly: what one environment makes by a name of its own,
// another one may have named.
func TestNeighboursAtFly(t *testing.T) {
	base := onFly(readEnvironment(t, "minikube"))
	one, two := base, base
	one.Name, two.Name, two.Platform.AppName = "a", "b", "other"
	one.Platform.Inventory, two.Platform.Inventory = "forged-a", "forged-b"
	for _, env := range []*forge.Environment{&one, &two} {
		env.Services.Postgres = forge.Postgres{Mode: forge.ModeFlyManaged, Cluster: "shop-a-db", Database: "appdb"}
		env.Services.Redis = forge.Redis{Mode: forge.ModeUpstash, Name: "shop-a-redis"}
	}
	var got []string
	for _, found := range compile.Check(&forge.Forge{Environments: []forge.Environment{one, two}}) {
		got = append(got, strings.Join(found.Path, "/")+" "+found.Rule+" "+found.Message)
	}
	if diff := cmp.Diff([]string{
		"environments/b/services/postgres same-database database appdb of cluster shop-a-db is already that of environment a",
		"environments/b/services/redis same-database database shop-a-redis is already that of environment a",
	}, got); diff != "" {
		t.Error(diff)
	}
	two.Platform.Org = "another organization"
	if found := compile.Check(&forge.Forge{Environments: []forge.Environment{one, two}}); len(found) != 0 {
		t.Errorf("in two organizations: %v", found)
	}
}

// TestNeighboursOfDirectories: each project keeps its data apart.
func TestNeighboursOfDirectories(t *testing.T) {
	dirs := map[string]string{}
	for _, env := range matrix(t) {
		if env.Platform.Kind != forge.PlatformCompose {
			continue
		}
		for _, project := range []string{"a", "b"} {
			env.Platform.Project = project
			resources, err := compile.Environment(env)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range resources {
				var dir string
				switch spec := r.Spec.(type) {
				case forge.ComposeProjectSpec:
					dir = spec.DataDir
				case forge.ComposeSecretsSpec:
					dir = spec.DataDir
				default:
					continue
				}
				if other, ok := dirs[dir]; ok && other != project || dir == "" {
					t.Fatalf("%q is the directory of project %s and of %s", dir, project, other)
				}
				dirs[dir] = project
			}
		}
	}
	if len(dirs) != 2 {
		t.Errorf("directories: %v", dirs)
	}
}

// TestFlyAppsAreKnown: no app of Fly is made or used that the rules about
// names have not seen.
func TestFlyAppsAreKnown(t *testing.T) {
	for _, env := range matrix(t) {
		if env.Platform.Kind != forge.PlatformFly {
			continue
		}
		resources, err := compile.Environment(env)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resources {
			var name string
			switch spec := r.Spec.(type) {
			case forge.FlySecretsSpec:
				name = spec.Account.Inventory
			case forge.FlyAppSpec:
				name = spec.Name
			case forge.FlyPostgresAppSpec:
				name = spec.App
			default:
				continue
			}
			other := env
			other.Name, other.Platform.AppName, other.Platform.Inventory = "zz", name, "forged-zz"
			other.Services = forge.Services{Postgres: forge.Postgres{Mode: forge.ModeOff}, Redis: forge.Redis{Mode: forge.ModeOff}}
			found := compile.Check(&forge.Forge{Environments: []forge.Environment{env, other}})
			if len(found) != 1 || found[0].Rule != "same-fly-app" {
				t.Errorf("%s in two environments: %v", name, found)
			}
		}
	}
}
