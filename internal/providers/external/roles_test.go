package external

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/servicetest"
)

const (
	adminPassword    = "Adm1n/with?a#few@signs"
	temporalPassword = "T3mporal'with\"quotes;--"
)

// bench is a PostgreSQL of somebody else, with an admin who is no superuser.
type bench struct {
	*testing.T
	server    *servicetest.Postgres
	variables variables
	line      *line
	instance  string
	bystander string
	counted   int
	clusters  *kubernetes.Clusters
}

// line is the way to the server. It can be cut after some more packets.
type line struct {
	mu   sync.Mutex
	left int // negative: all pass
}

func (l *line) pass() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.left == 0:
		return errors.New("the line is cut")
	case l.left > 0:
		l.left--
	}
	return nil
}

func (l *line) cutAfter(n int) (mend func()) {
	l.set(n)
	return func() { l.set(-1) }
}

func (l *line) set(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = n
}

// dial is a connection of which packets get lost.
func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := l.pass(); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &lossy{conn, l}, nil
}

type lossy struct {
	net.Conn
	line *line
}

func (c *lossy) Write(b []byte) (int, error) {
	if err := c.line.pass(); err != nil {
		_ = c.Close()
		return 0, err
	}
	return c.Conn.Write(b)
}

func newBench(t *testing.T) *bench {
	t.Helper()
	authority := servicetest.NewAuthority(t, "our authority")
	cert, key := authority.Sign(t, servicetest.Certificate{Hosts: []string{"localhost"}})
	b := &bench{
		T: t, instance: "shop", line: &line{left: -1},
		server:   servicetest.StartPostgres(t, servicetest.PostgresOptions{Cert: cert, Key: key, Settings: []string{"log_line_prefix = '%u: '"}}),
		clusters: kubernetes.NewClusters(kubernetes.Options{Instance: "shop"}),
	}
	t.Cleanup(b.clusters.Close)
	b.server.SQL(t, "ALTER ROLE postgres SET log_statement = none")
	b.server.SQL(t, "CREATE ROLE boss LOGIN CREATEROLE CREATEDB PASSWORD '"+adminPassword+"'",
		"CREATE ROLE bystander LOGIN PASSWORD 'other'", "CREATE DATABASE other OWNER bystander")
	b.bystander = b.others()
	b.variables = variables{
		"SECRET_ADMIN": b.url("boss", "Adm1n%2Fwith%3Fa%23few%40signs", "postgres"),
		"SECRET_URL":   b.url("app", escaped, "shop"), "SECRET_PASSWORD": password, "SECRET_ESCAPED": escaped, "SECRET_ADMIN_PASSWORD": adminPassword,
		"SECRET_TEMPORAL": temporalPassword, "CA": authority.PEM,
	}
	return b
}

func (b *bench) url(user, password, database string) string {
	return fmt.Sprintf("postgresql://%s:%s@localhost:%d/%s", user, password, b.server.Port, database)
}

// others is everything that is somebody else's.
func (b *bench) others() string {
	return b.server.SQL(b.T, `SELECT string_agg(a::text, ';' ORDER BY oid) FROM pg_authid a WHERE rolname IN ('bystander', 'boss', 'postgres')`) +
		b.server.SQL(b.T, `SELECT string_agg(d::text, ';' ORDER BY oid) FROM (SELECT oid, datname, datdba, datacl FROM pg_database WHERE datname IN ('other', 'postgres', 'template1')) d`)
}

func (b *bench) start() *Roles {
	p := newRoles(b.clusters, b.variables.resolver(), b.instance, pace{fine: 100 * time.Millisecond, first: 50 * time.Millisecond, limit: 10 * time.Second, forget: time.Hour})
	p.dial = b.line.dial
	return p
}

var (
	rolesID   = forge.ID{Environment: "prod", Kind: forge.KindRoles, Name: "postgres"}
	secretsID = forge.ID{Environment: "prod", Kind: forge.KindSecrets, Name: "shop"}
)

const temporalOutput = "value/shop-temporal/POSTGRES_PWD"

func (b *bench) inputs() map[forge.ID]reconcile.Outputs {
	return map[forge.ID]reconcile.Outputs{secretsID: {temporalOutput: {Secret: secret.New([]byte(b.variables["SECRET_TEMPORAL"]))}}}
}

// resource asks for the app's role, and Temporal's with it.
func (b *bench) resource(temporal bool) forge.Resource {
	spec := forge.RolesSpec{Admin: env("SECRET_ADMIN"), CABundle: env("CA"), SSLMode: verifyFull, Roles: []forge.Role{{URL: env("SECRET_URL")}}}
	if temporal {
		spec.Roles = append(spec.Roles, forge.Role{
			Name: "temporal", Password: forge.SecretPart{From: secretsID, Output: temporalOutput}, Databases: []string{"temporal", "temporal_visibility"},
		})
	}
	return forge.Resource{ID: rolesID, Spec: spec, Needs: []forge.ID{secretsID}}
}

func (b *bench) request(temporal bool) reconcile.Request {
	return reconcile.Request{Resource: b.resource(temporal), Inputs: b.inputs(), Policy: forge.Policy{Mode: forge.ModeApply}}
}

var writes = regexp.MustCompile(`(?m)^boss: LOG:  statement: *(CREATE|ALTER|GRANT|COMMENT|DROP|REVOKE|INSERT|UPDATE|DELETE)`)

// changes counts what forged has changed, in the words of the server.
func (b *bench) changes() int {
	b.Helper()
	b.counted++
	end := fmt.Sprintf("counted %d times", b.counted)
	b.server.SQL(b.T, "DO $$ BEGIN RAISE LOG '"+end+"'; END $$")
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(b.server.Log(), end) {
		if time.Now().After(deadline) {
			b.Fatal("the log of the server does not come")
		}
	}
	return len(writes.FindAllString(b.server.Log(), -1))
}

// gone takes away all that forged makes.
func (b *bench) gone() {
	b.server.SQL(b.T, "DROP DATABASE IF EXISTS shop", "DROP DATABASE IF EXISTS temporal", "DROP DATABASE IF EXISTS temporal_visibility",
		"DROP ROLE IF EXISTS app", "DROP ROLE IF EXISTS temporal")
}

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

// steps looks once.
func (b *bench) steps(p *Roles, r reconcile.Request) (reconcile.Observed, []reconcile.Step) {
	b.Helper()
	p.schedule.forget(rolesID)
	o, err := p.Observe(b.Context(), r)
	if err != nil {
		b.Fatal(err)
	}
	steps, err := p.Plan(b.Context(), r, o)
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range steps {
		silent(b.T, b.variables, fmt.Sprintf("%v %+v", s, s.Changes))
	}
	return o, steps
}

func (b *bench) converge(p *Roles, r reconcile.Request) {
	b.Helper()
	for range 5 {
		_, steps := b.steps(p, r)
		if len(steps) == 0 {
			return
		}
		for _, s := range steps {
			if _, err := p.Apply(b.Context(), r, s); err != nil {
				b.Fatalf("%s: %v", s, err)
			}
		}
	}
	b.Fatal("it does not end")
}

// works makes a table as a role, in a database.
func (b *bench) works(user, password, database string) {
	b.Helper()
	l, t := newPostgresLogin(subject{service: servicePostgres, field: "test", limit: 5 * time.Second},
		secret.New([]byte(b.url(user, password, database))), "test", verifyFull, secret.New([]byte(b.variables["CA"])))
	if t != nil {
		b.Fatal(t)
	}
	conn, t := l.connect(b.Context(), func(time.Time) {})
	if t != nil {
		b.Fatalf("login: %v", t)
	}
	defer closeNow(conn)
	err := conn.Exec(b.Context(), "CREATE TABLE IF NOT EXISTS made_by_app (id int); INSERT INTO made_by_app VALUES (1); CREATE SCHEMA IF NOT EXISTS app_own").Close()
	if err != nil {
		b.Errorf("as %s in %s: %v", user, database, err)
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

// A verifier made here is one that PostgreSQL takes: logins with it work, in
// TestRolesLetTheAppWork. It is another one each time.
func TestVerifier(t *testing.T) {
	one, err := verifier(secret.New([]byte(password)))
	if err != nil {
		t.Fatal(err)
	}
	two, err := verifier(secret.New([]byte(password)))
	if err != nil || one == two || strings.Contains(one, password) {
		t.Errorf("%s %s %v", one, two, err)
	}
	if _, err := verifier(secret.New([]byte("p\u00e4ss"))); !errors.Is(err, errUnprepared) {
		t.Error(err)
	}
}
