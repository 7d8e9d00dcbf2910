package flyemulator

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The console's API has Managed Postgres too, as flyctl uses it: once as
// "postgres", once as "postgresv2", which differ in a few words. What there is
// is what the Machines API has.
func (e *Emulator) uiPostgresRoutes() []route {
	var out []route
	for _, name := range []string{"postgres", "postgresv2"} {
		v := uiPostgres{e: e, v2: name == "postgresv2"}
		all, one := "/api/v1/organizations/{org}/"+name, "/api/v1/"+name+"/{cluster}"
		add := func(method, pattern, action string, handler func(*call) reply) {
			out = append(out, route{method: method, pattern: pattern, action: "ui." + name + "." + action, rate: uiRate, handler: handler})
		}
		add(http.MethodGet, all, "list", v.list)
		add(http.MethodGet, all+"/deleted", "list", v.list)
		add(http.MethodGet, all+"/regions", "regions", v.regions)
		add(http.MethodPost, all, "create", v.create)
		add(http.MethodGet, all+"/{cluster}", "get", v.get)
		add(http.MethodDelete, all+"/{cluster}", "delete", v.delete)
		add(http.MethodGet, one, "get", v.get)
		add(http.MethodPost, one+"/restore", "restore", v.restore)
		for _, what := range []string{"users", "databases", "backups", "attachments"} {
			add(http.MethodGet, one+"/"+what, what, v.inside)
			add(http.MethodPost, one+"/"+what, what, v.inside)
			add(http.MethodPatch, one+"/"+what+"/{name}", what, v.inside)
			add(http.MethodDelete, one+"/"+what+"/{name}", what, v.inside)
		}
		add(http.MethodGet, one+"/users/{name}/credentials", "users", v.inside)
		add(http.MethodGet, one+"/databases/{name}/extensions", "extensions", v.inside)
		add(http.MethodPost, one+"/databases/{name}/extensions", "extensions", v.inside)
		add(http.MethodDelete, one+"/databases/{name}/extensions/{extension}", "extensions", v.inside)
	}
	return out
}

type uiPostgres struct {
	e  *Emulator
	v2 bool
}

type object = map[string]any

// uiCluster is a cluster as the console's API shows it.
func (v uiPostgres) cluster(cl *postgresCluster) object {
	apps := []object{}
	for _, a := range cl.Attached {
		number := 0
		if of := v.e.state.Apps[a.App]; of != nil {
			number = of.Number
		}
		apps = append(apps, object{"name": a.App, "id": number})
	}
	o := uiOrgOf(v.e.state.Orgs[cl.Org])
	return object{
		"id": cl.ID, "name": cl.Name, "status": cl.Status, "engine": "postgres", "plan": cl.Plan, "region": cl.Region, "environment": nil,
		"organization": object{"id": o.ID, "name": o.Name, "slug": o.Slug, "raw_slug": o.RawSlug}, "mpgd_cluster_id": "mpgd-" + cl.ID,
		"disk": cl.DiskGB, "replicas": 1, "version": 2, "postgis_enabled": cl.PostGIS, "attached_apps": apps,
		"ip_assignments": object{"direct": "fdaa:0:" + strconv.FormatUint(uint64(hash32(cl.ID)&0xffff), 16) + ":0:1::2"},
	}
}

// org is the organization of the path, by its real slug: an alias is not known.
func (v uiPostgres) org(c *call) (*Org, *reply) {
	slug := c.values["org"]
	for _, o := range v.e.state.Orgs {
		if o.RawSlug != slug {
			continue
		}
		if _, f := c.orgOf(o.Slug); f != nil {
			no := uiFailed(f.status, f.text)
			return nil, &no
		}
		return o, nil
	}
	no := uiFailed(http.StatusNotFound, "Not Found")
	return nil, &no
}

// of is the cluster of the path.
func (v uiPostgres) of(c *call) (*postgresCluster, *reply) {
	cl, f := c.clusterOf()
	if f != nil {
		no := uiFailed(f.status, f.text)
		return nil, &no
	}
	if slug := c.values["org"]; slug != "" && v.e.state.Orgs[cl.Org].RawSlug != slug {
		no := uiFailed(http.StatusNotFound, "Not Found")
		return nil, &no
	}
	return cl, nil
}

func (v uiPostgres) list(c *call) reply {
	org, no := v.org(c)
	if no != nil {
		return *no
	}
	deleted := strings.HasSuffix(c.route.pattern, "/deleted")
	out := []object{}
	for _, cl := range v.e.clusters() {
		if cl.Org == org.Slug && (cl.Status == clusterDeleted) == deleted {
			out = append(out, v.cluster(cl))
		}
	}
	return c.ok(data(out))
}

func (v uiPostgres) regions(c *call) reply {
	if _, no := v.org(c); no != nil {
		return *no
	}
	out := []object{}
	for _, r := range regions {
		out = append(out, object{"code": r.Code, "available": r.Postgres})
	}
	return c.ok(data(out))
}

func (v uiPostgres) create(c *call) reply {
	org, no := v.org(c)
	if no != nil {
		return *no
	}
	var in struct {
		Name    string
		Region  string
		Plan    string
		Version string `json:"pg_major_version"`
		Disk    *int   `json:"disk"`
		Storage *int   `json:"storage_in_gb"`
		PostGIS bool   `json:"postgis_enabled"`
	}
	if f := c.decode(&in); f != nil {
		return uiFailed(f.status, f.text)
	}
	// flyctl writes the plans in small letters.
	for plan := range postgresPlans() {
		if strings.EqualFold(plan, in.Plan) {
			in.Plan = plan
		}
	}
	size := in.Storage
	if size == nil {
		size = in.Disk
	}
	cl, f := v.e.newCluster(org, clusterRequest{Name: in.Name, Plan: in.Plan, Region: in.Region, DiskGB: size, Version: in.Version, PostGIS: in.PostGIS})
	if f == nil {
		f = c.found(cl)
	}
	if f != nil {
		rep := uiFailed(f.status, f.text)
		rep.body.(object)["ok"] = false
		return rep
	}
	return c.reply(http.StatusCreated, object{"ok": true, "errors": object{}, "data": v.cluster(cl)})
}

// get tells the way in too: its status is one of its own, which may come later
// than that of the cluster.
func (v uiPostgres) get(c *call) reply {
	cl, no := v.of(c)
	if no != nil {
		return *no
	}
	way := object{"status": "initializing", "user": "", "password": "", "dbname": "", "pgbouncer_uri": ""}
	var known struct{ Data credentialsView }
	if c.read("/v1/postgres/"+cl.ID+"/users/"+defaultUser+"/credentials", &known) == nil {
		_, pooler := v.e.endpoints(cl)
		uri := url.URL{Scheme: "postgresql", User: url.UserPassword(defaultUser, known.Data.Password), Host: pooler.Host, Path: "/" + defaultDatabase}
		way = object{"status": "ready", "user": defaultUser, "password": known.Data.Password, "dbname": defaultDatabase, "pgbouncer_uri": uri.String()}
	}
	return c.ok(object{"data": v.cluster(cl), "credentials": way})
}

func (v uiPostgres) delete(c *call) reply {
	cl, no := v.of(c)
	if no != nil {
		return *no
	}
	rep := c.inner(http.MethodDelete, "/v1/postgres/"+cl.ID, nil)
	if rep.status >= http.StatusBadRequest {
		return v.failed(rep)
	}
	return c.nothing(http.StatusNoContent)
}

// restore makes another cluster. A time to go back to is known here only.
func (v uiPostgres) restore(c *call) reply {
	cl, no := v.of(c)
	if no != nil {
		return *no
	}
	var in struct {
		Backup string `json:"backup_id"`
		Name   string `json:"name"`
		Time   string `json:"pitr_time"`
	}
	if f := c.decode(&in); f != nil {
		return uiFailed(f.status, f.text)
	}
	path, body := "/restore", object{"backup_id": in.Backup}
	if in.Time != "" {
		at, err := time.Parse(time.RFC3339, in.Time)
		if err != nil || at.After(c.now) || at.Before(cl.Created) {
			return uiFailed(http.StatusUnprocessableEntity, "pitr_time is no time that can be gone back to")
		}
		path, body = "/fork", object{"name": cl.Name + "-restored"}
	}
	rep := c.inner(http.MethodPost, "/v1/postgres/"+cl.ID+path, body)
	if rep.status >= http.StatusBadRequest {
		return v.failed(rep)
	}
	made := v.e.state.Postgres[v.answered(rep)["id"].(string)]
	if in.Name != "" {
		made.Name = in.Name
	}
	return c.reply(http.StatusCreated, data(v.cluster(made)))
}

// answered is the data of an answer of the Machines API.
func (v uiPostgres) answered(rep reply) object {
	raw, _ := rep.bytes()
	var body struct{ Data object }
	_ = json.Unmarshal(raw, &body) // it is the emulator's own
	return body.Data
}

// failed is a refusal of the Machines API, in both ways in which clients of
// the console's API look for it.
func (v uiPostgres) failed(rep reply) reply {
	raw, _ := rep.bytes()
	var body errorBody
	_ = json.Unmarshal(raw, &body) // it is the emulator's own
	out := uiFailed(rep.status, body.Error)
	out.body.(object)["ok"], out.body.(object)["error"] = false, body.Error
	return out
}

// words of the console's API for those of the Machines API.
var words = map[string]map[string]string{
	"users":      {"username": "name"},
	"extensions": {"system": "is_system"},
	"backups":    {"started_at": "start", "finished_at": "stop"},
}

// inside has the Machines API answer about what is in a cluster, and says it in
// the words of the console's API.
func (v uiPostgres) inside(c *call) reply {
	cl, no := v.of(c)
	if no != nil {
		return *no
	}
	_, rest, _ := strings.Cut(strings.TrimPrefix(c.r.URL.EscapedPath(), "/api/v1/"), "/"+cl.ID+"/")
	parts := strings.Split(rest, "/")
	what := parts[0]
	if slices.Contains(parts, "extensions") {
		what = "extensions"
	}
	var body any
	if len(c.body) > 0 {
		in := object{}
		if f := c.decode(&in); f != nil {
			return uiFailed(f.status, f.text)
		}
		for from, to := range map[string]string{"user_name": "username", "create_schema_if_needed": "create_schema"} {
			if x, ok := in[from]; ok {
				in[to] = x
			}
		}
		body = in
	}
	path := "/v1/postgres/" + cl.ID + "/" + rest
	if q := c.r.URL.RawQuery; q != "" {
		path += "?" + q
	}
	rep := c.inner(c.r.Method, path, body)
	if rep.status >= http.StatusBadRequest {
		return v.failed(rep)
	}
	if what == "attachments" {
		return v.attachment(c, cl, rep)
	}
	raw, _ := rep.bytes()
	var out struct{ Data any }
	if len(raw) == 0 || json.Unmarshal(raw, &out) != nil {
		if c.r.Method == http.MethodPatch && what == "users" {
			return c.ok(data(object{"name": c.values["name"], "role": body.(object)["role"]}))
		}
		return c.nothing(rep.status)
	}
	if strings.HasSuffix(rest, "/credentials") {
		known, _ := out.Data.(object)
		if !v.v2 {
			known["user"] = known["username"]
		}
		return c.ok(data(known))
	}
	return c.reply(rep.status, data(reworded(out.Data, words[what])))
}

// reworded is a value with other names for some of its fields.
func reworded(x any, names map[string]string) any {
	switch x := x.(type) {
	case []any:
		for i := range x {
			x[i] = reworded(x[i], names)
		}
	case object:
		for from, to := range names {
			if value, ok := x[from]; ok {
				x[to] = value
				delete(x, from)
			}
		}
	}
	return x
}

func (v uiPostgres) attachment(c *call, cl *postgresCluster, rep reply) reply {
	if c.r.Method == http.MethodDelete {
		return c.ok(data(object{"message": "App detached"}))
	}
	number := 0
	if a := v.e.state.Apps[asText(v.answered(rep)["app_name"])]; a != nil {
		number = a.Number
	}
	return c.reply(rep.status, data(object{
		"id": int(hash32(cl.ID) & 0xffffff), "app_id": number, "managed_service_id": int(hash32(cl.Hash) & 0xffffff), "attached_at": v.answered(rep)["attached_at"],
	}))
}

func asText(x any) string {
	s, _ := x.(string)
	return s
}
