package compile

import (
	"slices"

	"forged.dev/forged/internal/forge"
)

// sizes are what the backing services ask for. An empty memory limit is
// worked out from what the service is told to hold.
type sizes struct{ postgres, redis forge.Resources }

var sharedSizes = sizes{
	postgres: forge.Resources{CPU: "250m", Memory: "512Mi", MemoryLimit: "2Gi"},
	redis:    forge.Resources{CPU: "100m", Memory: "128Mi"},
}

// Names of the embedded charts, which are also the names of the releases'
// resources.
const (
	chartApp      = "app"
	chartPostgres = "postgres"
	chartRedis    = "redis"
)

// kubernetes compiles for any cluster: a namespace, its Secrets, and one
// release for each part, so that order and waiting are the graph's business.
func kubernetes(env forge.Environment, sizes sizes) ([]forge.Resource, error) {
	b := builder{env: env, sizes: sizes}
	namespace := b.resource(forge.KindNamespace, env.Platform.Namespace, forge.NamespaceSpec{
		Name:   env.Platform.Namespace,
		Create: env.Platform.CreateNamespace,
		Labels: b.namespaceLabels(),
	})
	secrets := b.resource(forge.KindSecrets, env.App.Name, b.secrets(), namespace.ID)
	resources := []forge.Resource{namespace, secrets}

	release := func(chart, name string, values map[string]any, secretNames []string, needs ...forge.ID) forge.ID {
		spec := forge.ReleaseSpec{
			Name:      name,
			Namespace: env.Platform.Namespace,
			Chart:     chart,
			Values:    values,
			Inputs:    checksumInputs(secrets.ID, secretNames),
		}
		needs = append([]forge.ID{namespace.ID, secrets.ID}, needs...)
		r := b.resource(forge.KindRelease, chart, spec, needs...)
		resources = append(resources, r)
		return r.ID
	}

	var services []forge.ID
	if b.hasPostgres() {
		values, err := b.postgresValues()
		if err != nil {
			return nil, err
		}
		services = append(services, release(chartPostgres, b.postgresName(), values, []string{b.postgresName()}))
	}
	if b.hasRedis() {
		values, err := b.redisValues()
		if err != nil {
			return nil, err
		}
		services = append(services, release(chartRedis, b.redisName(), values, []string{b.redisName()}))
	}
	release(chartApp, env.App.Name, b.appValues(), b.appSecretNames(), services...)
	return resources, nil
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

// builder holds what all parts of one environment's compilation share.
type builder struct {
	env   forge.Environment
	sizes sizes
}

func (b builder) resource(kind, name string, spec forge.Spec, needs ...forge.ID) forge.Resource {
	return forge.Resource{
		ID:     forge.ID{Environment: b.env.Name, Kind: kind, Name: name},
		Target: target(b.env),
		Needs:  needs,
		Spec:   spec,
	}
}

// labels are those of objects that no chart makes.
func (b builder) labels() map[string]string {
	return map[string]string{
		"app.kubernetes.io/part-of":    b.env.App.Name,
		"app.kubernetes.io/managed-by": "forged",
		"forged.dev/environment":       b.env.Name,
	}
}

// namespaceLabels ask the API server to warn of pods that ask for more than
// ours do. It does not refuse them: what a cluster injects is not our business.
func (b builder) namespaceLabels() map[string]string {
	labels := b.labels()
	labels["pod-security.kubernetes.io/warn"] = "restricted"
	labels["pod-security.kubernetes.io/audit"] = "restricted"
	return labels
}

// Names of releases are the names of what clients connect to: the charts call
// their Service after the release.
func (b builder) postgresName() string { return b.env.App.Name + "-postgres" }
func (b builder) redisName() string    { return b.env.App.Name + "-redis" }

func (b builder) hasPostgres() bool { return b.env.Services.Postgres.Mode == forge.ModeInCluster }
func (b builder) hasRedis() bool    { return b.env.Services.Redis.Mode == forge.ModeInCluster }

// clients are the labels of the workloads that are given the addresses of the
// backing services, the app and every worker. Network policies let in these
// and nobody else. The charts' tests hold them against the pods as rendered.
func (b builder) clients() []any {
	components := []string{"application"}
	for _, worker := range b.env.Workers {
		components = append(components, "worker-"+worker.Name)
	}
	slices.Sort(components[1:])
	var clients []any
	for _, component := range components {
		clients = append(clients, map[string]any{
			"app.kubernetes.io/name":      chartApp,
			"app.kubernetes.io/instance":  b.env.App.Name,
			"app.kubernetes.io/component": component,
			"forged.dev/environment":      b.env.Name,
		})
	}
	return clients
}
