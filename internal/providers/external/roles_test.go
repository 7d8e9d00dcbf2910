package external

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

const (
	adminPassword    = "Adm1n/with?a#few@signs"
	temporalPassword = "T3mporal'with\"quotes;--"
)

func TestRolesConformance(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	providertest.Test(t, func(t *testing.T) providertest.Harness {
		b.T = t
		b.gone()
		return providertest.Harness{
			Resource: b.resource(false), Changed: b.resource(true), Inputs: b.inputs(), Policy: forge.Policy{Mode: forge.ModeApply},
			Secrets: []string{password, escaped, adminPassword, temporalPassword},
			Start:   func(*testing.T) reconcile.Provider { return b.start() },
			Edit:    func(t *testing.T) { b.server.SQL(t, "ALTER ROLE app PASSWORD 'changed by hand'") },
			Delete: func(t *testing.T) {
				b.server.In(t, "shop", "DROP OWNED BY app")
				b.server.SQL(t, "DROP ROLE app")
			},
			BreakReads: func(*testing.T) func() { return b.line.cutAfter(0) },
			CutAfter:   func(_ *testing.T, n int) func() { return b.line.cutAfter(n) },
			Writes:     b.changes,
			Bystander: func(t *testing.T) {
				if now := b.others(); now != b.bystander {
					t.Errorf("what is somebody else's has changed:\n%s\n%s", b.bystander, now)
				}
				if regexp.MustCompile(`(?m)^boss: .*DROP`).MatchString(b.server.Log()) {
					t.Error("something was dropped")
				}
			},
			Keeps: true,
		}
	})
	b.T = t
	for _, text := range []string{password, strings.ReplaceAll(password, "'", "''"), adminPassword, temporalPassword, strings.ReplaceAll(temporalPassword, "'", "''")} {
		if strings.Contains(b.server.Log(), text) {
			t.Error("a password is in the log of the server, which logs all statements")
		}
	}
}

// After a cut at any packet a new process goes on to the same end.
func TestRolesCutAnywhere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.request(true)
	for n := 1; ; n++ {
		b.gone()
		p := b.start()
		mend := b.line.cutAfter(n)
		whole := func() bool {
			o, err := p.Observe(t.Context(), r)
			if err != nil {
				return false
			}
			steps, err := p.Plan(t.Context(), r, o)
			if err != nil {
				return false
			}
			for _, s := range steps {
				if _, err := p.Apply(t.Context(), r, s); err != nil {
					silent(t, b.variables, err.Error())
					return false
				}
			}
			return true
		}()
		mend()
		b.converge(b.start(), r)
		b.works("app", escaped, "shop")
		b.works("temporal", "T3mporal%27with%22quotes%3B--", "temporal_visibility")
		if whole {
			return
		}
		n += n / 3
		if n > 2000 {
			t.Fatal("not done after 2000 packets")
		}
	}
}

// The app's role makes tables at its start, in public and in a schema of its
// own, and the server need not be told so by hand.
func TestRolesLetTheAppWork(t *testing.T) {
	b := newBench(t)
	p, r := b.start(), b.request(true)
	_, steps := b.steps(p, r)
	var texts []string
	for _, s := range steps {
		texts = append(texts, s.Object+": "+s.Changes[0].Path)
	}
	want := []string{
		"role app: makes role app, which may log in with the password of services.postgres.url", "database shop: makes database shop",
		"role temporal: makes role temporal, which may log in with the password of prod/secrets/shop",
		"database temporal: makes database temporal", "database temporal_visibility: makes database temporal_visibility",
	}
	if !slices.Equal(texts, want) {
		t.Errorf("planned %q", texts)
	}
	b.converge(p, r)
	b.works("app", escaped, "shop")
	b.works("temporal", "T3mporal%27with%22quotes%3B--", "temporal")
	if got := b.server.SQL(t, "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = 'app'"); got != "f" {
		t.Error("the app's role may do more than it needs")
	}
	if got := b.server.SQL(t, "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'"); !strings.HasPrefix(got, "SCRAM-SHA-256$4096:") {
		t.Errorf("the server keeps %s", got)
	}
}

// What somebody takes away comes back; a database that is gone with its data
// does not come back empty.
func TestRolesHeal(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p, r := b.start(), b.request(false)
	b.converge(p, r)
	for _, tt := range []struct {
		sql, object string
		code        reconcile.ReasonCode
		restart     bool
	}{
		{"ALTER ROLE app NOLOGIN", "role app", reconcile.ReasonEdited, false},
		{"ALTER ROLE app NOLOGIN", "role app", reconcile.ReasonEdited, true},
		{"ALTER ROLE app VALID UNTIL '2020-01-01'", "role app", reconcile.ReasonEdited, false},
		{"COMMENT ON ROLE app IS NULL", "role app", reconcile.ReasonEdited, false},
		{"REVOKE CREATE ON DATABASE shop FROM app", "database shop", reconcile.ReasonEdited, false},
		{"REVOKE CREATE ON DATABASE shop FROM app", "database shop", reconcile.ReasonEdited, true},
		{"ALTER ROLE app PASSWORD 'by hand'", "role app", reconcile.ReasonEdited, false},
		{"ALTER ROLE app PASSWORD NULL", "role app", reconcile.ReasonEdited, false},
	} {
		b.server.SQL(t, tt.sql)
		if tt.restart {
			p = b.start()
		}
		_, steps := b.steps(p, r)
		if len(steps) != 1 || steps[0].Rollout() || steps[0].Object != tt.object || steps[0].Reason.Code != tt.code || steps[0].Blocked != "" {
			t.Errorf("%s: planned %v", tt.sql, steps)
		}
		b.converge(p, r)
		b.works("app", escaped, "shop")
	}
	b.server.In(t, "shop", "REVOKE CREATE ON SCHEMA public FROM app")
	if _, steps := b.steps(p, r); len(steps) != 1 || steps[0].Object != "database shop" {
		t.Errorf("planned %v", steps)
	}
	b.converge(p, r)
	b.server.In(t, "shop", "DROP SCHEMA public CASCADE")
	if _, steps := b.steps(p, r); len(steps) != 0 {
		t.Errorf("without a schema public: %v", steps)
	}

	b.server.SQL(t, "DROP DATABASE shop")
	for range 2 { // the second time by another process
		if _, steps := b.steps(p, r); len(steps) != 1 || !strings.Contains(steps[0].Blocked, "gone with all its data") || steps[0].Rollout() {
			t.Errorf("planned %v", steps)
		}
		p = b.start()
	}
	b.server.SQL(t, "CREATE DATABASE shop OWNER boss")
	b.converge(p, r)
	b.works("app", escaped, "shop")
}

// A new password is a rollout, and one that nobody knows the history of too: a
// heal must not bring in what the app is not told in the same moment.
func TestNewPasswordIsARollout(t *testing.T) {
	b := newBench(t)
	p, r := b.start(), b.request(false)
	b.converge(p, r)
	b.variables["SECRET_URL"] = b.url("app", "another", "shop")
	for range 2 {
		_, steps := b.steps(p, r)
		if len(steps) != 1 || !steps[0].Rollout() || steps[0].Reason.Code != reconcile.ReasonConfig || steps[0].Blocked != "" {
			t.Fatalf("planned %v", steps)
		}
		p = b.start()
	}
	b.converge(p, r)
	b.works("app", "another", "shop")
}

// A role that forged did not make keeps its password, unless the policy says
// otherwise; one of another forged, and one that rules, do so in any case.
func TestRolesOfOthersAreRespected(t *testing.T) {
	b := newBench(t)
	r := b.request(false)
	b.server.SQL(t, "CREATE ROLE app LOGIN PASSWORD 'of others'")
	blocked := func(r reconcile.Request, want string) {
		t.Helper()
		_, steps := b.steps(b.start(), r)
		if len(steps) == 0 || steps[0].Object != "role app" || want == "" && steps[0].Blocked != "" || !strings.Contains(steps[0].Blocked, want) {
			t.Errorf("planned %v", steps)
		}
		if steps[0].Blocked != "" {
			if _, err := b.start().Apply(t.Context(), r, steps[0]); reconcile.KindOf(err) != reconcile.Invalid {
				t.Errorf("a blocked step was applied: %v", err)
			}
		}
	}
	blocked(r, "forged did not make it")
	b.server.SQL(t, "COMMENT ON ROLE app IS 'forged: cart/prod 0123456789abcdef'")
	force := r
	force.Policy.Adopt = forge.AdoptForce
	blocked(force, "belongs to another forged (instance and environment cart/prod)")
	b.server.SQL(t, "COMMENT ON ROLE app IS 'of the billing team'", "ALTER ROLE app SUPERUSER")
	blocked(force, "superuser")
	b.server.SQL(t, "ALTER ROLE app NOSUPERUSER")
	blocked(force, "")

	// With the right password there is nothing to take over: it is given the
	// rights it lacks, and keeps its comment.
	b.variables["SECRET_URL"] = b.url("app", "of%20others", "shop")
	b.converge(b.start(), r)
	b.works("app", "of%20others", "shop")
	if got := b.server.SQL(t, "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'app'"); got != "of the billing team" {
		t.Errorf("its comment is %q", got)
	}
}

// Names and passwords with quotes in them are names and passwords.
func TestNamesAreQuoted(t *testing.T) {
	b := newBench(t)
	name := `a"; DROP ROLE bystander; --'%I`
	b.variables["SECRET_URL"] = b.url("a%22%3B%20DROP%20ROLE%20bystander%3B%20--%27%25I", "p%27%3B%20DROP%20ROLE%20bystander%3B%20--", "d%22%3B%20x%27%24%24")
	r := b.request(false)
	b.converge(b.start(), r)
	b.works("a%22%3B%20DROP%20ROLE%20bystander%3B%20--%27%25I", "p%27%3B%20DROP%20ROLE%20bystander%3B%20--", "d%22%3B%20x%27%24%24")
	if got := b.server.SQL(t, "SELECT count(*) FROM pg_roles WHERE rolname IN ('bystander', $x$"+name+"$x$)"); got != "2" {
		t.Errorf("%s of 2 roles", got)
	}
	if b.others() != b.bystander {
		t.Error("something else has changed")
	}
}

// Functions that an app makes in its database are not called with the rights of
// the admin, whatever they are called.
func TestFunctionsOfTheAppAreNotCalled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p, r := b.start(), b.request(false)
	b.converge(p, r)
	for _, database := range []string{"shop", "postgres"} {
		for _, arguments := range []string{"text", "text, text", "text, text, text"} {
			b.server.In(t, database, "CREATE FUNCTION public.format("+arguments+") RETURNS text LANGUAGE sql AS $$ SELECT 'ALTER ROLE app CREATEROLE'::text $$")
		}
		b.server.In(t, database, "CREATE FUNCTION public.shobj_description(oid, text) RETURNS text LANGUAGE sql AS $$ SELECT 'forged: other/other unfinished'::text $$")
	}
	b.server.In(t, "shop", "REVOKE CREATE ON SCHEMA public FROM app")
	b.server.SQL(t, "ALTER ROLE app NOLOGIN")
	b.converge(p, r)
	if got := b.server.SQL(t, "SELECT rolcreaterole FROM pg_roles WHERE rolname = 'app'"); got != "f" {
		t.Error("a function of the app has made its role mightier")
	}
	b.works("app", escaped, "shop")
}

// Names are what they are in forge.cue, whatever the admin's clients speak.
func TestNamesOfOtherAlphabets(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.server.SQL(t, "ALTER ROLE boss SET client_encoding = 'LATIN1'")
	b.variables["SECRET_URL"] = b.url("gr%C3%B6%C3%9Fe", "x", "gr%C3%B6%C3%9Fe")
	r := b.request(false)
	b.converge(b.start(), r)
	if got := b.server.SQL(t, "SELECT count(*) FROM pg_roles WHERE rolname = 'größe'"); got != "1" {
		t.Errorf("%s roles of that name", got)
	}
	b.works("gr%C3%B6%C3%9Fe", "x", "gr%C3%B6%C3%9Fe")
}

// What cannot be done is said, with what to do.
func TestRolesSayWhatIsWrong(t *testing.T) {
	b := newBench(t)
	b.server.SQL(t, "CREATE ROLE weak LOGIN PASSWORD 'x'", "CREATE DATABASE owned OWNER bystander", "REVOKE ALL ON DATABASE owned FROM public", "GRANT CONNECT ON DATABASE owned TO public")
	for _, tt := range []struct {
		name   string
		set    variables
		kind   reconcile.ErrorKind
		want   string
		inputs bool
	}{
		{"an admin that nobody knows", variables{"SECRET_ADMIN": b.url("nobody", "x", "postgres")}, reconcile.Denied, "refuses the password of role nobody", true},
		{"no server", variables{"SECRET_ADMIN": "postgres://boss:x@db.invalid/postgres"}, reconcile.Unavailable, "the name db.invalid is not known here", true},
		{"no password", variables{"SECRET_URL": fmt.Sprintf("postgres://app@localhost:%d/shop", b.server.Port)}, reconcile.Invalid, "has no password for role app", true},
		{"twice", variables{"SECRET_URL": b.url("temporal", "x", "shop")}, reconcile.Invalid, "role temporal is asked for twice", true},
		{"no URL", variables{"SECRET_URL": "nonsense"}, reconcile.Invalid, "services.postgres.url is not a URL", true},
		{"beyond ASCII", variables{"SECRET_URL": b.url("app", "p%C3%A4ss", "shop")}, reconcile.Invalid, "other than those of ASCII", true},
		{"weak", variables{"SECRET_ADMIN": b.url("weak", "x", "postgres")}, reconcile.Invalid, "may not make roles", true},
		{"not the owner", variables{"SECRET_URL": b.url("app", "x", "owned")}, reconcile.Denied, "may not give all rights", true},
		{"an input that is not there", nil, reconcile.Waiting, "value/shop-temporal/POSTGRES_PWD", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.T = t
			b.gone()
			v := variables{}
			for _, all := range []variables{b.variables, tt.set} {
				for name, value := range all {
					v[name] = value
				}
			}
			p := newRoles(b.clusters, v.resolver(), "shop", usualPace())
			r := b.request(true)
			if !tt.inputs {
				r.Inputs = nil
			}
			err := func() error {
				o, err := p.Observe(t.Context(), r)
				if err != nil {
					return err
				}
				steps, err := p.Plan(t.Context(), r, o)
				if err != nil {
					return err
				}
				for _, s := range steps {
					if _, err := p.Apply(t.Context(), r, s); err != nil {
						return err
					}
				}
				return nil
			}()
			if reconcile.KindOf(err) != tt.kind || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("%v (%s)", err, reconcile.KindOf(err))
			}
			silent(t, v, fmt.Sprint(err))
		})
	}
}
