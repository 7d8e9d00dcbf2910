package flyemulator

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// postgresName is what users and databases may be called.
var postgresName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,62}$`)

// reservedUser says whether the service keeps a name for itself.
func reservedUser(name string) bool {
	return strings.HasPrefix(name, "pg_") || strings.HasPrefix(name, "_crunchy") ||
		slices.Contains([]string{"postgres", "pgbouncer", "replicator", "primaryuser", "monitor", "schema_admin", "writer", "reader"}, name)
}

func reservedDatabase(name string) bool {
	return slices.Contains([]string{"postgres", "template0", "template1"}, name)
}

func wrongUser(name string) *failure {
	if !postgresName.MatchString(name) || reservedUser(name) {
		return refuse(http.StatusBadRequest, "Username is reserved, a system user, or malformed")
	}
	return nil
}

func wrongDatabase(name string) *failure {
	if !postgresName.MatchString(name) || reservedDatabase(name) {
		return refuse(http.StatusBadRequest, "Database name is reserved, a system database, or malformed")
	}
	return nil
}

func knownRole(role string) bool {
	return slices.Contains([]string{"schema_admin", "writer", "reader"}, role)
}

type userView struct {
	Name string `json:"username"`
	Role string `json:"role"`
}

type credentialsView struct {
	Name     string `json:"username"`
	Password string `json:"password"`
}

func (c *call) listUsers(cl *postgresCluster) reply {
	out := []userView{}
	for _, name := range slices.Sorted(maps.Keys(cl.Users)) {
		out = append(out, userView{name, cl.Users[name].Role})
	}
	return c.ok(data(out))
}

func (c *call) createUser(cl *postgresCluster) reply {
	var in userView
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	switch {
	case in.Name == "":
		return c.fail(http.StatusUnprocessableEntity, "username is required")
	case in.Role == "":
		return c.fail(http.StatusUnprocessableEntity, "role is required")
	case !knownRole(in.Role):
		return c.fail(http.StatusUnprocessableEntity, "role must be schema_admin, writer or reader")
	}
	if f := wrongUser(in.Name); f != nil {
		return c.failed(f)
	}
	if cl.Users[in.Name] != nil {
		return c.fail(http.StatusConflict, "User already exists")
	}
	u := &postgresUser{Role: in.Role, Password: c.e.newPassword(in.Name)}
	cl.Users[in.Name] = u
	if f := c.realUser(cl, in.Name, u); f != nil {
		delete(cl.Users, in.Name)
		return c.failed(f)
	}
	return c.reply(http.StatusCreated, data(in))
}

// userOf is the user of the path.
func (c *call) userOf(cl *postgresCluster) (string, *postgresUser, *failure) {
	name := c.values["user"]
	if f := wrongUser(name); f != nil {
		return "", nil, f
	}
	u := cl.Users[name]
	if u == nil {
		return "", nil, missing("User not found")
	}
	return name, u, nil
}

func (c *call) updateUser(cl *postgresCluster) reply {
	name, u, f := c.userOf(cl)
	if f != nil {
		return c.failed(f)
	}
	var in userView
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	if !knownRole(in.Role) {
		return c.fail(http.StatusUnprocessableEntity, "role must be schema_admin, writer or reader")
	}
	u.Role = in.Role
	if f := c.realUser(cl, name, u); f != nil {
		return c.failed(f)
	}
	return c.nothing(http.StatusNoContent)
}

func (c *call) deleteUser(cl *postgresCluster) reply {
	name, _, f := c.userOf(cl)
	if f != nil {
		return c.failed(f)
	}
	if name == defaultUser {
		return c.fail(http.StatusBadRequest, "Username is reserved, a system user, or malformed")
	}
	if f := c.dropRealUser(cl, name); f != nil {
		return c.failed(f)
	}
	delete(cl.Users, name)
	return c.nothing(http.StatusNoContent)
}

func (c *call) userCredentials(cl *postgresCluster) reply {
	name, u, f := c.userOf(cl)
	if f != nil {
		return c.failed(f)
	}
	if c.e.mode(ModePostgresPassword) == "late" && c.now.Before(cl.Ready.Add(passwordLate)) {
		return c.failed(missing("User not found"))
	}
	return c.ok(data(credentialsView{name, u.Password}))
}

func (c *call) rotatePassword(cl *postgresCluster) reply {
	name, u, f := c.userOf(cl)
	if f != nil {
		return c.failed(f)
	}
	var in struct {
		Kill *bool `json:"kill_sessions"`
	}
	if f := c.decodeMaybe(&in); f != nil {
		return c.fail(http.StatusUnprocessableEntity, "kill_sessions must be true or false")
	}
	u.Password = c.e.newID("password", 24)
	if f := c.realUser(cl, name, u); f != nil {
		return c.failed(f)
	}
	if given(in.Kill, false) {
		if f := c.killSessions(cl, name); f != nil {
			return c.failed(f)
		}
	}
	return c.ok(data(credentialsView{name, u.Password}))
}

type databaseView struct {
	Name string `json:"name"`
}

func (c *call) listDatabases(cl *postgresCluster) reply {
	out := []databaseView{}
	for _, name := range slices.Sorted(maps.Keys(cl.Databases)) {
		out = append(out, databaseView{name})
	}
	return c.ok(data(out))
}

func (c *call) createDatabase(cl *postgresCluster) reply {
	var in databaseView
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	if in.Name == "" {
		return c.fail(http.StatusUnprocessableEntity, "name is required")
	}
	if f := wrongDatabase(in.Name); f != nil {
		return c.failed(f)
	}
	if cl.Databases[in.Name] != nil {
		return c.fail(http.StatusUnprocessableEntity, "Database already exists")
	}
	cl.Databases[in.Name] = &postgresDatabase{}
	if f := c.realDatabase(cl, in.Name); f != nil {
		delete(cl.Databases, in.Name)
		return c.failed(f)
	}
	return c.reply(http.StatusCreated, data(in))
}

func (c *call) deleteDatabase(cl *postgresCluster) reply {
	name := c.values["database"]
	if f := wrongDatabase(name); f != nil {
		return c.failed(f)
	}
	if cl.Databases[name] == nil {
		return c.failed(missing("Database not found"))
	}
	if f := c.dropRealDatabase(cl, name); f != nil {
		return c.failed(f)
	}
	delete(cl.Databases, name)
	return c.ok(data(databaseView{name}))
}

// extension is one that can be had.
type extension struct {
	name, version, about string
	system, postgis      bool
}

// extensions are those of the documentation that somebody is likely to want.
func extensions() []extension {
	return []extension{
		{name: "btree_gin", version: "1.3", about: "support for indexing common datatypes in GIN"},
		{name: "btree_gist", version: "1.7", about: "support for indexing common datatypes in GiST"},
		{name: "citext", version: "1.6", about: "data type for case-insensitive character strings"},
		{name: "fuzzystrmatch", version: "1.2", about: "determine similarities and distance between strings"},
		{name: "hstore", version: "1.8", about: "data type for storing sets of (key, value) pairs"},
		{name: "ltree", version: "1.3", about: "data type for hierarchical tree-like structures"},
		{name: "pg_stat_statements", version: "1.11", about: "track planning and execution statistics", system: true},
		{name: "pg_trgm", version: "1.6", about: "text similarity measurement and index searching based on trigrams"},
		{name: "pgcrypto", version: "1.3", about: "cryptographic functions"},
		{name: "plpgsql", version: "1.0", about: "PL/pgSQL procedural language", system: true},
		{name: "postgis", version: "3.5.0", about: "geometry and geography types and functions", postgis: true},
		{name: "postgis_topology", version: "3.5.0", about: "topology types and functions", postgis: true},
		{name: "unaccent", version: "1.1", about: "text search dictionary that removes accents"},
		{name: "uuid-ossp", version: "1.1", about: "generate universally unique identifiers (UUIDs)"},
		{name: "vector", version: "0.8.0", about: "vector data type and ivfflat and hnsw access methods"},
	}
}

func knownExtension(name string) (extension, bool) {
	for _, x := range extensions() {
		if x.name == name {
			return x, true
		}
	}
	return extension{}, false
}

type extensionView struct {
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Version     string         `json:"default_version"`
	System      bool           `json:"system"`
	Installed   *installedView `json:"installed"`
}

type installedView struct {
	Version string `json:"version"`
	Schema  string `json:"schema"`
}

// databaseOf is the database of the path, with extensions to speak of.
func (c *call) databaseOf(cl *postgresCluster) (string, *postgresDatabase, *failure) {
	name := c.values["database"]
	if !postgresName.MatchString(name) {
		return "", nil, refuse(http.StatusBadRequest, "Database name is malformed")
	}
	d := cl.Databases[name]
	if d == nil {
		return "", nil, missing("Database not found")
	}
	return name, d, nil
}

func (c *call) listExtensions(cl *postgresCluster) reply {
	_, d, f := c.databaseOf(cl)
	if f != nil {
		return c.failed(f)
	}
	out := []extensionView{}
	for _, x := range extensions() {
		one := extensionView{Name: x.name, Description: x.about, Version: x.version, System: x.system}
		if schema, ok := d.Extensions[x.name]; ok {
			one.Installed = &installedView{x.version, schema}
		} else if x.system {
			one.Installed = &installedView{x.version, "pg_catalog"}
		}
		out = append(out, one)
	}
	return c.ok(data(out))
}

func (c *call) enableExtension(cl *postgresCluster) reply {
	name, d, f := c.databaseOf(cl)
	if f != nil {
		return c.failed(f)
	}
	in := struct {
		Name   string `json:"name"`
		Schema string `json:"schema"`
		Create bool   `json:"create_schema"`
	}{Schema: "public"}
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	x, known := knownExtension(in.Name)
	schema, installed := d.Extensions[in.Name]
	switch {
	case !known:
		return c.fail(http.StatusUnprocessableEntity, "Unknown or unsupported extension")
	case x.postgis && !cl.PostGIS:
		return c.fail(http.StatusConflict, "PostGIS is not enabled on this cluster")
	case x.system:
		return c.fail(http.StatusConflict, "Extension %s is already installed in schema pg_catalog", in.Name)
	case installed:
		return c.fail(http.StatusConflict, "Extension %s is already installed in schema %s", in.Name, schema)
	}
	if f := c.realExtension(cl, name, in.Name, in.Schema, in.Create); f != nil {
		return c.failed(f)
	}
	if d.Extensions == nil {
		d.Extensions = map[string]string{}
	}
	d.Extensions[in.Name] = in.Schema
	return c.nothing(http.StatusNoContent)
}

func (c *call) disableExtension(cl *postgresCluster) reply {
	name, d, f := c.databaseOf(cl)
	if f != nil {
		return c.failed(f)
	}
	x, known := knownExtension(c.values["extension"])
	switch {
	case !known:
		return c.fail(http.StatusUnprocessableEntity, "Invalid extension name")
	case x.system:
		return c.fail(http.StatusBadRequest, "System extensions cannot be disabled")
	}
	if f := c.dropRealExtension(cl, name, x.name, c.flag("force")); f != nil {
		return c.failed(f)
	}
	delete(d.Extensions, x.name)
	return c.nothing(http.StatusNoContent)
}
