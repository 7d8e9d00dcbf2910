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

// TestCheck: what shows only when names are given is found at its path, with a
// rule of the catalogue, and compiling refuses it in the same words.
func TestCheck(t *testing.T) {
	generate := forge.SecretRef{Generate: &forge.Generate{Alphabet: "alnum", Length: 32}}
	tests := []struct {
		name   string
		change func(*forge.Environment)
		path   string
		want   string
	}{
		{"long name", func(e *forge.Environment) { e.App.Name = strings.Repeat("a", 50) }, "app/name", "more than 53 characters"},
		{"own Secret", func(e *forge.Environment) { e.App.Name, e.Name = "forged", "redis" }, "app/name", `the Secret "forged-redis" would be both`},
		{"certificate in a Secret of ours", func(e *forge.Environment) {
			e.Expose.TLS = forge.TLS{Mode: forge.TLSSelfSigned, Secret: "shop-env"}
		}, "expose/tls/secretName", `the Secret "shop-env" is one that forged keeps other things in`},
		{"certificate in that of PostgreSQL", func(e *forge.Environment) {
			e.Services.Postgres.TLS = true
			e.Expose.TLS = forge.TLS{Mode: forge.TLSSelfSigned, Secret: "shop-postgres-tls"}
		}, "expose/tls/secretName", `the Secret "shop-postgres-tls" is one that`},
		{"chart of a name of ours", func(e *forge.Environment) { e.Charts = []forge.NamedChart{{Name: "redis"}} }, "charts/redis", "the release shop-redis is one of forged's own"},
		{"chart of a long name", func(e *forge.Environment) {
			e.Charts = []forge.NamedChart{{Name: strings.Repeat("a", 49)}}
		}, "charts/" + strings.Repeat("a", 49), "more than 53 characters"},
		{"variable of PostgreSQL", func(e *forge.Environment) { e.App.Env = map[string]string{"APP_DB": "x"} }, "app/env/APP_DB", "forged sets APP_DB, because services.postgres of local is in-cluster"},
		{"secret of Redis", func(e *forge.Environment) { e.App.Secrets["REDIS_URL"] = generate }, "app/secrets/REDIS_URL", "forged sets REDIS_URL, because services.redis of local is in-cluster"},
		{"variable in a secret URL", func(e *forge.Environment) {
			e.Services.Postgres = forge.Postgres{Mode: forge.ModeExternal, URL: generate}
			e.App.Secrets["APP_DB_USER"] = generate
		}, "app/secrets/APP_DB_USER", "because services.postgres of local is external"},
		{"key of Temporal", func(e *forge.Environment) {
			e.Services.Temporal = forge.Temporal{Mode: forge.ModeCloud, APIKey: generate}
			e.App.Secrets["TEMPORAL_API_KEY"] = generate
		}, "app/secrets/TEMPORAL_API_KEY", "because services.temporal of local is cloud"},
		{"certificates of Temporal", func(e *forge.Environment) {
			e.Services.Temporal = forge.Temporal{Mode: forge.ModeExternal, TLS: true, CABundle: generate}
			e.App.Env = map[string]string{"TEMPORAL_TLS_SERVER_CA_CERT_PATH": "/ca.crt"}
		}, "app/env/TEMPORAL_TLS_SERVER_CA_CERT_PATH", "because services.temporal of local is external"},
		{"much memory", func(e *forge.Environment) { e.Services.Redis.MaxMemory = "999999999999gb" }, "services/redis/maxMemory", "is not a Redis memory size"},
		{"no redis memory", func(e *forge.Environment) { e.Services.Redis.MaxMemory = "0" }, "services/redis/maxMemory", `"0" is not a Redis memory size`},
		{"long fly name", func(e *forge.Environment) {
			*e = onFly(*e)
			e.Platform.AppName = strings.Repeat("a", 60)
			e.Services.Redis = forge.Redis{Mode: forge.ModeFlyApp, Version: "7", MaxMemory: "1gb", Password: generate}
		}, "services/redis", "more than 63 characters"},
		{"long fly volume", func(e *forge.Environment) {
			*e = onFly(*e)
			e.Volumes = []forge.Volume{{Name: strings.Repeat("a", 31), Size: "1Gi"}}
		}, "volumes/" + strings.Repeat("a", 31), "at most 30 characters"},
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
			if err != nil && strings.Contains(err.Error(), "bug of forged") {
				t.Errorf("not forged's mistake: %v", err)
			}
			if resources != nil {
				t.Errorf("resources besides an error: %v", resources)
			}
		})
	}
}

// TestNotInjected: a variable is the user's where forged does not set it.
func TestNotInjected(t *testing.T) {
	tests := []struct {
		name   string
		key    string
		change func(*forge.Environment)
	}{
		{"nobody runs Temporal", "TEMPORAL_URL", func(*forge.Environment) {}},
		{"no certificate of a client", "TEMPORAL_TLS_CLIENT_CERT_PATH", func(e *forge.Environment) {
			e.Services.Temporal = forge.Temporal{Mode: forge.ModeExternal}
		}},
		{"no key", "TEMPORAL_API_KEY", func(e *forge.Environment) {
			e.Services.Temporal = forge.Temporal{Mode: forge.ModeExternal}
		}},
		{"no encryption", "TEMPORAL_TLS", func(e *forge.Environment) {
			e.Services.Temporal = forge.Temporal{Mode: forge.ModeExternal}
		}},
		{"no PostgreSQL", "DATABASE_URL", func(e *forge.Environment) {
			e.Services.Postgres = forge.Postgres{Mode: forge.ModeOff}
		}},
		{"a default that may be changed", "SKIP_USER_SWITCH", func(*forge.Environment) {}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			env := readEnvironment(t, "minikube")
			env.App.Env = map[string]string{test.key: "x"}
			test.change(&env)
			if found := compile.Check(&forge.Forge{Environments: []forge.Environment{env}}); len(found) != 0 {
				t.Errorf("found %v", found)
			}
		})
	}
}

func onFly(env forge.Environment) forge.Environment {
	env.Platform = forge.Platform{Kind: forge.PlatformFly, AppName: "shop"}
	env.Services = forge.Services{Postgres: forge.Postgres{Mode: forge.ModeOff}, Redis: forge.Redis{Mode: forge.ModeOff}}
	env.Regions = []forge.Region{{Name: "iad", Machines: 1, Primary: true}}
	return env
}

// TestBroken: nothing is made of a model that the language does not let
// through, and whose mistake it is is said.
func TestBroken(t *testing.T) {
	generate := forge.SecretRef{Generate: &forge.Generate{Alphabet: "alnum", Length: 32}}
	tests := []struct {
		name   string
		change func(*forge.Environment)
		want   string
	}{
		{"platform", func(e *forge.Environment) { e.Platform = forge.Platform{Kind: "mainframe"} }, `platform.kind: "mainframe" is none of`},
		{"no namespace", func(e *forge.Environment) { e.Platform.Namespace = "" }, "platform.namespace: it is empty"},
		{"fly without region", func(e *forge.Environment) {
			*e = onFly(*e)
			e.Regions = nil
		}, "regions: there is no region"},
		{"two sources", func(e *forge.Environment) { e.App.Env = map[string]string{"SESSION_SIGNING_SECRET": "x"} }, "app.secrets.SESSION_SIGNING_SECRET: it is also set by app.env"},
		{"control character", func(e *forge.Environment) { e.App.Env = map[string]string{"A": "a\u0085b"} }, "app.env.A: it holds the control character U+0085"},
		{"no text", func(e *forge.Environment) { e.App.Args = []string{"a", "\xff"} }, "app.args.1: it is not UTF-8"},
		{"annotation", func(e *forge.Environment) { e.Expose.Annotations = map[string]string{"a/b": "\x7f"} }, "expose.annotations.a/b: it holds the control character U+007F"},
		{"file", func(e *forge.Environment) { e.App.ConfigFiles = []forge.ConfigFile{{Path: "/a", Text: "\x00"}} }, "app.configFiles./a: it holds the control character U+0000"},
		{"worker's argument", func(e *forge.Environment) {
			e.Workers = []forge.Worker{{Name: "mails", HealthExec: []string{"\ufeff"}}}
		}, "workers.mails.health.exec.0: it holds the control character U+FEFF"},
		{"no source", func(e *forge.Environment) { e.App.Secrets["A"] = forge.SecretRef{} }, "app.secrets.A: a secret has one source, and this one has 0"},
		{"many sources", func(e *forge.Environment) { e.Services.Redis.Password = forge.SecretRef{Env: "A", OP: "b"} }, "services.redis.password: a secret has one source, and this one has 2"},
		{"no password", func(e *forge.Environment) { e.Services.Postgres.Password = forge.SecretRef{} }, "services.postgres.password: a secret has one source"},
		{"no address", func(e *forge.Environment) { e.Services.Postgres = forge.Postgres{Mode: forge.ModeExternal} }, "services.postgres.url: a secret has one source"},
		{"postgres mode", func(e *forge.Environment) { e.Services.Postgres.Mode = "fly-managed" }, `services.postgres.mode: "fly-managed" is none of in-cluster, external, off`},
		{"redis mode", func(e *forge.Environment) { e.Services.Redis.Mode = "" }, `services.redis.mode: "" is none of in-cluster, external, off`},
		{"temporal mode", func(e *forge.Environment) { e.Services.Temporal.Mode = "fly-app" }, `services.temporal.mode: "fly-app" is none of cloud, external, off, in-cluster`},
		{"temporal version", func(e *forge.Environment) {
			e.Services.Temporal = forge.Temporal{Mode: forge.ModeInCluster, Version: "1.0.0", Password: generate}
		}, `services.temporal.version: "1.0.0" is none of 1.29.0`},
		{"temporal without data", func(e *forge.Environment) {
			e.Services.Postgres.Mode = forge.ModeOff
			e.Services.Temporal = forge.Temporal{Mode: forge.ModeInCluster, Version: "1.29.0", Password: generate}
		}, "which is off"},
		{"postgres version", func(e *forge.Environment) { e.Services.Postgres.Version = "9" }, `services.postgres.version: "9" is none of 15, 16, 17`},
		{"redis version", func(e *forge.Environment) { e.Services.Redis.Version = "6" }, `services.redis.version: "6" is none of 7, 8`},
		{"max below min", func(e *forge.Environment) { e.Scaling = forge.Scaling{Min: 3, Max: 2} }, "scaling.max: max 2 is less than min 3"},
		{"no metric", func(e *forge.Environment) { e.Scaling = forge.Scaling{Min: 1, Max: 2} }, "scaling: a range needs a metric"},
		{"from nothing", func(e *forge.Environment) { e.Scaling = forge.Scaling{Max: 2, CPUTarget: 50} }, "scaling.min: min is 0"},
		{"a worker's range", func(e *forge.Environment) {
			e.Workers = []forge.Worker{{Name: "mails", Scaling: forge.Scaling{Min: 1, Max: 2}}}
		}, "workers.mails.scaling: a range needs a metric"},
		{"a worker twice", func(e *forge.Environment) { e.Workers = []forge.Worker{{Name: "mails"}, {Name: "mails"}} }, "workers.mails: it is there twice"},
		{"ingress without host", func(e *forge.Environment) { e.Expose.Kind = forge.ExposeIngress }, "expose: an ingress without a domain"},
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
			resources, err := compile.Environment(env)
			if err == nil || resources != nil {
				t.Fatalf("got %v, %v", resources, err)
			}
			for _, want := range []string{test.want, "internal error: environment ", "bug of forged"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
		})
	}
}

func TestEverythingIsFoundAtOnce(t *testing.T) {
	env := readEnvironment(t, "minikube")
	env.App.Env = map[string]string{"APP_DB": "x"}
	env.Services.Redis.MaxMemory = "0"
	_, err := compile.Environment(env)
	for _, want := range []string{"app.env.APP_DB", "services.redis.maxMemory"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}
