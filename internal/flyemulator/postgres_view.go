package flyemulator

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// clusterSummary is a row of the list.
type clusterSummary struct {
	ID       string        `json:"id"`
	Name     string        `json:"name"`
	Plan     string        `json:"plan"`
	Region   string        `json:"region"`
	Status   string        `json:"status"`
	Attached []attachedApp `json:"attached_apps"`
	Created  time.Time     `json:"created_at"`
	Deleted  *time.Time    `json:"deleted_at,omitempty"`
}

type attachedApp struct {
	Name string `json:"name"`
}

func (e *Emulator) clusterSummary(cl *postgresCluster) clusterSummary {
	out := clusterSummary{ID: cl.ID, Name: cl.Name, Plan: cl.Plan, Region: cl.Region, Status: cl.Status, Attached: []attachedApp{}, Created: cl.Created}
	for _, a := range cl.Attached {
		if e.state.Apps[a.App] != nil { // an app takes what it is attached to along
			out.Attached = append(out.Attached, attachedApp{a.App})
		}
	}
	if !cl.Deleted.IsZero() {
		out.Deleted = &cl.Deleted
	}
	return out
}

// clusterView is a cluster as the API shows it. The pool mode is not shown.
type clusterView struct {
	clusterSummary
	DiskGB   int               `json:"disk_size_gb"`
	CPUs     int               `json:"cpus"`
	CPUKind  string            `json:"cpu_kind"`
	MemoryMB int               `json:"memory_mb"`
	Replicas int               `json:"replicas"`
	Version  string            `json:"pg_major_version"`
	PostGIS  bool              `json:"postgis_enabled"`
	Ends     *clusterEndpoints `json:"endpoints"` // null until it is ready
	Org      orgRef            `json:"organization"`
}

type clusterEndpoints struct {
	Primary struct {
		Direct PostgresEndpoint `json:"direct"`
		Pooler PostgresEndpoint `json:"pooler"`
	} `json:"primary"`
}

// PostgresEndpoint is where clients connect to.
type PostgresEndpoint struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

type orgRef struct {
	Name string `json:"name"`
	Slug string `json:"slug"`
}

func (e *Emulator) clusterView(cl *postgresCluster) clusterView {
	p := postgresPlans()[cl.Plan]
	out := clusterView{
		clusterSummary: e.clusterSummary(cl), DiskGB: cl.DiskGB, CPUs: p.cpus, CPUKind: p.kind, MemoryMB: p.memoryMB, Replicas: 1,
		Version: cl.Version, PostGIS: cl.PostGIS,
	}
	if o := e.state.Orgs[cl.Org]; o != nil {
		out.Org = orgRef{o.Name, o.Slug}
	}
	if cl.Status == clusterReady {
		out.Ends = &clusterEndpoints{}
		out.Ends.Primary.Direct, out.Ends.Primary.Pooler = e.endpoints(cl)
	}
	return out
}

// endpoints are those of the real server, where there is one.
func (e *Emulator) endpoints(cl *postgresCluster) (direct, pooler PostgresEndpoint) {
	if e.o.Postgres != nil {
		return e.o.Postgres.Endpoints(cl.ID)
	}
	return PostgresEndpoint{"direct." + cl.Hash + ".flympg.net", 5432}, PostgresEndpoint{"pgbouncer." + cl.Hash + ".flympg.net", 5432}
}

type backupView struct {
	ID       string     `json:"id"`
	Type     string     `json:"type"`
	Status   string     `json:"status"`
	Started  time.Time  `json:"started_at"`
	Finished *time.Time `json:"finished_at"`
	Size     int64      `json:"size_bytes"`
}

func (c *call) listBackups(cl *postgresCluster) reply {
	out := []backupView{}
	for _, b := range slices.Backward(cl.Backups) {
		one := backupView{ID: b.ID, Type: b.Type, Status: b.Status, Started: b.Started}
		if !b.Finished.IsZero() {
			one.Finished, one.Size = &b.Finished, 32<<20
		}
		out = append(out, one)
	}
	return c.ok(data(out))
}

func (c *call) createBackup(cl *postgresCluster) reply {
	in := struct {
		Type string `json:"type"`
	}{"full"}
	if f := c.decodeMaybe(&in); f != nil {
		return c.failed(f)
	}
	if !slices.Contains([]string{"full", "incr", "diff"}, in.Type) {
		return c.fail(http.StatusUnprocessableEntity, "type must be full, incr or diff")
	}
	if slices.ContainsFunc(cl.Backups, func(b postgresBackup) bool { return b.Status == "running" }) {
		return c.fail(http.StatusConflict, "A backup is currently running")
	}
	b := postgresBackup{ID: c.now.Format("20060102-150405") + in.Type[:1], Type: in.Type, Status: "running", Started: c.now}
	if slices.ContainsFunc(cl.Backups, func(o postgresBackup) bool { return o.ID == b.ID }) {
		b.ID += c.e.newID("backup", 4)
	}
	cl.Backups = append(cl.Backups, b)
	c.e.after(backupRuns, event{Kind: "postgres.backup", ID: cl.ID, Data: b.ID})
	return c.nothing(http.StatusAccepted)
}

func (c *call) forkCluster(cl *postgresCluster) reply {
	in := struct {
		Name string `json:"name"`
	}{cl.Name + "-fork"}
	if f := c.decodeMaybe(&in); f != nil {
		return c.failed(f)
	}
	if cl.Status != clusterReady {
		return c.fail(http.StatusConflict, "The source cluster is not ready to be forked yet")
	}
	return c.copied(cl, in.Name)
}

func (c *call) restoreCluster(cl *postgresCluster) reply {
	var in struct {
		Backup string    `json:"backup_id"`
		Time   time.Time `json:"pitr_time"` // newer than the document: flyctl's source
		Name   string    `json:"name"`
	}
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	completed := slices.ContainsFunc(cl.Backups, func(b postgresBackup) bool { return b.ID == in.Backup && b.Status == "completed" })
	switch {
	case in.Backup == "" && in.Time.IsZero():
		return c.fail(http.StatusUnprocessableEntity, "backup_id is required")
	case in.Backup != "" && !in.Time.IsZero():
		return c.fail(http.StatusUnprocessableEntity, "backup_id and pitr_time exclude each other")
	case in.Backup == "" && (in.Time.Before(cl.Created) || in.Time.After(c.now)):
		return c.fail(http.StatusUnprocessableEntity, "pitr_time must be between the creation of the cluster and now")
	case in.Backup != "" && !completed:
		return c.failed(missing("Backup %s not found for cluster %s", in.Backup, cl.ID))
	}
	if in.Name == "" {
		in.Name = cl.Name + "-restored"
	}
	return c.copied(cl, in.Name)
}

// copied makes a cluster with the settings, users and databases of another,
// and with passwords of its own. The other stays as it is.
func (c *call) copied(cl *postgresCluster, name string) reply {
	if !clusterName.MatchString(name) {
		return c.fail(http.StatusUnprocessableEntity, "name may have lowercase letters, digits and dashes only")
	}
	n := &postgresCluster{
		Org: cl.Org, Name: name, Plan: cl.Plan, Region: cl.Region, DiskGB: cl.DiskGB, Version: cl.Version, PostGIS: cl.PostGIS, Pool: cl.Pool,
		Users: map[string]*postgresUser{}, Databases: map[string]*postgresDatabase{},
	}
	for user, u := range cl.Users {
		n.Users[user] = &postgresUser{Role: u.Role, Password: c.e.newPassword(user)}
	}
	for db, d := range cl.Databases {
		n.Databases[db] = &postgresDatabase{Extensions: maps.Clone(d.Extensions)}
	}
	c.e.beginCluster(n)
	if f := c.found(n); f != nil {
		return c.failed(f)
	}
	return c.reply(http.StatusCreated, data(c.e.clusterView(n)))
}

// driftCluster changes what only the console can change.
func (c *call) driftCluster() reply {
	cl := c.e.state.Postgres[c.values["cluster"]]
	if cl == nil {
		return c.failed(errNoCluster())
	}
	var in struct {
		Status, Plan, Name, Version *string
		DiskGB                      *int `json:"disk_size_gb"`
		PostGIS                     *bool
	}
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	cl.Status, cl.Plan, cl.Name = given(in.Status, cl.Status), given(in.Plan, cl.Plan), given(in.Name, cl.Name)
	cl.Version, cl.DiskGB, cl.PostGIS = given(in.Version, cl.Version), given(in.DiskGB, cl.DiskGB), given(in.PostGIS, cl.PostGIS)
	return c.ok(data(c.e.clusterView(cl)))
}
