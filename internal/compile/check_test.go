package compile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

// TestCheck: what cannot be compiled is found at its path, with a rule of the
// catalogue, and compiling refuses it in the same words.
func TestCheck(t *testing.T) {
	generate := forge.SecretRef{Generate: &forge.Generate{Alphabet: "alnum", Length: 32}}
	tests := []struct {
		name   string
		change func(*forge.Environment)
		path   string
		want   string
	}{
		{"no namespace", func(e *forge.Environment) { e.Platform.Namespace = "" }, "platform/namespace", "it is empty"},
		{"long name", func(e *forge.Environment) { e.App.Name = strings.Repeat("a", 50) }, "app/name", "more than 53 characters"},
		{"own Secret", func(e *forge.Environment) { e.App.Name, e.Name = "forged", "redis" }, "app/name", `the Secret "forged-redis" would be both`},
		{"chart of a name of ours", func(e *forge.Environment) { e.Charts = []forge.NamedChart{{Name: "redis"}} }, "charts/redis", "the release shop-redis is one of forged's own"},
		{"injected env", func(e *forge.Environment) { e.App.Env = map[string]string{"APP_DB": "x"} }, "app/env/APP_DB", "forged sets APP_DB, because of services.postgres"},
		{"injected secret", func(e *forge.Environment) { e.App.Secrets["REDIS_URL"] = generate }, "app/secrets/REDIS_URL", "forged sets REDIS_URL, because of services.redis"},
		{"injected by Temporal", func(e *forge.Environment) {
			e.Services.Temporal = forge.Temporal{Mode: forge.ModeCloud, APIKey: generate}
			e.App.Secrets["TEMPORAL_API_KEY"] = generate
		}, "app/secrets/TEMPORAL_API_KEY", "because of services.temporal"},
		{"two sources", func(e *forge.Environment) { e.App.Env = map[string]string{"SESSION_SIGNING_SECRET": "x"} }, "app/env/SESSION_SIGNING_SECRET", "is also set by app.secrets"},
		{"control character", func(e *forge.Environment) { e.App.Env = map[string]string{"A": "a\u0085b"} }, "app/env/A", "control character U+0085"},
		{"no text", func(e *forge.Environment) { e.App.Args = []string{"a", "\xff"} }, "app/args/1", "it is not UTF-8"},
		{"annotation", func(e *forge.Environment) { e.Expose.Annotations = map[string]string{"a/b": "\x7f"} }, "expose/annotations/a/b", "control character U+007F"},
		{"file", func(e *forge.Environment) { e.App.ConfigFiles = []forge.ConfigFile{{Path: "/a", Text: "\x00"}} }, "app/configFiles//a", "control character U+0000"},
		{"worker's argument", func(e *forge.Environment) {
			e.Workers = []forge.Worker{{Name: "mails", HealthExec: []string{"\ufeff"}}}
		}, "workers/mails/health/exec/0", "control character U+FEFF"},
		{"no source", func(e *forge.Environment) { e.App.Secrets["A"] = forge.SecretRef{} }, "app/secrets/A", "this one has 0"},
		{"many sources", func(e *forge.Environment) { e.Services.Redis.Password = forge.SecretRef{Env: "A", OP: "b"} }, "services/redis/password", "this one has 2"},
		{"no password", func(e *forge.Environment) { e.Services.Postgres.Password = forge.SecretRef{} }, "services/postgres/password", "this one has 0"},
		{"no address", func(e *forge.Environment) { e.Services.Postgres = forge.Postgres{Mode: forge.ModeExternal} }, "services/postgres/url", "this one has 0"},
		{"postgres mode", func(e *forge.Environment) { e.Services.Postgres.Mode = "fly-managed" }, "services/postgres/mode", `"fly-managed" is none of in-cluster, external, off`},
		{"redis mode", func(e *forge.Environment) { e.Services.Redis.Mode = "" }, "services/redis/mode", `"" is none of in-cluster, external, off`},
		{"temporal mode", func(e *forge.Environment) { e.Services.Temporal.Mode = "fly-app" }, "services/temporal/mode", `"fly-app" is none of cloud, external, off, in-cluster`},
		{"temporal version", func(e *forge.Environment) {
			e.Services.Temporal = forge.Temporal{Mode: forge.ModeInCluster, Version: "1.0.0", Password: generate}
		}, "services/temporal/version", `"1.0.0" is none of 1.29.0`},
		{"temporal without data", func(e *forge.Environment) {
			e.Services.Postgres.Mode = forge.ModeOff
			e.Services.Temporal = forge.Temporal{Mode: forge.ModeInCluster, Version: "1.29.0", Password: generate}
		}, "services/temporal/mode", "which is off"},
		{"postgres version", func(e *forge.Environment) { e.Services.Postgres.Version = "9" }, "services/postgres/version", `"9" is none of 15, 16, 17`},
		{"redis version", func(e *forge.Environment) { e.Services.Redis.Version = "6" }, "services/redis/version", `"6" is none of 7, 8`},
		{"redis memory", func(e *forge.Environment) { e.Services.Redis.MaxMemory = "much" }, "services/redis/maxMemory", `"much" is not a Redis memory size`},
		{"no redis memory", func(e *forge.Environment) { e.Services.Redis.MaxMemory = "0" }, "services/redis/maxMemory", `"0" is not a Redis memory size`},
		{"max below min", func(e *forge.Environment) { e.Scaling = forge.Scaling{Min: 3, Max: 2} }, "scaling/max", "max 2 is less than min 3"},
		{"no metric", func(e *forge.Environment) { e.Scaling = forge.Scaling{Min: 1, Max: 2} }, "scaling", "a range needs a metric"},
		{"from nothing", func(e *forge.Environment) { e.Scaling = forge.Scaling{Max: 2, CPUTarget: 50} }, "scaling/min", "an autoscaler cannot go below 1"},
		{"worker metric", func(e *forge.Environment) {
			e.Workers = []forge.Worker{{Name: "mails", Scaling: forge.Scaling{Min: 1, Max: 2}}}
		}, "workers/mails/scaling", "a range needs a metric"},
		{"worker twice", func(e *forge.Environment) { e.Workers = []forge.Worker{{Name: "mails"}, {Name: "mails"}} }, "workers/mails", "it is there twice"},
		{"ingress without host", func(e *forge.Environment) { e.Expose.Kind = forge.ExposeIngress }, "expose", "an ingress needs a domain"},
		{"fly without region", func(e *forge.Environment) { *e = onFly(*e) }, "regions", "there is no region"},
		{"long fly name", func(e *forge.Environment) {
			*e = onFly(*e)
			e.Platform.AppName = strings.Repeat("a", 60)
		}, "platform", "more than 63 characters"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			env := readEnvironment(t, "minikube")
			test.change(&env)
			found := compile.Check(&forge.Forge{Environments: []forge.Environment{env}})
			at := slices.IndexFunc(found, func(f forge.Finding) bool {
				return strings.Join(f.Path, "/") == "environments/"+env.Name+"/"+test.path && strings.Contains(f.Message, test.want)
			})
			if at < 0 {
				t.Fatalf("nothing with %q at %s, but %v", test.want, test.path, found)
			}
			if rule, ok := schema.RuleNamed(found[at].Rule); !ok || rule.Severity != schema.SeverityError {
				t.Errorf("%q is no rule that refuses", found[at].Rule)
			}
			resources, err := compile.Environment(env)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), fmt.Sprintf("environment %q", env.Name)) {
				t.Errorf("compiled: %v", err)
			}
			if resources != nil {
				t.Errorf("resources besides an error: %v", resources)
			}
		})
	}
}

func onFly(env forge.Environment) forge.Environment {
	env.Platform = forge.Platform{Kind: forge.PlatformFly, AppName: "shop"}
	env.Services = forge.Services{Postgres: forge.Postgres{Mode: forge.ModeOff}, Redis: forge.Redis{Mode: forge.ModeOff}}
	return env
}

// TestRefusedLate is what no finding tells, because the language cannot say it.
func TestRefusedLate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*forge.Environment)
		want   string
	}{
		{"platform", func(e *forge.Environment) { e.Platform = forge.Platform{Kind: "mainframe"} }, `platform.kind "mainframe" is none of`},
		{"unknown need", func(e *forge.Environment) {
			e.Charts = []forge.NamedChart{{Name: "search", Needs: []string{"kafka"}}}
		}, `charts.search.needs: "kafka" is needed and not there`},
		{"unknown need of the app", func(e *forge.Environment) {
			e.Charts, e.App.Needs = []forge.NamedChart{{Name: "search"}}, []string{"serch"}
		}, `app.needs: "serch" is needed and not there; it has app, postgres, redis, search`},
		{"a circle", func(e *forge.Environment) {
			e.Charts = []forge.NamedChart{{Name: "a", Needs: []string{"app"}}}
			e.App.Needs = []string{"a"}
		}, "local/release/app, local/release/a wait for each other"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			env := readEnvironment(t, "minikube")
			test.change(&env)
			if resources, err := compile.Environment(env); err == nil || !strings.Contains(err.Error(), test.want) || resources != nil {
				t.Errorf("got %v, %v", resources, err)
			}
		})
	}
}

func TestEverythingIsFoundAtOnce(t *testing.T) {
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
