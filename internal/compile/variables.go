package compile

import (
	"fmt"
	"maps"
	"slices"

	"forged.dev/forged/internal/forge"
)

const (
	// databaseUser is the role the app logs in as. It owns the database.
	databaseUser = "appuser"

	// databaseSchema is where its tables are, whoever makes them: it stands
	// first in the search path of the role, not in a setting of one client.
	databaseSchema = "app"

	portPostgres = 5432
	portRedis    = 6379
	portTemporal = 7233
)

// Variables that forged gives to the app and its workers.
const (
	envDatabaseURL  = "DATABASE_URL"
	envDatabase     = "APP_DB"
	envDatabaseUser = "APP_DB_USER"
	envRedisURL     = "REDIS_URL"

	envTemporalURL       = "TEMPORAL_URL"
	envTemporalNamespace = "TEMPORAL_NAMESPACE"
	envTemporalAPIKey    = "TEMPORAL_API_KEY"
	envTemporalTLS       = "TEMPORAL_TLS"
	envTemporalCA        = "TEMPORAL_TLS_SERVER_CA_CERT_PATH"
	envTemporalCert      = "TEMPORAL_TLS_CLIENT_CERT_PATH"
	envTemporalKey       = "TEMPORAL_TLS_CLIENT_KEY_PATH"

	// API Forge's entrypoint would otherwise try to become another user,
	// which only root can.
	envSkipUserSwitch = "SKIP_USER_SWITCH"

	// The app's own check of its workers reads no other name.
	envTemporalURLOfWorkers = "PRODUCTION_TEMPORAL_URL"
)

// Files that forged gives to the app and its workers.
const (
	filePostgresCA   = "/run/forged/postgres/ca.crt"
	fileRedisCA      = "/run/forged/redis/ca.crt"
	fileTemporalCA   = "/run/forged/temporal/ca.crt"
	fileTemporalCert = "/run/forged/temporal/tls.crt"
	fileTemporalKey  = "/run/forged/temporal/tls.key"
)

// secretFile is a file whose text is a secret.
type secretFile struct {
	path string
	key  string // unique within the environment
	ref  forge.SecretRef
}

// servicePlace is where a service is reached, and where the platform keeps the
// password that its clients share with it.
type servicePlace struct {
	host   string
	object string // SecretObject with the password
	key    string
}

// surroundings are what the app and its workers are given besides what the
// user writes. It is the same on every platform but for where things are.
type surroundings struct {
	env     map[string]string
	entries []forge.SecretEntry // sorted by Key
	files   []secretFile
}

// surroundings of the app, given where the services that forged runs are.
func (b builder) surroundings(postgres, redis, temporal servicePlace) surroundings {
	s := surroundings{env: map[string]string{envSkipUserSwitch: "true"}}
	maps.Copy(s.env, b.env.App.Env)
	for _, key := range slices.Sorted(maps.Keys(b.env.App.Secrets)) {
		ref := b.env.App.Secrets[key]
		s.entries = append(s.entries, forge.SecretEntry{Key: key, Ref: &ref})
	}
	b.addPostgres(&s, postgres)
	b.addRedis(&s, redis)
	b.addTemporal(&s, temporal)
	sortEntries(s.entries)
	return s
}

// addPostgres gives the app its database. It puts the name and the role into
// the URL it is given, so those variables repeat what the URL says; the URL
// has an explicit port and the one scheme that every client knows.
func (b builder) addPostgres(s *surroundings, at servicePlace) {
	postgres := b.env.Services.Postgres
	user, password, host, port, database := b.database(at)
	if postgres.Mode == forge.ModeOff {
		return
	}
	url := slices.Concat(
		literal("postgresql://"), escaped(user), literal(":"), escaped(password),
		literal("@"), host, literal(":"), port, literal("/"), escaped(database), b.databaseOptions())
	s.entries = append(s.entries, forge.SecretEntry{Key: envDatabaseURL, Join: squeeze(url)})
	for key, value := range map[string][]forge.SecretPart{envDatabase: database, envDatabaseUser: user} {
		if text, ok := text(value); ok {
			s.env[key] = text
		} else {
			s.entries = append(s.entries, forge.SecretEntry{Key: key, Join: value})
		}
	}
	if !postgres.CABundle.IsZero() {
		s.files = append(s.files, secretFile{filePostgresCA, "postgres-ca.crt", postgres.CABundle})
	}
}

// database is where the app's database is found, part by part.
func (b builder) database(at servicePlace) (user, password, host, port, database []forge.SecretPart) {
	postgres := b.env.Services.Postgres
	if from, ok := b.databaseSource(); ok {
		hostOutput := forge.OutputHost
		if postgres.Pooler {
			hostOutput = forge.OutputPoolerHost
		}
		return output(from, forge.OutputUser), output(from, forge.OutputPassword), output(from, hostOutput),
			output(from, forge.OutputPort), output(from, forge.OutputDatabase)
	}
	if postgres.Mode == forge.ModeExternal {
		field := func(name string) []forge.SecretPart {
			return []forge.SecretPart{{Ref: &postgres.URL, Field: name}}
		}
		return field("user"), field("password"), field("host"), field("port"), field("path")
	}
	return literal(databaseUser), []forge.SecretPart{{Secret: at.object, Key: at.key}}, literal(at.host),
		literal(fmt.Sprint(portPostgres)), literal(postgres.Database)
}

// databaseSource is the resource whose outputs say where the database is.
func (b builder) databaseSource() (forge.ID, bool) {
	switch postgres := b.env.Services.Postgres; postgres.Mode {
	case forge.ModeFlyManaged:
		return b.id(forge.KindFlyPostgres, postgres.Cluster), true
	case forge.ModeFlyUnmanaged:
		return b.id(forge.KindFlyPostgresApp, postgres.AppName), true
	default:
		return forge.ID{}, false
	}
}

// databaseOptions are how much of the server's certificate is checked.
func (b builder) databaseOptions() []forge.SecretPart {
	postgres := b.env.Services.Postgres
	mode, ca := "", false
	switch {
	case postgres.Mode == forge.ModeExternal:
		mode, ca = postgres.SSLMode, !postgres.CABundle.IsZero()
	case postgres.Mode == forge.ModeInCluster && postgres.TLS:
		mode, ca = "verify-full", true
	}
	options := ""
	if mode != "" {
		options = "?sslmode=" + mode
		if ca {
			options += "&sslrootcert=" + filePostgresCA
		}
	}
	return literal(options)
}

func (b builder) addRedis(s *surroundings, at servicePlace) {
	redis := b.env.Services.Redis
	switch redis.Mode {
	case forge.ModeInCluster, forge.ModeFlyApp:
		s.entries = append(s.entries, forge.SecretEntry{Key: envRedisURL, Join: []forge.SecretPart{
			{Literal: "redis://:"},
			{Secret: at.object, Key: at.key, URLEscape: true},
			{Literal: fmt.Sprintf("@%s:%d/0", at.host, portRedis)},
		}})
	case forge.ModeUpstash:
		s.entries = append(s.entries, forge.SecretEntry{
			Key: envRedisURL, Join: output(b.id(forge.KindUpstashRedis, redis.Name), forge.OutputURL),
		})
	case forge.ModeExternal:
		s.entries = append(s.entries, forge.SecretEntry{Key: envRedisURL, Ref: &redis.URL})
		if !redis.CABundle.IsZero() {
			s.files = append(s.files, secretFile{fileRedisCA, "redis-ca.crt", redis.CABundle})
		}
	}
}

func (b builder) addTemporal(s *surroundings, at servicePlace) {
	temporal := b.env.Services.Temporal
	if temporal.Mode == forge.ModeOff || temporal.Mode == "" {
		return
	}
	address := temporal.Address
	if b.hasTemporal() {
		address = fmt.Sprintf("%s:%d", at.host, portTemporal)
	}
	s.env[envTemporalURL], s.env[envTemporalURLOfWorkers] = address, address
	s.env[envTemporalNamespace] = temporal.Namespace
	if temporal.Mode == forge.ModeCloud || temporal.TLS {
		s.env[envTemporalTLS] = "true"
	}
	if !temporal.APIKey.IsZero() {
		s.entries = append(s.entries, forge.SecretEntry{Key: envTemporalAPIKey, Ref: &temporal.APIKey})
	}
	for _, file := range []struct {
		variable string
		secretFile
	}{
		{envTemporalCA, secretFile{fileTemporalCA, "temporal-ca.crt", temporal.CABundle}},
		{envTemporalCert, secretFile{fileTemporalCert, "temporal-tls.crt", temporal.ClientCert}},
		{envTemporalKey, secretFile{fileTemporalKey, "temporal-tls.key", temporal.ClientKey}},
	} {
		if !file.ref.IsZero() {
			s.env[file.variable] = file.path
			s.files = append(s.files, file.secretFile)
		}
	}
}

func literal(text string) []forge.SecretPart {
	if text == "" {
		return nil
	}
	return []forge.SecretPart{{Literal: text}}
}

func output(from forge.ID, name string) []forge.SecretPart {
	return []forge.SecretPart{{From: from, Output: name}}
}

// escaped are parts as they may stand in a URL. Literals here need it never.
func escaped(parts []forge.SecretPart) []forge.SecretPart {
	out := slices.Clone(parts)
	for i := range out {
		out[i].URLEscape = out[i].Literal == ""
	}
	return out
}

// text is what parts say that are no secret.
func text(parts []forge.SecretPart) (string, bool) {
	all := ""
	for _, part := range parts {
		if part.Literal == "" {
			return "", false
		}
		all += part.Literal
	}
	return all, true
}

// squeeze joins literals that stand side by side.
func squeeze(parts []forge.SecretPart) []forge.SecretPart {
	var out []forge.SecretPart
	for _, part := range parts {
		if last := len(out) - 1; last >= 0 && part.Literal != "" && out[last].Literal != "" {
			out[last].Literal += part.Literal
			continue
		}
		out = append(out, part)
	}
	return out
}
