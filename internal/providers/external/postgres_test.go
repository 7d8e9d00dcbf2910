package external

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/servicetest"
)

const (
	password = "S3cret/with?every#thing@in%it'\""
	escaped  = "S3cret%2Fwith%3Fevery%23thing%40in%25it%27%22"
)

func postgresSpec(change func(*forge.CheckSpec)) forge.CheckSpec {
	spec := forge.CheckSpec{Service: servicePostgres, URL: env("SECRET_URL"), SSLMode: verifyFull, CABundle: env("CA")}
	if change != nil {
		change(&spec)
	}
	return spec
}

// Each thing that can be wrong with a PostgreSQL is told apart, with what to do
// about it.
func TestPostgres(t *testing.T) {
	authority, stranger := servicetest.NewAuthority(t, "our authority"), servicetest.NewAuthority(t, "a stranger")
	cert, key := authority.Sign(t, servicetest.Certificate{Hosts: []string{"localhost"}})
	server := servicetest.StartPostgres(t, servicetest.PostgresOptions{
		Cert: cert, Key: key, Access: []string{
			"hostssl all refused all reject", "hostssl all all all scram-sha-256",
		},
	})
	server.SQL(t, "CREATE DATABASE shop", "CREATE DATABASE private", "REVOKE CONNECT ON DATABASE private FROM public",
		"CREATE ROLE app LOGIN PASSWORD '"+strings.ReplaceAll(password, "'", "''")+"'",
		"CREATE ROLE refused LOGIN PASSWORD 'x'", "CREATE ROLE nologin PASSWORD 'x'",
		"CREATE ROLE narrow LOGIN CONNECTION LIMIT 0 PASSWORD 'x'",
		"CREATE ROLE expired LOGIN PASSWORD 'x' VALID UNTIL '2020-01-01'")
	plain := servicetest.StartPostgres(t, servicetest.PostgresOptions{})
	badCert, badKey := authority.Sign(t, servicetest.Certificate{Hosts: []string{"localhost"}, Until: -time.Minute})
	expired := servicetest.StartPostgres(t, servicetest.PostgresOptions{Cert: badCert, Key: badKey})
	silentPort, talkingPort := blackHole(t), talker(t, "HTTP/1.1 400 Bad Request\r\n\r\n")

	at := func(port int, rest string) string { return fmt.Sprintf("localhost:%d%s", port, rest) }
	for _, tt := range []struct {
		name   string
		url    string
		change func(*forge.CheckSpec)
		want   string // pattern of the message: parts in this order; empty: all is well
	}{
		{"fine", "postgresql://app:" + escaped + "@" + at(server.Port, "/shop"), nil, ""},
		{"the other scheme", "postgres://app:" + escaped + "@" + at(server.Port, "/shop"), nil, ""},
		{
			"an address, by authority only", "postgres://app:" + escaped + "@127.0.0.1:" + fmt.Sprint(server.Port) + "/shop",
			func(s *forge.CheckSpec) { s.SSLMode = verifyCA }, "",
		},
		{
			"not checked", "postgres://app:" + escaped + "@" + at(server.Port, "/shop"),
			func(s *forge.CheckSpec) { s.SSLMode, s.CABundle = require, forge.SecretRef{} }, "",
		},
		{
			"the wrong password", "postgres://app:wrong@" + at(server.Port, "/shop"), nil,
			"refuses the password of role app|is the password in services.postgres.url that of the role|manageRoles",
		},
		{"an unknown role", "postgres://nobody:wrong@" + at(server.Port, "/shop"), nil, "refuses the password of role nobody"},
		{"a password that has expired", "postgres://expired:x@" + at(server.Port, "/shop"), nil, "refuses the password of role expired"},
		{"a role that may not log in", "postgres://nologin:x@" + at(server.Port, "/shop"), nil, "does not let role nologin into database shop: |not permitted to log in"},
		{"pg_hba.conf", "postgres://refused:x@" + at(server.Port, "/shop"), nil, "does not let role refused into database shop: |pg_hba.conf"},
		{"no database", "postgres://app:" + escaped + "@" + at(server.Port, "/nothing"), nil, "there is no database nothing|make it"},
		{"no permission", "postgres://app:" + escaped + "@" + at(server.Port, "/private"), nil, "role app may not use database private|GRANT CONNECT ON DATABASE private TO app"},
		{"full", "postgres://narrow:x@" + at(server.Port, "/shop"), nil, "has no connection left for role narrow"},
		{
			"an authority that is not trusted", "postgres://app:" + escaped + "@" + at(server.Port, "/shop"),
			func(s *forge.CheckSpec) { s.CABundle = forge.SecretRef{} }, "signed by nobody who is trusted: our authority|put the certificate of the authority that signed it into services.postgres.caBundle",
		},
		{
			"the wrong authority", "postgres://app:" + escaped + "@" + at(server.Port, "/shop"),
			func(s *forge.CheckSpec) { s.CABundle = env("STRANGER") }, "signed by nobody who is trusted|services.postgres.caBundle does not hold",
		},
		{
			"the wrong authority, without the name", "postgres://app:" + escaped + "@" + at(server.Port, "/shop"),
			func(s *forge.CheckSpec) { s.CABundle, s.SSLMode = env("STRANGER"), verifyCA }, "signed by nobody who is trusted",
		},
		{
			"require checks against a bundle, as clients do", "postgres://app:" + escaped + "@" + at(server.Port, "/shop"),
			func(s *forge.CheckSpec) { s.CABundle, s.SSLMode = env("STRANGER"), require }, "signed by nobody who is trusted",
		},
		{
			"another name", "postgres://app:" + escaped + "@127.0.0.1:" + fmt.Sprint(server.Port) + "/shop", nil,
			`the certificate of 127.0.0.1:|is for localhost|sslMode: "verify-ca"`,
		},
		{"an expired certificate", "postgres://app:x@" + at(expired.Port, "/shop"), nil, "has expired on |renew it"},
		{"no TLS", "postgres://app:x@" + at(plain.Port, "/shop"), func(s *forge.CheckSpec) { s.SSLMode = require }, "does not offer TLS|turn ssl on"},
		{
			"a bundle of nothing", "postgres://app:x@" + at(plain.Port, "/shop"), func(s *forge.CheckSpec) { s.CABundle = env("NONSENSE") },
			"services.postgres.caBundle holds no certificate",
		},
		{"an unknown name", "postgres://app:x@db.invalid/shop", nil, "the name db.invalid is not known here|check the host in services.postgres.url"},
		{
			"an unknown name that a cluster may know", "postgres://app:x@db.invalid/shop", func(s *forge.CheckSpec) { s.Namespace = "shop" },
			`the name db.invalid is not known here|check: "cluster"`,
		},
		{"nobody there", "postgres://app:x@" + at(servicetest.FreePort(t), "/shop"), nil, "refuses connections|is the server running"},
		{"no answer", "postgres://app:x@" + at(silentPort, "/shop"), nil, "does not answer within 3s|firewall"},
		{"something else", "postgres://app:x@" + at(talkingPort, "/shop"), nil, "does not offer TLS|if it is PostgreSQL that listens there"},
		{"no database named", "postgres://app:x@" + at(server.Port, ""), nil, "services.postgres.url is a URL without a database"},
		{"no URL", "db.example.com", nil, "services.postgres.url is not a URL that begins with postgresql://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := ask(t, variables{
				"SECRET_URL": tt.url, "SECRET": password, "SECRET_ESCAPED": escaped,
				"CA": authority.PEM, "STRANGER": stranger.PEM, "NONSENSE": "nothing",
			}, postgresSpec(tt.change))
			expect(t, o, tt.want)
		})
	}
	o := ask(t, variables{"SECRET_URL": "postgres://app:" + escaped + "@" + at(server.Port, "/shop"), "CA": authority.PEM}, postgresSpec(nil))
	if d := time.Until(o.Expires); d < 50*time.Minute || d > 70*time.Minute {
		t.Errorf("the certificate of the server ends in %s", d)
	}
}

// What a shell has in its environment must not lead to another database.
func TestPostgresReadsNothingOfTheEnvironment(t *testing.T) {
	authority := servicetest.NewAuthority(t, "our authority")
	cert, key := authority.Sign(t, servicetest.Certificate{Hosts: []string{"localhost"}})
	server := servicetest.StartPostgres(t, servicetest.PostgresOptions{Cert: cert, Key: key})
	server.SQL(t, "CREATE DATABASE shop", "CREATE ROLE app LOGIN PASSWORD 'x'")
	for name, value := range map[string]string{
		"PGHOST": "db.invalid", "PGPORT": "no port", "PGDATABASE": "other", "PGUSER": "other", "PGPASSWORD": "other",
		"PGPASSFILE": "/nothing", "PGSSLMODE": "nonsense", "PGSSLCERT": "/nothing", "PGSSLKEY": "/nothing", "PGSSLROOTCERT": "/nothing",
		"PGSSLCERTMODE": "nonsense", "PGSSLNEGOTIATION": "direct", "PGOPTIONS": "-c nonsense=1", "PGCONNECT_TIMEOUT": "nonsense",
		"PGTARGETSESSIONATTRS": "standby", "PGTZ": "nonsense", "PGREQUIREAUTH": "none", "PGCHANNELBINDING": "nonsense",
		"PGMINPROTOCOLVERSION": "nonsense", "PGMAXPROTOCOLVERSION": "nonsense", "PGAPPNAME": "other",
	} {
		t.Setenv(name, value)
	}
	v := variables{"SECRET_URL": fmt.Sprintf("postgres://app:x@localhost:%d/shop", server.Port), "CA": authority.PEM}
	expect(t, ask(t, v, postgresSpec(nil)), "")
	t.Setenv("PGSERVICE", "other")
	expect(t, ask(t, v, postgresSpec(nil)), "PGSERVICE is set")
}

// A replica lets everybody in, and then refuses to write.
func TestReplicaIsTold(t *testing.T) {
	server := servicetest.StartReplica(t)
	server.SQL(t, "SELECT 1")
	v := variables{"SECRET_URL": fmt.Sprintf("postgres://postgres:x@localhost:%d/postgres", server.Port)}
	o := ask(t, v, postgresSpec(func(s *forge.CheckSpec) { s.SSLMode, s.CABundle = require, forge.SecretRef{} }))
	expect(t, o, "")
	if len(o.Notices) != 1 || o.Notices[0].Code != "read-only" {
		t.Errorf("notices: %+v", o.Notices)
	}
}

// expect wants a message with parts in an order; no parts: all is well.
func expect(t *testing.T, o reconcile.Observed, parts string) {
	t.Helper()
	if parts == "" {
		if o.Health.Status != reconcile.Ready {
			t.Errorf("%s: %s", o.Health.Status, o.Health.Message)
		}
		return
	}
	rest := o.Health.Message
	for _, part := range strings.Split(parts, "|") {
		_, after, ok := strings.Cut(rest, part)
		if !ok || o.Health.Status != reconcile.Failed {
			t.Errorf("%s: %s\nwant %s", o.Health.Status, o.Health.Message, parts)
			return
		}
		rest = after
	}
}

// blackHole is a port where somebody listens and never says anything.
func blackHole(t *testing.T) int { return talker(t, "") }

// talker is a port where everybody is told the same, whatever they say.
func talker(t *testing.T, text string) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var conns []net.Conn
		for {
			conn, err := l.Accept()
			if err != nil {
				break
			}
			conns = append(conns, conn)
			_, _ = conn.Write([]byte(text))
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return l.Addr().(*net.TCPAddr).Port
}
