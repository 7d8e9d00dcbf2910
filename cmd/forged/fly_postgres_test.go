package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/servicetest"
)

// flyPostgres is a real PostgreSQL in the machines of an app: all of them are
// one server, which is emptied when a machine starts on an empty disk.
type flyPostgres struct {
	t      *testing.T
	server *servicetest.Postgres

	mu       sync.Mutex
	place    *onFly
	password string // of the superuser
}

func newFlyPostgres(t *testing.T) *flyPostgres {
	t.Helper()
	return &flyPostgres{t: t, server: servicetest.StartPostgres(t, servicetest.PostgresOptions{Settings: []string{
		"full_page_writes = off", "synchronous_commit = off", "autovacuum = off",
	}})}
}

// enter gives the server to another place.
func (g *flyPostgres) enter(p *onFly) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.place, g.password = p, ""
}

// Check implements flyemulator.Guest.
func (g *flyPostgres) Check(_, check string) (string, bool, bool) {
	if check == "role" {
		return "primary", true, true
	}
	return "ok", true, check == "pg" || check == "vm"
}

// Exec implements flyemulator.Guest: it runs the command.
func (g *flyPostgres) Exec(ctx context.Context, app, machine string, command []string, stdin string) (flyemulator.GuestAnswer, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	env := g.place.Env(app, machine)
	if env["SU_PASSWORD"] != g.password {
		g.begin(env["SU_PASSWORD"])
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // what forged asks for
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "SU_PASSWORD=" + g.password, fmt.Sprintf("PG_PORT=%d", g.server.Port)}
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	answer := flyemulator.GuestAnswer{Stdout: stdout.String(), Stderr: stderr.String()}
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		answer.Code = ended.ExitCode()
	} else if err != nil {
		answer.Code = 127
	}
	return answer, true
}

// begin is a start on an empty disk.
func (g *flyPostgres) begin(password string) {
	for _, database := range strings.Fields(g.server.SQL(g.t, `SELECT string_agg(quote_ident(datname), ' ') FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'`)) {
		g.server.SQL(g.t, "DROP DATABASE "+database+" WITH (FORCE)")
	}
	for _, role := range strings.Fields(g.server.SQL(g.t, `SELECT string_agg(quote_ident(rolname), ' ') FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'`)) {
		g.server.SQL(g.t, "DROP ROLE "+role)
	}
	g.server.SQL(g.t, "CREATE ROLE flypgadmin SUPERUSER LOGIN PASSWORD '"+password+"'")
	g.password = password
}

// opens fails the test unless a client gets in with a URL, and can work.
func (g *flyPostgres) opens(text string) {
	g.t.Helper()
	at, err := url.Parse(text)
	if err != nil {
		g.t.Fatal("DATABASE_URL is none") // the error has the password
	}
	password, _ := at.User.Password()
	cmd := exec.CommandContext(context.Background(), "psql", "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", //nolint:gosec // as forged made it
		"-p", fmt.Sprint(g.server.Port), "-U", at.User.Username(), "-d", strings.TrimPrefix(at.Path, "/"), "-c", "CREATE TABLE t (n int)")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PGPASSWORD=" + password}
	if out, err := cmd.CombinedOutput(); err != nil {
		g.t.Errorf("DATABASE_URL does not open the database: %v %s", err, out)
	}
}
