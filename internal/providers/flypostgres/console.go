package flypostgres

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// consoleScript runs in a machine of postgres-flex: it says the password of the
// superuser, and what psql answers to a script that comes through a pipe. The
// password is in no argument, which others in the machine could see. psql says
// no more of an error than its code: the rest could repeat a statement, which
// holds a verifier.
const consoleScript = `printf '%s\n' "$SU_PASSWORD"
PGPASSWORD="$SU_PASSWORD" PGCONNECT_TIMEOUT=10 PGCLIENTENCODING=UTF8 exec psql -X -q -A -t -w \
  -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate -h localhost -p "${PG_PORT:-5433}" -U flypgadmin -d postgres -f -
`

// execSeconds is how long a script may take.
const execSeconds = 30

// console asks the PostgreSQL of an app, on the machine of its leader.
type console struct {
	org          *fly.Org
	app, machine string
}

// sqlError is what PostgreSQL answers to a script that it does not carry out.
type sqlError struct {
	code string // SQLSTATE; empty: the script did not get there
	text string
}

func (e *sqlError) Error() string {
	if e.code == "" {
		return e.text
	}
	return "PostgreSQL answers with SQLSTATE " + e.code
}

var sqlState = regexp.MustCompile(`(?m)(?:ERROR|FATAL|PANIC):\s+([0-9A-Z]{5})\s*$`)

// run carries out a script. It returns the superuser's password and what the
// script says.
func (c console) run(ctx context.Context, script string) (secret.Value, string, error) {
	result, err := c.org.Client().Exec(ctx, c.app, c.machine, "", api.Exec{
		Command: []string{"sh", "-c", consoleScript}, Stdin: script, Timeout: execSeconds,
	})
	if err != nil {
		return secret.Value{}, "", err
	}
	password, said, _ := strings.Cut(result.Stdout, "\n")
	if result.ExitCode != 0 {
		e := &sqlError{text: fmt.Sprintf("psql ends with code %d in machine %s", result.ExitCode, c.machine)}
		if m := sqlState.FindStringSubmatch(result.Stderr); m != nil {
			e.code = m[1]
		}
		return secret.Value{}, "", e
	}
	if password == "" {
		return secret.Value{}, "", &sqlError{text: "machine " + c.machine + " has no SU_PASSWORD"}
	}
	return secret.New([]byte(password)), strings.TrimSpace(said), nil
}

// survey is what a PostgreSQL says of the roles and databases that are asked
// for.
type survey struct {
	Standby   bool                     `json:"standby"`
	ReadOnly  bool                     `json:"readOnly"`
	Roles     map[string]roleFacts     `json:"roles"`
	Databases map[string]databaseFacts `json:"databases"`

	superuser secret.Value
}

type roleFacts struct {
	Login    bool   `json:"login"`
	Expired  bool   `json:"expired"`
	Mighty   bool   `json:"mighty"` // more than an app needs
	Verifier string `json:"verifier"`
	Comment  string `json:"comment"`
}

type databaseFacts struct {
	OID   string `json:"oid"`
	Owner string `json:"owner"`
	Bytes int64  `json:"bytes"`
}

// look asks what is there.
func (c console) look(ctx context.Context, roles, databases []string) (*survey, error) {
	superuser, said, err := c.run(ctx, surveyScript(roles, databases))
	if err != nil {
		return nil, err
	}
	s := &survey{superuser: superuser}
	if err := json.Unmarshal([]byte(said), s); err != nil {
		return nil, &sqlError{text: "psql in machine " + c.machine + " answers what nobody asked for"}
	}
	return s, nil
}

// passwordOf is the password of a role. It is made of the superuser's, so that
// it is kept nowhere, and every forged that may ask the database knows it.
func passwordOf(superuser secret.Value, app, role string) secret.Value {
	h := hmac.New(sha256.New, superuser.Reveal())
	fmt.Fprintf(h, "forged: password of a role\x00%s\x00%s", app, role)
	return secret.New([]byte(base64.RawURLEncoding.EncodeToString(h.Sum(nil))))
}

// explainSQL says what a script that failed means to the engine.
func explainSQL(op, object string, err error) error {
	var said *sqlError
	if !errors.As(err, &said) {
		return fly.Classify(op, object, err)
	}
	e := &reconcile.Error{Kind: reconcile.Unavailable, Op: op, Object: object, Err: said}
	switch said.code {
	case "42710", "42P04", "42704", "3D000", "23505", "XX000": // made or gone meanwhile, or changed at the same moment
		e.Kind = reconcile.Stale
	case "28P01":
		e.Kind, e.Hint = reconcile.Denied, "the secret SU_PASSWORD of the app is not the password of its superuser flypgadmin: set it to what it was, or change the superuser's password"
	case "25006":
		e.Hint = "it takes no writes: its disk may be full, or another machine leads by now"
	case "2BP01":
		e.Kind, e.Hint = reconcile.Conflict, "the role owns something else: give that to another role, or drop it"
	}
	return e
}
