package compile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"forged.dev/forged/internal/forge"
)

const (
	// maxReleaseName is Helm's limit.
	maxReleaseName = 53

	// maxFlyName is that of Fly's apps.
	maxFlyName = 63
)

// Names of the rules, in the catalogue of package schema.
const (
	ruleObjectName       = "object-name"
	ruleNamespace        = "namespace"
	ruleSameNamespace    = "same-namespace"
	ruleInjected         = "injected"
	ruleSetTwice         = "set-twice"
	ruleSecretSource     = "secret-source"
	ruleControlCharacter = "control-character"
	ruleValue            = "value"
	ruleBound            = "bound"
	ruleScaling          = "scaling"
	ruleDomain           = "domain-needed"
	ruleFlyPrimary       = "fly-primary"
	ruleFlyName          = "fly-name"
	ruleTemporalDatabase = "temporal-database"
)

// Check finds what cannot be compiled as written. The language refuses most of
// it by itself; this is what holds however the model came about, and what only
// shows when the names that forged gives are known.
func Check(f *forge.Forge) []forge.Finding {
	var all []forge.Finding
	for _, env := range f.Environments {
		all = append(all, check(env)...)
	}
	return append(all, neighbours(f.Environments)...)
}

// asError is a finding for who has no text to show it in.
func asError(found forge.Finding) error {
	path := found.Path
	environment := ""
	if len(path) > 1 && path[0] == "environments" {
		environment, path = fmt.Sprintf("environment %q: ", path[1]), path[2:]
	}
	message := found.Message
	if len(path) > 0 {
		message = strings.Join(path, ".") + ": " + message
	}
	if found.Hint != "" {
		message += "; " + found.Hint
	}
	return errors.New(environment + message)
}

// neighbours finds environments that would be in each other's way.
func neighbours(envs []forge.Environment) []forge.Finding {
	type corner struct {
		target    forge.Target
		namespace string
	}
	taken := map[corner]string{}
	var all []forge.Finding
	for _, env := range envs {
		if !env.Platform.OnKubernetes() {
			continue
		}
		for _, at := range places(env) {
			here := corner{at.target, at.namespace}
			if env.Platform.Kind == forge.PlatformFKS {
				here.target = forge.Target{Org: env.Platform.Org, Context: env.Platform.Cluster}
			}
			if other, ok := taken[here]; ok && other != env.Name {
				all = append(all, forge.Finding{
					Path: []string{"environments", env.Name, "platform", "namespace"}, Rule: ruleSameNamespace,
					Message: fmt.Sprintf("namespace %q in context %q belongs to environment %q already", at.namespace, here.target.Context, other),
					Hint:    "give each environment a namespace of its own",
				})
				continue
			}
			taken[here] = env.Name
		}
	}
	return all
}

func check(env forge.Environment) []forge.Finding {
	c := checker{env: env, b: builder{env: env}}
	c.names()
	c.variables()
	c.texts()
	c.services()
	c.scaling([]string{"scaling"}, env.Scaling)
	for _, worker := range env.Workers {
		c.scaling([]string{"workers", worker.Name, "scaling"}, worker.Scaling)
	}
	if env.Expose.Kind == forge.ExposeIngress && len(env.Domains) == 0 {
		c.find(ruleDomain, "write domains in this environment", []string{"expose"}, "an ingress needs a domain: without one it takes the requests of everybody")
	}
	return c.found
}

type checker struct {
	env   forge.Environment
	b     builder
	found []forge.Finding
}

func (c *checker) find(rule, hint string, path []string, format string, args ...any) {
	c.found = append(c.found, forge.Finding{
		Path: slices.Concat([]string{"environments", c.env.Name}, path), Rule: rule, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

func (c *checker) names() {
	app := []string{"app", "name"}
	platform := c.env.Platform
	if platform.OnKubernetes() {
		if platform.Namespace == "" {
			c.find(ruleNamespace, "", []string{"platform", "namespace"}, "it is empty")
		}
		names := []string{c.env.App.Name, c.b.postgresName(), c.b.redisName(), c.b.temporalName()}
		for _, name := range names {
			if len(name) > maxReleaseName {
				c.find(ruleObjectName, "shorten app.name", app, "the release %s would have a name of more than %d characters", name, maxReleaseName)
			}
		}
		for _, chart := range c.env.Charts {
			if name := c.env.App.Name + "-" + chart.Name; len(name) > maxReleaseName || slices.Contains(names, name) {
				c.find(ruleObjectName, "rename the chart", []string{"charts", chart.Name}, "the release %s is one of forged's own, or has more than %d characters", name, maxReleaseName)
			}
		}
		own := hashKeySecretName(c.env.Name)
		secrets := append(names, c.b.envSecretName(), c.b.filesSecretName(), c.b.pullSecretName(), c.b.postgresTLSSecretName())
		if slices.Contains(secrets, own) {
			c.find(ruleObjectName, "rename the app or the environment", app, "the Secret %q would be both forged's own and the app's", own)
		}
	}
	if platform.Kind == forge.PlatformFly {
		f := flyBuilder{builder: c.b}
		for _, name := range []string{platform.AppName, f.redisApp(), f.temporalApp(), f.temporalWebApp()} {
			if len(name) > maxFlyName {
				c.find(ruleFlyName, "shorten platform.appName", []string{"platform"}, "the Fly app %s would have a name of more than %d characters", name, maxFlyName)
				break
			}
		}
		if len(c.env.Regions) == 0 {
			c.find(ruleFlyPrimary, "write regions: iad: {}", []string{"regions"}, "there is no region to run in")
		}
	}
	seen := map[string]bool{}
	for _, worker := range c.env.Workers {
		if seen[worker.Name] {
			c.find(ruleObjectName, "", []string{"workers", worker.Name}, "it is there twice")
		}
		seen[worker.Name] = true
	}
}

// injected are the variables that forged sets, by the service they lead to.
func (c *checker) injected() map[string]string {
	bare := c.b
	bare.env.App.Env, bare.env.App.Secrets = nil, nil
	given := map[string]string{}
	add := func(service string, keep func(*forge.Services)) {
		b := bare
		b.env.Services = forge.Services{Postgres: forge.Postgres{Mode: forge.ModeOff}, Redis: forge.Redis{Mode: forge.ModeOff}, Temporal: forge.Temporal{Mode: forge.ModeOff}}
		keep(&b.env.Services)
		s := b.surroundings(servicePlace{}, servicePlace{}, servicePlace{})
		for key := range s.env {
			if key != "SKIP_USER_SWITCH" {
				given[key] = service
			}
		}
		for _, entry := range s.entries {
			given[entry.Key] = service
		}
	}
	add("postgres", func(s *forge.Services) { s.Postgres = c.env.Services.Postgres })
	add("redis", func(s *forge.Services) { s.Redis = c.env.Services.Redis })
	add("temporal", func(s *forge.Services) { s.Temporal = c.env.Services.Temporal })
	return given
}

// variables makes sure that each has one source.
func (c *checker) variables() {
	given := c.injected()
	own := func(path []string, key string) {
		if from := given[key]; from != "" {
			c.find(ruleInjected, fmt.Sprintf(`leave it out, or write services: %s: mode: "off"`, from), path, "forged sets %s, because of services.%s", key, from)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.env.App.Env)) {
		path := []string{"app", "env", key}
		own(path, key)
		if _, both := c.env.App.Secrets[key]; both {
			c.find(ruleSetTwice, "keep one of the two", path, "%s is also set by app.secrets.%s", key, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.env.App.Secrets)) {
		path := []string{"app", "secrets", key}
		own(path, key)
		c.reference(path, c.env.App.Secrets[key])
	}
}

// texts refuses characters that do not survive the way into a cluster: the
// API server reads what is applied as YAML, which knows no control characters
// and folds U+0085 into a space. Secrets travel as base64 and may hold any.
func (c *checker) texts() {
	const hint = "leave it out, or put the value into app.secrets"
	check := func(text string, path ...string) {
		if !utf8.ValidString(text) {
			c.find(ruleControlCharacter, "put it into app.secrets if it must be as it is", path, "it is not UTF-8")
			return
		}
		for _, r := range text {
			if r == '\ufeff' || (unicode.IsControl(r) && !strings.ContainsRune("\t\n\r", r)) {
				c.find(ruleControlCharacter, hint, path, "it holds the control character %U", r)
				return
			}
		}
	}
	list := func(texts []string, path ...string) {
		for i, text := range texts {
			check(text, append(slices.Clone(path), strconv.Itoa(i))...)
		}
	}
	pairs := func(texts map[string]string, path ...string) {
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			check(texts[key], append(slices.Clone(path), key)...)
		}
	}
	pairs(c.env.App.Env, "app", "env")
	pairs(c.env.Expose.Annotations, "expose", "annotations")
	list(c.env.App.Args, "app", "args")
	list(c.env.App.Migrate.Args, "app", "migrate", "args")
	for _, file := range c.env.App.ConfigFiles {
		check(file.Text, "app", "configFiles", file.Path)
	}
	for _, worker := range c.env.Workers {
		list(worker.Args, "workers", worker.Name, "args")
		list(worker.HealthExec, "workers", worker.Name, "health", "exec")
	}
}

func (c *checker) reference(path []string, ref forge.SecretRef) {
	set := 0
	for _, is := range []bool{ref.Env != "", ref.File != "", ref.SOPS != nil, ref.Kubernetes != nil, ref.OP != "", len(ref.Exec) > 0, ref.Generate != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		c.find(ruleSecretSource, "", path, "a secret has one source, and this one has %d", set)
	}
}

func (c *checker) scaling(path []string, s forge.Scaling) {
	at := func(key string) []string { return append(slices.Clone(path), key) }
	if s.Max != 0 && s.Max < s.Min {
		c.find(ruleScaling, "", at("max"), "max %d is less than min %d", s.Max, s.Min)
	}
	if !s.Autoscaled() {
		return
	}
	if s.CPUTarget <= 0 && s.MemoryTarget <= 0 {
		c.find(ruleScaling, "write cpuTarget or memoryTarget", path, "a range needs a metric to move along it")
	}
	if s.Min < 1 {
		c.find(ruleScaling, "", at("min"), "min is %d, and an autoscaler cannot go below 1", s.Min)
	}
}
