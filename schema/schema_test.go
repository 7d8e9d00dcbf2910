package schema_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

// text is a Source of one file.
func text(s string) schema.Source {
	return schema.Source{Files: []schema.File{{Name: "forge.cue", Data: []byte(s)}}}
}

func load(t *testing.T, src schema.Source) *forge.Forge {
	t.Helper()
	f, _, err := schema.Load(context.Background(), src)
	if err != nil {
		if d, ok := errors.AsType[schema.Diagnostics](err); ok {
			for _, d := range d {
				t.Log(d, d.Hint)
			}
		}
		t.Fatal(err)
	}
	return f
}

const minimal = `
forge: "v1"
app: {
	name: "shop"
	image: {repository: "shop-api", tag: "1.4.2"}
}
environments: local: platform: kind: "minikube"
`

var generated = &forge.Generate{Alphabet: "alnum", Length: 32}

func minimalForge() *forge.Forge {
	app := forge.App{
		Name:    "shop",
		Image:   forge.Image{Repository: "shop-api", Tag: "1.4.2", PullPolicy: "IfNotPresent"},
		Port:    8000,
		Env:     map[string]string{},
		Secrets: map[string]forge.SecretRef{},
		Resources: forge.Resources{
			CPU: "250m", Memory: "256Mi", MemoryLimit: "1Gi",
		},
		Health: forge.Health{
			Live: "/health", Ready: "/health/ready", Startup: 2 * time.Minute,
			Interval: 10 * time.Second, Timeout: 5 * time.Second, Failures: 3,
		},
		Migrate: forge.Migrate{Run: "never"},
	}
	return &forge.Forge{App: app, Environments: []forge.Environment{{
		Name: "local",
		Platform: forge.Platform{
			Kind: forge.PlatformMinikube, Context: "minikube", Namespace: "shop-local", CreateNamespace: true,
		},
		App:     app,
		Domains: []string{},
		Expose:  forge.Expose{Kind: forge.ExposeNone},
		Services: forge.Services{
			Postgres: forge.Postgres{
				Mode: forge.ModeInCluster, Version: "16", Storage: "20Gi", Database: "appdb",
				Password: forge.SecretRef{Generate: generated},
			},
			Redis: forge.Redis{
				Mode: forge.ModeInCluster, Version: "7", Persistence: true, Storage: "5Gi",
				MaxMemory: "512mb", Eviction: "allkeys-lru", Password: forge.SecretRef{Generate: generated},
			},
			Temporal: forge.Temporal{Mode: "off"},
		},
		Scaling:       forge.Scaling{Min: 1, Max: 1, ScaleDownWindow: 5 * time.Minute},
		NetworkPolicy: "baseline",
		Policy: forge.Policy{
			Mode: forge.ModeApply, Interval: 2 * time.Minute, Timeout: 10 * time.Minute, MaxDelete: 5,
			Pin: "tag", DestroyData: "never", Recreate: "stateless", Rollback: true, Adopt: "must-match",
		},
	}}}
}

func TestDefaults(t *testing.T) {
	if diff := cmp.Diff(minimalForge(), load(t, text(minimal))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Each case says what its text changes in the forge that minimal loads to.
func TestLoad(t *testing.T) {
	local := func(f *forge.Forge) *forge.Environment { return &f.Environments[0] }
	for _, test := range []struct {
		name, more string
		change     func(*forge.Forge)
	}{
		{"package clause", "", func(*forge.Forge) {}},
		{"ingress without TLS is the default on minikube", `
			environments: local: {domains: ["shop.local"], expose: kind: "ingress"}`, func(f *forge.Forge) {
			local(f).Domains = []string{"shop.local"}
			local(f).Expose = forge.Expose{Kind: forge.ExposeIngress, ClassName: "nginx", Annotations: map[string]string{}, TLS: forge.TLS{Mode: "none"}}
		}},
		{"ingress with TLS", `
			environments: local: {domains: ["shop.local"], expose: {
				kind: "ingress", className: "traefik", annotations: "a/b": "c", tls: {mode: "secret", secretName: "shop-tls"}}}`, func(f *forge.Forge) {
			local(f).Domains = []string{"shop.local"}
			local(f).Expose = forge.Expose{
				Kind: forge.ExposeIngress, ClassName: "traefik", Annotations: map[string]string{"a/b": "c"}, TLS: forge.TLS{Mode: "secret", Secret: "shop-tls"}, RedirectHTTP: true,
			}
		}},
		{"services that are off have no version", `
			environments: local: services: {postgres: mode: "off", redis: mode: "off"}`, func(f *forge.Forge) {
			local(f).Services = forge.Services{Postgres: forge.Postgres{Mode: "off"}, Redis: forge.Redis{Mode: "off"}, Temporal: forge.Temporal{Mode: "off"}}
		}},
		{"redis without a volume", `
			environments: local: services: redis: {persistence: false, password: env: "REDIS_PASSWORD"}`, func(f *forge.Forge) {
			r := &local(f).Services.Redis
			r.Persistence, r.Storage, r.Password = false, "", forge.SecretRef{Env: "REDIS_PASSWORD"}
		}},
		{"a range", `environments: local: scaling: {min: 2, max: 6, cpuTarget: 70, memoryTarget: 80, scaleDownWindow: "1m30s"}`, func(f *forge.Forge) {
			local(f).Scaling = forge.Scaling{Min: 2, Max: 6, CPUTarget: 70, MemoryTarget: 80, ScaleDownWindow: 90 * time.Second}
		}},
		{"max is min", `environments: local: scaling: min: 3`, func(f *forge.Forge) {
			local(f).Scaling.Min, local(f).Scaling.Max = 3, 3
		}},
		{"workers are sorted", `
			environments: local: workers: {zip: args: ["z"], mail: {args: ["m"], drain: "30s", health: exec: ["true"]}}`, func(f *forge.Forge) {
			w := forge.Worker{
				Name: "mail", Args: []string{"m"}, Scaling: forge.Scaling{Min: 1, Max: 1, ScaleDownWindow: 10 * time.Minute},
				Resources: f.App.Resources, Drain: 30 * time.Second, HealthExec: []string{"true"},
			}
			z := w
			z.Name, z.Args, z.Drain, z.HealthExec = "zip", []string{"z"}, 10*time.Minute, nil
			local(f).Workers = []forge.Worker{w, z}
		}},
		{"the overlay: the environment wins, whichever way it sets a variable", `
			app: env: {A: "1", B: "1", C: "1"}
			app: secrets: {D: generate: {}, E: generate: {}}
			environments: local: app: {env: {B: "2", D: "2"}, secrets: {C: file: "c", E: env: "E"}}`, func(f *forge.Forge) {
			g := forge.SecretRef{Generate: generated}
			f.App.Env = map[string]string{"A": "1", "B": "1", "C": "1"}
			f.App.Secrets = map[string]forge.SecretRef{"D": g, "E": g}
			local(f).App.Env = map[string]string{"A": "1", "B": "2", "D": "2"}
			local(f).App.Secrets = map[string]forge.SecretRef{"C": {File: "c"}, "E": {Env: "E"}}
		}},
		{"the overlay: a digest replaces the tag", `
			environments: local: app: image: digest: "sha256:` + strings.Repeat("0", 64) + `"`, func(f *forge.Forge) {
			local(f).App.Image.Tag, local(f).App.Image.Digest = "", "sha256:"+strings.Repeat("0", 64)
		}},
		{"the overlay: arguments as a whole, resources one by one", `
			app: args: ["a", "b"]
			environments: local: app: {args: [], resources: {memory: "512Mi", cpuLimit: "2"}}`, func(f *forge.Forge) {
			f.App.Args = []string{"a", "b"}
			local(f).App.Args = []string{}
			local(f).App.Resources.Memory, local(f).App.Resources.CPULimit = "512Mi", "2"
		}},
		{"hidden fields, references, interpolation and the standard library", `
			_level: strings.ToUpper("debug")
			_shared: env: LOG_LEVEL: _level
			environments: local: app: _shared
			environments: local: app: env: WHERE: "\(_name) in local"
			_name: app.name`, func(f *forge.Forge) {
			local(f).App.Env = map[string]string{"LOG_LEVEL": "DEBUG", "WHERE": "shop in local"}
		}},
		{"kubernetes observes by default, and a relative kubeconfig is beside the file", `
			environments: prod: platform: {kind: "kubernetes", context: "prod", kubeconfig: "kube/config", createNamespace: false, storageClass: "fast"}`, func(f *forge.Forge) {
			prod := *local(f)
			prod.Name, prod.Policy.Mode = "prod", forge.ModeObserve
			prod.Platform = forge.Platform{
				Kind: "kubernetes", Distribution: "generic", Context: "prod", Kubeconfig: "/etc/forge/kube/config", Namespace: "shop-prod", StorageClass: "fast",
			}
			f.Environments = append(f.Environments, prod)
		}},
		{"environments from a comprehension are sorted", `
			for n in ["b", "a"] {environments: "\(n)": platform: {kind: "kubernetes", context: n}}`, func(f *forge.Forge) {
			for _, name := range []string{"b", "a"} {
				e := *local(minimalForge())
				e.Name, e.Policy.Mode = name, forge.ModeObserve
				e.Platform.Kind, e.Platform.Distribution, e.Platform.Context, e.Platform.Namespace = "kubernetes", "generic", name, "shop-"+name
				f.Environments = append([]forge.Environment{e}, f.Environments...)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			head := "package forge\n"
			if strings.Contains(test.more, "strings.") {
				head += "import \"strings\"\n"
			}
			src := text(head + minimal + test.more)
			src.Dir = "/etc/forge"
			want := minimalForge()
			test.change(want)
			for i := range want.Environments {
				// What is only in the shared app shows in each environment.
				e := &want.Environments[i]
				if e.App.Args == nil {
					e.App.Args = want.App.Args
				}
			}
			if diff := cmp.Diff(want, load(t, src)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestExample(t *testing.T) {
	src, err := schema.Read("../examples/forge.cue")
	if err != nil {
		t.Fatal(err)
	}
	f := load(t, src)
	var got []string
	for _, e := range f.Environments {
		got = append(got, fmt.Sprint(e.Name, " ", e.Platform.Context, " ", e.Platform.Namespace, " ", e.Expose.Kind, " ", e.Policy.Mode))
		for name, s := range e.App.Secrets {
			if s.File != "" {
				if _, err := os.Stat(filepath.Join(src.Dir, s.File)); err != nil {
					t.Errorf("%s of %s: %v", name, e.Name, err)
				}
			}
			if s.Env != "" {
				t.Errorf("%s of %s: the example needs nothing from the environment of the process", name, e.Name)
			}
		}
	}
	want := []string{"dev cluster-1 shop-dev ingress apply", "prod cluster-2 shop loadbalancer apply"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFilesOfOnePackage(t *testing.T) {
	dir := t.TempDir()
	write := func(name, s string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	base := write("base.cue", "package forge\n"+minimal)
	more := write("more.cue", "package forge\napp: port: _port\n_port: 9000\n")
	src, err := schema.Read(base, more)
	if err != nil {
		t.Fatal(err)
	}
	if f := load(t, src); f.App.Port != 9000 || src.Dir != dir {
		t.Errorf("port %d, directory %s", f.App.Port, src.Dir)
	}

	other := write("other.cue", "package other\napp: port: 9000\n")
	if src, err = schema.Read(base, other); err != nil {
		t.Fatal(err)
	}
	diags := diagnose(t, src)
	if len(diags) != 1 || diags[0].Name != "package" || diags[0].File != other {
		t.Errorf("%v", diags)
	}

	// A mistake is reported in the file where it is.
	wrong := write("wrong.cue", "package forge\n\napp: prot: 9000\n")
	if src, err = schema.Read(base, wrong); err != nil {
		t.Fatal(err)
	}
	diags = diagnose(t, src)
	if len(diags) != 1 || diags[0].File != wrong || diags[0].Line != 3 || diags[0].Col != 6 {
		t.Errorf("%v", diags)
	}
}

func TestLoadIsDeterministic(t *testing.T) {
	valid, invalid := source(t, "../examples/forge.cue"), source(t, "../examples/invalid/many.cue")
	want, wrong := load(t, valid), diagnose(t, invalid)
	for range 20 {
		if diff := cmp.Diff(want, load(t, valid)); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(fmt.Sprint(wrong), fmt.Sprint(diagnose(t, invalid))); diff != "" {
			t.Fatal(diff)
		}
	}
}

// The settings of the environment are not part of a forge.
func TestEnvironmentVariablesOfCUE(t *testing.T) {
	t.Setenv("CUE_DEBUG", "strict=1,opendef=1")
	t.Setenv("CUE_EXPERIMENT", "nonsense")
	if diff := cmp.Diff(minimalForge(), load(t, text(minimal))); diff != "" {
		t.Error(diff)
	}
	if len(diagnose(t, text(minimal+"app: colour: \"red\""))) != 1 {
		t.Error("an unknown key is accepted")
	}
}

// What a load leaves behind does not add up. One load takes several MiB, and a
// hundred of them that stay would take hundreds; the slack is far above what
// the runtime and earlier tests can hold on to, so that this fails for no other
// reason.
func TestReloadsLeaveNoMemoryBehind(t *testing.T) {
	src := source(t, "../examples/forge.cue")
	heap := func() uint64 {
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for range 5 {
		load(t, src)
	}
	before := heap()
	for range 100 {
		load(t, src)
	}
	const slack = 8 << 20
	if after := heap(); after > before+slack {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
}

func TestDeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := schema.Load(ctx, text(minimal)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		release := make(chan struct{})
		defer close(release)
		forever := func(*forge.Forge) []forge.Finding { <-release; return nil }
		if _, _, err := schema.Load(ctx, text(minimal), forever); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// Text that makes a recursive reader overflow its stack, which nothing can
// recover from.
func TestHostileText(t *testing.T) {
	n := schema.MaxFileSize - 100
	fill := func(s string) string { return strings.Repeat(s, n/len(s)) }
	for name, s := range map[string]string{
		"parentheses":    "x: " + fill("("),
		"lists":          "x: " + fill("["),
		"structs":        "x: " + fill("{a:"),
		"fields":         fill("a: ") + "1",
		"fields down":    fill("a:\n") + "1",
		"selectors":      "x: a" + fill(".a"),
		"calls":          "x: a" + fill("()"),
		"operators":      "x: 1" + fill("+1"),
		"minus":          "x: " + fill("-") + "1",
		"interpolations": "x: " + fill(`"\(`),
		"texts":          "x: " + fill(`"\("a")`) + `"`,
		"comprehensions": "x: [" + fill("for a in [1] ") + "{1}]",
		"closed twice":   "x: 1" + fill(")"),
		"not text":       fill("\x00\xff"),
	} {
		t.Run(name, func(t *testing.T) {
			diags := diagnose(t, text(s))
			if len(diags) == 0 {
				t.Error("it is valid")
			}
		})
	}
	if d := diagnose(t, text(fill("#")+strings.Repeat("#", 200))); len(d) != 1 || d[0].Name != "size" {
		t.Errorf("%v", d)
	}
	if d := diagnose(t, schema.Source{}); len(d) != 1 {
		t.Errorf("%v", d)
	}
}
