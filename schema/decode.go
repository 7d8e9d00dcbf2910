package schema

import (
	"bytes"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"cuelang.org/go/cue"

	"forged.dev/forged/internal/forge"
)

// The wire types are what CUE writes as JSON. Decoding through them is twice
// as fast as cue.Value.Decode, and refuses a key that nobody reads.

type wire struct {
	app  *wireApp // nil: it has diagnostics
	envs []wireEnv
}

type wireApp struct {
	Name  string `json:"name"`
	Image struct {
		Repository string `json:"repository"`
		Tag        string `json:"tag"`
		Digest     string `json:"digest"`
		PullPolicy string `json:"pullPolicy"`
	} `json:"image"`
	Port      int                   `json:"port"`
	Args      []string              `json:"args"`
	Env       map[string]string     `json:"env"`
	Secrets   map[string]wireSecret `json:"secrets"`
	Resources wireResources         `json:"resources"`
	Health    struct {
		Live     string `json:"live"`
		Ready    string `json:"ready"`
		Startup  string `json:"startup"`
		Interval string `json:"interval"`
		Timeout  string `json:"timeout"`
		Failures int    `json:"failures"`
	} `json:"health"`
}

type wireSecret struct {
	Env      string `json:"env"`
	File     string `json:"file"`
	Generate *struct {
		Alphabet string `json:"alphabet"`
		Length   int    `json:"length"`
	} `json:"generate"`
}

type wireResources struct {
	CPU         string `json:"cpu"`
	Memory      string `json:"memory"`
	CPULimit    string `json:"cpuLimit"`
	MemoryLimit string `json:"memoryLimit"`
}

type wireScaling struct {
	Min             int    `json:"min"`
	Max             *int   `json:"max"`
	CPUTarget       int    `json:"cpuTarget"`
	MemoryTarget    int    `json:"memoryTarget"`
	ScaleDownWindow string `json:"scaleDownWindow"`
}

type wireWorker struct {
	Args      []string      `json:"args"`
	Scaling   wireScaling   `json:"scaling"`
	Resources wireResources `json:"resources"`
	Drain     string        `json:"drain"`
	Health    struct {
		Exec []string `json:"exec"`
	} `json:"health"`
}

type wireEnv struct {
	name     string
	Platform struct {
		Kind            string `json:"kind"`
		Context         string `json:"context"`
		Kubeconfig      string `json:"kubeconfig"`
		Namespace       string `json:"namespace"`
		CreateNamespace bool   `json:"createNamespace"`
		StorageClass    string `json:"storageClass"`
	} `json:"platform"`
	App struct {
		Image struct {
			Tag    string `json:"tag"`
			Digest string `json:"digest"`
		} `json:"image"`
		Args      []string              `json:"args"`
		Env       map[string]string     `json:"env"`
		Secrets   map[string]wireSecret `json:"secrets"`
		Resources wireResources         `json:"resources"`
	} `json:"app"`
	Domains []string `json:"domains"`
	Expose  struct {
		Kind        string            `json:"kind"`
		ClassName   string            `json:"className"`
		Annotations map[string]string `json:"annotations"`
		TLS         struct {
			Mode string `json:"mode"`
			Name string `json:"name"`
		} `json:"tls"`
	} `json:"expose"`
	Services struct {
		Postgres struct {
			Mode         string      `json:"mode"`
			Version      string      `json:"version"`
			Storage      string      `json:"storage"`
			StorageClass string      `json:"storageClass"`
			Database     string      `json:"database"`
			Password     *wireSecret `json:"password"`
		} `json:"postgres"`
		Redis struct {
			Mode         string      `json:"mode"`
			Version      string      `json:"version"`
			Persistence  bool        `json:"persistence"`
			Storage      string      `json:"storage"`
			StorageClass string      `json:"storageClass"`
			MaxMemory    string      `json:"maxMemory"`
			Eviction     string      `json:"eviction"`
			Password     *wireSecret `json:"password"`
		} `json:"redis"`
	} `json:"services"`
	Scaling       wireScaling           `json:"scaling"`
	Workers       map[string]wireWorker `json:"workers"`
	NetworkPolicy string                `json:"networkPolicy"`
	Policy        struct {
		Mode      string `json:"mode"`
		Interval  string `json:"interval"`
		Timeout   string `json:"timeout"`
		Prune     string `json:"prune"`
		MaxDelete int    `json:"maxDelete"`
	} `json:"policy"`
}

// decode reads those parts of the forge that have no diagnostics, so that the
// rules can be checked on them.
func (l *loader) decode() wire {
	var w wire
	at := func(p path, to any) bool {
		if l.isBroken(p) {
			return false
		}
		data, err := l.whole.LookupPath(selectors(l.whole, p)).MarshalJSON()
		if err == nil {
			err = strictJSON(data, to)
		}
		if err != nil {
			l.add(p, l.pos(p, true), "value", "it cannot be read: "+err.Error(), "")
		}
		return err == nil
	}
	app := &wireApp{}
	if at(path{"app"}, app) {
		w.app = app
	}
	envs := path{"environments"}
	names := fields(l.whole.LookupPath(cue.ParsePath("environments")))
	slices.Sort(names)
	for _, name := range names {
		e := wireEnv{name: name}
		if at(envs.with(name), &e) {
			w.envs = append(w.envs, e)
		}
	}
	return w
}

// forge builds the model. The overlay is laid here and nowhere else.
func (w wire) forge(dir string) *forge.Forge {
	f := &forge.Forge{App: w.app.app()}
	for _, e := range w.envs {
		f.Environments = append(f.Environments, e.environment(f.App, dir))
	}
	return f
}

func (a *wireApp) app() forge.App {
	return forge.App{
		Name: a.Name,
		Image: forge.Image{
			Repository: a.Image.Repository, Tag: a.Image.Tag, Digest: a.Image.Digest, PullPolicy: a.Image.PullPolicy,
		},
		Port: a.Port, Args: a.Args, Env: a.Env, Secrets: secrets(a.Secrets),
		Resources: forge.Resources(a.Resources),
		Health: forge.Health{
			Live: a.Health.Live, Ready: a.Health.Ready, Startup: duration(a.Health.Startup),
			Interval: duration(a.Health.Interval), Timeout: duration(a.Health.Timeout), Failures: a.Health.Failures,
		},
	}
}

// overlay is the app as the environment runs it.
func (e *wireEnv) overlay(app forge.App) forge.App {
	o := e.App
	if o.Image.Tag != "" || o.Image.Digest != "" {
		app.Image.Tag, app.Image.Digest = o.Image.Tag, o.Image.Digest
	}
	if o.Args != nil {
		app.Args = o.Args
	}
	// A name is one variable: whichever way the environment sets it replaces
	// both ways of the shared app.
	app.Env, app.Secrets = maps.Clone(app.Env), maps.Clone(app.Secrets)
	for k := range o.Secrets {
		delete(app.Env, k)
	}
	for k := range o.Env {
		delete(app.Secrets, k)
	}
	maps.Copy(app.Env, o.Env)
	maps.Copy(app.Secrets, secrets(o.Secrets))
	r := &app.Resources
	r.CPU = orElse(o.Resources.CPU, r.CPU)
	r.Memory = orElse(o.Resources.Memory, r.Memory)
	r.CPULimit = orElse(o.Resources.CPULimit, r.CPULimit)
	r.MemoryLimit = orElse(o.Resources.MemoryLimit, r.MemoryLimit)
	return app
}

func (e *wireEnv) namespace(app string) string {
	return orElse(e.Platform.Namespace, app+"-"+e.name)
}

// kubeconfig starts at the directory of forge.cue, not where the process
// happens to run.
func (e *wireEnv) kubeconfig(dir string) string {
	k := e.Platform.Kubeconfig
	if k == "" || filepath.IsAbs(k) {
		return k
	}
	return filepath.Join(dir, k)
}

func (e *wireEnv) environment(app forge.App, dir string) forge.Environment {
	pg, redis := e.Services.Postgres, e.Services.Redis
	env := forge.Environment{
		Name: e.name,
		Platform: forge.Platform{
			Kind: e.Platform.Kind, Context: e.Platform.Context, Kubeconfig: e.kubeconfig(dir),
			Namespace: e.namespace(app.Name), CreateNamespace: e.Platform.CreateNamespace,
			StorageClass: e.Platform.StorageClass,
		},
		App:     e.overlay(app),
		Domains: e.Domains,
		Expose: forge.Expose{
			Kind: e.Expose.Kind, ClassName: e.Expose.ClassName,
			Annotations: e.Expose.Annotations, TLS: forge.TLS{Mode: e.Expose.TLS.Mode, Secret: e.Expose.TLS.Name},
		},
		Services: forge.Services{
			Postgres: forge.Postgres{
				Mode: pg.Mode, Version: pg.Version, Storage: pg.Storage,
				StorageClass: pg.StorageClass, Database: pg.Database,
			},
			Redis: forge.Redis{
				Mode: redis.Mode, Version: redis.Version, Persistence: redis.Persistence, Storage: redis.Storage,
				StorageClass: redis.StorageClass, MaxMemory: redis.MaxMemory, Eviction: redis.Eviction,
			},
		},
		Scaling:       e.Scaling.scaling(),
		NetworkPolicy: e.NetworkPolicy,
		Policy: forge.Policy{
			Mode: forge.Mode(e.Policy.Mode), Interval: duration(e.Policy.Interval), Timeout: duration(e.Policy.Timeout),
			Prune: e.Policy.Prune == "owned", MaxDelete: e.Policy.MaxDelete,
		},
	}
	if pg.Mode == forge.ModeInCluster {
		env.Services.Postgres.Password = pg.Password.orGenerated()
	}
	if redis.Mode == forge.ModeInCluster {
		env.Services.Redis.Password = redis.Password.orGenerated()
	}
	for _, name := range slices.Sorted(maps.Keys(e.Workers)) {
		w := e.Workers[name]
		env.Workers = append(env.Workers, forge.Worker{
			Name: name, Args: w.Args, Scaling: w.Scaling.scaling(), Resources: forge.Resources(w.Resources),
			Drain: duration(w.Drain), HealthExec: w.Health.Exec,
		})
	}
	return env
}

func (s wireScaling) max() int {
	if s.Max == nil {
		return s.Min
	}
	return *s.Max
}

func (s wireScaling) scaling() forge.Scaling {
	return forge.Scaling{
		Min: s.Min, Max: s.max(), CPUTarget: s.CPUTarget, MemoryTarget: s.MemoryTarget,
		ScaleDownWindow: duration(s.ScaleDownWindow),
	}
}

func secrets(in map[string]wireSecret) map[string]forge.SecretRef {
	out := make(map[string]forge.SecretRef, len(in))
	for k, s := range in {
		out[k] = s.ref()
	}
	return out
}

func (s wireSecret) ref() forge.SecretRef {
	r := forge.SecretRef{Env: s.Env, File: s.File}
	if g := s.Generate; g != nil {
		r.Generate = &forge.Generate{Alphabet: g.Alphabet, Length: g.Length}
	}
	return r
}

// orGenerated is the reference, or one to a generated value: letters and
// digits only, which need no quoting in a URL.
func (s *wireSecret) orGenerated() forge.SecretRef {
	if s == nil {
		return forge.SecretRef{Generate: &forge.Generate{Alphabet: "alnum", Length: 32}}
	}
	return s.ref()
}

// duration reads what the schema has let through.
func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic("duration " + s + ": " + err.Error())
	}
	return d
}

func strictJSON(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(to)
}
