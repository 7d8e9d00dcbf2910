package external

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/scram"
)

// carryOut does what a step is about, if everything is still as it was planned
// on. It can be cut anywhere and run again.
func (c *change) carryOut(ctx context.Context, step reconcile.Step) error {
	conn, t := c.wanted.admin.connect(ctx, func(time.Time) {})
	if t != nil {
		return t.failure(c.wanted.id, string(step.Action))
	}
	defer closeNow(conn)
	a := &asking{ctx: ctx, login: c.wanted.admin, conn: conn}
	if c.database != "" {
		return c.rights(a, step)
	}
	now := a.role(c.role.name)
	if a.trouble == nil && now.exists && now.login {
		now.password, now.refusal = c.wanted.try(ctx, c.role)
	}
	switch {
	case a.trouble != nil:
		return a.trouble.failure(c.wanted.id, string(step.Action))
	case tokenOf(now) != step.Token:
		return stale(step)
	}
	return c.putRole(a)
}

// putRole makes or changes the role, and notes whose it is, at once.
func (c *change) putRole(a *asking) error {
	sql, args := `ALTER ROLE %1$I LOGIN; COMMENT ON ROLE %1$I IS %2$L`, []string{c.role.name, c.wanted.comment(c.role, c.done)}
	if c.facts.expired {
		sql = `ALTER ROLE %1$I VALID UNTIL 'infinity'; ` + sql
	}
	if c.password {
		v, err := scram.Verifier(c.role.password)
		if err != nil {
			return &reconcile.Error{Kind: reconcile.Invalid, Err: fmt.Errorf("the password of %s %w", c.role.source, err)}
		}
		sql, args = `ALTER ROLE %1$I PASSWORD %3$L; `+sql, append(args, v)
	}
	if c.create {
		sql = `CREATE ROLE %1$I; ` + sql
	}
	return a.run(sql, args...)
}

// rights makes the database if it is missing, and lets the role use it. Nobody
// loses a right by it.
func (c *change) rights(a *asking, step reconcile.Step) error {
	there := a.there(c.database)
	switch {
	case a.trouble != nil:
		return a.trouble.failure(c.wanted.id, string(step.Action))
	case there == c.create:
		return stale(step)
	}
	if c.create {
		if err := a.run(`CREATE DATABASE %1$I`, c.database); err != nil {
			return err
		}
	}
	if err := a.run(`GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %1$I TO %2$I`, c.database, c.role.name); err != nil {
		return err
	}
	return c.tables(a, step)
}

// finish notes that a role of ours has all that is asked for, if it has, and
// tells whether there was anything to note.
func (c *change) finish(ctx context.Context, s survey) (bool, error) {
	m := markOf(s.roles[c.role.name].comment)
	if m.owner != c.wanted.mark || m.digest == c.role.digest || !s.right(c.role) {
		return false, nil
	}
	conn, t := c.wanted.admin.connect(ctx, func(time.Time) {})
	if t != nil {
		return true, t.failure(c.wanted.id, "finish")
	}
	defer closeNow(conn)
	a := &asking{ctx: ctx, login: c.wanted.admin, conn: conn}
	return true, a.run(`COMMENT ON ROLE %1$I IS %2$L`, c.role.name, c.wanted.comment(c.role, true))
}

// tables lets the role make tables in the schema that every client uses.
func (c *change) tables(a *asking, step reconcile.Step) error {
	inside := a.login
	inside.path = c.database
	conn, t := inside.connect(a.ctx, func(time.Time) {})
	if t != nil {
		return t.failure(c.wanted.id, string(step.Action))
	}
	defer closeNow(conn)
	b := &asking{ctx: a.ctx, login: inside, conn: conn}
	if b.row(`SELECT oid FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) 'public'::pg_catalog.name`) == nil {
		if b.trouble != nil {
			return b.trouble.failure(c.wanted.id, string(step.Action))
		}
		return nil // the app makes schemas of its own
	}
	return b.run(`GRANT USAGE, CREATE ON SCHEMA public TO %1$I`, c.role.name)
}

// run carries out statements that have names and texts in them. The server
// itself quotes these. The app may make functions in its database: without the
// name of the schema, one of its own could be called with the rights of the admin.
func (a *asking) run(template string, args ...string) error {
	params, places := []string{template}, ""
	for i, arg := range args {
		places += fmt.Sprintf(", $%d::pg_catalog.text", i+2)
		params = append(params, arg)
	}
	row := a.row(`SELECT pg_catalog.format($1::pg_catalog.text`+places+`)`, params...)
	if a.trouble != nil {
		return a.trouble.failure(reconcile.Error{}.ID, "quote")
	}
	err := a.conn.Exec(a.ctx, row[0]).Close()
	if err == nil {
		return nil
	}
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return a.login.explain(err).failure(reconcile.Error{}.ID, "")
	}
	// What it says may repeat a statement, which holds a verifier.
	e := &reconcile.Error{Kind: reconcile.Internal, Err: fmt.Errorf("%s answers: %s (SQLSTATE %s)", a.login.subject.server, printable(redact(said.Message, a.login.password)), said.Code)}
	switch said.Code {
	case "42710", "42P04", "42704", "3D000", "23505", "XX000": // made or gone meanwhile, or changed at the same moment
		e.Kind = reconcile.Stale
	case "42501":
		e.Kind, e.Hint = reconcile.Denied, fmt.Sprintf("role %s of %s has to be allowed to", a.login.user, fieldPostgresAdmin)
	case "55006", "53300", "57P01", "57P03", "40001", "40P01":
		e.Kind = reconcile.Unavailable
	case "25006":
		e.Kind, e.Hint = reconcile.Denied, "it is a replica; name the primary in "+fieldPostgresAdmin
	}
	return e
}

func stale(step reconcile.Step) error {
	return &reconcile.Error{Kind: reconcile.Stale, Op: string(step.Action), Err: errors.New("it has changed since it was planned")}
}
