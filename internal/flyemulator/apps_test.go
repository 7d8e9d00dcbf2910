package flyemulator

import (
	"strings"
	"testing"
	"time"
)

func TestApps(t *testing.T) {
	in(t, Options{Foreign: []string{"taken"}, Orgs: []Org{{Slug: "acme", RawSlug: "acme-123"}}, Tokens: []Token{{Value: DefaultToken, Kind: OrgToken, Org: "acme"}}}, func(w *world) {
		const apps = "/v1/apps"
		w.refuses([]refused{
			{"a stranger's name", "POST", apps, `{"name":"taken","org_slug":"acme"}`, 422, "Validation failed: Name has already been taken"},
			{"our own name", "POST", apps, `{"name":"web","org_slug":"acme"}`, 422, "Validation failed: Name has already been taken"},
			{"upper case", "POST", apps, `{"name":"Web","org_slug":"acme"}`, 422, "Validation failed: Name under 63 chars using numbers, lowercase letters and dashes"},
			{"too long", "POST", apps, `{"name":"` + strings.Repeat("a", 64) + `","org_slug":"acme"}`, 422, "Name under 63"},
			{"no name", "POST", apps, `{"org_slug":"acme"}`, 422, "Name under 63"},
			{"no organization", "POST", apps, `{"name":"x"}`, 400, "org_slug is required"},
			{"somebody's organization", "POST", apps, `{"name":"x","org_slug":"` + strangers + `"}`, 403, "unauthorized"},
			{"an organization that is none", "POST", apps, `{"name":"x","org_slug":"none"}`, 403, "unauthorized"},
			{"no JSON", "POST", apps, `{`, 400, "unexpected end of JSON"},
			{"a list", "POST", apps, `[]`, 400, "json: cannot unmarshal array"},
			{"a number for a name", "POST", apps, `{"name":1}`, 400, "json: cannot unmarshal number into Go struct field name of type string"},
			{"nothing", "POST", apps, ``, 400, "EOF"},
			{"listing of no organization", "GET", apps, "", 400, "org_slug is required"},
			{"a stranger's", "GET", apps + "/taken", "", 403, "unauthorized"},
			{"a stranger's machines", "GET", apps + "/taken/machines", "", 403, "unauthorized"},
			{"a stranger's, to delete", "DELETE", apps + "/taken?force=true", "", 403, "unauthorized"},
		})
		w.says(w.want(422, "POST", apps, `{"name":"taken","org_slug":"acme"}`), "status", "name_taken")
		w.took(3*time.Second, func() { w.want(404, "GET", apps+"/missing", "") })

		v := w.want(201, "POST", apps, `{"app_name":"api","org_slug":"acme-123","network":"inner","unknown":{"x":1}}`)
		w.says(v, "id", "api")
		w.says(v, "name", nil)
		w.want(404, "GET", apps+"/api", "") // not yet
		w.want(404, "POST", apps+"/api/machines", `{"config":{"image":"nginx"}}`)
		pass(time.Second)
		v = w.want(200, "GET", apps+"/api", "")
		for path, want := range map[string]any{
			"id": "api", "name": "api", "network": "inner", "status": "pending", "machine_count": 0, "volume_count": 0,
			"organization.slug": "acme", "organization.name": "acme",
		} {
			w.says(v, path, want)
		}
		w.says(w.want(200, "GET", apps+"/web", ""), "network", "default")
		if target, _ := v.at("cname_target").(string); !strings.HasSuffix(target, ".api.fly.dev") {
			t.Errorf("cname_target %q", target)
		}

		w.took(time.Second, func() {
			w.says(w.want(201, "POST", apps+"?wait=true", `{"name":"worker","org_slug":"acme","app_role_id":"postgres_cluster"}`), "name", "worker")
		})
		w.want(200, "GET", apps+"/worker", "")
		w.says(w.want(200, "GET", apps+"?org_slug=acme", ""), "total_apps", 3)
		v = w.want(200, "GET", apps+"?org_slug=acme&app_role=postgres_cluster", "")
		w.says(v, "total_apps", 1)
		w.says(v, "apps.0.name", "worker")
	})
}

func TestAppDelete(t *testing.T) {
	in(t, Options{}, func(w *world) {
		const web = "/v1/apps/web"
		id, _ := w.want(200, "POST", web+"/machines", `{"config":{"image":"nginx"}}`).at("id").(string)
		w.want(201, "POST", web+"/volumes", `{"name":"data","region":"iad","size_gb":1}`)
		pass(5 * time.Second)
		w.says(w.want(200, "GET", web, ""), "status", "deployed")
		w.says(w.want(200, "GET", web, ""), "machine_count", 1)
		w.want(412, "DELETE", web, "")
		w.want(200, "POST", web+"/machines/"+id+"/stop", "")
		pass(time.Second)
		w.says(w.want(200, "GET", web, ""), "status", "suspended")
		w.want(202, "DELETE", web, "")
		w.says(w.want(200, "GET", "/v1/apps?org_slug=acme", ""), "total_apps", 0)
		w.want(422, "POST", "/v1/apps", `{"name":"web","org_slug":"acme"}`) // the name is free a moment later
		w.want(404, "GET", web, "")
		w.want(201, "POST", "/v1/apps?wait=true", `{"name":"web","org_slug":"acme"}`)
		w.says(w.want(200, "GET", web, ""), "machine_count", 0)
		w.want(404, "GET", web+"/machines/"+id, "")
		w.want(200, "POST", web+"/machines", `{"config":{"image":"nginx"}}`)
		pass(5 * time.Second)
		w.want(202, "DELETE", web+"?force=true", "")
		w.want(404, "DELETE", web+"?force=true", "")
	})
}

func TestRegions(t *testing.T) {
	in(t, Options{}, func(w *world) {
		v := w.want(200, "GET", "/v1/platform/regions", "")
		w.says(v, "Nearest", "iad")
		if all, _ := v.at("Regions").([]any); len(all) != 18 {
			t.Errorf("%d regions", len(all))
		}
		w.says(v, "Regions.0.code", "ams")
		w.e.SetRoom("lhr", 2)
		w.e.SetRoom("cdg", 0)
		v = w.want(200, "POST", "/v1/platform/placements", `{"org_slug":"acme","region":"cdg,lhr,ams","count":3,"compute":{"cpu_kind":"shared","cpus":1,"memory_mb":256}}`)
		for path, want := range map[string]any{"Regions.0.Region": "lhr", "Regions.0.Count": 2, "Regions.1.Region": "ams", "Regions.1.Count": 1, "Regions.2": nil} {
			w.says(v, path, want)
		}
		w.refuses([]refused{
			{"no organization", "POST", "/v1/platform/placements", `{}`, 400, "org_slug is required"},
			{"somebody's", "POST", "/v1/platform/placements", `{"org_slug":"` + strangers + `"}`, 403, "unauthorized"},
			{"no such region", "POST", "/v1/platform/placements", `{"org_slug":"acme","region":"xxx"}`, 400, "target region xxx not found"},
			{"no such guest", "POST", "/v1/platform/placements", `{"org_slug":"acme","compute":{"cpu_kind":"shared","cpus":3,"memory_mb":768}}`, 400, "must be one of [1 2 4 6 8]"},
		})
	})
}

func TestOrgListing(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.app("api")
		ids := map[any]bool{}
		for _, app := range []string{"web", "api"} {
			for _, region := range []string{"iad", "lhr"} {
				v := w.want(200, "POST", "/v1/apps/"+app+"/machines", `{"region":"`+region+`","config":{"image":"nginx","env":{"A":"b"},"metadata":{"k":"v"}}}`)
				ids[v.at("id")] = true
			}
		}
		const all = "/v1/orgs/acme/machines"
		rows := func(query string) []any {
			w.Helper()
			list, _ := w.want(200, "GET", all+query, "").at("machines").([]any)
			return list
		}
		v := w.want(200, "GET", all+"?limit=3", "")
		first, _ := v.at("machines").([]any)
		next, _ := v.at("next_cursor").(string)
		rest := rows("?limit=3&cursor=" + next)
		if len(first) != 3 || len(rest) != 1 {
			t.Fatalf("%d and %d rows", len(first), len(rest))
		}
		for _, r := range append(first, rest...) {
			row := value{any: r}
			if !ids[row.at("id")] {
				t.Errorf("twice, or never made: %v", r)
			}
			delete(ids, row.at("id"))
			w.says(row, "config.image", "nginx")
			w.says(row, "config.metadata.k", "v")
			w.says(row, "config.env", nil)
			if row.at("instance_id") != row.at("version") || row.at("version") == nil {
				t.Errorf("version: %v", r)
			}
		}
		w.says(w.want(200, "GET", all, ""), "next_cursor", "")
		if n := len(rows("?region=lhr")); n != 2 {
			t.Errorf("%d rows of a region", n)
		}
		pass(5 * time.Second)
		if n := len(rows("?state=created")); n != 0 {
			t.Errorf("%d rows of a state", n)
		}
		since := time.Now().UTC().Format(time.RFC3339)
		if n := len(rows("?updated_after=" + since)); n != 0 {
			t.Errorf("%d rows after a time", n)
		}
		pass(time.Second)
		id, _ := w.want(200, "GET", "/v1/apps/web/machines", "").at("0.id").(string)
		w.want(200, "DELETE", "/v1/apps/web/machines/"+id+"?force=true", "")
		if n := len(rows("?updated_after=" + since)); n != 1 {
			t.Errorf("%d rows after a time", n)
		}
		pass(time.Second)
		if n, with := len(rows("")), len(rows("?include_deleted=true")); n != 3 || with != 4 {
			t.Errorf("%d rows, %d with the deleted", n, with)
		}

		w.e.SetSilent("lhr", true)
		w.says(w.want(200, "GET", all, ""), "error_regions.0", "lhr")
		for _, r := range rows("") {
			w.says(value{any: r}, "region", "iad")
		}
		w.e.SetSilent("lhr", false)

		w.e.SetLag(Lag{Listing: time.Minute})
		was := len(rows(""))
		w.want(200, "POST", "/v1/apps/web/machines", `{"config":{"image":"nginx"}}`)
		if n := len(rows("")); n != was {
			t.Errorf("%d rows, want the old %d", n, was)
		}
		pass(time.Minute)
		if n := len(rows("")); n != was+1 {
			t.Errorf("%d rows, want %d", n, was+1)
		}
		w.refuses([]refused{
			{"limit", "GET", all + "?limit=1001", "", 400, "invalid limit"},
			{"cursor", "GET", all + "?cursor=x", "", 400, "invalid cursor"},
			{"time", "GET", all + "?updated_after=yesterday", "", 400, "invalid updated_after"},
			{"somebody's", "GET", "/v1/orgs/" + strangers + "/machines", "", 403, "unauthorized"},
		})
		w.want(201, "POST", "/v1/apps/web/volumes", `{"name":"data","region":"iad","size_gb":1}`)
		pass(2 * time.Minute)
		v = w.want(200, "GET", "/v1/orgs/acme/volumes", "")
		w.says(v, "volumes.0.name", "data")
		w.says(v, "volumes.0.app_name", "web")
		w.says(v, "volumes.1", nil)
	})
}
