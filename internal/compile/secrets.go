package compile

import (
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
)

// passwordKey is where the charts of backing services look.
const passwordKey = "password"

// Names of Secrets in a cluster.
func (b builder) envSecretName() string         { return b.env.App.Name + "-env" } // its keys become variables of the app
func (b builder) filesSecretName() string       { return b.env.App.Name + "-files" }
func (b builder) pullSecretName() string        { return b.env.App.Name + "-pull" }
func (b builder) backupClaimName() string       { return b.postgresName() + "-backup" }
func (b builder) postgresTLSSecretName() string { return b.postgresName() + "-tls" }

// hashKeySecretName is the Secret with the key that checksums of secrets are
// made with, so that nobody can guess a secret and confirm it by its checksum.
func hashKeySecretName(environment string) string { return "forged-" + environment }

// clusterSurroundings are what the app is given in a cluster. The host is the
// bare name: clients live in the same namespace, and it holds in a cluster of
// any domain.
func (b builder) clusterSurroundings() surroundings {
	return b.surroundings(
		servicePlace{b.postgresName(), b.postgresName(), passwordKey},
		servicePlace{b.redisName(), b.redisName(), passwordKey},
		servicePlace{host: b.temporalName()},
	)
}

// secrets are all Secrets of the environment. They are applied by themselves:
// a chart would write their values into the release record.
func (b builder) secrets() forge.SecretsSpec {
	objects := []forge.SecretObject{b.secret(hashKeySecretName(b.env.Name), []forge.SecretEntry{{
		Key: "hash-key",
		Ref: &forge.SecretRef{Generate: &forge.Generate{Alphabet: "hex", Length: 64}},
	}})}
	services := b.env.Services
	if b.hasPostgres() {
		objects = append(objects, b.secret(b.postgresName(), []forge.SecretEntry{{Key: passwordKey, Ref: &services.Postgres.Password}}))
	}
	if b.hasRedis() {
		objects = append(objects, b.secret(b.redisName(), []forge.SecretEntry{{Key: passwordKey, Ref: &services.Redis.Password}}))
	}
	if b.hasTemporal() {
		objects = append(objects, b.secret(b.temporalName(), b.temporalEntries(servicePlace{b.postgresName(), b.postgresName(), passwordKey})))
	}
	s := b.clusterSurroundings()
	if len(s.entries) > 0 {
		objects = append(objects, b.secret(b.envSecretName(), s.entries))
	}
	if len(s.files) > 0 {
		objects = append(objects, b.secret(b.filesSecretName(), fileEntries(s.files)))
	}
	if pull := b.env.App.Image.PullSecret; !pull.IsZero() {
		object := b.secret(b.pullSecretName(), []forge.SecretEntry{{Key: ".dockerconfigjson", Ref: &pull, MultiLine: true}})
		object.Type = "kubernetes.io/dockerconfigjson"
		objects = append(objects, object)
	}
	objects = append(objects, b.probeSecrets()...)
	for _, object := range objects {
		for i, e := range object.Entries {
			if e.Ref != nil && e.Ref.Generate != nil {
				object.Entries[i].Field = b.fieldOf(object.Name, e.Key)
			}
		}
	}
	return forge.SecretsSpec{Namespace: b.at.namespace, Secrets: sortObjects(objects)}
}

// fieldOf is the field of forge.cue that a generated value comes from; empty for
// the one that forged has for itself.
func (b builder) fieldOf(secret, key string) string {
	var field string
	switch _, ofApp := b.env.App.Secrets[key]; {
	case secret == b.postgresName():
		field = "services.postgres.password"
	case secret == b.redisName():
		field = "services.redis.password"
	case secret == b.temporalName():
		field = "services.temporal.password"
	case secret == b.envSecretName() && ofApp:
		field = "app.secrets." + key
	default:
		return ""
	}
	return "environments." + b.env.Name + "." + field
}

func (b builder) secret(name string, entries []forge.SecretEntry) forge.SecretObject {
	sortEntries(entries)
	return forge.SecretObject{Name: name, Labels: b.labels(), Entries: entries}
}

func fileEntries(files []secretFile) []forge.SecretEntry {
	var entries []forge.SecretEntry
	for _, file := range files {
		entries = append(entries, forge.SecretEntry{Key: file.key, Ref: &file.ref, MultiLine: true})
	}
	return entries
}

// appSecretNames are the Secrets whose keys the app and its workers read as
// variables.
func (b builder) appSecretNames() []string {
	if len(b.clusterSurroundings().entries) == 0 {
		return nil
	}
	return []string{b.envSecretName()}
}

// sources are the resources whose outputs secrets are joined from.
func sources(objects []forge.SecretObject) []forge.ID {
	var ids []forge.ID
	for _, object := range objects {
		for _, entry := range object.Entries {
			for _, part := range entry.Join {
				if part.From != (forge.ID{}) {
					ids = append(ids, part.From)
				}
			}
		}
	}
	return unique(ids)
}

func sortEntries(entries []forge.SecretEntry) {
	slices.SortFunc(entries, func(x, y forge.SecretEntry) int { return strings.Compare(x.Key, y.Key) })
}

func sortObjects(objects []forge.SecretObject) []forge.SecretObject {
	slices.SortFunc(objects, func(x, y forge.SecretObject) int { return strings.Compare(x.Name, y.Name) })
	return objects
}
