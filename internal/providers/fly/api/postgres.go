package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"forged.dev/forged/internal/secret"
)

// States of a cluster of Managed Postgres. Fly also calls one that failed
// "error".
const (
	PostgresReady  = "ready"
	PostgresFailed = "failed"
	PostgresError  = "error"
)

// PostgresCluster is a cluster of Managed Postgres. The list tells less of it:
// no more than the plan, the region, the status, and where it is attached.
type PostgresCluster struct {
	ID           string       `json:"id"`
	Name         string       `json:"name"`
	Status       string       `json:"status"` // creating, initializing, ready, deleting, deleted, failed
	Region       string       `json:"region"`
	Plan         string       `json:"plan"` // the case counts
	DiskGB       int          `json:"disk_size_gb"`
	CPUs         int          `json:"cpus"`
	CPUKind      string       `json:"cpu_kind"`
	MemoryMB     int          `json:"memory_mb"`
	Replicas     int          `json:"replicas"`
	Version      string       `json:"pg_major_version"`
	PostGIS      bool         `json:"postgis_enabled"`
	Organization Organization `json:"organization"`
	Endpoints    struct {
		Primary struct {
			Direct PostgresEndpoint `json:"direct"`
			Pooler PostgresEndpoint `json:"pooler"`
		} `json:"primary"`
	} `json:"endpoints"`
	AttachedApps []struct {
		Name string `json:"name"`
	} `json:"attached_apps"`
	CreatedAt Time `json:"created_at"`
	DeletedAt Time `json:"deleted_at"`
}

// PostgresEndpoint is where a cluster is reached, from the private network of
// its organization.
type PostgresEndpoint struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

// CreatePostgres asks for a cluster. Nothing of it can be changed afterwards.
type CreatePostgres struct {
	Org      string `json:"org_slug"`
	Name     string `json:"name,omitempty"` // not unique
	Plan     string `json:"plan"`           // basic, starter, launch, scale, Performance
	Region   string `json:"region"`
	DiskGB   int    `json:"disk_size_gb,omitempty"`
	Version  string `json:"pg_major_version,omitempty"` // 16, 17
	PoolMode string `json:"pool_mode,omitempty"`        // session, transaction
	PostGIS  bool   `json:"postgis_enabled"`
}

// data is what Managed Postgres wraps its answers in.
type data[T any] struct {
	Data T `json:"data"`
}

// PostgresClusters are the clusters of an organization.
func (c *Client) PostgresClusters(ctx context.Context, org string) ([]PostgresCluster, error) {
	list, err := get[data[[]PostgresCluster]](ctx, c, request{
		action: "postgres.list", ident: org, path: "/v1/postgres", query: url.Values{"org_slug": {org}}, holds: "data",
	})
	return list.Data, err
}

// PostgresCluster is a cluster. Gone: it is deleted.
func (c *Client) PostgresCluster(ctx context.Context, id string) (PostgresCluster, error) {
	reply, err := get[data[PostgresCluster]](ctx, c, postgres("get", id))
	return reply.Data, err
}

// CreatePostgres makes a cluster, which takes minutes to be ready. Names are
// not unique: after Ambiguous look in the list before another is made.
func (c *Client) CreatePostgres(ctx context.Context, ask CreatePostgres) (PostgresCluster, error) {
	reply, err := send[data[PostgresCluster]](ctx, c, request{
		action: "postgres.create", ident: ask.Org, method: http.MethodPost, path: "/v1/postgres", body: ask, holds: "data",
	})
	return reply.Data, err
}

// DeletePostgres deletes a cluster and what is in it. It is content when there
// is none.
func (c *Client) DeletePostgres(ctx context.Context, id string) error {
	return c.gone(ctx, postgres("delete", id))
}

// Roles of users of a cluster.
const (
	PostgresSchemaAdmin = "schema_admin"
	PostgresWriter      = "writer"
	PostgresReader      = "reader"
)

// PostgresUser is a user of a cluster.
type PostgresUser struct {
	Name string
	Role string
}

// UnmarshalJSON implements json.Unmarshaler. The name is called so in the list
// of flyctl's source, and "username" where a user is made.
func (u *PostgresUser) UnmarshalJSON(b []byte) error {
	var f struct {
		Name     string `json:"name"`
		Username string `json:"username"`
		Role     string `json:"role"`
	}
	err := json.Unmarshal(b, &f)
	*u = PostgresUser{Name: or(f.Name, f.Username), Role: f.Role}
	return err
}

// PostgresUsers are the users of a cluster.
func (c *Client) PostgresUsers(ctx context.Context, id string) ([]PostgresUser, error) {
	list, err := get[data[[]PostgresUser]](ctx, c, postgres("user.list", id, "users"))
	return list.Data, err
}

// CreatePostgresUser makes a user. Taken or Conflict: there is one of the name.
func (c *Client) CreatePostgresUser(ctx context.Context, id, name, role string) error {
	r := postgres("user.create", id, "users")
	r.method = http.MethodPost
	r.body = struct {
		Name string `json:"username"`
		Role string `json:"role"`
	}{name, role}
	return c.do(ctx, r, nil)
}

// SetPostgresRole changes the role of a user.
func (c *Client) SetPostgresRole(ctx context.Context, id, name, role string) error {
	r := postgres("user.update", id, "users", name)
	r.method, r.repeat = http.MethodPatch, true
	r.body = struct {
		Role string `json:"role"`
	}{role}
	return c.do(ctx, r, nil)
}

// DeletePostgresUser deletes a user. It is content when there is none.
func (c *Client) DeletePostgresUser(ctx context.Context, id, name string) error {
	return c.gone(ctx, postgres("user.delete", id, "users", name))
}

// PostgresPassword is the password of a user.
func (c *Client) PostgresPassword(ctx context.Context, id, name string) (secret.Value, error) {
	reply, err := get[data[struct {
		Password string `json:"password"`
	}]](ctx, c, postgres("user.credentials", id, "users", name, "credentials"))
	return secret.New([]byte(reply.Data.Password)), err
}

// RotatePostgresPassword gives a user another password, and may end what is
// connected with the old one.
func (c *Client) RotatePostgresPassword(ctx context.Context, id, name string, endSessions bool) error {
	r := postgres("user.rotate", id, "users", name, "rotate_password")
	r.method = http.MethodPost
	r.body = struct {
		KillSessions bool `json:"kill_sessions"`
	}{endSessions}
	return c.do(ctx, r, nil)
}

// PostgresDatabases are the names of the databases of a cluster.
func (c *Client) PostgresDatabases(ctx context.Context, id string) ([]string, error) {
	return names(ctx, c, postgres("database.list", id, "databases"))
}

// CreatePostgresDatabase makes a database.
func (c *Client) CreatePostgresDatabase(ctx context.Context, id, name string) error {
	r := postgres("database.create", id, "databases")
	r.method = http.MethodPost
	r.body = struct {
		Name string `json:"name"`
	}{name}
	return c.do(ctx, r, nil)
}

// DeletePostgresDatabase deletes a database and what is in it. It is content
// when there is none.
func (c *Client) DeletePostgresDatabase(ctx context.Context, id, name string) error {
	return c.gone(ctx, postgres("database.delete", id, "databases", name))
}

// PostgresExtensions are the names of the extensions that a database has. The
// list tells of those that it could have, too: "installed" is null there.
func (c *Client) PostgresExtensions(ctx context.Context, id, database string) ([]string, error) {
	list, err := get[data[[]struct {
		Name      string          `json:"name"`
		Installed json.RawMessage `json:"installed"`
	}]](ctx, c, postgres("extension.list", id, "databases", database, "extensions"))
	var all []string
	for _, e := range list.Data {
		if string(e.Installed) != "null" {
			all = append(all, e.Name)
		}
	}
	return all, err
}

// EnablePostgresExtension gives a database an extension. Taken or Conflict: it
// has it, or the cluster is without PostGIS.
func (c *Client) EnablePostgresExtension(ctx context.Context, id, database, name string) error {
	r := postgres("extension.create", id, "databases", database, "extensions")
	r.method = http.MethodPost
	r.body = struct {
		Name string `json:"name"`
	}{name}
	return c.do(ctx, r, nil)
}

// DisablePostgresExtension takes an extension from a database; never what
// depends on it. It is content when the database does not have it.
func (c *Client) DisablePostgresExtension(ctx context.Context, id, database, name string) error {
	return c.gone(ctx, postgres("extension.delete", id, "databases", database, "extensions", name))
}

// AttachPostgres writes down that an app uses a cluster. It sets no secret.
func (c *Client) AttachPostgres(ctx context.Context, id, app string) error {
	r := postgres("attach", id, "attachments")
	r.method, r.repeat = http.MethodPost, true
	r.body = struct {
		App string `json:"app_name"`
	}{app}
	return c.do(ctx, r, nil)
}

// DetachPostgres writes down that an app does not use a cluster any more.
func (c *Client) DetachPostgres(ctx context.Context, id, app string) error {
	return c.gone(ctx, postgres("detach", id, "attachments", app))
}

// PostgresBackup is a backup of a cluster.
type PostgresBackup struct {
	ID         string `json:"id"`
	Type       string `json:"type"` // full, incr, diff
	Status     string `json:"status"`
	StartedAt  Time   `json:"started_at"`
	FinishedAt Time   `json:"finished_at"`
	SizeBytes  int64  `json:"size_bytes"`
}

// PostgresBackups are the backups of a cluster.
func (c *Client) PostgresBackups(ctx context.Context, id string) ([]PostgresBackup, error) {
	list, err := get[data[[]PostgresBackup]](ctx, c, postgres("backup.list", id, "backups"))
	return list.Data, err
}

// BackupPostgres starts a backup. Conflict: one is under way.
func (c *Client) BackupPostgres(ctx context.Context, id, kind string) error {
	r := postgres("backup.create", id, "backups")
	r.method = http.MethodPost
	r.body = struct {
		Type string `json:"type"`
	}{kind}
	return c.do(ctx, r, nil)
}

func postgres(act, id string, path ...string) request {
	r := request{action: "postgres." + act, ident: id, path: "/v1/postgres/" + segment(id), holds: "data"}
	for _, s := range path {
		r.path += "/" + segment(s)
	}
	return r
}

// names reads a list of what has a name.
func names(ctx context.Context, c *Client, r request) ([]string, error) {
	list, err := get[data[[]struct {
		Name string `json:"name"`
	}]](ctx, c, r)
	var all []string
	for _, entry := range list.Data {
		all = append(all, entry.Name)
	}
	return all, err
}
