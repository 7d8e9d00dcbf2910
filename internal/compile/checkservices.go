package compile

import (
	"maps"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
)

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

func (c *checker) services() {
	s := c.env.Services
	postgres, redis, temporal := modes(c.env.Platform.Kind)
	for _, service := range []struct {
		name, mode string
		allowed    []string
	}{{partPostgres, s.Postgres.Mode, postgres}, {partRedis, s.Redis.Mode, redis}, {partTemporal, s.Temporal.Mode, temporal}} {
		if !slices.Contains(service.allowed, service.mode) {
			c.find(ruleValue, "", []string{"services", service.name, "mode"}, "%q is none of %s", service.mode,
				strings.Join(slices.DeleteFunc(slices.Clone(service.allowed), func(mode string) bool { return mode == "" }), ", "))
		}
	}
	c.version(partPostgres, s.Postgres.Mode == forge.ModeInCluster, s.Postgres.Version, postgresImages)
	ownRedis := s.Redis.Mode == forge.ModeInCluster || s.Redis.Mode == forge.ModeFlyApp
	c.version(partRedis, ownRedis, s.Redis.Version, redisImages)
	c.version(partTemporal, c.b.hasTemporal(), s.Temporal.Version, temporalImages)
	if ownRedis {
		if _, err := redisMemoryLimit(s.Redis.MaxMemory); err != nil {
			c.find(ruleBound, "", []string{"services", "redis", "maxMemory"}, "%s", err)
		}
	}
	if c.b.hasTemporal() && s.Postgres.Mode == forge.ModeOff {
		c.find(ruleTemporalDatabase, "let services.postgres run, or Temporal somewhere else", []string{"services", "temporal", "mode"},
			"Temporal keeps its data in services.postgres, which is off")
	}
	for _, secret := range []struct {
		needed bool
		ref    forge.SecretRef
		path   []string
	}{
		{s.Postgres.Mode == forge.ModeInCluster, s.Postgres.Password, []string{"services", "postgres", "password"}},
		{s.Postgres.Mode == forge.ModeExternal, s.Postgres.URL, []string{"services", "postgres", "url"}},
		{s.Postgres.ManageRoles, s.Postgres.Admin, []string{"services", "postgres", "admin"}},
		{ownRedis, s.Redis.Password, []string{"services", "redis", "password"}},
		{s.Redis.Mode == forge.ModeExternal, s.Redis.URL, []string{"services", "redis", "url"}},
		{c.b.hasTemporal(), s.Temporal.Password, []string{"services", "temporal", "password"}},
	} {
		if secret.needed {
			c.reference(secret.path, secret.ref)
		}
	}
}

// version makes sure that there is an image.
func (c *checker) version(service string, runs bool, version string, images map[string]string) {
	if !runs {
		return
	}
	if _, ok := images[version]; !ok {
		c.find(ruleValue, "", []string{"services", service, "version"}, "%q is none of %s",
			version, strings.Join(slices.Sorted(maps.Keys(images)), ", "))
	}
}
