package forge

import (
	"maps"
	"reflect"
	"slices"
)

// Reference is one place where a forge says where a secret is found.
type Reference struct {
	Path        []string // of keys, as they stand in the file
	Environment string   // that needs it; empty: a notification, which none needs
	SecretRef
	MultiLine bool // it is a file and may have more than one line
}

// References are all places where an environment says where a secret is found,
// in a fixed order. What it has from the shared app is told at its place there.
func (f *Forge) References(env Environment) []Reference {
	var all []Reference
	add := func(multiLine bool, ref SecretRef, path ...string) {
		if !ref.IsZero() {
			all = append(all, Reference{Path: append([]string{"environments", env.Name}, path...), Environment: env.Name, SecretRef: ref, MultiLine: multiLine})
		}
	}
	const line, lines = false, true

	for _, name := range slices.Sorted(maps.Keys(env.App.Secrets)) {
		add(line, env.App.Secrets[name], "app", "secrets", name)
		if shared, ok := f.App.Secrets[name]; ok && reflect.DeepEqual(shared, env.App.Secrets[name]) {
			last := &all[len(all)-1]
			last.Path = last.Path[2:]
		}
	}
	if pull := env.App.Image.PullSecret; !pull.IsZero() {
		add(lines, pull, "app", "image", "pullSecret")
		if reflect.DeepEqual(pull, f.App.Image.PullSecret) {
			last := &all[len(all)-1]
			last.Path = last.Path[2:]
		}
	}
	if chart := env.App.Chart; chart != nil {
		add(line, chart.Username, "app", "chart", "username")
		add(line, chart.Password, "app", "chart", "password")
	}
	for _, chart := range env.Charts {
		add(line, chart.Username, "charts", chart.Name, "username")
		add(line, chart.Password, "charts", chart.Name, "password")
	}
	add(line, env.Platform.Token, "platform", "token")
	for _, own := range env.Expose.Certificates {
		add(lines, own.Chain, "expose", "certificates", own.Domain, "chain")
		add(lines, own.Key, "expose", "certificates", own.Domain, "key")
	}

	postgres, redis, temporal := env.Services.Postgres, env.Services.Redis, env.Services.Temporal
	add(line, postgres.Password, "services", "postgres", "password")
	add(line, postgres.URL, "services", "postgres", "url")
	add(line, postgres.Admin, "services", "postgres", "admin")
	add(lines, postgres.CABundle, "services", "postgres", "caBundle")
	add(line, redis.Password, "services", "redis", "password")
	add(line, redis.URL, "services", "redis", "url")
	add(lines, redis.CABundle, "services", "redis", "caBundle")
	add(line, temporal.Password, "services", "temporal", "password")
	add(line, temporal.APIKey, "services", "temporal", "apiKey")
	add(lines, temporal.ClientCert, "services", "temporal", "mtls", "cert")
	add(lines, temporal.ClientKey, "services", "temporal", "mtls", "key")
	add(lines, temporal.CABundle, "services", "temporal", "caBundle")
	return all
}

// NotificationReferences are those of the notifications that concern one of the
// environments.
func (f *Forge) NotificationReferences(environments []string) []Reference {
	var all []Reference
	for _, n := range f.Notifications {
		concerned := len(n.Environments) == 0 || slices.ContainsFunc(n.Environments, func(name string) bool { return slices.Contains(environments, name) })
		if concerned && !n.URL.IsZero() {
			all = append(all, Reference{Path: []string{"notifications", n.Name, "url"}, SecretRef: n.URL})
		}
	}
	return all
}
