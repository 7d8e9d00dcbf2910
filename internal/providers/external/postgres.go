package external

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"forged.dev/forged/internal/secret"
)

// noticeReadOnly is about a server that takes no writes; the only notice of a
// check.
const noticeReadOnly = "read-only"

// postgresLogin is a login to a PostgreSQL.
type postgresLogin struct {
	subject
	address
	sslMode string
	bundle  secret.Value
	dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil: the usual way
}

// newPostgresLogin reads a URL. Its error is a [*trouble].
func newPostgresLogin(s subject, url secret.Value, source, sslMode string, bundle secret.Value) (postgresLogin, *trouble) {
	l := postgresLogin{subject: s, sslMode: sslMode, bundle: bundle}
	a, err := parseAddress(url, postgresSchemes())
	switch {
	case err != nil:
	case a.user == "":
		err = errors.New("is a URL without a user")
	case a.path == "":
		err = errors.New("is a URL without a database: it stands behind the last slash")
	case strings.Contains(a.path, "/"):
		err = errUnescaped
	}
	if err != nil {
		return l, s.trouble(codeURL, "want postgresql://USER:PASSWORD@HOST:PORT/DATABASE", "%s %s", source, err)
	}
	l.address, l.subject.server, l.subject.host, l.subject.bundle = a, a.server(), a.host, !bundle.IsZero()
	return l, nil
}

// everything of the environment that the library would read otherwise. Which
// database is asked is said by forge.cue alone.
const nothingFromOutside = "host=localhost port=1 user=forged password=forged database=forged passfile='' " +
	"sslmode=disable sslkey='' sslcert='' sslcertmode=disable sslrootcert='' sslpassword='' sslnegotiation='' sslsni=0 " +
	"target_session_attrs=any connect_timeout=0 channel_binding=prefer require_auth='' min_protocol_version=3.0 max_protocol_version=3.0"

// config is the login as the library wants it.
func (l postgresLogin) config(expires func(time.Time)) (*pgconn.Config, *trouble) {
	cfg, err := pgconn.ParseConfig(nothingFromOutside)
	if err != nil { // only a service of PGSERVICE is left
		return nil, l.trouble(codeURL, "start forged without it", "the variable PGSERVICE is set, which would lead to another database")
	}
	secure, t := l.secure(l.sslMode, l.bundle, expires)
	if t != nil {
		return nil, t
	}
	port, err := strconv.ParseUint(l.port, 10, 16)
	if err != nil {
		return nil, l.trouble(codeURL, "", "%s has a port that is no number", l.field)
	}
	cfg.Host, cfg.Port, cfg.TLSConfig, cfg.Fallbacks = l.address.host, uint16(port), secure, nil
	cfg.User, cfg.Password, cfg.Database = l.user, string(l.password.Reveal()), l.path
	// Names are sent as they are; a role or server may be set to read them in
	// another encoding.
	cfg.RuntimeParams = map[string]string{"application_name": "forged", "client_encoding": "UTF8"}
	// Names are looked up by the dialer, which says what was wrong with them.
	cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	if cfg.DialFunc = l.dial; l.dial == nil {
		cfg.DialFunc = (&net.Dialer{}).DialContext
	}
	return cfg, nil
}

// connect logs in. Whoever gets the connection closes it.
func (l postgresLogin) connect(ctx context.Context, expires func(time.Time)) (*pgconn.PgConn, *trouble) {
	cfg, t := l.config(expires)
	if t != nil {
		return nil, t
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, l.explain(err)
	}
	return conn, nil
}

// explain tells what is wrong; it always finds something to say.
func (l postgresLogin) explain(err error) *trouble {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return l.refusal(server)
	}
	if strings.Contains(err.Error(), "server refused TLS connection") {
		return l.noTLS()
	}
	if t := l.network(err); t != nil {
		return t
	}
	return l.trouble(codeProtocol, "is it PostgreSQL that listens there?", "%s does not answer as PostgreSQL does", l.subject.server)
}

// refusal is what a server says, by its SQLSTATE: texts are translated.
func (l postgresLogin) refusal(e *pgconn.PgError) *trouble {
	said := ": " + printable(redact(e.Message, l.password))
	switch {
	case e.Code == "28P01":
		hint := "is the password in " + l.field + " that of the role?"
		if l.roles != "" {
			hint += " " + l.roles + " sets it"
		} else if l.field == fieldPostgresURL {
			hint += " manageRoles: true lets forged set it"
		}
		return l.trouble(codeLogin, hint, "%s refuses the password of role %s", l.subject.server, l.user)
	case strings.HasPrefix(e.Code, "28"):
		return l.trouble(codeLogin, "its pg_hba.conf says who may come from where, and whether the role may log in",
			"%s does not let role %s into database %s%s", l.subject.server, l.user, l.path, said)
	case e.Code == "3D000":
		hint := "make it"
		if l.roles != "" {
			hint = l.roles + " makes it"
		} else if l.field == fieldPostgresURL {
			hint += ", or let forged do so with manageRoles: true"
		}
		return l.trouble(codeDatabase, hint, "there is no database %s at %s", l.path, l.subject.server)
	case e.Code == "42501":
		return l.trouble(codePermission, fmt.Sprintf("as its owner: GRANT CONNECT ON DATABASE %s TO %s", l.path, l.user),
			"role %s may not use database %s at %s%s", l.user, l.path, l.subject.server, said)
	case e.Code == "53300", e.Code == "53400":
		return l.trouble(codeBusy, "raise max_connections or the limit of the role, or put a pooler in between",
			"%s has no connection left for role %s%s", l.subject.server, l.user, said)
	case e.Code == "57P03", e.Code == "57P01", e.Code == "57P02":
		return l.trouble(codeBusy, "forged asks again", "%s takes no logins now%s", l.subject.server, said)
	}
	return l.trouble(codeProtocol, "", "%s answers with error %s%s", l.subject.server, printable(e.Code), said)
}

// check logs in and asks one question.
func (l postgresLogin) check(ctx context.Context) (a answer) {
	var ends expiry
	defer func() { a.expires = ends.get() }()
	conn, t := l.connect(ctx, ends.note)
	if t != nil {
		a.trouble = t
		return a
	}
	defer closeNow(conn)
	results, err := conn.Exec(ctx, "SELECT pg_catalog.pg_is_in_recovery()").ReadAll()
	switch {
	case err != nil:
		a.trouble = l.explain(err)
	case len(results) == 1 && len(results[0].Rows) == 1 && string(results[0].Rows[0][0]) == "t":
		a.notices = append(a.notices, notice(noticeReadOnly, l.subject.server,
			"it is a replica and takes no writes; name the primary in "+l.field+" if the app writes"))
	}
	return a
}

// closeNow says goodbye for a moment at most.
func closeNow(conn interface{ Close(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
