package external

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/servicetest"
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
