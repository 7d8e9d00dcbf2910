package flypostgres_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/flypostgres"
	"forged.dev/forged/internal/servicetest"
)

// behind is a PostgreSQL that really runs, behind the emulator's clusters.
type behind struct{ server *servicetest.Postgres }

// Endpoints implements flyemulator.PostgresServer.
func (b behind) Endpoints(string) (direct, pooler flyemulator.PostgresEndpoint) {
	at := flyemulator.PostgresEndpoint{Host: "127.0.0.1", Port: b.server.Port}
	return at, at
}

// Exec implements flyemulator.PostgresServer.
func (b behind) Exec(ctx context.Context, _, database string, statements ...string) error {
	if database == "" {
		database = "postgres"
	}
	for _, statement := range statements {
		if out, err := b.psql(ctx, "postgres", "of-the-superuser", database, statement); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

func (b behind) psql(ctx context.Context, user, password, database, statement string) (string, error) {
	cmd := exec.CommandContext(ctx, "psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", fmt.Sprint(b.server.Port), "-U", user, "-d", database, "-c", statement)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PGPASSWORD=" + password}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Clients of a cluster get in with what the outputs say, and may make tables.
func TestManagedClientsGetIn(t *testing.T) {
	b := behind{startServer(t)}
	b.server.SQL(t, "ALTER ROLE postgres PASSWORD 'of-the-superuser'")
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, flyemulator.Options{Postgres: b})
		o := r.Converge(flypostgres.NewManaged(r.Accounts()), r.managed())
		out, err := b.psql(context.Background(), o.Outputs["user"].Value, r.reveal(o, "password"), o.Outputs["database"].Value,
			"CREATE TABLE words (w text); INSERT INTO words VALUES ('forge'); SELECT w FROM words")
		if err != nil || out != "forge" || o.Outputs["host"].Value != "127.0.0.1" || o.Outputs["port"].Value != fmt.Sprint(b.server.Port) {
			t.Errorf("%v %s", err, out)
		}
		r.unharmed(t)
	})
}
