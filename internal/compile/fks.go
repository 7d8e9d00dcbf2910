package compile

import (
	"slices"

	"forged.dev/forged/internal/forge"
)

// fks is Kubernetes in a cluster that is a resource itself: everything in it
// takes the way in from there.
func fks(env forge.Environment) ([]forge.Resource, error) {
	b := builder{env: env, sizes: machineSizes, at: places(env)[0]}
	cluster := forge.Resource{
		ID:     b.id(forge.KindFlyCluster, env.Platform.Cluster),
		Target: forge.Target{Org: env.Platform.Org},
		Spec: forge.FlyClusterSpec{
			Account: b.account(), Name: env.Platform.Cluster, Region: env.Platform.Region, Create: env.Platform.Create,
			Kubeconfig: env.Platform.Kubeconfig, Context: env.Platform.Context,
		},
	}
	b.at.target = forge.Target{Cluster: cluster.ID}
	p, err := b.cluster(true)
	if err != nil {
		return nil, err
	}
	resources := append([]forge.Resource{cluster}, p.resources...)
	if env.Expose.TLS.Mode == forge.TLSFly {
		for _, domain := range env.Domains {
			resources = append(resources, forge.Resource{
				ID:     b.id(forge.KindFlyCertificate, domain),
				Target: cluster.Target,
				Needs:  []forge.ID{cluster.ID, b.id(forge.KindRelease, partApp)},
				Spec: forge.FlyCertificateSpec{
					Account: b.account(), AppFrom: forge.Input{From: cluster.ID, Output: forge.OutputApp}, Hostname: domain,
				},
			})
		}
	}
	return resources, nil
}

// flyServices adds the services that Fly runs. They are no part of a cluster.
func (b builder) flyServices(p *parts) {
	target := forge.Target{Org: b.env.Platform.Org}
	// What costs money waits until there is a place for the app to run in: an
	// organization that is not in the beta gets no cluster, or it comes up in error,
	// or cannot be reached from here.
	var after []forge.ID
	if b.onFKS() {
		after = []forge.ID{b.id(forge.KindNamespace, b.at.namespace)}
	}
	add := func(part, kind, name string, spec forge.Spec, needs ...forge.ID) {
		p.add(part, forge.Resource{ID: b.id(kind, name), Target: target, Needs: needs, After: after, Spec: spec})
	}
	var further []forge.FlyPostgresUser
	if b.hasTemporal() {
		further = append(further, forge.FlyPostgresUser{Name: temporalUser, Databases: temporalDatabases()})
	}
	switch postgres := b.env.Services.Postgres; postgres.Mode {
	case forge.ModeFlyManaged:
		spec := forge.FlyPostgresSpec{
			Account: b.account(), Name: postgres.Cluster, Create: postgres.Create, Plan: postgres.Plan, Region: postgres.Region,
			StorageGB: postgres.StorageGB, Version: postgres.Version, PoolMode: postgres.PoolMode, PostGIS: postgres.PostGIS,
			Extensions: slices.Sorted(slices.Values(postgres.Extensions)),
			Database:   postgres.Database, User: databaseUser, Further: further,
		}
		var needs []forge.ID
		if app := b.env.Platform.AppName; b.env.Platform.Kind == forge.PlatformFly {
			spec.AttachTo, needs = app, []forge.ID{b.id(forge.KindFlyApp, app)}
		}
		add(partPostgres, forge.KindFlyPostgres, postgres.Cluster, spec, needs...)
	case forge.ModeFlyUnmanaged:
		spec := forge.FlyPostgresAppSpec{
			Account: b.account(), App: postgres.AppName, Create: postgres.Create,
			Database: postgres.Database, User: databaseUser, Further: further,
		}
		if postgres.Create {
			spec.Network, spec.Region, spec.Version = b.env.Platform.Network, postgres.Region, postgres.Version
			spec.StorageGB, spec.Guest, spec.Machines = postgres.StorageGB, postgres.Guest, 1
			if postgres.Standby {
				spec.Machines = 3
			}
		}
		add(partPostgres, forge.KindFlyPostgresApp, postgres.AppName, spec)
	}
	if redis := b.env.Services.Redis; redis.Mode == forge.ModeUpstash {
		// What costs money waits until the app is known to be ours.
		var needs []forge.ID
		if b.env.Platform.Kind == forge.PlatformFly {
			needs = []forge.ID{b.id(forge.KindFlyApp, b.env.Platform.AppName)}
		}
		add(partRedis, forge.KindUpstashRedis, redis.Name, forge.UpstashRedisSpec{
			Account: b.account(), Name: redis.Name, Create: redis.Create, Plan: redis.Plan,
			Region: redis.Region, ReadRegions: append([]string(nil), redis.ReadRegions...), Evict: redis.Evict, ProdPack: redis.ProdPack,
		}, needs...)
	}
}
