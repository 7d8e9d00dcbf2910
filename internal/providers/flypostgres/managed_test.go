package flypostgres_test

import (
	"slices"
	"testing"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/providers/flypostgres"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

func further(s *forge.FlyPostgresSpec) {
	s.Extensions = []string{"pg_trgm"}
	s.Further = []forge.FlyPostgresUser{{Name: "temporal", Databases: []string{"temporal", "temporal_visibility"}}}
}

func referenced(s *forge.FlyPostgresSpec) { s.Create = false }

func attached(s *forge.FlyPostgresSpec) { s.AttachTo = "web" }

// A cluster of somebody else's, in which the environment has something.
func TestManagedReferenceConformance(t *testing.T) {
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		r := newRig(t, flyemulator.Options{})
		id := r.make(clusterName)
		h := r.Harness(providertest.Harness{
			Resource: r.managed(referenced).Resource, Changed: r.managed(referenced, further).Resource,
			Policy: forge.Policy{Mode: forge.ModeApply}, Data: true,
			Start: func(*testing.T) reconcile.Provider {
				return flytest.Patient{Service: flypostgres.NewManaged(r.Accounts())}
			},
			Edit: func(t *testing.T) {
				if err := r.Somebody.SetPostgresRole(t.Context(), id, user, "reader"); err != nil {
					t.Fatal(err)
				}
			},
			Delete: func(t *testing.T) {
				if err := r.Somebody.DeletePostgresUser(t.Context(), id, user); err != nil {
					t.Fatal(err)
				}
			},
		})
		h.Bystander = r.unharmed
		return h
	})
}

// A cluster that forged makes.
func TestManagedConformance(t *testing.T) {
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		r := newRig(t, flyemulator.Options{})
		r.MakeApp("web")
		h := r.Harness(providertest.Harness{
			Resource: r.managed(attached).Resource, Changed: r.managed(attached, further).Resource,
			Policy: forge.Policy{Mode: forge.ModeApply}, Data: true,
			Start: func(*testing.T) reconcile.Provider {
				return flytest.Patient{Service: flypostgres.NewManaged(r.Accounts())}
			},
			Edit: func(t *testing.T) {
				if err := r.Somebody.SetPostgresRole(t.Context(), r.clusters(clusterName)[0], user, "reader"); err != nil {
					t.Fatal(err)
				}
			},
			Delete: func(t *testing.T) {
				if err := r.Somebody.DeletePostgresUser(t.Context(), r.clusters(clusterName)[0], user); err != nil {
					t.Fatal(err)
				}
			},
		})
		h.Bystander = func(t *testing.T) {
			r.unharmed(t)
			if ids := r.clusters(clusterName); len(ids) > 1 {
				t.Errorf("%d clusters: %v", len(ids), ids)
			}
		}
		return h
	})
}

// All that clients need is among the outputs.
func TestManagedOutputs(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		q := r.managed(further)
		o := r.Converge(flypostgres.NewManaged(r.Accounts()), q)
		if r.reveal(o, "password") == r.reveal(o, "password/temporal") {
			r.t.Error("two users have one password")
		}
		for name, want := range map[string]string{"port": "5432", "database": database, "user": user} {
			if got := o.Outputs[name].Value; got != want {
				r.t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if o.Outputs["host"].Value == "" || o.Outputs["pooler-host"].Value == "" || o.Outputs["host"].Value == o.Outputs["pooler-host"].Value {
			r.t.Errorf("%+v", o.Outputs)
		}
		if len(o.Outputs) != 7 || o.Objects != 7 {
			r.t.Errorf("%d outputs, %d objects", len(o.Outputs), o.Objects)
		}
		id := r.clusters(clusterName)[0]
		databases, err := r.Somebody.PostgresDatabases(r.t.Context(), id)
		r.Must(err)
		slices.Sort(databases)
		if want := []string{database, "fly-db", "temporal", "temporal_visibility"}; !slices.Equal(databases, want) {
			r.t.Errorf("databases %v", databases)
		}
	})
}
