package compile

import (
	"slices"

	"forged.dev/forged/internal/forge"
)

// externalPart is a resource that stands for a service of somebody else.
type externalPart struct {
	part     string
	resource forge.Resource
}

// externalCheck is a question to a service of somebody else.
type externalCheck struct {
	from string // where it is asked from
	forge.CheckSpec
}

// checks are what the services of somebody else are asked.
func (b builder) checks(namespace string) []externalCheck {
	var all []externalCheck
	services := b.env.Services
	if postgres := services.Postgres; postgres.Mode == forge.ModeExternal {
		all = append(all, externalCheck{postgres.Check, forge.CheckSpec{
			Namespace: namespace, Service: partPostgres, URL: postgres.URL, SSLMode: postgres.SSLMode, CABundle: postgres.CABundle,
		}})
	}
	if redis := services.Redis; redis.Mode == forge.ModeExternal {
		all = append(all, externalCheck{redis.Check, forge.CheckSpec{
			Namespace: namespace, Service: partRedis, URL: redis.URL, CABundle: redis.CABundle,
		}})
	}
	if temporal := services.Temporal; temporal.Mode == forge.ModeExternal || temporal.Mode == forge.ModeCloud {
		all = append(all, externalCheck{temporal.Check, forge.CheckSpec{
			Namespace: namespace, Service: partTemporal, Address: temporal.Address, TemporalNamespace: temporal.Namespace,
			TLS: temporal.TLS || temporal.Mode == forge.ModeCloud, CABundle: temporal.CABundle,
			APIKey: temporal.APIKey, ClientCert: temporal.ClientCert, ClientKey: temporal.ClientKey,
		}})
	}
	return all
}

// externalChecks are the checks of services that somebody else runs, after the
// roles in them that forged is asked to make. value is an output with one
// secret of the environment.
func (b builder) externalChecks(namespace string, secrets forge.ID, value func(object, key string) forge.SecretPart) []externalPart {
	var all []externalPart
	for _, check := range b.checks(namespace) {
		var needs []forge.ID
		if check.Service == partPostgres && b.env.Services.Postgres.ManageRoles {
			roles := b.managedRoles(namespace, secrets, value)
			all = append(all, externalPart{partPostgres, roles})
			needs = append(needs, roles.ID)
		}
		r := b.resource(forge.KindCheck, check.Service, check.CheckSpec, needs...)
		if check.from == forge.CheckFromCluster {
			r = b.resource(forge.KindProbe, check.Service, b.probe(check), append(needs, secrets)...)
		}
		all = append(all, externalPart{check.Service, r})
	}
	return all
}

// managedRoles are those that forged makes in somebody else's PostgreSQL.
func (b builder) managedRoles(namespace string, secrets forge.ID, value func(object, key string) forge.SecretPart) forge.Resource {
	postgres := b.env.Services.Postgres
	roles := []forge.Role{{URL: postgres.URL}}
	var needs []forge.ID
	if b.hasTemporal() {
		needs = append(needs, secrets)
		roles = append(roles, forge.Role{
			Name: temporalUser, Password: value(b.temporalName(), envTemporalDatabasePassword), Databases: temporalDatabases(),
		})
	}
	return b.resource(forge.KindRoles, partPostgres, forge.RolesSpec{
		Namespace: namespace, Admin: postgres.Admin, CABundle: postgres.CABundle, SSLMode: postgres.SSLMode, Roles: roles,
	}, needs...)
}

func (b builder) probeName(service string) string { return b.env.App.Name + "-check-" + service }

// probe is a check from inside of the cluster.
func (b builder) probe(check externalCheck) forge.ProbeSpec {
	p := forge.ProbeSpec{
		Namespace: check.Namespace, Name: b.probeName(check.Service), Labels: b.labels(), Service: check.Service,
		SSLMode: check.SSLMode, Address: check.Address, TemporalNamespace: check.TemporalNamespace, TLS: check.TLS,
	}
	if len(probeEntries(check)) > 0 {
		p.Secret = b.probeName(check.Service)
	}
	if !b.env.App.Image.PullSecret.IsZero() {
		p.PullSecret = b.pullSecretName()
	}
	return p
}

// probeSecrets are the Secrets of the checks from inside of the cluster.
func (b builder) probeSecrets() []forge.SecretObject {
	var all []forge.SecretObject
	for _, check := range b.checks(b.at.namespace) {
		if entries := probeEntries(check); check.from == forge.CheckFromCluster && len(entries) > 0 {
			all = append(all, b.secret(b.probeName(check.Service), entries))
		}
	}
	return all
}

// probeEntries are what it takes to log in.
func probeEntries(check externalCheck) []forge.SecretEntry {
	entries := []forge.SecretEntry{
		{Key: forge.ProbeURL, Ref: &check.URL},
		{Key: forge.ProbeAPIKey, Ref: &check.APIKey},
		{Key: forge.ProbeCABundle, Ref: &check.CABundle, MultiLine: true},
		{Key: forge.ProbeClientCert, Ref: &check.ClientCert, MultiLine: true},
		{Key: forge.ProbeClientKey, Ref: &check.ClientKey, MultiLine: true},
	}
	return slices.DeleteFunc(entries, func(e forge.SecretEntry) bool { return e.Ref.IsZero() })
}
