package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"forged.dev/forged/internal/forge"
)

// What follows is refused by the language, so that none of it is ever in a
// model that was read from text. Compiling relies on it: a model that breaks
// it is a mistake of forged and not of its user, and nothing is made of it.

// broken lists what a model must not hold.
func broken(env forge.Environment) []error {
	d := distrust{env: env, b: builder{env: env}}
	d.platform()
	d.variables()
	d.texts()
	d.services()
	d.scaling("scaling", env.Scaling)
	seen := map[string]bool{}
	for _, worker := range env.Workers {
		d.scaling("workers."+worker.Name+".scaling", worker.Scaling)
		if seen[worker.Name] {
			d.say("workers."+worker.Name, "it is there twice")
		}
		seen[worker.Name] = true
	}
	if env.Expose.Kind == forge.ExposeIngress && len(env.Domains) == 0 {
		d.say("expose", "an ingress without a domain takes the requests of everybody")
	}
	return d.problems
}

// crowded lists namespaces that two environments would live in.
func crowded(resources []forge.Resource) []error {
	type corner struct {
		target    forge.Target
		namespace string
	}
	var problems []error
	taken := map[corner]string{}
	for _, r := range resources {
		spec, ok := r.Spec.(forge.NamespaceSpec)
		if !ok {
			continue
		}
		here := corner{r.Target, spec.Name}
		if other, ok := taken[here]; ok && other != r.ID.Environment {
			problems = append(problems, bug(r.ID.Environment, fmt.Sprintf("namespace %q in %s belongs to environment %q already", spec.Name, r.Target, other)))
			continue
		}
		taken[here] = r.ID.Environment
	}
	return problems
}

// bug is an error that no forge.cue should lead to.
func bug(environment, problem string) error {
	return fmt.Errorf("internal error: environment %q: %s; this is a bug of forged: please report it", environment, problem)
}

type distrust struct {
	env      forge.Environment
	b        builder
	problems []error
}

func (d *distrust) say(at, format string, args ...any) {
	d.problems = append(d.problems, bug(d.env.Name, at+": "+fmt.Sprintf(format, args...)))
}

func (d *distrust) platform() {
	platform := d.env.Platform
	switch {
	case platform.OnKubernetes():
		if platform.Namespace == "" {
			d.say("platform.namespace", "it is empty")
		}
	case platform.Kind == forge.PlatformFly:
		if len(d.env.Regions) == 0 {
			d.say("regions", "there is no region to run in")
		}
	case platform.Kind != forge.PlatformCompose:
		d.say("platform.kind", "%q is none of %q, %q, %q, %q, %q", platform.Kind,
			forge.PlatformCompose, forge.PlatformMinikube, forge.PlatformKubernetes, forge.PlatformFKS, forge.PlatformFly)
	}
}

func (d *distrust) variables() {
	for _, key := range slices.Sorted(maps.Keys(d.env.App.Secrets)) {
		at := "app.secrets." + key
		if _, both := d.env.App.Env[key]; both {
			d.say(at, "it is also set by app.env.%s", key)
		}
		d.reference(at, d.env.App.Secrets[key])
	}
}

func (d *distrust) reference(at string, ref forge.SecretRef) {
	set := 0
	for _, is := range []bool{ref.Env != "", ref.File != "", ref.SOPS != nil, ref.Kubernetes != nil, ref.OP != "", len(ref.Exec) > 0, ref.Generate != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		d.say(at, "a secret has one source, and this one has %d", set)
	}
}

// texts refuses characters that do not survive the way into a cluster: the
// API server reads what is applied as YAML, which knows no control characters
// and folds U+0085 into a space. Secrets travel as base64 and may hold any.
func (d *distrust) texts() {
	look := func(at, text string) {
		if !utf8.ValidString(text) {
			d.say(at, "it is not UTF-8")
			return
		}
		for _, r := range text {
			if r == '\ufeff' || (unicode.IsControl(r) && !strings.ContainsRune("\t\n\r", r)) {
				d.say(at, "it holds the control character %U", r)
				return
			}
		}
	}
	list := func(at string, texts []string) {
		for i, text := range texts {
			look(fmt.Sprintf("%s.%d", at, i), text)
		}
	}
	pairs := func(at string, texts map[string]string) {
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			look(at+"."+key, texts[key])
		}
	}
	pairs("app.env", d.env.App.Env)
	pairs("expose.annotations", d.env.Expose.Annotations)
	list("app.args", d.env.App.Args)
	list("app.migrate.args", d.env.App.Migrate.Args)
	for _, file := range d.env.App.ConfigFiles {
		look("app.configFiles."+file.Path, file.Text)
	}
	for _, worker := range d.env.Workers {
		list("workers."+worker.Name+".args", worker.Args)
		list("workers."+worker.Name+".health.exec", worker.HealthExec)
	}
}

func (d *distrust) scaling(at string, s forge.Scaling) {
	if s.Max != 0 && s.Max < s.Min {
		d.say(at+".max", "max %d is less than min %d", s.Max, s.Min)
	}
	if !s.Autoscaled() {
		return
	}
	if s.CPUTarget <= 0 && s.MemoryTarget <= 0 {
		d.say(at, "a range needs a metric to move along it")
	}
	if s.Min < 1 {
		d.say(at+".min", "min is %d, and an autoscaler cannot go below 1", s.Min)
	}
}

// modes are who may run a service, by kind of platform.
func modes(kind string) (postgres, redis, temporal []string) {
	own := []string{forge.ModeInCluster, forge.ModeExternal, forge.ModeOff}
	outside := []string{forge.ModeCloud, forge.ModeExternal, forge.ModeOff, ""}
	switch kind {
	case forge.PlatformFKS:
		return append(slices.Clone(own), forge.ModeFlyManaged), append(slices.Clone(own), forge.ModeUpstash), append(outside, forge.ModeInCluster)
	case forge.PlatformFly:
		return []string{forge.ModeFlyManaged, forge.ModeFlyUnmanaged, forge.ModeExternal, forge.ModeOff},
			[]string{forge.ModeUpstash, forge.ModeFlyApp, forge.ModeExternal, forge.ModeOff}, append(outside, forge.ModeFlyApp)
	default:
		return own, own, append(outside, forge.ModeInCluster)
	}
}

func (d *distrust) services() {
	s := d.env.Services
	postgres, redis, temporal := modes(d.env.Platform.Kind)
	for _, service := range []struct {
		name, mode string
		allowed    []string
	}{{partPostgres, s.Postgres.Mode, postgres}, {partRedis, s.Redis.Mode, redis}, {partTemporal, s.Temporal.Mode, temporal}} {
		if !slices.Contains(service.allowed, service.mode) {
			d.say("services."+service.name+".mode", "%q is none of %s", service.mode,
				strings.Join(slices.DeleteFunc(slices.Clone(service.allowed), func(mode string) bool { return mode == "" }), ", "))
		}
	}
	ownRedis := s.Redis.Mode == forge.ModeInCluster || s.Redis.Mode == forge.ModeFlyApp
	for _, server := range []struct {
		name, version string
		runs          bool
		images        map[string]string
	}{
		{partPostgres, s.Postgres.Version, s.Postgres.Mode == forge.ModeInCluster, postgresImages},
		{partRedis, s.Redis.Version, ownRedis, redisImages},
		{partTemporal, s.Temporal.Version, d.b.hasTemporal(), temporalImages},
	} {
		if _, err := imageFor(server.images, server.version); server.runs && err != nil {
			d.say("services."+server.name+".version", "%s", err)
		}
	}
	if d.b.hasTemporal() && s.Postgres.Mode == forge.ModeOff {
		d.say("services.temporal.mode", "Temporal keeps its data in services.postgres, which is off")
	}
	for _, secret := range []struct {
		needed bool
		at     string
		ref    forge.SecretRef
	}{
		{s.Postgres.Mode == forge.ModeInCluster, "postgres.password", s.Postgres.Password},
		{s.Postgres.Mode == forge.ModeExternal, "postgres.url", s.Postgres.URL},
		{s.Postgres.ManageRoles, "postgres.admin", s.Postgres.Admin},
		{ownRedis, "redis.password", s.Redis.Password},
		{s.Redis.Mode == forge.ModeExternal, "redis.url", s.Redis.URL},
		{d.b.hasTemporal(), "temporal.password", s.Temporal.Password},
	} {
		if secret.needed {
			d.reference("services."+secret.at, secret.ref)
		}
	}
}
