package compile_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

// TestGaps: what this build does not do is found at its path and nowhere
// else, and an environment without it is free.
func TestGaps(t *testing.T) {
	tests := []struct {
		name   string
		change func(*forge.Environment)
		want   []string // paths below the environment
	}{
		{"first light", func(*forge.Environment) {}, nil},
		{"compose", func(e *forge.Environment) { e.Platform.Kind = forge.PlatformCompose }, []string{"platform/kind"}},
		{"fks", func(e *forge.Environment) { e.Platform.Kind = forge.PlatformFKS }, nil},
		{"redis on fly", func(e *forge.Environment) {
			e.Platform.Kind, e.Services.Redis.Mode = forge.PlatformFly, forge.ModeFlyApp
		}, []string{"services/redis/mode"}},
		{"temporal on fly", func(e *forge.Environment) {
			e.Platform.Kind, e.Services.Temporal.Mode = forge.PlatformFly, forge.ModeFlyApp
		}, []string{"services/temporal/mode"}},
		{"regions", func(e *forge.Environment) { e.Regions = []forge.Region{{Name: "us"}} }, nil},
		{"images", func(e *forge.Environment) { e.Platform.LoadImages = true }, nil},
		{"addresses of pods", func(e *forge.Environment) { e.Platform.PodCIDRs = []string{"10.0.0.0/8"} }, nil},
		{"login", func(e *forge.Environment) { e.App.Image.PullSecret.Env = "A" }, nil},
		{"own chart", func(e *forge.Environment) { e.App.Chart = &forge.Chart{} }, nil},
		{"charts", func(e *forge.Environment) { e.Charts = []forge.NamedChart{{Name: "a"}, {Name: "b"}} }, nil},
		{"needs", func(e *forge.Environment) { e.App.Needs = []string{"a"} }, nil},
		{"strict", func(e *forge.Environment) { e.NetworkPolicy = "strict" }, nil},
		{"services of others", func(e *forge.Environment) {
			e.Services.Postgres.Mode, e.Services.Redis.Mode, e.Services.Temporal.Mode = "external", "external", "cloud"
		}, nil},
		{"from inside", func(e *forge.Environment) {
			e.Services.Postgres.Check, e.Services.Redis.Check, e.Services.Temporal.Check = "cluster", "daemon", "cluster"
		}, nil},
		{"services in the cluster", func(e *forge.Environment) {
			e.Services.Postgres.Mode, e.Services.Redis.Mode, e.Services.Temporal.Mode = "in-cluster", "in-cluster", "in-cluster"
		}, nil},
		{"services off", func(e *forge.Environment) {
			e.Services.Postgres.Mode, e.Services.Redis.Mode, e.Services.Temporal.Mode = "off", "off", "off"
		}, nil},
		{"encryption", func(e *forge.Environment) { e.Services.Postgres.TLS = true }, nil},
		{"backup", func(e *forge.Environment) { e.Services.Postgres.Backup.Enabled = true }, nil},
		{"gateway", func(e *forge.Environment) { e.Expose.Kind = forge.ExposeGateway }, nil},
		{"certificate", func(e *forge.Environment) { e.Expose.TLS.Mode = forge.TLSCertManager }, nil},
		{"certificate in a Secret", func(e *forge.Environment) { e.Expose.TLS = forge.TLS{Mode: forge.TLSSecret, Secret: "a"} }, nil},
		{"distribution", func(e *forge.Environment) { e.Platform.Distribution = forge.DistributionEKS }, nil},
		{"distribution that matters", func(e *forge.Environment) {
			e.Platform.Distribution, e.Expose = forge.DistributionEKS, forge.Expose{Kind: forge.ExposeIngress, ClassName: "alb"}
		}, nil},
		{"defaults", func(e *forge.Environment) { e.Policy.Recreate, e.Policy.DestroyData = "never", "never" }, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			env := readEnvironment(t, "minikube")
			env.Services.Temporal.Mode = forge.ModeOff
			test.change(&env)
			found := slices.DeleteFunc(compile.Gaps(&forge.Forge{Environments: []forge.Environment{env}}), func(f forge.Finding) bool {
				return f.Rule == "partial"
			})
			var got []string
			for _, f := range found {
				got = append(got, strings.TrimPrefix(strings.Join(f.Path, "/"), "environments/local/"))
				if !strings.HasSuffix(f.Message, " not supported by this build yet") || f.Hint == "" {
					t.Errorf("%q does not say what is the matter, or %q what to do", f.Message, f.Hint)
				}
				if rule, ok := schema.RuleNamed(f.Rule); !ok || rule.Severity != schema.SeverityWarning {
					t.Errorf("%q is no rule that warns", f.Rule)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if blocked := compile.Blocked(found, []string{"local"}); len(blocked) != len(found) {
				t.Errorf("of %v only %v keep it from being acted on", found, blocked)
			}
			if blocked := compile.Blocked(found, []string{"prod"}); len(blocked) != 0 {
				t.Errorf("%v keep another one from being acted on", blocked)
			}
		})
	}
}

// TestNotifications are no environment's, and keep none from going on.
func TestNotifications(t *testing.T) {
	found := compile.Gaps(&forge.Forge{Notifications: []forge.Notification{{Name: "ops"}}})
	if len(found) != 1 || !slices.Equal(found[0].Path, []string{"notifications", "ops"}) {
		t.Errorf("found %v", found)
	}
	if blocked := compile.Blocked(found, nil); len(blocked) != 0 {
		t.Errorf("%v keep environments from being acted on", blocked)
	}
}

// TestGapsOfExamples: examples that people read run with this build; the others
// say on which line they do not.
func TestGapsOfExamples(t *testing.T) {
	for _, e := range examples(t) {
		runs := slices.Contains([]string{"aks", "eks", "fks", "forge", "gke", "minikube", "minimal", "multi-cluster"}, e.name)
		if found := compile.Gaps(e.forge); runs != (len(found) == 0) {
			t.Errorf("%s: %v", e.name, found)
		}
	}
}
