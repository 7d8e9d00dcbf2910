package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
)

const (
	// passwordKey is where the charts of backing services look.
	passwordKey = "password"

	// databaseUser is the role the app logs in as. It owns the database.
	databaseUser = "appuser"

	portPostgres = 5432
	portRedis    = 6379
)

// Variables that forged gives to the app and its workers.
const (
	envDatabaseURL  = "DATABASE_URL"
	envDatabase     = "APP_DB"
	envDatabaseUser = "APP_DB_USER"
	envRedisURL     = "REDIS_URL"
)

// envSecretName is the Secret whose keys become variables of the app.
func (b builder) envSecretName() string { return b.env.App.Name + "-env" }

// hashKeySecretName is the Secret with the key that checksums of secrets are
// made with, so that nobody can guess a secret and confirm it by its checksum.
func hashKeySecretName(environment string) string { return "forged-" + environment }

// secrets are all Secrets of the environment. They are applied by themselves:
// a chart would write their values into the release record.
func (b builder) secrets() forge.SecretsSpec {
	objects := []forge.SecretObject{b.secret(hashKeySecretName(b.env.Name), []forge.SecretEntry{{
		Key: "hash-key",
		Ref: &forge.SecretRef{Generate: &forge.Generate{Alphabet: "hex", Length: 64}},
	}})}
	if b.hasPostgres() {
		objects = append(objects, b.passwordSecret(b.postgresName(), b.env.Services.Postgres.Password))
	}
	if b.hasRedis() {
		objects = append(objects, b.passwordSecret(b.redisName(), b.env.Services.Redis.Password))
	}
	if entries := b.envEntries(); len(entries) > 0 {
		objects = append(objects, b.secret(b.envSecretName(), entries))
	}
	slices.SortFunc(objects, func(x, y forge.SecretObject) int { return strings.Compare(x.Name, y.Name) })
	return forge.SecretsSpec{Namespace: b.env.Platform.Namespace, Secrets: objects}
}

func (b builder) secret(name string, entries []forge.SecretEntry) forge.SecretObject {
	slices.SortFunc(entries, func(x, y forge.SecretEntry) int { return strings.Compare(x.Key, y.Key) })
	return forge.SecretObject{Name: name, Labels: b.labels(), Entries: entries}
}

func (b builder) passwordSecret(name string, ref forge.SecretRef) forge.SecretObject {
	return b.secret(name, []forge.SecretEntry{{Key: passwordKey, Ref: &ref}})
}

// envEntries are the app's own secrets and the addresses of its services.
func (b builder) envEntries() []forge.SecretEntry {
	var entries []forge.SecretEntry
	for _, key := range slices.Sorted(maps.Keys(b.env.App.Secrets)) {
		ref := b.env.App.Secrets[key]
		entries = append(entries, forge.SecretEntry{Key: key, Ref: &ref})
	}
	if b.hasPostgres() {
		entries = append(entries, forge.SecretEntry{Key: envDatabaseURL, Join: b.address(
			"postgresql://"+databaseUser+":", b.postgresName(), portPostgres, b.env.Services.Postgres.Database)})
	}
	if b.hasRedis() {
		entries = append(entries, forge.SecretEntry{Key: envRedisURL, Join: b.address(
			"redis://:", b.redisName(), portRedis, "0")})
	}
	return entries
}

// address is a URL with the password of the Secret of the same name as the
// Service. The host is the bare name: clients live in the same namespace, and
// it holds in a cluster of any domain.
func (b builder) address(upToPassword, service string, port int, path string) []forge.SecretPart {
	return []forge.SecretPart{
		{Literal: upToPassword},
		{Secret: service, Key: passwordKey, URLEscape: true},
		{Literal: fmt.Sprintf("@%s:%d/%s", service, port, path)},
	}
}

// appSecretNames are the Secrets the app and its workers read.
func (b builder) appSecretNames() []string {
	if len(b.envEntries()) == 0 {
		return nil
	}
	return []string{b.envSecretName()}
}
