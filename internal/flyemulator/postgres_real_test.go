package flyemulator

import (
	"cmp"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"forged.dev/forged/internal/servicetest"
)

// realPostgres is a server in a process of its own.
type realPostgres struct{ *servicetest.Postgres }

func (r realPostgres) Endpoints(string) (direct, pooler PostgresEndpoint) {
	e := PostgresEndpoint{"127.0.0.1", r.Port}
	return e, e
}

func (r realPostgres) Exec(ctx context.Context, _, database string, statements ...string) error {
	c, err := pgconn.Connect(ctx, fmt.Sprintf("postgres://postgres:super@127.0.0.1:%d/%s", r.Port, cmp.Or(database, "postgres")))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, s := range statements {
		if _, err := c.Exec(ctx, s).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

// TestPostgresIsReal: what the API gives out opens a real server.
func TestPostgresIsReal(t *testing.T) {
	server := realPostgres{servicetest.StartPostgres(t, servicetest.PostgresOptions{})}
	server.SQL(t, `ALTER ROLE postgres PASSWORD 'super'`)
	e := New(Options{Postgres: server})
	defer e.Close()
	w := newWorld(t, e)
	one := postgresPath + "/" + w.want(201, "POST", postgresPath, aCluster).at("data.id").(string)
	e.Advance(time.Minute)
	w.want(201, "POST", one+"/users", `{"username":"web-1","role":"schema_admin"}`)
	w.want(201, "POST", one+"/users", `{"username":"auditor","role":"reader"}`)
	w.want(201, "POST", one+"/databases", `{"name":"shop-1"}`)
	w.want(204, "POST", one+"/databases/shop-1/extensions", `{"name":"citext","schema":"ext","create_schema":true}`)

	connect := func(user, password, database string) (*pgconn.PgConn, error) {
		v := w.want(200, "GET", one, "")
		host, port := v.at("data.endpoints.primary.direct.host"), v.at("data.endpoints.primary.direct.port")
		return pgconn.Connect(t.Context(), fmt.Sprintf("postgres://%s:%s@%v:%v/%s", user, password, host, port, database))
	}
	password := func(user string) string {
		return w.want(200, "GET", one+"/users/"+user+"/credentials", "").at("data.password").(string)
	}
	run := func(c *pgconn.PgConn, sql string) error {
		_, err := c.Exec(t.Context(), sql).ReadAll()
		return err
	}
	c, err := connect("web-1", password("web-1"), "shop-1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if err := run(c, `CREATE TABLE t (a ext.citext); INSERT INTO t VALUES ('x')`); err != nil {
		t.Fatal(err)
	}
	r, err := connect("auditor", password("auditor"), "shop-1")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	if err := run(r, `SELECT * FROM t`); err != nil {
		t.Errorf("a reader can not read: %v", err)
	}
	if err := run(r, `INSERT INTO t VALUES ('y')`); err == nil {
		t.Error("a reader writes")
	}
	w.want(204, "PATCH", one+"/users/auditor", `{"role":"writer"}`)
	if err := run(r, `INSERT INTO t VALUES ('y')`); err != nil {
		t.Errorf("a writer can not write: %v", err)
	}

	old := password("web-1")
	w.want(200, "POST", one+"/users/web-1/rotate_password", `{"kill_sessions":true}`)
	if err := run(c, `SELECT 1`); err == nil {
		t.Error("the session outlives its password")
	}
	if c, err := connect("web-1", old, "shop-1"); err == nil {
		c.Close(context.Background())
		t.Error("the old password is as good as the new one")
	}
	if c, err = connect("web-1", password("web-1"), "shop-1"); err != nil {
		t.Fatal(err)
	}
	c.Close(context.Background())

	// A copy has what the original has, and takes nothing along when it goes.
	fork := postgresPath + "/" + w.want(201, "POST", one+"/fork", "").at("data.id").(string)
	e.Advance(time.Minute)
	w.says(w.want(200, "GET", fork+"/users/web-1/credentials", ""), "data.password", password("web-1"))
	w.want(202, "DELETE", fork, "")
	if c, err = connect("web-1", password("web-1"), "shop-1"); err != nil {
		t.Fatal(err)
	}
	c.Close(context.Background())

	w.want(204, "DELETE", one+"/databases/shop-1/extensions/citext?force=true", "")
	w.want(204, "DELETE", one+"/users/web-1", "")
	w.want(200, "DELETE", one+"/databases/shop-1", "")
	w.want(202, "DELETE", one, "")
	if left := server.SQL(t, `SELECT count(*) FROM pg_database WHERE datname IN ('shop-1', 'fly-db')`); left != "0" {
		t.Errorf("%s databases are left", left)
	}
	if left := server.SQL(t, `SELECT count(*) FROM pg_roles WHERE rolname IN ('web-1', 'auditor', 'fly-user')`); left != "0" {
		t.Errorf("%s roles are left", left)
	}
}
