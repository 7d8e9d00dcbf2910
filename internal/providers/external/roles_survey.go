package external

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// survey is what a PostgreSQL says of the roles that are asked for.
type survey struct {
	answer
	admin     roleFacts
	roles     map[string]roleFacts
	databases map[place]databaseFacts
}

// place is a database, as one role sees it.
type place struct{ role, database string }

// roleFacts are what is known of one role.
type roleFacts struct {
	exists   bool
	login    bool // it may log in
	expired  bool // its password is not valid any more
	mighty   bool // superuser, may make roles, replicate, or sees all rows: no app's
	makes    bool // may make roles
	comment  string
	password passwordFact
	refusal  string // why the password could not be tried
}

// passwordFact is what came of trying a password.
type passwordFact int

const (
	passwordUnknown passwordFact = iota
	passwordRight
	passwordWrong
)

// databaseFacts are what a role may do in a database.
type databaseFacts struct {
	exists bool
	use    bool // connect, make schemas, make temporary tables
	schema bool // public is there
	tables bool // it may make tables in public, if that is there
}

func (f databaseFacts) right() bool { return f.exists && f.use && (f.tables || !f.schema) }

func (f roleFacts) right() bool {
	return f.exists && f.login && !f.expired && f.password != passwordWrong
}

// served tells whether a role has its databases.
func (s survey) served(role wantedRole) bool {
	return !slices.ContainsFunc(role.databases, func(database string) bool { return !s.databases[place{role.name, database}].right() })
}

// right tells whether everything about a role is as asked for.
func (s survey) right(role wantedRole) bool {
	return s.served(role) && s.roles[role.name].right() && s.roles[role.name].password == passwordRight
}

// tokenOf fences a step: it is all that was found of a role, or whether the
// database is there. More rights than there were do not matter.
func tokenOf(found any) string {
	switch f := found.(type) {
	case roleFacts:
		f.refusal = ""
		found = f
	case databaseFacts:
		found = f.exists
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", found))
	return hex.EncodeToString(sum[:8])
}

// survey looks at all that is asked for. It changes nothing.
func (w *wanted) survey(ctx context.Context) (s survey) {
	s.roles, s.databases = map[string]roleFacts{}, map[place]databaseFacts{}
	var ends expiry
	defer func() { s.expires = ends.get() }()
	conn, t := w.admin.connect(ctx, ends.note)
	if t != nil {
		s.trouble = t
		return s
	}
	defer closeNow(conn)
	a := asking{ctx: ctx, login: w.admin, conn: conn}
	s.admin = a.role(w.admin.user)
	for _, role := range w.roles {
		f := a.role(role.name)
		if f.exists && f.login && a.trouble == nil {
			f.password, f.refusal = w.try(ctx, role)
			if f.refusal != "" {
				s.notices = append(s.notices, notice("login", "role "+role.name, "its password cannot be tried: "+f.refusal))
			}
		}
		s.roles[role.name] = f
		for _, database := range role.databases {
			s.databases[place{role.name, database}] = a.database(role.name, f.exists, database)
		}
	}
	s.trouble = a.trouble
	return s
}

// asking asks questions until one goes wrong.
type asking struct {
	ctx     context.Context
	login   postgresLogin
	conn    *pgconn.PgConn
	trouble *trouble
}

// row asks for one row of texts; nil: there is none.
func (a *asking) row(sql string, args ...string) []string {
	if a.trouble != nil {
		return nil
	}
	params := make([][]byte, len(args))
	for i, arg := range args {
		params[i] = []byte(arg)
	}
	result := a.conn.ExecParams(a.ctx, sql, params, nil, nil, nil).Read()
	if result.Err != nil {
		a.trouble = a.login.explain(result.Err)
		return nil
	}
	if len(result.Rows) == 0 {
		return nil
	}
	texts := make([]string, len(result.Rows[0]))
	for i, field := range result.Rows[0] {
		texts[i] = string(field)
	}
	return texts
}

// Everything in these questions has the name of its schema: they are asked in
// databases in which the app may make functions and operators of its own.

func (a *asking) role(name string) roleFacts {
	row := a.row(`SELECT rolcanlogin, coalesce(rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now(), false),
		rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls OR pg_catalog.starts_with(rolname::pg_catalog.text, 'pg_'::pg_catalog.text),
		rolsuper OR rolcreaterole, coalesce(pg_catalog.shobj_description(oid, 'pg_authid'::pg_catalog.name), '')
		FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name`, name)
	if row == nil {
		return roleFacts{}
	}
	return roleFacts{exists: true, login: row[0] == "t", expired: row[1] == "t", mighty: row[2] == "t", makes: row[3] == "t", comment: row[4]}
}

// there tells whether there is a database.
func (a *asking) there(name string) bool {
	return a.row(`SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) $1::pg_catalog.name`, name) != nil
}

// database asks what a role may do in a database. Rights that it has through
// others, or that everybody has, are as good as its own.
func (a *asking) database(role string, known bool, name string) databaseFacts {
	if !a.there(name) {
		return databaseFacts{}
	}
	f := databaseFacts{exists: true}
	if !known {
		return f
	}
	const has = `pg_catalog.has_database_privilege($1::pg_catalog.name, $2::pg_catalog.text, `
	row := a.row(`SELECT `+has+`'CONNECT'::pg_catalog.text) AND `+has+`'CREATE'::pg_catalog.text) AND `+has+`'TEMPORARY'::pg_catalog.text)`, role, name)
	f.use = row != nil && row[0] == "t"
	if a.trouble != nil {
		return f
	}
	inside := a.login
	inside.path = name
	conn, t := inside.connect(a.ctx, func(time.Time) {})
	if t != nil {
		a.trouble = t
		return f
	}
	defer closeNow(conn)
	b := asking{ctx: a.ctx, login: inside, conn: conn}
	const may = `pg_catalog.has_schema_privilege($1::pg_catalog.name, oid, `
	row = b.row(`SELECT `+may+`'USAGE'::pg_catalog.text) AND `+may+`'CREATE'::pg_catalog.text)
		FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) 'public'::pg_catalog.name`, role)
	f.schema = row != nil
	f.tables = row != nil && row[0] == "t"
	a.trouble = b.trouble
	return f
}

// try logs in as a role, where its password is kept: a pooler in front of it
// may know another one. A refusal that comes after the password is none of it.
func (w *wanted) try(ctx context.Context, role wantedRole) (passwordFact, string) {
	login := w.admin
	login.user, login.password = role.name, role.password
	login.path = w.admin.path
	if len(role.databases) > 0 {
		login.path = role.databases[0]
	}
	cfg, t := login.config(func(time.Time) {})
	if t != nil {
		return passwordUnknown, t.text
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err == nil {
		closeNow(conn)
		return passwordRight, ""
	}
	var said *pgconn.PgError
	switch {
	case !errors.As(err, &said):
		return passwordUnknown, login.explain(err).text
	case said.Code == "28P01":
		return passwordWrong, ""
	case strings.HasPrefix(said.Code, "28"):
		return passwordUnknown, login.refusal(said).text
	}
	return passwordRight, "" // no such database, no right to connect, no connection left
}
