package flyemulator

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// PostgresServer is a real PostgreSQL behind the clusters of Managed Postgres,
// so that what they give out can be connected to. It may be another one for
// each cluster; those that share one share their databases and roles by name.
type PostgresServer interface {
	// Endpoints are where the clients of a cluster reach it.
	Endpoints(cluster string) (direct, pooler PostgresEndpoint)
	// Exec runs statements one after the other as a superuser. An empty
	// database is the one that the server is administered from. What PostgreSQL
	// says of an error has to be in the error.
	Exec(ctx context.Context, cluster, database string, statements ...string) error
}

func ident(s string) string   { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
func literal(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }

// exec gives the lock up: a real server takes its time.
func (c *call) exec(cl *postgresCluster, database string, statements ...string) *failure {
	server := c.e.o.Postgres
	if server == nil {
		return nil
	}
	id := cl.ID
	c.e.mu.Unlock()
	err := server.Exec(c.r.Context(), id, database, statements...)
	c.e.mu.Lock()
	if err != nil {
		return refuse(http.StatusInternalServerError, "the PostgreSQL behind the emulator: %v", err)
	}
	return nil
}

// missingRole makes a role that is not there.
func missingRole(name, options string) string {
	return `DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ` + literal(name) + `) THEN CREATE ROLE ` + ident(name) + ` ` + options + `; END IF; END $do$`
}

// found makes what a new cluster has inside.
func (c *call) found(cl *postgresCluster) *failure {
	if c.e.o.Postgres == nil {
		return nil
	}
	if f := c.exec(
		cl, "",
		missingRole("schema_admin", "NOLOGIN"), missingRole("writer", "NOLOGIN"), missingRole("reader", "NOLOGIN"),
		`GRANT pg_read_all_data, pg_write_all_data TO writer`, `GRANT pg_read_all_data TO reader`,
	); f != nil {
		return f
	}
	for _, name := range slices.Sorted(maps.Keys(cl.Users)) {
		if f := c.realUser(cl, name, cl.Users[name]); f != nil {
			return f
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cl.Databases)) {
		if f := c.realDatabase(cl, name); f != nil {
			return f
		}
	}
	return nil
}

// demolish takes away what a cluster had inside.
func (c *call) demolish(cl *postgresCluster) *failure {
	for _, name := range slices.Sorted(maps.Keys(cl.Databases)) {
		if c.e.elsewhere(cl, func(o *postgresCluster) bool { return o.Databases[name] != nil }) {
			continue
		}
		if f := c.dropRealDatabase(cl, name); f != nil {
			return f
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cl.Users)) {
		if c.e.elsewhere(cl, func(o *postgresCluster) bool { return o.Users[name] != nil }) {
			continue
		}
		if f := c.exec(cl, "", `DROP ROLE IF EXISTS `+ident(name)); f != nil {
			return f
		}
	}
	return nil
}

// elsewhere says whether another cluster has something, maybe on the same
// server.
func (e *Emulator) elsewhere(cl *postgresCluster, has func(*postgresCluster) bool) bool {
	for _, other := range e.state.Postgres {
		if other != cl && other.Status != clusterDeleting && other.Status != clusterDeleted && has(other) {
			return true
		}
	}
	return false
}

// newPassword is a new one. On a real server it is that of the user who has
// the name already, in another cluster.
func (e *Emulator) newPassword(user string) string {
	if e.o.Postgres != nil {
		for _, other := range e.clusters() {
			if u := other.Users[user]; u != nil && other.Status != clusterDeleting && other.Status != clusterDeleted {
				return u.Password
			}
		}
	}
	return e.newID("password", 24)
}

// realUser makes the role, or sets its password and what it may do.
func (c *call) realUser(cl *postgresCluster, name string, u *postgresUser) *failure {
	return c.exec(
		cl, "",
		missingRole(name, "LOGIN"),
		`ALTER ROLE `+ident(name)+` LOGIN PASSWORD `+literal(u.Password),
		`REVOKE schema_admin, writer, reader FROM `+ident(name),
		`GRANT `+ident(u.Role)+` TO `+ident(name),
	)
}

func (c *call) dropRealUser(cl *postgresCluster, name string) *failure {
	for _, database := range slices.Sorted(maps.Keys(cl.Databases)) {
		if f := c.exec(cl, database, `REASSIGN OWNED BY `+ident(name)+` TO schema_admin`, `DROP OWNED BY `+ident(name)); f != nil {
			return f
		}
	}
	return c.exec(cl, "", `DROP ROLE `+ident(name))
}

func (c *call) killSessions(cl *postgresCluster, name string) *failure {
	return c.exec(cl, "", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = `+literal(name))
}

func (c *call) realDatabase(cl *postgresCluster, name string) *failure {
	f := c.exec(cl, "", `CREATE DATABASE `+ident(name)+` OWNER schema_admin`)
	if f != nil && strings.Contains(f.text, "already exists") {
		return nil // of another cluster
	}
	return f
}

func (c *call) dropRealDatabase(cl *postgresCluster, name string) *failure {
	return c.exec(cl, "", `DROP DATABASE IF EXISTS `+ident(name)+` WITH (FORCE)`)
}

func (c *call) realExtension(cl *postgresCluster, database, name, schema string, create bool) *failure {
	var statements []string
	if create {
		statements = append(statements, `CREATE SCHEMA IF NOT EXISTS `+ident(schema)+` AUTHORIZATION schema_admin`)
	}
	return c.exec(cl, database, append(statements, `CREATE EXTENSION `+ident(name)+` SCHEMA `+ident(schema))...)
}

func (c *call) dropRealExtension(cl *postgresCluster, database, name string, cascade bool) *failure {
	statement := `DROP EXTENSION IF EXISTS ` + ident(name)
	if cascade {
		statement += ` CASCADE`
	}
	return c.exec(cl, database, statement)
}
