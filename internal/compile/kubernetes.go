package compile

import (
	"fmt"
	"slices"

	"forged.dev/forged/internal/forge"
)

// sizes are what the backing services ask for. An empty memory limit is
// worked out from what the service is told to hold.
type sizes struct{ postgres, redis, temporal, temporalWeb, tools forge.Resources }

var sharedSizes = sizes{
	postgres: forge.Resources{CPU: "250m", Memory: "512Mi", MemoryLimit: "2Gi"},
	redis:    forge.Resources{CPU: "100m", Memory: "128Mi"},
	temporal: forge.Resources{CPU: "250m", Memory: "512Mi", MemoryLimit: "1Gi"},

	temporalWeb: forge.Resources{CPU: "50m", Memory: "64Mi", MemoryLimit: "256Mi"},
	tools:       forge.Resources{CPU: "100m", Memory: "128Mi"},
}

// machineSizes are of pods that are machines: the limits are their sizes.
var machineSizes = sizes{
	postgres: forge.Resources{CPU: "250m", Memory: "512Mi", CPULimit: "1", MemoryLimit: "2Gi"},
	redis:    forge.Resources{CPU: "100m", Memory: "128Mi", CPULimit: "1"},
	temporal: forge.Resources{CPU: "250m", Memory: "512Mi", CPULimit: "1", MemoryLimit: "1Gi"},

	temporalWeb: forge.Resources{CPU: "50m", Memory: "64Mi", CPULimit: "1", MemoryLimit: "256Mi"},
	tools:       forge.Resources{CPU: "100m", Memory: "128Mi", CPULimit: "1", MemoryLimit: "512Mi"},
}

// Names of the embedded charts, which are also the names of the releases'
// resources.
const (
	chartApp      = "app"
	chartPostgres = "postgres"
	chartRedis    = "redis"
	chartTemporal = "temporal"
)

// kubernetes compiles for any cluster, or several.
func kubernetes(env forge.Environment) ([]forge.Resource, error) {
	var (
		all      []forge.Resource
		previous forge.ID
	)
	for i, at := range places(env) {
		p, err := builder{env: env, at: at, sizes: sharedSizes}.cluster(i == 0)
		if err != nil {
			return nil, err
		}
		// One region after the other: what fails in one does not reach the next.
		app := builder{env: env, at: at}.id(forge.KindRelease, partApp)
		if i > 0 {
			for j := range p.resources {
				if p.resources[j].ID == app {
					p.resources[j].After = []forge.ID{previous}
				}
			}
		}
		previous = app
		all = append(all, p.resources...)
	}
	return all, nil
}

// cluster compiles for one cluster: a namespace, its Secrets and files, and
// one release for each part, so that order and waiting are the graph's
// business. home is where migrations run.
func (b builder) cluster(home bool) (*parts, error) {
	p := &parts{}
	namespace := p.add("", b.resource(forge.KindNamespace, b.at.namespace, forge.NamespaceSpec{
		Name:   b.at.namespace,
		Create: b.env.Platform.CreateNamespace,
		Labels: b.namespaceLabels(),
	}))
	b.flyServices(p)
	spec := b.secrets()
	secrets := p.add("", b.resource(forge.KindSecrets, b.env.App.Name, spec,
		slices.Concat([]forge.ID{namespace}, sources(spec.Secrets))...))
	c := clusterBuilder{builder: b, parts: p, namespace: namespace, secrets: secrets}
	for _, step := range []func() error{c.files, c.external, c.postgres, c.redis, c.temporal} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	var migration []forge.ID
	if home && b.migrates() {
		migration = append(migration, c.migration())
	}
	if err := c.app(migration); err != nil {
		return nil, err
	}
	c.endpoint()
	if err := c.charts(); err != nil {
		return nil, err
	}
	c.certificates()
	return p, nil
}

// clusterBuilder compiles what lives in one namespace.
type clusterBuilder struct {
	builder
	*parts
	namespace forge.ID
	secrets   forge.ID
	config    forge.ID   // zero: there are no files
	signed    forge.ID   // certificate of PostgreSQL; zero: it has none
	disks     []forge.ID // claims of the app
}

// release adds one release of an embedded chart; part is what it stands for.
func (c *clusterBuilder) release(part, chart, name string, values map[string]any, secretNames []string, needs ...forge.ID) {
	spec := forge.ReleaseSpec{
		Name:      name,
		Namespace: c.at.namespace,
		Chart:     chart,
		Values:    values,
		Inputs:    checksumInputs(c.secrets, secretNames),
		Rules:     c.rules(),
	}
	c.add(part, c.resource(forge.KindRelease, chart, spec, slices.Concat([]forge.ID{c.namespace, c.secrets}, needs)...))
}

// feed gives the release that was added last one more input, and what it comes
// from to wait for.
func (c *clusterBuilder) feed(input forge.Input) {
	last := &c.resources[len(c.resources)-1]
	spec := last.Spec.(forge.ReleaseSpec)
	spec.Inputs = append(spec.Inputs, input)
	last.Spec = spec
	last.Needs = unique(append(last.Needs, input.From))
}

func (b builder) rules() forge.Rules {
	if b.onFKS() {
		return forge.Rules{Table: forge.TableFKS, Allow: b.env.Platform.Allow}
	}
	return forge.Rules{}
}

// checksumInputs bring the checksum of each Secret into the values, from where
// the chart puts it into the pod template: a changed Secret restarts exactly
// the pods that read it.
func checksumInputs(secrets forge.ID, names []string) []forge.Input {
	var inputs []forge.Input
	for _, name := range names {
		inputs = append(inputs, forge.Input{
			Path:   []string{"secretChecksums", name},
			From:   secrets,
			Output: "checksum/" + name,
		})
	}
	return inputs
}

// files are the image, the config files and the disks of the app.
func (c *clusterBuilder) files() error {
	app := c.env.App
	if c.env.Platform.LoadImages {
		c.add(partImage, c.resource(forge.KindImage, app.Name, forge.ImageSpec{
			Profile: c.env.Platform.Context, Image: app.Image.Reference(),
		}))
	}
	if len(app.ConfigFiles) > 0 {
		spec := forge.ConfigSpec{Namespace: c.at.namespace, Name: c.configName(), Labels: c.labels()}
		for i, key := range configKeys(app.ConfigFiles) {
			spec.Files = append(spec.Files, forge.ConfigEntry{Key: key, File: app.ConfigFiles[i].File, Text: app.ConfigFiles[i].Text})
		}
		c.config = c.add("", c.resource(forge.KindConfig, app.Name, spec, c.namespace))
	}
	for _, volume := range c.env.Volumes {
		spec := forge.ClaimSpec{
			Namespace: c.at.namespace, Name: app.Name + "-" + volume.Name, Labels: c.labels(),
			Size: volume.Size, StorageClass: c.storageClass(volume.StorageClass, volume.Retain), Access: volume.Access, Region: volume.Region, Retain: volume.Retain,
		}
		c.disks = append(c.disks, c.add("", c.resource(forge.KindClaim, volume.Name, spec, c.namespace)))
	}
	return nil
}

func (c *clusterBuilder) postgres() error {
	if !c.hasPostgres() {
		return nil
	}
	values, err := c.postgresValues()
	if err != nil {
		return err
	}
	names := []string{c.postgresName()}
	var needs []forge.ID
	if c.env.Services.Postgres.TLS {
		c.signed = c.add("", c.resource(forge.KindCertificate, partPostgres, forge.CertificateSpec{
			Namespace: c.at.namespace, Mode: forge.TLSSelfSigned, Labels: c.labels(),
			Hosts: []string{
				c.postgresName(), c.postgresName() + "." + c.at.namespace, c.postgresName() + "." + c.at.namespace + ".svc",
				c.postgresName() + "." + c.at.namespace + ".svc.cluster.local",
			},
			Secret: c.postgresTLSSecretName(), Valid: serviceCertificate,
		}, c.namespace))
		needs = append(needs, c.signed)
	}
	if c.dumps() {
		needs = append(needs, c.backups())
	}
	postgres := c.env.Services.Postgres
	needs = append(needs, c.claim(partPostgres, chartPostgres, c.postgresName(), "database", postgres.Storage, postgres.StorageClass)...)
	if c.hasTemporal() {
		names = append(names, c.temporalName())
	}
	c.release(partPostgres, chartPostgres, c.postgresName(), values, names, needs...)
	c.feedCertificate()
	c.answers(partPostgres, chartPostgres, c.postgresName(), postgresImages[postgres.Version], postgresAsk, databaseUser, postgres.Database)
	return nil
}

// dumps tells whether PostgreSQL is dumped now and then. Fly Kubernetes has no
// CronJob.
func (b builder) dumps() bool { return b.env.Services.Postgres.Backup.Enabled && !b.onFKS() }

// backups is where dumps of PostgreSQL are kept: no release's, so that they
// outlive it, and as large as what they are dumps of.
func (c *clusterBuilder) backups() forge.ID {
	postgres := c.env.Services.Postgres
	return c.add("", c.resource(forge.KindClaim, partPostgres+"-backup", forge.ClaimSpec{
		Namespace: c.at.namespace, Name: c.backupClaimName(), Labels: c.labels(),
		Size: postgres.Storage, StorageClass: c.storageClass(postgres.StorageClass, true), Access: accessNode, Retain: true,
	}, c.namespace))
}

// feedCertificate restarts the release that was added last with a new
// certificate of PostgreSQL, as its server or as one of its clients, which read
// who signed it when they start.
func (c *clusterBuilder) feedCertificate() {
	if c.signed == (forge.ID{}) {
		return
	}
	c.feed(forge.Input{
		Path: []string{"secretChecksums", c.postgresTLSSecretName()}, From: c.signed, Output: forge.OutputChecksum,
	})
}

func (c *clusterBuilder) redis() error {
	if !c.hasRedis() {
		return nil
	}
	values, err := c.redisValues()
	if err != nil {
		return err
	}
	var needs []forge.ID
	if redis := c.env.Services.Redis; redis.Persistence {
		needs = c.claim(partRedis, chartRedis, c.redisName(), "cache", redis.Storage, redis.StorageClass)
	}
	c.release(partRedis, chartRedis, c.redisName(), values, []string{c.redisName()}, needs...)
	c.answers(partRedis, chartRedis, c.redisName(), redisImages[c.env.Services.Redis.Version], redisAsk)
	return nil
}

// migration runs as the app does, with other arguments.
func (c *clusterBuilder) migration() forge.ID {
	app := c.env.App
	s := c.clusterSurroundings()
	spec := forge.JobSpec{
		Process:   forge.Process{Image: app.Image.Reference(), Args: slices.Clone(app.Migrate.Args), Env: s.env},
		Namespace: c.at.namespace, Name: app.Name + "-migrate",
		Labels:     mergeLabels(c.labels(), c.selector(chartApp, app.Name, componentMigration)),
		PullPolicy: app.Image.PullPolicy, SecretNames: c.appSecretNames(), Files: c.mountedFiles(s),
		Resources: app.Resources, Timeout: app.Migrate.Timeout, Rules: c.rules(), Pod: c.onFKS(),
	}
	if !app.Image.PullSecret.IsZero() {
		spec.PullSecret = c.pullSecretName()
	}
	return c.add("", c.resource(forge.KindJob, "migrate", spec, c.before()...))
}

// before is what has to be ready before anything of the app's image starts.
func (c *clusterBuilder) before() []forge.ID {
	needs := slices.Concat([]forge.ID{c.namespace, c.secrets}, c.services(), c.disks, c.ready[partImage])
	if c.config != (forge.ID{}) {
		needs = append(needs, c.config)
	}
	return needs
}

func (c *clusterBuilder) app(migration []forge.ID) error {
	if chart := c.env.App.Chart; chart != nil {
		c.add(partApp, c.resource(forge.KindRelease, partApp, c.chartRelease(c.env.App.Name, *chart), slices.Concat(c.before(), migration)...))
		return nil
	}
	if c.selfSigned() {
		migration = append(migration, c.id(forge.KindCertificate, partApp))
	}
	c.release(partApp, chartApp, c.env.App.Name, c.appValues(), c.checkedSecretNames(), slices.Concat(c.before(), migration)...)
	c.feedCertificate()
	if c.config != (forge.ID{}) {
		c.feed(forge.Input{Path: []string{"configChecksum"}, From: c.config, Output: forge.OutputChecksum})
	}
	return nil
}

// charts are the user's own beside the app. What they need, and what the app
// needs of them, is known once all of them are there.
func (c *clusterBuilder) charts() error {
	if len(c.env.Charts) == 0 {
		return nil
	}
	first := len(c.resources)
	for _, chart := range c.env.Charts {
		c.add(chart.Name, c.resource(forge.KindRelease, chart.Name, c.chartRelease(c.env.App.Name+"-"+chart.Name, chart.Chart), c.namespace, c.secrets))
	}
	for i, chart := range c.env.Charts {
		needs, err := c.needs(chart.Needs)
		if err != nil {
			return fmt.Errorf("charts.%s.needs: %w", chart.Name, err)
		}
		r := &c.resources[first+i]
		r.Needs = unique(slices.Concat(r.Needs, needs))
	}
	needs, err := c.needs(c.env.App.Needs)
	if err != nil {
		return fmt.Errorf("app.needs: %w", err)
	}
	for i := range c.resources {
		if c.resources[i].ID == c.id(forge.KindRelease, partApp) {
			c.resources[i].Needs = unique(slices.Concat(c.resources[i].Needs, needs))
		}
	}
	return nil
}

func (c *clusterBuilder) chartRelease(name string, chart forge.Chart) forge.ReleaseSpec {
	return forge.ReleaseSpec{
		Name: name, Namespace: c.at.namespace,
		Source: &forge.ChartSource{
			Kind: chart.Kind, Path: chart.Path, URL: chart.URL, Name: chart.Name,
			Version: chart.Version, Digest: chart.Digest, Username: chart.Username, Password: chart.Password,
		},
		Values: cloneMap(chart.Values), Rules: c.rules(),
	}
}

// namespaceLabels ask the API server to warn of pods that ask for more than
// ours do. It does not refuse them: what a cluster injects is not our business.
func (b builder) namespaceLabels() map[string]string {
	labels := b.labels()
	if b.env.Platform.Kind == forge.PlatformFKS {
		return labels // where a container's securityContext is not read, each would be warned of
	}
	labels["pod-security.kubernetes.io/warn"] = "restricted"
	labels["pod-security.kubernetes.io/audit"] = "restricted"
	return labels
}
