package flypostgres_test

import (
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/providers/flypostgres"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

// An app of somebody else's, in which the environment has something.
func TestAppReferenceConformance(t *testing.T) {
	server := startServer(t)
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		r := newAppRig(t, server)
		r.makeDatabase(appName)
		h := r.Harness(providertest.Harness{
			Resource: r.unmanaged().Resource, Changed: r.unmanaged(oneMore).Resource,
			Policy: forge.Policy{Mode: forge.ModeApply}, Data: true, Secrets: r.Secrets,
			Start:  func(*testing.T) reconcile.Provider { return flytest.Patient{Service: flypostgres.NewApp(r.Accounts())} },
			Edit:   func(t *testing.T) { r.server.SQL(t, "ALTER ROLE appuser NOLOGIN PASSWORD 'by hand'") },
			Delete: func(*testing.T) { r.dropRole() },
		})
		h.Bystander = r.untouched
		return h
	})
}

// An app that forged makes.
func TestAppConformance(t *testing.T) {
	server := startServer(t)
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		r := newAppRig(t, server)
		h := r.Harness(providertest.Harness{
			Resource: r.unmanaged(created).Resource, Changed: r.unmanaged(created, oneMore).Resource,
			Policy: forge.Policy{Mode: forge.ModeApply}, Data: true,
			Start:  func(*testing.T) reconcile.Provider { return flytest.Patient{Service: flypostgres.NewApp(r.Accounts())} },
			Edit:   func(t *testing.T) { r.server.SQL(t, "ALTER ROLE appuser NOLOGIN PASSWORD 'by hand'") },
			Delete: func(*testing.T) { r.dropRole() },
		})
		h.Bystander = r.untouched
		return h
	})
}

// Clients get in with what the outputs say, and no statement holds a password.
func TestAppOutputs(t *testing.T) {
	inAppBubble(t, func(r *appRig) {
		r.makeDatabase(appName)
		q := r.unmanaged(furtherApp)
		o := r.Converge(flypostgres.NewApp(r.Accounts()), q)
		r.works(o, "password", user, database)
		r.works(o, "password/temporal", "temporal", "temporal_visibility")
		for name, want := range map[string]string{"host": "shop-pg.flycast", "port": "5432", "database": database, "user": user} {
			if got := o.Outputs[name].Value; got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if len(o.Outputs) != 6 || !strings.Contains(o.Health.Message, "leads, 1 of 1 are well") {
			t.Errorf("%d outputs, %+v", len(o.Outputs), o.Health)
		}
		before := r.reveal(o, "password")
		for _, output := range []string{"password", "password/temporal"} {
			if strings.Contains(r.server.Log(), r.reveal(o, output)) {
				t.Errorf("the server has written %s into its log", output)
			}
		}

		// Another process derives the same; with another superuser's password
		// they are others, and clients are told.
		o = r.Converge(flypostgres.NewApp(r.Accounts()), q)
		if r.reveal(o, "password") != before {
			t.Error("the password has changed")
		}
	})
}

// What is somebody else's stays so, and what is in the way is said.
func TestAppRolesOfOthers(t *testing.T) {
	inAppBubble(t, func(r *appRig) {
		r.makeDatabase(appName)
		p := flypostgres.NewApp(r.Accounts())
		q := r.unmanaged()
		r.Plan(p, q) // the server begins
		look := func() []reconcile.Step {
			time.Sleep(time.Minute)
			_, steps := r.Plan(p, q)
			return steps
		}
		r.server.SQL(t, "CREATE ROLE appuser LOGIN PASSWORD 'of others'")
		if steps := look(); len(steps) != 2 || !strings.Contains(steps[0].Blocked, "role appuser is there already") {
			t.Fatalf("%v", steps)
		}
		r.server.SQL(t, "ALTER ROLE appuser SUPERUSER")
		q.Policy.Adopt = forge.AdoptForce
		if steps := look(); !strings.Contains(steps[0].Blocked, "superuser") {
			t.Errorf("%v", steps)
		}
		r.server.SQL(t, "ALTER ROLE appuser NOSUPERUSER", "COMMENT ON ROLE appuser IS 'forged: cart/prod'")
		if steps := look(); !strings.Contains(steps[0].Blocked, "belongs to another forged or another environment (cart/prod)") {
			t.Errorf("%v", steps)
		}
		r.server.SQL(t, "COMMENT ON ROLE appuser IS NULL")
		r.server.SQL(t, "CREATE DATABASE appdb OWNER bystander")
		q.Policy.Adopt = forge.AdoptMustMatch
		if steps := look(); len(steps) != 2 || !strings.Contains(steps[1].Blocked, "database appdb is there already and belongs to role bystander") {
			t.Errorf("%v", steps)
		}
		r.server.SQL(t, "ALTER DATABASE appdb OWNER TO postgres")
		q.Policy.Adopt = forge.AdoptIfUnowned
		look()
		r.works(r.Converge(p, q), "password", user, database)
	})
}

// A database that somebody dropped is not put back empty.
func TestAppLostDatabase(t *testing.T) {
	inAppBubble(t, func(r *appRig) {
		r.makeDatabase(appName)
		p := flypostgres.NewApp(r.Accounts())
		q := r.unmanaged()
		r.Converge(p, q)
		r.server.SQL(t, "DROP DATABASE appdb")
		time.Sleep(10 * time.Minute)
		for range 2 {
			step := r.Blocked(p, q, "database appdb was dropped, with all its data")
			if step.Rollout() {
				t.Errorf("%s", step)
			}
			p = flypostgres.NewApp(r.Accounts())
		}
		r.server.SQL(t, "CREATE DATABASE appdb")
		time.Sleep(10 * time.Minute)
		r.works(r.Converge(p, q), "password", user, database)
	})
}
