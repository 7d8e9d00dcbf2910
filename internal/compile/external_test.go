package compile_test

import (
	"slices"
	"testing"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
)

// askedFromInside has services of somebody else that a cluster is to ask.
func askedFromInside(t *testing.T) forge.Environment {
	t.Helper()
	env := readEnvironment(t, "minikube")
	env.Services.Temporal = forge.Temporal{Mode: forge.ModeExternal, Address: "temporal.acme.test:7233", Namespace: "shop", Check: forge.CheckFromCluster}
	env.Services.Redis = forge.Redis{Mode: forge.ModeExternal, URL: forge.SecretRef{Env: "REDIS"}, Check: forge.CheckFromDaemon}
	env.Services.Postgres = forge.Postgres{
		Mode: forge.ModeExternal, URL: forge.SecretRef{Env: "DATABASE"}, CABundle: forge.SecretRef{File: "ca.pem"}, SSLMode: "verify-ca",
		ManageRoles: true, Admin: forge.SecretRef{Env: "ADMIN"}, Check: forge.CheckFromCluster,
	}
	return env
}

// A service that is asked from inside of the cluster is asked by a resource of
// the cluster, with what it takes to log in from a Secret of its own, and
// before the app is rolled out.
func TestChecksFromInside(t *testing.T) {
	env := askedFromInside(t)
	resources, err := compile.Environment(env)
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]forge.Resource{}
	for _, r := range resources {
		of[r.ID.Kind+"/"+r.ID.Name] = r
	}
	app := env.App.Name
	postgres, ok := of["probe/postgres"].Spec.(forge.ProbeSpec)
	if !ok || postgres.Secret != app+"-check-postgres" || postgres.Name != postgres.Secret || postgres.SSLMode != "verify-ca" || postgres.Namespace == "" {
		t.Errorf("postgres: %+v", postgres)
	}
	for _, need := range []string{"secrets/" + app, "roles/postgres"} {
		if !slices.Contains(of["probe/postgres"].Needs, of[need].ID) {
			t.Errorf("the check of postgres does not wait for %s: %v", need, of["probe/postgres"].Needs)
		}
	}
	if temporal, ok := of["probe/temporal"].Spec.(forge.ProbeSpec); !ok || temporal.Secret != "" || temporal.Address != "temporal.acme.test:7233" {
		t.Errorf("temporal: %+v", temporal)
	}
	if _, ok := of["check/redis"]; !ok || len(of) != len(resources) {
		t.Error("redis is not asked from this machine")
	}
	for _, probe := range []string{"probe/postgres", "probe/temporal", "check/redis"} {
		if !slices.Contains(of["release/app"].Needs, of[probe].ID) {
			t.Errorf("the app does not wait for %s", probe)
		}
	}
	var keys []string
	for _, s := range of["secrets/"+app].Spec.(forge.SecretsSpec).Secrets {
		for _, e := range s.Entries {
			if s.Name == postgres.Secret {
				keys = append(keys, e.Key)
			}
		}
	}
	if !slices.Equal(keys, []string{forge.ProbeCABundle, forge.ProbeURL}) {
		t.Errorf("the Secret has %v", keys)
	}
}
