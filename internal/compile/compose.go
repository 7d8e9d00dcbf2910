package compile

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"forged.dev/forged/internal/forge"
)

// Names of services in a project; they are also what they are reached by.
const (
	composeTemporalRole = "temporal-role"
	composeMigrate      = "migrate"
	composeApp          = "app"
)

// Secret objects of a project.
const (
	composeEnv   = "env"
	composeFiles = "files"
)

// compose compiles for Docker Compose on this machine: one project, whose
// services start in the order of their needs.
func compose(env forge.Environment) ([]forge.Resource, error) {
	platform := env.Platform
	// Projects may share a directory: each has one of its own in it.
	dir := filepath.Join(platform.DataDir, platform.Project)
	c := composeBuilder{
		builder: builder{env: env, at: place{domains: env.Domains, scaling: env.Scaling}, sizes: laptopSizes},
		project: forge.ComposeProjectSpec{Project: platform.Project, DataDir: dir},
	}
	c.surrounded = c.surroundings(c.postgresAt(), servicePlace{partRedis, partRedis, envRedisPassword}, servicePlace{host: partTemporal})
	objects := c.secrets()
	p := &parts{}
	secrets := p.add("", c.resource(forge.KindComposeSecrets, platform.Project, forge.ComposeSecretsSpec{
		Project: platform.Project, DataDir: dir, Secrets: objects,
	}, sources(objects)...))
	for _, check := range c.externalChecks("", secrets, func(object, key string) forge.SecretPart {
		return forge.SecretPart{From: secrets, Output: "value/" + object + "/" + key}
	}) {
		p.add(check.part, check.resource)
	}
	for _, step := range []func() error{c.postgres, c.redis, c.temporal} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	c.app()
	for _, object := range objects {
		c.project.Inputs = append(c.project.Inputs, forge.Input{Path: []string{object.Name}, From: secrets, Output: "checksum/" + object.Name})
	}
	p.add(partApp, c.resource(forge.KindComposeProject, platform.Project, c.project, slices.Concat([]forge.ID{secrets}, p.services())...))
	return p.resources, nil
}

// composeBuilder compiles one project.
type composeBuilder struct {
	builder
	surrounded surroundings
	project    forge.ComposeProjectSpec
	before     []string // services that those of the app's image wait for
}

func (c *composeBuilder) postgresAt() servicePlace {
	return servicePlace{partPostgres, partPostgres, "POSTGRES_PASSWORD"}
}

// service adds one container; the app waits for it when wait is set.
func (c *composeBuilder) service(s forge.ComposeService, wait bool) {
	c.project.Services = append(c.project.Services, s)
	if wait {
		c.before = append(c.before, s.Name)
	}
}

// secrets are kept beside the data, one directory for each reader.
func (c *composeBuilder) secrets() []forge.SecretObject {
	var objects []forge.SecretObject
	add := func(name string, entries []forge.SecretEntry) {
		if len(entries) > 0 {
			sortEntries(entries)
			objects = append(objects, forge.SecretObject{Name: name, Entries: entries})
		}
	}
	add(composeEnv, slices.Clone(c.surrounded.entries))
	add(composeFiles, fileEntries(c.surrounded.files))
	if c.hasPostgres() {
		add(partPostgres, []forge.SecretEntry{{Key: c.postgresAt().key, Ref: &c.env.Services.Postgres.Password}})
	}
	if c.hasRedis() {
		add(partRedis, []forge.SecretEntry{{Key: envRedisPassword, Ref: &c.env.Services.Redis.Password}})
	}
	if c.hasTemporal() {
		add(c.temporalName(), c.temporalEntries(c.postgresAt()))
	}
	return sortObjects(objects)
}

func (c *composeBuilder) postgres() error {
	if !c.hasPostgres() {
		return nil
	}
	postgres := c.env.Services.Postgres
	image, err := imageFor(postgresImages, postgres.Version)
	if err != nil {
		return fmt.Errorf("services.postgres.version %w", err)
	}
	c.service(forge.ComposeService{
		Process: forge.Process{Image: image, Env: map[string]string{
			"POSTGRES_USER": databaseUser, "POSTGRES_DB": postgres.Database, "PGDATA": "/var/lib/postgresql/data/pgdata",
		}},
		Name: partPostgres, SecretNames: []string{partPostgres},
		Mounts: []forge.ComposeMount{{Dir: partPostgres, Path: "/var/lib/postgresql/data"}},
		Health: serviceHealth("pg_isready", "--host", "127.0.0.1", "--username", databaseUser, "--dbname", postgres.Database),
		Drain:  serviceGrace,
	}, true)
	return nil
}

func (c *composeBuilder) redis() error {
	if !c.hasRedis() {
		return nil
	}
	redis := c.env.Services.Redis
	image, err := imageFor(redisImages, redis.Version)
	if err != nil {
		return fmt.Errorf("services.redis.version %w", err)
	}
	s := forge.ComposeService{
		Name: partRedis, SecretNames: []string{partRedis}, Drain: redisDrain,
		// The client exits 0 when it is not let in, so its answer is read.
		Health: serviceHealth("sh", "-c", `test "$(REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli ping)" = PONG`),
	}
	s.Image = image
	s.Entrypoint, s.Args = redisCommand(redis, redis.Persistence)
	if redis.Persistence {
		s.Mounts = []forge.ComposeMount{{Dir: partRedis, Path: "/data"}}
	}
	c.service(s, true)
	return nil
}

// temporalRoleScript makes Temporal's role and databases in the project's own
// PostgreSQL, and gives the role its password again when it has changed.
const temporalRoleScript = `
export PGPASSWORD="$POSTGRES_PASSWORD"
psql --no-psqlrc --set ON_ERROR_STOP=1 --host postgres --username "$1" --dbname "$2" <<'END'
\getenv password POSTGRES_PWD
SELECT 'CREATE ROLE temporal LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'temporal') \gexec
ALTER ROLE temporal LOGIN PASSWORD :'password';
SELECT 'CREATE DATABASE temporal OWNER temporal' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'temporal') \gexec
SELECT 'CREATE DATABASE temporal_visibility OWNER temporal' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'temporal_visibility') \gexec
END
`

func (c *composeBuilder) temporal() error {
	if !c.hasTemporal() {
		return nil
	}
	temporal := c.env.Services.Temporal
	server, tools, err := c.temporalImages()
	if err != nil {
		return err
	}
	var needs []string
	if c.hasPostgres() {
		entrypoint, args := shell(temporalRoleScript, databaseUser, c.env.Services.Postgres.Database)
		c.service(forge.ComposeService{
			Process: forge.Process{Image: postgresImages[c.env.Services.Postgres.Version], Entrypoint: entrypoint, Args: args},
			Name:    composeTemporalRole, SecretNames: []string{partPostgres, c.temporalName()}, Once: true, Needs: []string{partPostgres},
		}, false)
		needs = []string{composeTemporalRole}
	}
	var files []forge.ComposeFile
	for _, file := range c.files() {
		if file.Path == filePostgresCA {
			files = append(files, file)
		}
	}
	secrets := []string{c.temporalName()}
	once := func(name string, env map[string]string, needs []string, script string, args ...string) forge.ComposeService {
		entrypoint, arguments := shell(script, args...)
		return forge.ComposeService{
			Process: forge.Process{Image: tools, Entrypoint: entrypoint, Args: arguments, Env: env},
			Name:    name, SecretNames: secrets, Files: files, Once: true, Needs: needs,
		}
	}
	at := map[string]string{"TEMPORAL_ADDRESS": address(partTemporal, portTemporal)}
	c.service(once("temporal-schema", c.temporalEnv(), needs, temporalSchemaScript), false)
	c.service(forge.ComposeService{
		Process: forge.Process{Image: server, Env: c.temporalEnv()},
		Name:    partTemporal, SecretNames: secrets, Files: files, Needs: []string{"temporal-schema"}, Drain: temporalDrain,
	}, false)
	namespace := once("temporal-namespace", at, []string{partTemporal}, temporalNamespaceScript, temporal.Namespace, retention(temporal.Retention))
	namespace.SecretNames, namespace.Files = nil, nil
	c.service(namespace, true)
	if temporal.Web {
		c.service(forge.ComposeService{
			Process: forge.Process{Image: temporalWebImage, Env: maps.Clone(at)}, Name: "temporal-web", Needs: []string{partTemporal},
		}, false)
	}
	return nil
}

// app adds what runs the app's image.
func (c *composeBuilder) app() {
	app := c.env.App
	service := func(name string, args []string) forge.ComposeService {
		return forge.ComposeService{
			Process: forge.Process{Image: app.Image.Reference(), Args: slices.Clone(args), Env: maps.Clone(c.surrounded.env)},
			Name:    name, SecretNames: c.objects(composeEnv), Files: c.files(), Needs: slices.Clone(c.before), Resources: app.Resources,
		}
	}
	if c.migrates() {
		s := service(composeMigrate, app.Migrate.Args)
		s.Once, s.Drain = true, app.Migrate.Timeout
		c.service(s, true)
	}
	s := service(composeApp, app.Args)
	s.Drain = appGrace
	for _, volume := range c.env.Volumes {
		s.Mounts = append(s.Mounts, forge.ComposeMount{Dir: "volumes/" + volume.Name, Path: volume.Mount})
	}
	if c.env.Expose.Kind == forge.ExposePort {
		s.Publish = &forge.ComposePort{Bind: c.env.Platform.Bind, Port: c.env.Expose.Port, To: app.Port}
	}
	s.Health = &forge.ComposeHealth{
		Path: app.Health.Ready, Port: app.Port, Startup: app.Health.Startup,
		Interval: app.Health.Interval, Timeout: app.Health.Timeout, Failures: app.Health.Failures,
	}
	c.service(s, false)
	for _, worker := range c.env.Workers {
		if worker.Scaling.Min == 0 {
			continue
		}
		s := service("worker-"+worker.Name, worker.Args)
		s.Drain, s.Resources, s.Replicas = worker.Drain, worker.Resources, worker.Scaling.Min
		if len(worker.HealthExec) > 0 {
			s.Health = &forge.ComposeHealth{
				Exec: slices.Clone(worker.HealthExec), Startup: app.Health.Startup,
				Interval: workerProbeInterval, Timeout: workerProbeTimeout, Failures: workerProbeFailures,
			}
		}
		c.service(s, false)
	}
}

// objects is the name, if there is anything in it.
func (c *composeBuilder) objects(name string) []string {
	if len(c.surrounded.entries) == 0 {
		return nil
	}
	return []string{name}
}

func (c *composeBuilder) files() []forge.ComposeFile {
	var files []forge.ComposeFile
	for _, file := range c.env.App.ConfigFiles {
		files = append(files, forge.ComposeFile{Path: file.Path, File: file.File, Text: file.Text})
	}
	for _, file := range c.surrounded.files {
		files = append(files, forge.ComposeFile{Path: file.path, Secret: composeFiles, Key: file.key})
	}
	return files
}

func serviceHealth(command ...string) *forge.ComposeHealth {
	return &forge.ComposeHealth{
		Exec: command, Startup: serviceGrace, Interval: serviceInterval, Timeout: serviceTimeout, Failures: 3,
	}
}
