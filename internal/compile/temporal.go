package compile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
)

// temporalUser is Temporal's own role in PostgreSQL.
const temporalUser = "temporal"

const (
	temporalDatabase           = "temporal"
	temporalVisibilityDatabase = "temporal_visibility"
)

func temporalDatabases() []string { return []string{temporalDatabase, temporalVisibilityDatabase} }

// Components of Temporal.
const (
	componentServer    = "server"
	componentSchema    = "schema"
	componentNamespace = "namespace"
	componentWeb       = "web"
)

// Variables of Temporal's server, which its schema job reads too.
const (
	envTemporalDatabaseHost     = "POSTGRES_SEEDS"
	envTemporalDatabasePort     = "DB_PORT"
	envTemporalDatabaseUser     = "POSTGRES_USER"
	envTemporalDatabasePassword = "POSTGRES_PWD"
)

// temporalSchemaScript makes or moves forward both of Temporal's schemas.
// Setting up what is there already changes nothing.
const temporalSchemaScript = `
for pair in temporal:"$DBNAME" visibility:"$VISIBILITY_DBNAME"; do
  tool() {
    SQL_PASSWORD="$POSTGRES_PWD" temporal-sql-tool --plugin postgres12 \
      --endpoint "$POSTGRES_SEEDS" --port "$DB_PORT" --user "$POSTGRES_USER" --database "${pair#*:}" "$@"
  }
  tool setup-schema --version 0.0
  tool update-schema --schema-dir "/etc/temporal/schema/postgresql/v12/${pair%%:*}/versioned"
done
`

// temporalNamespaceScript takes the namespace and how long it keeps workflows.
const temporalNamespaceScript = `
temporal operator namespace describe --namespace "$1" ||
  temporal operator namespace create --namespace "$1" --retention "$2"
temporal operator namespace update --namespace "$1" --retention "$2"
`

const (
	temporalJobTimeout = 10 * time.Minute
	temporalDrain      = 30 * time.Second
)

// shell runs a script; its arguments are $1 and so on.
func shell(script string, args ...string) (entrypoint, arguments []string) {
	return []string{"/bin/sh", "-eu", "-c"}, append([]string{strings.TrimPrefix(script, "\n"), "sh"}, args...)
}

// temporalEntries say where Temporal's databases are. The password is in the
// same place as they, whoever has made it up.
func (b builder) temporalEntries(postgres servicePlace) []forge.SecretEntry {
	_, _, host, port, _ := b.database(postgres)
	if b.env.Services.Postgres.Pooler { // the server prepares statements
		from, _ := b.databaseSource()
		host = output(from, forge.OutputHost)
	}
	password := forge.SecretEntry{Key: envTemporalDatabasePassword, Ref: &b.env.Services.Temporal.Password}
	if from, ok := b.databaseSource(); ok {
		password.Ref, password.Join = nil, output(from, "password/"+temporalUser)
	}
	entries := []forge.SecretEntry{
		{Key: envTemporalDatabaseHost, Join: host},
		{Key: envTemporalDatabasePort, Join: port},
		{Key: envTemporalDatabaseUser, Join: literal(temporalUser)},
		password,
	}
	sortEntries(entries)
	return entries
}

// temporalEnv are the variables of Temporal's server that are no secrets.
func (b builder) temporalEnv() map[string]string {
	env := map[string]string{
		"DB":                 "postgres12",
		"DBNAME":             temporalDatabase,
		"VISIBILITY_DBNAME":  temporalVisibilityDatabase,
		"NUM_HISTORY_SHARDS": fmt.Sprint(b.env.Services.Temporal.HistoryShards),
	}
	postgres := b.env.Services.Postgres
	verify := postgres.Mode == forge.ModeInCluster && postgres.TLS || postgres.Mode == forge.ModeExternal && postgres.SSLMode == "verify-full"
	if postgres.TLS || postgres.Mode == forge.ModeExternal {
		env["SQL_TLS_ENABLED"], env["SQL_TLS"] = "true", "true"
		env["SQL_HOST_VERIFICATION"] = fmt.Sprint(verify)
		env["SQL_TLS_DISABLE_HOST_VERIFICATION"] = fmt.Sprint(!verify)
		if postgres.TLS || !postgres.CABundle.IsZero() {
			env["SQL_CA"], env["SQL_TLS_CA_FILE"] = filePostgresCA, filePostgresCA
		}
	}
	return env
}

// temporal adds schema, server and namespace, one after the other: the server
// does not start without its schema, and nobody can use it without a namespace.
func (c *clusterBuilder) temporal() error {
	if !c.hasTemporal() {
		return nil
	}
	temporal := c.env.Services.Temporal
	server, tools, err := c.temporalImages()
	if err != nil {
		return err
	}
	files := c.temporalFiles()
	job := func(component string, env map[string]string, files []forge.MountedFile, names []string, script string, args ...string) forge.JobSpec {
		entrypoint, arguments := shell(script, args...)
		return forge.JobSpec{
			Process:   forge.Process{Image: tools, Entrypoint: entrypoint, Args: arguments, Env: env},
			Namespace: c.at.namespace, Name: c.temporalName() + "-" + component,
			Labels:     mergeLabels(c.labels(), c.selector(chartTemporal, c.temporalName(), component)),
			PullPolicy: "IfNotPresent", SecretNames: names, Files: files,
			Resources: c.sizes.tools, Timeout: temporalJobTimeout, Rules: c.rules(), Pod: c.onFKS(),
		}
	}
	names := []string{c.temporalName()}
	needs := slices.Concat([]forge.ID{c.namespace, c.secrets}, c.ready[partPostgres])
	schema := c.add("", c.resource(forge.KindJob, "temporal-"+componentSchema,
		job(componentSchema, c.temporalEnv(), files, names, temporalSchemaScript), needs...))

	values := map[string]any{
		"partOf":          c.env.App.Name,
		"environment":     c.env.Name,
		"image":           imageValues(server, "IfNotPresent"),
		"env":             textMap(c.temporalEnv()),
		"secretNames":     texts(names),
		"secretChecksums": map[string]any{},
		"files":           fileValues(files),
		"resources":       resourcesValues(c.sizes.temporal),
		"web":             map[string]any{"enabled": temporal.Web, "image": imageValues(temporalWebImage, "IfNotPresent"), "resources": resourcesValues(c.sizes.temporalWeb)},
		"networkPolicy":   c.temporalNetworkValues(),
	}
	c.volumeValues(values)
	if c.onFKS() {
		// Services come through Fly's proxy, servers find each other on the
		// private network: Fly docs, Private networking.
		values["listenOn"], values["addressVariable"] = "::", "FLY_PRIVATE_IP"
	}
	c.release("", chartTemporal, c.temporalName(), values, names, slices.Concat(c.ready[partPostgres], []forge.ID{schema})...)
	c.feedCertificate()
	running := c.id(forge.KindRelease, chartTemporal)
	c.add(partTemporal, c.resource(forge.KindJob, "temporal-"+componentNamespace,
		job(componentNamespace, map[string]string{"TEMPORAL_ADDRESS": address(c.temporalName(), portTemporal)}, nil, nil,
			c.namespaceScript(), temporal.Namespace, retention(temporal.Retention)),
		c.namespace, c.secrets, running))
	return nil
}

func (b builder) temporalNetworkValues() map[string]any {
	values := b.clientsValues(partTemporal)
	if b.strictNetwork() {
		values["egress"] = b.egress(chartPostgres)
	}
	return values
}

func (b builder) temporalImages() (server, tools string, err error) {
	version := b.env.Services.Temporal.Version
	if server, err = imageFor(temporalImages, version); err == nil {
		tools, err = imageFor(temporalToolsImages, version)
	}
	if err != nil {
		err = fmt.Errorf("services.temporal.version %w", err)
	}
	return server, tools, err
}

// temporalFiles are the certificates that Temporal checks PostgreSQL against.
func (c *clusterBuilder) temporalFiles() []forge.MountedFile {
	var files []forge.MountedFile
	for _, file := range c.mountedFiles(c.clusterSurroundings()) {
		if file.Path == filePostgresCA {
			files = append(files, file)
		}
	}
	return files
}

// retention is a duration as Temporal's tools read it.
func retention(d time.Duration) string { return fmt.Sprintf("%dh", int64(d.Hours())) }

// external adds what looks after the services of somebody else.
func (c *clusterBuilder) external() error {
	for _, check := range c.externalChecks(c.at.namespace, c.secrets, c.secretOutput) {
		check.resource.Needs = unique(slices.Concat([]forge.ID{c.namespace}, check.resource.Needs))
		c.add(check.part, check.resource)
	}
	return nil
}

// secretOutput is the value of a key of a Secret, from where it is made.
func (c *clusterBuilder) secretOutput(object, key string) forge.SecretPart {
	return forge.SecretPart{From: c.secrets, Output: "value/" + object + "/" + key}
}
