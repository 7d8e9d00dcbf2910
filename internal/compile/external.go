package compile

import "forged.dev/forged/internal/forge"

// externalPart is a resource that stands for a service of somebody else.
type externalPart struct {
	part     string
	resource forge.Resource
}

// externalChecks are the checks of services that somebody else runs, after the
// roles in them that forged is asked to make. value is an output with one
// secret of the environment.
func (b builder) externalChecks(namespace string, secrets forge.ID, value func(object, key string) forge.SecretPart) []externalPart {
	var all []externalPart
	add := func(part, kind string, spec forge.Spec, needs ...forge.ID) forge.ID {
		r := b.resource(kind, part, spec, needs...)
		all = append(all, externalPart{part, r})
		return r.ID
	}
	services := b.env.Services
	if postgres := services.Postgres; postgres.Mode == forge.ModeExternal {
		needs := []forge.ID{}
		if postgres.ManageRoles {
			roles := []forge.Role{{URL: postgres.URL}}
			if b.hasTemporal() {
				needs = append(needs, secrets)
				roles = append(roles, forge.Role{
					Name: temporalUser, Password: value(b.temporalName(), envTemporalDatabasePassword), Databases: temporalDatabases(),
				})
			}
			needs = []forge.ID{add(partPostgres, forge.KindRoles, forge.RolesSpec{
				Namespace: namespace, Admin: postgres.Admin, CABundle: postgres.CABundle, SSLMode: postgres.SSLMode, Roles: roles,
			}, needs...)}
		}
		add(partPostgres, forge.KindCheck, forge.CheckSpec{
			Namespace: namespace, Service: partPostgres, From: postgres.Check, URL: postgres.URL, SSLMode: postgres.SSLMode, CABundle: postgres.CABundle,
		}, needs...)
	}
	if redis := services.Redis; redis.Mode == forge.ModeExternal {
		add(partRedis, forge.KindCheck, forge.CheckSpec{
			Namespace: namespace, Service: partRedis, From: redis.Check, URL: redis.URL, CABundle: redis.CABundle,
		})
	}
	if temporal := services.Temporal; temporal.Mode == forge.ModeExternal || temporal.Mode == forge.ModeCloud {
		add(partTemporal, forge.KindCheck, forge.CheckSpec{
			Namespace: namespace, Service: partTemporal, From: temporal.Check, Address: temporal.Address, TemporalNamespace: temporal.Namespace,
			TLS: temporal.TLS || temporal.Mode == forge.ModeCloud, CABundle: temporal.CABundle,
			APIKey: temporal.APIKey, ClientCert: temporal.ClientCert, ClientKey: temporal.ClientKey,
		})
	}
	return all
}
