package servicetest

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Postgres is a running PostgreSQL. Its superuser is postgres.
type Postgres struct {
	Server
	owner *syscall.Credential
	bin   string
}

// PostgresOptions say how it runs.
type PostgresOptions struct {
	Cert, Key string   // PEM; empty: it does not offer TLS
	Access    []string // lines of pg_hba.conf; none: everybody by password, encrypted where it offers that
	Settings  []string // lines of postgresql.conf

	replica bool
}

// StartPostgres starts one that ends with the test.
func StartPostgres(t testing.TB, o PostgresOptions) *Postgres {
	t.Helper()
	p := &Postgres{owner: notRoot(t), bin: postgresPrograms(t)}
	p.dir, p.Port = ownDir(t, p.owner), FreePort(t)
	data := filepath.Join(p.dir, "data")
	run(t, p.owner, p.dir, filepath.Join(p.bin, "initdb"), "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8", "--no-instructions")
	kind := "host"
	settings := append([]string{
		fmt.Sprintf("port = %d", p.Port), "listen_addresses = '127.0.0.1'", "unix_socket_directories = '" + p.dir + "'",
		"fsync = off", "shared_buffers = 16MB", "log_statement = 'all'", "log_connections = on",
	}, o.Settings...)
	if o.Cert != "" {
		kind = "hostssl"
		cert, key := put(t, p.dir, "server.crt", o.Cert, p.owner), put(t, p.dir, "server.key", o.Key, p.owner)
		settings = append(settings, "ssl = on", "ssl_cert_file = '"+cert+"'", "ssl_key_file = '"+key+"'")
	}
	if len(o.Access) == 0 {
		o.Access = []string{kind + " all all 127.0.0.1/32 scram-sha-256"}
	}
	put(t, data, "pg_hba.conf", "local all all trust\n"+strings.Join(o.Access, "\n")+"\n", p.owner)
	put(t, data, "postgresql.auto.conf", strings.Join(settings, "\n")+"\n", p.owner)
	if o.replica {
		put(t, data, "standby.signal", "", p.owner)
	}
	p.serve(t, func() error { return ready(p) }, p.owner, filepath.Join(p.bin, "postgres"), "-D", data)
	return p
}

// SQL runs statements as the superuser, each by itself, and returns what the
// last one says, without decoration.
func (p *Postgres) SQL(t testing.TB, statements ...string) string {
	t.Helper()
	return p.In(t, "postgres", statements...)
}

// In is SQL in another database.
func (p *Postgres) In(t testing.TB, database string, statements ...string) string {
	t.Helper()
	args := []string{"-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", p.dir, "-p", fmt.Sprint(p.Port), "-U", "postgres", "-d", database}
	for _, s := range statements {
		args = append(args, "-c", s)
	}
	out := strings.TrimSpace(run(t, p.owner, p.dir, filepath.Join(p.bin, "psql"), args...))
	if len(statements) > 1 {
		out = out[strings.LastIndexByte(out, '\n')+1:]
	}
	return out
}

func ready(p *Postgres) error {
	if err := listens(p.Port)(); err != nil {
		return err
	}
	if !strings.Contains(p.Log(), "ready to accept") {
		return fmt.Errorf("it does not say that it is ready")
	}
	return nil
}

// postgresPrograms is where the newest PostgreSQL of the machine has its
// programs.
func postgresPrograms(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		t.Fatal("there is no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
	}
	slices.SortFunc(found, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return found[len(found)-1]
}

// StartReplica starts a server that waits for a primary: it can be read only.
func StartReplica(t testing.TB) *Postgres {
	t.Helper()
	cert, key := NewAuthority(t, "of a replica").Sign(t, Certificate{Hosts: []string{"localhost"}})
	return StartPostgres(t, PostgresOptions{Cert: cert, Key: key, Access: []string{"hostssl all all all trust"}, replica: true})
}
