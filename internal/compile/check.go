package compile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"forged.dev/forged/internal/forge"
)

// maxReleaseName is Helm's limit.
const maxReleaseName = 53

// check refuses what cannot be built as written. The language refuses most of
// it earlier and with a position; this is what holds however the model came
// about, and what only shows when the names that forged gives are known.
func check(env forge.Environment) error {
	c := checker{env: env}
	c.names()
	c.variables()
	c.texts()
	c.services()
	c.scaling("scaling", env.Scaling)
	for _, worker := range env.Workers {
		c.scaling("workers."+worker.Name+".scaling", worker.Scaling)
	}
	if env.Expose.Kind == forge.ExposeIngress && len(env.Domains) == 0 {
		c.failf("expose.kind is %q but domains is empty; an ingress without a host would catch everybody's requests", forge.ExposeIngress)
	}
	return errors.Join(c.problems...)
}

type checker struct {
	env      forge.Environment
	problems []error
}

func (c *checker) failf(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf("environment %q: "+format, append([]any{c.env.Name}, args...)...))
}

func (c *checker) names() {
	if c.env.Platform.Namespace == "" {
		c.failf("platform.namespace is empty")
	}
	b := builder{env: c.env}
	for _, name := range []string{c.env.App.Name, b.postgresName(), b.redisName()} {
		if len(name) > maxReleaseName {
			c.failf("the release %q would be called by more than %d characters; shorten app.name", name, maxReleaseName)
		}
	}
	own := hashKeySecretName(c.env.Name)
	if slices.Contains([]string{b.envSecretName(), b.postgresName(), b.redisName()}, own) {
		c.failf("the Secret %q would be both forged's own and the app's; rename the app or the environment", own)
	}
	seen := map[string]bool{}
	for _, worker := range c.env.Workers {
		if seen[worker.Name] {
			c.failf("workers.%s is there twice", worker.Name)
		}
		seen[worker.Name] = true
	}
}

// variables makes sure that each has one source.
func (c *checker) variables() {
	given := map[string]string{}
	if (builder{env: c.env}).hasPostgres() {
		for _, key := range []string{envDatabaseURL, envDatabase, envDatabaseUser} {
			given[key] = "services.postgres"
		}
	}
	if (builder{env: c.env}).hasRedis() {
		given[envRedisURL] = "services.redis"
	}
	for _, key := range slices.Sorted(maps.Keys(c.env.App.Env)) {
		if from := given[key]; from != "" {
			c.failf("app.env.%s is set by forged from %s; leave it out, or set the service's mode to %q", key, from, forge.ModeOff)
		}
		if _, both := c.env.App.Secrets[key]; both {
			c.failf("%s stands in app.env and in app.secrets; keep one of them", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.env.App.Secrets)) {
		if from := given[key]; from != "" {
			c.failf("app.secrets.%s is set by forged from %s; leave it out, or set the service's mode to %q", key, from, forge.ModeOff)
		}
		c.reference("app.secrets."+key, c.env.App.Secrets[key])
	}
}

// texts refuses characters that do not survive the way into the cluster: the
// API server reads what is applied as YAML, which knows no control characters
// and folds U+0085 into a space. Secrets travel as base64 and may hold any.
func (c *checker) texts() {
	check := func(path, text string) {
		if !utf8.ValidString(text) {
			c.failf("%s is not UTF-8; put it into app.secrets if it must be as it is", path)
			return
		}
		for _, r := range text {
			if r == '\ufeff' || (unicode.IsControl(r) && !strings.ContainsRune("\t\n\r", r)) {
				c.failf("%s holds the control character %U; leave it out, or put the value into app.secrets", path, r)
				return
			}
		}
	}
	list := func(path string, texts []string) {
		for i, text := range texts {
			check(fmt.Sprintf("%s[%d]", path, i), text)
		}
	}
	pairs := func(path string, texts map[string]string) {
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			check(path+"."+key, texts[key])
		}
	}
	pairs("app.env", c.env.App.Env)
	pairs("expose.annotations", c.env.Expose.Annotations)
	list("app.args", c.env.App.Args)
	for _, worker := range c.env.Workers {
		list("workers."+worker.Name+".args", worker.Args)
		list("workers."+worker.Name+".health.exec", worker.HealthExec)
	}
}

func (c *checker) services() {
	postgres, redis := c.env.Services.Postgres, c.env.Services.Redis
	modes := []string{forge.ModeInCluster, forge.ModeOff}
	if !slices.Contains(modes, postgres.Mode) {
		c.failf("services.postgres.mode %q is none of %s", postgres.Mode, strings.Join(modes, ", "))
	}
	if !slices.Contains(modes, redis.Mode) {
		c.failf("services.redis.mode %q is none of %s", redis.Mode, strings.Join(modes, ", "))
	}
	if postgres.Mode == forge.ModeInCluster {
		c.reference("services.postgres.password", postgres.Password)
	}
	if redis.Mode == forge.ModeInCluster {
		c.reference("services.redis.password", redis.Password)
	}
}

func (c *checker) reference(path string, ref forge.SecretRef) {
	set := 0
	for _, is := range []bool{ref.Env != "", ref.File != "", ref.Generate != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		c.failf("%s must name exactly one source: env, file or generate", path)
	}
}

func (c *checker) scaling(path string, s forge.Scaling) {
	if s.Max != 0 && s.Max < s.Min {
		c.failf("%s.max %d is below min %d", path, s.Max, s.Min)
	}
	if !s.Autoscaled() {
		return
	}
	if s.CPUTarget <= 0 && s.MemoryTarget <= 0 {
		c.failf("%s: max is above min, so an autoscaler needs cpuTarget or memoryTarget", path)
	}
	if s.Min < 1 {
		c.failf("%s.min is %d; an autoscaler cannot go below 1", path, s.Min)
	}
}
