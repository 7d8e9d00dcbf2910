package flypostgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/servicetest"
)

const appName = "shop-pg"

// guest is a PostgreSQL that really runs, in the machines of the emulator. One
// server stands for all of them: who leads is who is asked.
type guest struct {
	test     *testing.T
	server   *servicetest.Postgres
	emulator *flyemulator.Emulator

	mu       sync.Mutex
	password string // of the superuser, as the image sets it when it starts on an empty disk
	leader   string
	sick     map[string]bool
}

// Check implements flyemulator.Guest.
func (g *guest) Check(machine, check string) (string, bool, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if check == "role" {
		if g.leader == "" {
			g.leader = machine
		}
		if g.leader == machine {
			return "primary", !g.sick[machine], true
		}
		return "replica", !g.sick[machine], true
	}
	return "ok", !g.sick[machine], check == "pg" || check == "vm"
}

func (g *guest) lead(machine string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leader = machine
}

// Exec implements flyemulator.Guest: it runs the command.
func (g *guest) Exec(ctx context.Context, app, machine string, command []string, stdin string) (flyemulator.GuestAnswer, bool) {
	env := g.emulator.Env(app, machine)
	g.mu.Lock()
	defer g.mu.Unlock()
	if password := env["SU_PASSWORD"]; password != g.password {
		g.begin(password)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // what forged asks for
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "SU_PASSWORD=" + env["SU_PASSWORD"], fmt.Sprintf("PG_PORT=%d", g.server.Port)}
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
func (g *guest) begin(password string) {
	for _, database := range strings.Fields(g.server.SQL(g.test, `SELECT string_agg(quote_ident(datname), ' ') FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'`)) {
		g.server.SQL(g.test, "DROP DATABASE "+database+" WITH (FORCE)")
	}
	for _, role := range strings.Fields(g.server.SQL(g.test, `SELECT string_agg(quote_ident(rolname), ' ') FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'`)) {
		g.server.SQL(g.test, "DROP ROLE "+role)
	}
	g.server.SQL(g.test, "CREATE ROLE flypgadmin SUPERUSER LOGIN PASSWORD '"+password+"'",
		"CREATE ROLE bystander LOGIN PASSWORD 'theirs'", "COMMENT ON ROLE bystander IS 'of the billing team'")
	g.server.SQL(g.test, "CREATE DATABASE billing OWNER bystander")
	g.password = password
}

// appRig is a place with such databases.
type appRig struct {
	*rig
	*guest
}

func newAppRig(t *testing.T, server *servicetest.Postgres) *appRig {
	t.Helper()
	g := &guest{test: t, server: server, sick: map[string]bool{}}
	r := newRig(t, flyemulator.Options{Guest: g})
	g.emulator = r.Emulator
	r.Way = func() *http.Client { return &http.Client{Transport: asking{r.Line, r.Transport()}} }
	return &appRig{r, g}
}

// inAppBubble runs a test on a place of its own, with a server of its own.
func inAppBubble(t *testing.T, test func(r *appRig)) {
	t.Helper()
	server := startServer(t)
	synctest.Test(t, func(t *testing.T) {
		r := newAppRig(t, server)
		test(r)
		r.untouched(t)
	})
}

// untouched fails the test if anything of somebody else's was changed.
func (r *appRig) untouched(t *testing.T) {
	t.Helper()
	r.unharmed(t)
	r.guest.mu.Lock()
	defer r.guest.mu.Unlock()
	if r.password == "" {
		return // nobody ever started it
	}
	const facts = `SELECT rolcanlogin || ' ' || shobj_description(oid, 'pg_authid') || ' ' || (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'billing') FROM pg_roles WHERE rolname = 'bystander'`
	if got := r.server.SQL(t, facts); got != "true of the billing team bystander" {
		t.Errorf("somebody else's role is %q", got)
	}
}

// makeDatabase makes an app of postgres-flex as somebody else.
func (r *appRig) makeDatabase(name string) (machine string) {
	r.t.Helper()
	ctx := r.t.Context()
	_, err := r.Somebody.CreateApp(ctx, api.CreateApp{Name: name, Org: flytest.Org, Role: "postgres_cluster"})
	r.Must(err)
	values := map[string]*secret.Value{}
	for _, key := range []string{"SU_PASSWORD", "OPERATOR_PASSWORD", "REPL_PASSWORD"} {
		v := secret.New([]byte("of-" + name + "-" + key))
		values[key] = &v
		r.Secrets = append(r.Secrets, string(v.Reveal()))
	}
	_, err = r.Somebody.SetSecrets(ctx, name, values)
	r.Must(err)
	time.Sleep(time.Second)
	at := 5500
	config := api.MachineConfig{Image: "flyio/postgres-flex:17", Metadata: map[string]string{"fly-managed-postgres": "true"}, Checks: map[string]api.Check{}}
	for _, check := range []string{"pg", "role", "vm"} {
		config.Checks[check] = api.Check{Type: "http", Port: &at, Path: "/flycheck/" + check}
	}
	m, err := r.Somebody.CreateMachine(ctx, name, api.CreateMachine{Region: "fra", Config: config})
	r.Must(err)
	time.Sleep(time.Minute)
	return m.ID
}

// unmanaged asks for a database in an app.
func (r *appRig) unmanaged(change ...func(*forge.FlyPostgresAppSpec)) reconcile.Request {
	spec := forge.FlyPostgresAppSpec{Account: r.Account(), App: appName, Database: database, User: user}
	for _, f := range change {
		f(&spec)
	}
	return reconcile.Request{Resource: forge.Resource{
		ID:     forge.ID{Environment: flytest.Environment, Kind: forge.KindFlyPostgresApp, Name: appName},
		Target: forge.Target{Org: flytest.Org}, Spec: spec,
	}}
}

func furtherApp(s *forge.FlyPostgresAppSpec) {
	s.Further = []forge.FlyPostgresUser{{Name: "temporal", Databases: []string{"temporal", "temporal_visibility"}}}
}

// oneMore is less to make than furtherApp: what is real takes its time.
func oneMore(s *forge.FlyPostgresAppSpec) { s.Further = []forge.FlyPostgresUser{{Name: "temporal"}} }

// startServer starts one that is as fast as can be.
func startServer(t *testing.T) *servicetest.Postgres {
	t.Helper()
	return servicetest.StartPostgres(t, servicetest.PostgresOptions{Settings: []string{
		"full_page_writes = off", "wal_level = minimal", "max_wal_senders = 0", "synchronous_commit = off", "autovacuum = off",
	}})
}

func created(s *forge.FlyPostgresAppSpec) {
	s.Create, s.Region, s.Version, s.Machines, s.StorageGB = true, "fra", "17", 1, 3
	s.Guest = forge.Guest{CPUKind: "shared", CPUs: 1, MemoryMB: 512}
}

// dropRole drops a role that owns a database.
func (r *appRig) dropRole() {
	r.server.SQL(r.t, "ALTER DATABASE appdb OWNER TO postgres")
	r.server.In(r.t, "appdb", "DROP OWNED BY appuser")
	r.server.SQL(r.t, "DROP ROLE appuser")
}

// works logs in as a client, and makes a table.
func (r *appRig) works(o reconcile.Observed, output, role, in string) {
	r.t.Helper()
	password := r.reveal(o, output)
	cmd := exec.CommandContext(context.Background(), "psql", "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
		"-p", fmt.Sprint(r.server.Port), "-U", role, "-d", in, "-c", "CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1)")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PGPASSWORD=" + password}
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Errorf("role %s cannot work in %s: %v %s", role, in, err, out)
	}
}

// asking is a line on which a question to PostgreSQL is no changing request,
// although a command in a machine is.
type asking struct{ line, past http.RoundTripper }

func (a asking) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/exec") {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Contains(body, []byte("json_build_object")) {
			return a.past.RoundTrip(r)
		}
	}
	return a.line.RoundTrip(r)
}
