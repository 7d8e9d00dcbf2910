package flyemulator

import (
	"cmp"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// postgresCluster is one of Managed Postgres.
type postgresCluster struct {
	ID      string
	Org     string // slug
	Name    string
	Plan    string
	Region  string
	DiskGB  int
	Version string
	PostGIS bool
	Pool    string // session, transaction
	Hash    string // in the names of its hosts: it is not the id

	Status  string
	Fate    string // how its creation ends: a value of ModePostgresCreate
	Created time.Time
	Ready   time.Time // when it became that
	Deleted time.Time

	Users     map[string]*postgresUser
	Databases map[string]*postgresDatabase
	Backups   []postgresBackup
	Attached  []attachment
}

type postgresUser struct {
	Role     string
	Password string
}

type postgresDatabase struct {
	Extensions map[string]string // schema, by name
}

type postgresBackup struct {
	ID       string
	Type     string
	Status   string // running, completed
	Started  time.Time
	Finished time.Time
}

type attachment struct {
	App string
	At  time.Time
}

// The status of a cluster.
const (
	clusterCreating     = "creating"
	clusterInitializing = "initializing"
	clusterReady        = "ready"
	clusterDeleting     = "deleting"
	clusterDeleted      = "deleted"
)

// How long a cluster takes. The whole of its creation is a minute or more.
const (
	clusterCreates  = 10 * time.Second
	clusterInits    = 50 * time.Second
	clusterDeletes  = 30 * time.Second
	passwordLate    = 30 * time.Second
	backupRuns      = 20 * time.Second
	defaultUser     = "fly-user"
	defaultDatabase = "fly-db"
)

// plan is what a node of a cluster has.
type plan struct {
	cpus, memoryMB int
	kind           string
}

// postgresPlans are spelled as the API has them, with one capital.
func postgresPlans() map[string]plan {
	return map[string]plan{
		"basic":       {2, 1024, "shared"},
		"starter":     {2, 2048, "shared"},
		"launch":      {2, 8192, "performance"},
		"scale":       {4, 32768, "performance"},
		"Performance": {8, 65536, "performance"},
	}
}

// clusterRequest asks for a cluster.
type clusterRequest struct {
	OrgSlug string `json:"org_slug"`
	Name    string `json:"name"`
	Plan    string `json:"plan"`
	Region  string `json:"region"`
	DiskGB  *int   `json:"disk_size_gb"`
	Version string `json:"pg_major_version"`
	Pool    string `json:"pool_mode"`
	PostGIS bool   `json:"postgis_enabled"`
}

var clusterName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// newCluster makes a cluster. Names may repeat: who asks twice has two, and
// pays for two.
func (e *Emulator) newCluster(org *Org, r clusterRequest) (*postgresCluster, *failure) {
	cl := &postgresCluster{
		Org: org.Slug, Name: r.Name, Plan: r.Plan, Region: r.Region, DiskGB: given(r.DiskGB, 10), Version: cmp.Or(r.Version, "17"),
		PostGIS: r.PostGIS, Pool: cmp.Or(r.Pool, "session"),
		Users: map[string]*postgresUser{}, Databases: map[string]*postgresDatabase{},
	}
	unknown := func(what, value string) *failure {
		return refuse(http.StatusUnprocessableEntity, "%s %q is not supported", what, value)
	}
	_, plan := postgresPlans()[r.Plan]
	switch {
	case org.Unpaid:
		return nil, refuse(http.StatusUnprocessableEntity, "To create a Managed Postgres cluster please add a payment method. https://fly.io/dashboard/%s/billing", org.Slug)
	case r.Plan == "":
		return nil, refuse(http.StatusUnprocessableEntity, "plan is required")
	case r.Region == "":
		return nil, refuse(http.StatusUnprocessableEntity, "region is required")
	case !plan:
		return nil, unknown("plan", r.Plan)
	case !slices.ContainsFunc(regions, func(x region) bool { return x.Code == r.Region && x.Postgres }):
		return nil, unknown("region", r.Region)
	case cl.DiskGB < 10 || cl.DiskGB > 1000:
		return nil, refuse(http.StatusUnprocessableEntity, "disk_size_gb must be between 10 and 1000")
	case cl.Version != "16" && cl.Version != "17":
		return nil, unknown("pg_major_version", cl.Version)
	case cl.Pool != "session" && cl.Pool != "transaction":
		return nil, unknown("pool_mode", cl.Pool)
	case r.Name != "" && !clusterName.MatchString(r.Name):
		return nil, refuse(http.StatusUnprocessableEntity, "name may have lowercase letters, digits and dashes only")
	}
	e.beginCluster(cl)
	return cl, nil
}

// beginCluster gives a cluster its identity and has it come into being.
func (e *Emulator) beginCluster(cl *postgresCluster) {
	cl.ID, cl.Hash = e.newID("cluster", 16), e.newID("flympg", 16)
	cl.Name = cmp.Or(cl.Name, "fly-pg-"+cl.ID[:6])
	cl.Status, cl.Fate, cl.Created = clusterCreating, e.mode(ModePostgresCreate), e.now()
	cl.Users[defaultUser] = &postgresUser{Role: "schema_admin", Password: e.newPassword(defaultUser)}
	if cl.Databases[defaultDatabase] == nil {
		cl.Databases[defaultDatabase] = &postgresDatabase{}
	}
	e.state.Postgres[cl.ID] = cl
	e.after(clusterCreates, event{Kind: "postgres.initializing", ID: cl.ID})
}

func (e *Emulator) postgresEvents() map[string]func(event) {
	with := func(f func(*postgresCluster, event)) func(event) {
		return func(ev event) {
			if cl := e.state.Postgres[ev.ID]; cl != nil {
				f(cl, ev)
			}
		}
	}
	return map[string]func(event){
		"postgres.initializing": with(func(cl *postgresCluster, _ event) {
			if cl.Status == clusterCreating {
				cl.Status = clusterInitializing
				e.after(clusterInits, event{Kind: "postgres.made", ID: cl.ID})
			}
		}),
		"postgres.made": with(func(cl *postgresCluster, _ event) {
			if cl.Status == clusterInitializing && cl.Fate != "stuck" {
				cl.Status, cl.Ready = cl.Fate, e.now()
			}
		}),
		"postgres.deleted": with(func(cl *postgresCluster, _ event) {
			cl.Status, cl.Deleted = clusterDeleted, e.now()
		}),
		"postgres.backup": with(func(cl *postgresCluster, ev event) {
			for i := range cl.Backups {
				if cl.Backups[i].ID == ev.Data {
					cl.Backups[i].Status, cl.Backups[i].Finished = "completed", e.now()
				}
			}
		}),
	}
}

// endCluster begins the end of a cluster.
func (e *Emulator) endCluster(cl *postgresCluster) {
	cl.Status, cl.Attached = clusterDeleting, nil
	e.after(clusterDeletes, event{Kind: "postgres.deleted", ID: cl.ID})
}

// errNoCluster is what is said of a cluster that is not there, and of what is
// inside one that is not ready.
func errNoCluster() *failure { return missing("Cluster not found") }

// clusterOf is the cluster of the path, if the token reaches its organization.
func (c *call) clusterOf() (*postgresCluster, *failure) {
	cl := c.e.state.Postgres[c.values["cluster"]]
	if cl == nil {
		return nil, errNoCluster()
	}
	if _, f := c.orgOf(cl.Org); f != nil {
		return nil, f
	}
	switch {
	case cl.Status == clusterDeleted && c.e.mode(ModePostgresGone) == "missing":
		return nil, errNoCluster()
	case cl.Status == clusterDeleted && (!c.route.read || c.e.mode(ModePostgresGone) == "gone"):
		return nil, refuse(http.StatusGone, "This cluster has been deleted")
	case cl.Status == clusterDeleting && !c.route.read:
		return nil, refuse(http.StatusGone, "This cluster is being deleted")
	}
	return cl, nil
}

// onCluster hands over the cluster of the path.
func onCluster(f func(*call, *postgresCluster) reply) func(*call) reply {
	return func(c *call) reply {
		cl, no := c.clusterOf()
		if no != nil {
			return c.failed(no)
		}
		return f(c, cl)
	}
}

// onReady is onCluster for what is inside: there is nothing before it is ready.
func onReady(f func(*call, *postgresCluster) reply) func(*call) reply {
	return onCluster(func(c *call, cl *postgresCluster) reply {
		if cl.Ready.IsZero() || cl.Status != clusterReady {
			return c.failed(errNoCluster())
		}
		return f(c, cl)
	})
}

func (e *Emulator) postgresRoutes() []route {
	const all, one = "/v1/postgres", "/v1/postgres/{cluster}"
	const database, user = one + "/databases/{database}", one + "/users/{user}"
	r := func(method, pattern, action string, f func(*call) reply) route {
		return route{method: method, pattern: pattern, action: "postgres." + action, scope: scopeToken, handler: f}
	}
	return []route{
		r(http.MethodGet, all, "list", (*call).listClusters),
		r(http.MethodPost, all, "create", (*call).createCluster),
		r(http.MethodGet, one, "get", onCluster((*call).getCluster)),
		r(http.MethodDelete, one, "delete", onCluster((*call).deleteCluster)),
		r(http.MethodPost, one+"/attachments", "attach", onCluster((*call).attachCluster)),
		r(http.MethodDelete, one+"/attachments/{attached}", "detach", onCluster((*call).detachCluster)),
		r(http.MethodGet, one+"/backups", "backups.list", onCluster((*call).listBackups)),
		r(http.MethodPost, one+"/backups", "backups.create", onReady((*call).createBackup)),
		r(http.MethodPost, one+"/fork", "fork", onCluster((*call).forkCluster)),
		r(http.MethodPost, one+"/restore", "restore", onCluster((*call).restoreCluster)),
		r(http.MethodGet, one+"/databases", "databases.list", onReady((*call).listDatabases)),
		r(http.MethodPost, one+"/databases", "databases.create", onReady((*call).createDatabase)),
		r(http.MethodDelete, database, "databases.delete", onReady((*call).deleteDatabase)),
		r(http.MethodGet, database+"/extensions", "extensions.list", onReady((*call).listExtensions)),
		r(http.MethodPost, database+"/extensions", "extensions.enable", onReady((*call).enableExtension)),
		r(http.MethodDelete, database+"/extensions/{extension}", "extensions.disable", onReady((*call).disableExtension)),
		r(http.MethodGet, one+"/users", "users.list", onReady((*call).listUsers)),
		r(http.MethodPost, one+"/users", "users.create", onReady((*call).createUser)),
		r(http.MethodPatch, user, "users.update", onReady((*call).updateUser)),
		r(http.MethodDelete, user, "users.delete", onReady((*call).deleteUser)),
		r(http.MethodGet, user+"/credentials", "users.credentials", onReady((*call).userCredentials)),
		r(http.MethodPost, user+"/rotate_password", "users.rotate", onReady((*call).rotatePassword)),
		{method: http.MethodPost, pattern: "/_emulator/postgres/{cluster}", scope: scopeControl, handler: (*call).driftCluster},
	}
}

// data is the envelope of all answers about Managed Postgres.
func data(v any) any { return map[string]any{"data": v} }

func (c *call) listClusters() reply {
	text := c.query("include_deleted")
	deleted, err := strconv.ParseBool(cmp.Or(text, "false"))
	if err != nil {
		return c.fail(http.StatusUnprocessableEntity, "include_deleted must be true or false")
	}
	if c.e.org(c.query("org_slug")) == nil {
		return c.failed(missing("Organization not found"))
	}
	org, f := c.orgOf(c.query("org_slug"))
	if f != nil {
		return c.failed(f)
	}
	out := []clusterSummary{}
	for _, cl := range c.e.clusters() {
		if cl.Org == org.Slug && (deleted || cl.Status != clusterDeleted) {
			out = append(out, c.e.clusterSummary(cl))
		}
	}
	return c.ok(data(out))
}

// clusters are all there are, oldest first.
func (e *Emulator) clusters() []*postgresCluster {
	return slices.SortedFunc(maps.Values(e.state.Postgres), func(x, y *postgresCluster) int {
		return cmp.Or(x.Created.Compare(y.Created), strings.Compare(x.ID, y.ID))
	})
}

func (c *call) createCluster() reply {
	var in clusterRequest
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	if in.OrgSlug == "" {
		return c.fail(http.StatusUnprocessableEntity, "org_slug is required")
	}
	if c.e.org(in.OrgSlug) == nil {
		return c.failed(missing("Organization not found"))
	}
	org, f := c.orgOf(in.OrgSlug)
	if f != nil {
		return c.failed(f)
	}
	cl, f := c.e.newCluster(org, in)
	if f != nil {
		return c.failed(f)
	}
	if f := c.found(cl); f != nil {
		return c.failed(f)
	}
	return c.reply(http.StatusCreated, data(c.e.clusterView(cl)))
}

func (c *call) getCluster(cl *postgresCluster) reply { return c.ok(data(c.e.clusterView(cl))) }

func (c *call) deleteCluster(cl *postgresCluster) reply {
	c.e.endCluster(cl)
	if f := c.demolish(cl); f != nil {
		return c.failed(f)
	}
	return c.nothing(http.StatusAccepted)
}

func (c *call) attachCluster(cl *postgresCluster) reply {
	var in struct {
		App string `json:"app_name"`
	}
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	a := c.e.state.Apps[in.App]
	if a == nil || a.Org != cl.Org {
		return c.failed(missing("App not found"))
	}
	status := http.StatusOK
	i := slices.IndexFunc(cl.Attached, func(x attachment) bool { return x.App == in.App })
	if i < 0 {
		i, status = len(cl.Attached), http.StatusCreated
		cl.Attached = append(cl.Attached, attachment{in.App, c.now})
	}
	return c.reply(status, data(map[string]any{"app_name": in.App, "attached_at": cl.Attached[i].At, "postgres_cluster_id": cl.ID}))
}

func (c *call) detachCluster(cl *postgresCluster) reply {
	name, before := c.values["attached"], len(cl.Attached)
	if c.e.state.Apps[name] == nil {
		return c.failed(missing("App not found"))
	}
	cl.Attached = slices.DeleteFunc(cl.Attached, func(x attachment) bool { return x.App == name })
	if len(cl.Attached) == before {
		return c.failed(missing("Attachment not found"))
	}
	return c.nothing(http.StatusNoContent)
}
