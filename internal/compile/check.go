package compile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
)

const (
	// maxReleaseName is Helm's limit.
	maxReleaseName = 53

	// maxFlyName is that of Fly's apps.
	maxFlyName = 63

	// maxFlyVolumeName is that of Fly's volumes.
	maxFlyVolumeName = 30
)

// Names of the rules, in the catalogue of package schema.
const (
	ruleObjectName   = "object-name"
	ruleInjected     = "injected"
	ruleBound        = "bound"
	ruleFlyName      = "fly-name"
	ruleFlyVolume    = "fly-volume"
	ruleSameFlyApp   = "same-fly-app"
	ruleSameDatabase = "same-database"
	ruleSameProject  = "same-project"
)

// Check finds what only shows when the names are known that forged gives:
// releases, Secrets, apps of Fly, variables. What can be judged from the text
// alone is the language's business, and is not looked at again.
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

func check(env forge.Environment) []forge.Finding {
	c := checker{env: env, b: builder{env: env}}
	switch {
	case env.Platform.OnKubernetes():
		c.releases()
		c.secrets()
		c.fly()
	case env.Platform.Kind == forge.PlatformFly:
		c.fly()
	}
	c.variables()
	c.memory()
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

func (c *checker) releases() {
	names := []string{c.env.App.Name, c.b.postgresName(), c.b.redisName(), c.b.temporalName()}
	for _, name := range names {
		if len(name) > maxReleaseName {
			c.find(ruleObjectName, "shorten app.name", []string{"app", "name"}, "the release %s would have a name of more than %d characters", name, maxReleaseName)
		}
	}
	for _, chart := range c.env.Charts {
		path := []string{"charts", chart.Name}
		switch name := c.env.App.Name + "-" + chart.Name; {
		case slices.Contains(names, name):
			c.find(ruleObjectName, "rename the chart", path, "the release %s is one of forged's own", name)
		case len(name) > maxReleaseName:
			c.find(ruleObjectName, "rename the chart", path, "the release %s would have a name of more than %d characters", name, maxReleaseName)
		}
	}
}

// secrets makes sure that each Secret is one thing.
func (c *checker) secrets() {
	own := hashKeySecretName(c.env.Name)
	taken := map[string]bool{}
	for _, object := range c.b.secrets().Secrets {
		if taken[object.Name] {
			c.find(ruleObjectName, "rename the app or the environment", []string{"app", "name"},
				"the Secret %q would be both forged's own and the app's", own)
		}
		taken[object.Name] = true
	}
	if c.b.hasPostgres() && c.env.Services.Postgres.TLS {
		taken[c.b.postgresTLSSecretName()] = true
	}
	if name := c.env.Expose.TLS.Secret; name != "" && taken[name] {
		c.find(ruleObjectName, "write another secretName", []string{"expose", "tls", "secretName"},
			"the Secret %q is one that forged keeps other things in", name)
	}
}

func (c *checker) fly() {
	for _, app := range flyApps(c.env) {
		if !app.made || len(app.name) <= maxFlyName || app.name == c.env.Platform.AppName {
			continue
		}
		c.find(ruleFlyName, "write a shorter platform.appName", app.path, "the Fly app %s would have a name of more than %d characters", app.name, maxFlyName)
	}
	for _, volume := range c.env.Volumes {
		if len(volumeName(volume.Name)) > maxFlyVolumeName {
			c.find(ruleFlyVolume, "write a shorter one", []string{"volumes", volume.Name}, "Fly gives a volume a name of at most %d characters", maxFlyVolumeName)
		}
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
			if key != envSkipUserSwitch {
				given[key] = service
			}
		}
		for _, entry := range s.entries {
			given[entry.Key] = service
		}
	}
	add(partPostgres, func(s *forge.Services) { s.Postgres = c.env.Services.Postgres })
	add(partRedis, func(s *forge.Services) { s.Redis = c.env.Services.Redis })
	add(partTemporal, func(s *forge.Services) { s.Temporal = c.env.Services.Temporal })
	return given
}

// variables makes sure that nobody sets what forged sets.
func (c *checker) variables() {
	given := c.injected()
	mode := map[string]string{
		partPostgres: c.env.Services.Postgres.Mode, partRedis: c.env.Services.Redis.Mode, partTemporal: c.env.Services.Temporal.Mode,
	}
	refuse := func(key string, path ...string) {
		if from, ok := given[key]; ok {
			c.find(ruleInjected, fmt.Sprintf(`leave it out, or write services: %s: mode: "off" there`, from), append(path, key),
				"forged sets %s, because services.%s of %s is %s", key, from, c.env.Name, mode[from])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.env.App.Env)) {
		refuse(key, "app", "env")
	}
	for _, key := range slices.Sorted(maps.Keys(c.env.App.Secrets)) {
		refuse(key, "app", "secrets")
	}
}

// memory makes sure that what Redis may hold is a number that a limit can be
// worked out from.
func (c *checker) memory() {
	redis := c.env.Services.Redis
	if redis.Mode != forge.ModeInCluster && redis.Mode != forge.ModeFlyApp {
		return
	}
	if _, err := redisMemoryLimit(redis.MaxMemory); err != nil {
		c.find(ruleBound, "", []string{"services", partRedis, "maxMemory"}, "%s", err)
	}
}
