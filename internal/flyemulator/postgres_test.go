package flyemulator

import (
	"fmt"
	"testing"
	"time"
)

const postgresPath = "/v1/postgres"

// cluster makes one, and waits until it is ready.
func (w *world) cluster(body string) string {
	w.Helper()
	id := w.want(201, "POST", postgresPath, body).at("data.id").(string)
	pass(clusterCreates + clusterInits)
	w.says(w.want(200, "GET", postgresPath+"/"+id, ""), "data.status", "ready")
	return postgresPath + "/" + id
}

const aCluster = `{"org_slug":"acme","name":"shop","plan":"basic","region":"fra"}`

func TestPostgresComesIntoBeing(t *testing.T) {
	in(t, Options{}, func(w *world) {
		v := w.want(201, "POST", postgresPath, `{"org_slug":"acme","name":"shop","plan":"Performance","region":"fra","disk_size_gb":20,"pg_major_version":"16","postgis_enabled":true,"pool_mode":"transaction"}`)
		for path, want := range map[string]any{
			"data.name": "shop", "data.status": "creating", "data.plan": "Performance", "data.cpus": 8, "data.cpu_kind": "performance", "data.memory_mb": 65536,
			"data.disk_size_gb": 20, "data.pg_major_version": "16", "data.postgis_enabled": true, "data.endpoints": nil, "data.organization.slug": "acme",
			"data.attached_apps.0": nil, "data.pool_mode": nil,
		} {
			w.says(v, path, want)
		}
		one := postgresPath + "/" + v.at("data.id").(string)
		inside := []refused{
			{"credentials", "GET", one + "/users/fly-user/credentials", "", 404, "not found"},
			{"users", "GET", one + "/users", "", 404, "not found"},
			{"a user", "POST", one + "/users", `{"username":"web","role":"writer"}`, 404, "not found"},
			{"databases", "GET", one + "/databases", "", 404, "not found"},
			{"fork", "POST", one + "/fork", "", 409, "not ready to be forked"},
		}
		w.refuses(inside)
		pass(clusterCreates)
		w.says(w.want(200, "GET", one, ""), "data.status", "initializing")
		w.refuses(inside)
		pass(clusterInits)
		v = w.want(200, "GET", one, "")
		w.says(v, "data.status", "ready")
		w.says(v, "data.endpoints.primary.direct.port", 5432)
		hash := w.e.state.Postgres[v.at("data.id").(string)].Hash
		w.says(v, "data.endpoints.primary.direct.host", "direct."+hash+".flympg.net")
		w.says(v, "data.endpoints.primary.pooler.host", "pgbouncer."+hash+".flympg.net")
		c := w.want(200, "GET", one+"/users/fly-user/credentials", "")
		w.says(c, "data.username", "fly-user")
		if c.at("data.password").(string) == "" {
			t.Error("no password")
		}
		w.says(w.want(200, "GET", one+"/users", ""), "data.0.username", "fly-user")
		w.says(w.want(200, "GET", one+"/databases", ""), "data.0.name", "fly-db")
		list := w.want(200, "GET", postgresPath+"?org_slug=acme", "")
		w.says(list, "data.0.name", "shop")
		w.says(list, "data.0.disk_size_gb", nil)
	})
}

func TestPostgresIsRefused(t *testing.T) {
	in(t, Options{Orgs: []Org{{Slug: "acme"}, {Slug: "other"}, {Slug: "poor", Unpaid: true}}, Tokens: []Token{
		{Value: DefaultToken, Kind: OrgToken, Org: "acme"},
		{Value: DefaultToken, Kind: OrgToken, Org: "poor"},
		{Value: "of-an-app", Kind: AppToken, Org: "acme", App: "web"},
		{Value: "reader", Kind: ReadOnlyToken, Org: "acme"},
	}}, func(w *world) {
		create := func(name, body string, status int, text string) refused {
			return refused{name, "POST", postgresPath, body, status, text}
		}
		one := postgresPath + "/" + w.want(201, "POST", postgresPath, aCluster).at("data.id").(string)
		w.refuses([]refused{
			create("organization", `{"plan":"basic","region":"fra"}`, 422, "org_slug is required"),
			create("no such organization", `{"org_slug":"none","plan":"basic","region":"fra"}`, 404, "Organization not found"),
			create("organization of others", `{"org_slug":"other","plan":"basic","region":"fra"}`, 403, "unauthorized"),
			create("no payment method", `{"org_slug":"poor","plan":"basic","region":"fra"}`, 422, "please add a payment method"),
			create("plan", `{"org_slug":"acme","region":"fra"}`, 422, "plan is required"),
			create("plan in small letters", `{"org_slug":"acme","plan":"performance","region":"fra"}`, 422, "performance"),
			create("plan in capitals", `{"org_slug":"acme","plan":"Basic","region":"fra"}`, 422, "Basic"),
			create("no region", `{"org_slug":"acme","plan":"basic"}`, 422, "region is required"),
			create("region without it", `{"org_slug":"acme","plan":"basic","region":"cdg"}`, 422, "cdg"),
			create("small disk", `{"org_slug":"acme","plan":"basic","region":"fra","disk_size_gb":9}`, 422, "disk_size_gb"),
			create("large disk", `{"org_slug":"acme","plan":"basic","region":"fra","disk_size_gb":1001}`, 422, "disk_size_gb"),
			create("version", `{"org_slug":"acme","plan":"basic","region":"fra","pg_major_version":"15"}`, 422, "15"),
			create("version as a number", `{"org_slug":"acme","plan":"basic","region":"fra","pg_major_version":16}`, 400, "json"),
			create("pool mode", `{"org_slug":"acme","plan":"basic","region":"fra","pool_mode":"statement"}`, 422, "statement"),
			{"list of none", "GET", postgresPath + "?org_slug=none", "", 404, "Organization not found"},
			{"list of others", "GET", postgresPath + "?org_slug=other", "", 403, "unauthorized"},
			{"list", "GET", postgresPath + "?org_slug=acme&include_deleted=x", "", 422, "include_deleted must be true or false"},
			{"unknown", "GET", postgresPath + "/none", "", 404, "Cluster not found"},
			{"change", "PATCH", one, `{"plan":"scale"}`, 405, ""},
			{"put", "PUT", one, `{"plan":"scale"}`, 405, ""},
		})
		w.want(201, "POST", postgresPath, aCluster) // a second of the same name
		if n := len(w.want(200, "GET", postgresPath+"?org_slug=acme", "").at("data").([]any)); n != 2 {
			t.Errorf("%d clusters, want 2", n)
		}
		for token, reads := range map[string]int{"of-an-app": 403, "reader": 200} {
			w.token = token
			w.want(403, "POST", postgresPath, aCluster)
			w.want(403, "DELETE", one, "")
			w.want(reads, "GET", one, "")
		}
	})
}

func TestPostgresFails(t *testing.T) {
	for fate, want := range map[string]string{"failed": "failed", "error": "error", "stuck": "initializing"} {
		t.Run(fate, func(t *testing.T) {
			in(t, Options{}, func(w *world) {
				w.e.SetMode(ModePostgresCreate, fate)
				one := postgresPath + "/" + w.want(201, "POST", postgresPath, aCluster).at("data.id").(string)
				w.e.SetMode(ModePostgresCreate, "ready")
				pass(time.Hour)
				v := w.want(200, "GET", one, "")
				w.says(v, "data.status", want)
				w.says(v, "data.endpoints", nil)
				w.want(404, "GET", one+"/users/fly-user/credentials", "")
				w.want(202, "DELETE", one, "")
			})
		})
	}
}

func TestPostgresPasswordComesLate(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.e.SetMode(ModePostgresPassword, "late")
		one := w.cluster(aCluster)
		w.want(404, "GET", one+"/users/fly-user/credentials", "")
		pass(passwordLate)
		w.want(200, "GET", one+"/users/fly-user/credentials", "")
	})
}

func TestPostgresEnds(t *testing.T) {
	for mode, want := range map[string]int{"gone": 410, "missing": 404, "shown": 200} {
		t.Run(mode, func(t *testing.T) {
			in(t, Options{}, func(w *world) {
				w.e.SetMode(ModePostgresGone, mode)
				one := w.cluster(aCluster)
				w.want(201, "POST", one+"/attachments", `{"app_name":"web"}`)
				w.want(202, "DELETE", one, "")
				w.says(w.want(200, "GET", one, ""), "data.status", "deleting")
				w.refuses([]refused{
					{"again", "DELETE", one, "", 410, "This cluster is being deleted"},
					{"attach", "POST", one + "/attachments", `{"app_name":"web"}`, 410, "This cluster is being deleted"},
					{"fork", "POST", one + "/fork", "", 410, "This cluster is being deleted"},
				})
				pass(clusterDeletes)
				v := w.want(want, "GET", one, "")
				if want == 410 {
					w.says(v, "error", "This cluster has been deleted")
				}
				if want != 404 {
					w.says(w.want(410, "DELETE", one, ""), "error", "This cluster has been deleted")
				}
				w.says(w.want(200, "GET", postgresPath+"?org_slug=acme", ""), "data.0", nil)
				v = w.want(200, "GET", postgresPath+"?org_slug=acme&include_deleted=true", "")
				w.says(v, "data.0.status", "deleted")
				if v.at("data.0.deleted_at") == nil {
					t.Errorf("when? %s", v.raw)
				}
			})
		})
	}
}

func TestPostgresAttachments(t *testing.T) {
	in(t, Options{Foreign: []string{"strange"}}, func(w *world) {
		one := w.cluster(aCluster)
		v := w.want(201, "POST", one+"/attachments", `{"app_name":"web"}`)
		w.says(v, "data.app_name", "web")
		w.says(w.want(200, "POST", one+"/attachments", `{"app_name":"web"}`), "data.attached_at", v.at("data.attached_at"))
		w.says(w.want(200, "GET", one, ""), "data.attached_apps.0.name", "web")
		if v := w.want(200, "GET", secretsPath, ""); v.raw != "{\"secrets\":[]}\n" {
			t.Errorf("an attachment sets secrets: %s", v.raw)
		}
		w.refuses([]refused{
			{"no app", "POST", one + "/attachments", `{"app_name":"none"}`, 404, "App not found"},
			{"app of others", "POST", one + "/attachments", `{"app_name":"strange"}`, 404, "App not found"},
			{"no attachment", "DELETE", one + "/attachments/none", "", 404, "App not found"},
		})
		w.app("short")
		w.want(201, "POST", one+"/attachments", `{"app_name":"short"}`)
		w.want(202, "DELETE", "/v1/apps/short", "")
		w.says(w.want(200, "GET", one, ""), "data.attached_apps.1", nil)
		w.want(204, "DELETE", one+"/attachments/web", "")
		w.refuses([]refused{{"again", "DELETE", one + "/attachments/web", "", 404, "Attachment not found"}})
	})
}

func TestPostgresUsers(t *testing.T) {
	in(t, Options{}, func(w *world) {
		one := w.cluster(aCluster)
		w.says(w.want(201, "POST", one+"/users", `{"username":"web","role":"writer"}`), "data.username", "web")
		create := func(name, body string, status int, text string) refused {
			return refused{name, "POST", one + "/users", body, status, text}
		}
		w.refuses([]refused{
			create("again", `{"username":"web","role":"writer"}`, 409, "User already exists"),
			create("name", `{"role":"writer"}`, 422, "username is required"),
			create("role", `{"username":"a"}`, 422, "role is required"),
			create("unknown role", `{"username":"a","role":"admin"}`, 422, "role must be"),
			create("reserved", `{"username":"postgres","role":"writer"}`, 400, "reserved"),
			create("system", `{"username":"pg_x","role":"writer"}`, 400, "reserved"),
			create("malformed", `{"username":"a b","role":"writer"}`, 400, "malformed"),
			{"role of nobody", "PATCH", one + "/users/none", `{"role":"reader"}`, 404, "User not found"},
			{"no such role", "PATCH", one + "/users/web", `{"role":"x"}`, 422, "role"},
			{"delete nobody", "DELETE", one + "/users/none", "", 404, "User not found"},
			{"delete the service's", "DELETE", one + "/users/fly-user", "", 400, "reserved"},
			{"credentials of nobody", "GET", one + "/users/none/credentials", "", 404, "User not found"},
			{"rotation", "POST", one + "/users/web/rotate_password", `{"kill_sessions":"x"}`, 422, "kill_sessions must be true or false"},
		})
		w.want(204, "PATCH", one+"/users/web", `{"role":"reader"}`)
		w.says(w.want(200, "GET", one+"/users", ""), "data.1.role", "reader")
		before := w.want(200, "GET", one+"/users/web/credentials", "").at("data.password")
		after := w.want(200, "POST", one+"/users/web/rotate_password", "").at("data.password")
		if before == after || after != w.want(200, "GET", one+"/users/web/credentials", "").at("data.password") {
			t.Error("the password is not rotated")
		}
		w.want(204, "DELETE", one+"/users/web", "")
		w.want(404, "GET", one+"/users/web/credentials", "")
	})
}

func TestPostgresDatabasesAndExtensions(t *testing.T) {
	in(t, Options{}, func(w *world) {
		one := w.cluster(aCluster)
		w.says(w.want(201, "POST", one+"/databases", `{"name":"shop"}`), "data.name", "shop")
		ext := one + "/databases/shop/extensions"
		w.want(204, "POST", ext, `{"name":"citext"}`)
		w.want(204, "POST", ext, `{"name":"hstore","schema":"stuff","create_schema":true}`)
		w.refuses([]refused{
			{"again", "POST", one + "/databases", `{"name":"shop"}`, 422, "already exists"},
			{"name", "POST", one + "/databases", `{}`, 422, "name is required"},
			{"reserved", "POST", one + "/databases", `{"name":"template1"}`, 400, "reserved"},
			{"malformed", "POST", one + "/databases", `{"name":"a b"}`, 400, "malformed"},
			{"delete reserved", "DELETE", one + "/databases/postgres", "", 400, "reserved"},
			{"delete none", "DELETE", one + "/databases/none", "", 404, "Database not found"},
			{"extension again", "POST", ext, `{"name":"hstore"}`, 409, "Extension hstore is already installed in schema stuff"},
			{"unknown extension", "POST", ext, `{"name":"nothing"}`, 422, "Unknown or unsupported extension"},
			{"PostGIS", "POST", ext, `{"name":"postgis"}`, 409, "PostGIS is not enabled on this cluster"},
			{"system", "DELETE", ext + "/plpgsql", "", 400, "System extensions cannot be disabled"},
			{"no extension", "DELETE", ext + "/nothing", "", 422, "Invalid extension name"},
			{"database of extensions", "GET", one + "/databases/none/extensions", "", 404, "Database not found"},
		})
		installed := func() map[string]any {
			out := map[string]any{}
			for _, x := range w.want(200, "GET", ext, "").at("data").([]any) {
				if x := x.(map[string]any); x["installed"] != nil && x["system"] == false {
					out[x["name"].(string)] = x["installed"].(map[string]any)["schema"]
				}
			}
			return out
		}
		if got := fmt.Sprint(installed()); got != "map[citext:public hstore:stuff]" {
			t.Errorf("installed: %s", got)
		}
		w.want(204, "DELETE", ext+"/citext", "")
		w.want(204, "DELETE", ext+"/citext?force=true", "")
		if got := fmt.Sprint(installed()); got != "map[hstore:stuff]" {
			t.Errorf("installed: %s", got)
		}
		w.says(w.want(200, "DELETE", one+"/databases/shop", ""), "data.name", "shop")
		w.want(404, "GET", ext, "")
	})
}

func TestPostgresBackups(t *testing.T) {
	in(t, Options{}, func(w *world) {
		one := w.cluster(`{"org_slug":"acme","name":"shop","plan":"scale","region":"fra","disk_size_gb":30}`)
		w.want(201, "POST", one+"/users", `{"username":"web","role":"writer"}`)
		w.want(202, "POST", one+"/backups", `{"type":"full"}`)
		id := w.want(200, "GET", one+"/backups", "").at("data.0.id").(string)
		w.refuses([]refused{
			{"one at a time", "POST", one + "/backups", `{"type":"incr"}`, 409, "A backup is currently running"},
			{"type", "POST", one + "/backups", `{"type":"x"}`, 422, "type"},
			{"not finished", "POST", one + "/restore", `{"backup_id":"` + id + `"}`, 404, "Backup " + id + " not found for cluster "},
			{"which", "POST", one + "/restore", `{}`, 422, "backup_id is required"},
			{"both", "POST", one + "/restore", `{"backup_id":"` + id + `","pitr_time":"2000-01-01T00:00:30Z"}`, 422, "exclude"},
			{"before there was any", "POST", one + "/restore", `{"pitr_time":"1999-01-01T00:00:00Z"}`, 422, "pitr_time"},
			{"later", "POST", one + "/restore", `{"pitr_time":"2030-01-01T00:00:00Z"}`, 422, "pitr_time"},
		})
		pass(backupRuns)
		w.says(w.want(200, "GET", one+"/backups", ""), "data.0.status", "completed")
		for path, name := range map[string]string{"/restore": "shop-restored", "/fork": "shop-fork"} {
			v := w.want(201, "POST", one+path, `{"backup_id":"`+id+`"}`)
			w.says(v, "data.name", name)
			w.says(v, "data.status", "creating")
			w.says(v, "data.disk_size_gb", 30)
			copied := postgresPath + "/" + v.at("data.id").(string)
			if copied == one {
				t.Error("the same id")
			}
			pass(time.Minute)
			w.says(w.want(200, "GET", copied+"/users", ""), "data.1.username", "web")
			a, b := w.want(200, "GET", one+"/users/web/credentials", ""), w.want(200, "GET", copied+"/users/web/credentials", "")
			if a.at("data.password") == b.at("data.password") {
				t.Error("the copy has the same password")
			}
		}
		w.says(w.want(201, "POST", one+"/restore", `{"pitr_time":"2000-01-01T00:00:30Z","name":"then"}`), "data.name", "then")
		w.says(w.want(201, "POST", one+"/fork", `{"name":"mine"}`), "data.name", "mine")
		w.want(422, "POST", one+"/fork", `{"name":"My Own"}`)
	})
}

func TestPostgresChangedInTheConsole(t *testing.T) {
	in(t, Options{}, func(w *world) {
		one := w.cluster(aCluster)
		w.want(200, "POST", "/_emulator"+one[len("/v1"):], `{"plan":"scale","disk_size_gb":50}`)
		v := w.want(200, "GET", one, "")
		w.says(v, "data.plan", "scale")
		w.says(v, "data.disk_size_gb", 50)
		w.says(v, "data.status", "ready")
	})
}
