package flyemulator

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestReleases(t *testing.T) {
	in(t, Options{Foreign: []string{"theirs"}}, func(w *world) {
		const all = "/api/v1/releases"
		w.want(http.StatusNotFound, "GET", "/api/v1/apps/web/releases/current", "")
		v := w.want(http.StatusCreated, "POST", all, `{"app_name":"web","build_id":0,"image":"nginx:1","strategy":"ROLLING","definition":{"app":"web"}}`)
		w.says(v, "release.version", 1)
		w.says(v, "release.in_progress", true)
		first := fmt.Sprint(v.at("release.id"))
		v = w.want(200, "PATCH", all+"/"+first, `{"status":"running","metadata":{}}`)
		w.says(v, "status", "running")
		v = w.want(200, "PATCH", all+"/"+first, `{"status":"complete","metadata":{"post_deployment_info":{"flyctl_version":"0.4"}}}`)
		w.says(v, "stable", true)
		w.says(w.want(http.StatusUnprocessableEntity, "PATCH", all+"/"+first, `{"status":"failed"}`), "errors.detail", "Release is already finished")

		v = w.want(http.StatusCreated, "POST", all, `{"app_name":"web","image":"nginx:2","strategy":"BLUEGREEN"}`)
		second := fmt.Sprint(v.at("release.id"))
		w.says(v, "release.version", 2)
		// The current one is the newest that is complete.
		w.says(w.want(200, "GET", "/api/v1/apps/web/releases/current", ""), "image_ref", "nginx:1")
		v = w.want(200, "GET", "/api/v1/apps/web/releases?limit=1", "")
		w.says(v, "releases.0.id", second)
		w.says(v, "releases.1", nil)
		if v := w.want(200, "GET", "/api/v1/releases/all_current", ""); v.at("web") == nil {
			w.Errorf("no time of the current release: %s", v.raw)
		}
		w.want(http.StatusUnprocessableEntity, "PATCH", all+"/"+second, `{"status":"resting"}`)
		w.want(http.StatusUnprocessableEntity, "POST", all, `{"app_name":"web","image":"nginx:2","strategy":"rolling"}`)
		w.want(http.StatusNotFound, "POST", all, `{"app_name":"theirs","image":"nginx:2","strategy":"ROLLING"}`)
		w.want(http.StatusNotFound, "PATCH", all+"/1", `{"status":"complete"}`)

		// GraphQL shows the same.
		v = w.graphOK(`{app(name:"web"){version currentRelease{version status} currentReleaseUnprocessed{imageRef} config{definition} releasesUnprocessed(first:1){nodes{version imageRef user{email}} totalCount}}}`)
		w.says(v, "data.app.currentRelease.version", 1)
		w.says(v, "data.app.currentReleaseUnprocessed.imageRef", "nginx:1")
		w.says(v, "data.app.releasesUnprocessed.nodes.0.version", 2)
		w.says(v, "data.app.releasesUnprocessed.totalCount", 2)
		v = w.graphOK(`mutation{createRelease(input:{appId:"web",image:"nginx:3",platformVersion:"machines",strategy:IMMEDIATE,definition:{}}){release{id version}}}`)
		w.says(v, "data.createRelease.release.version", 3)
		update := `mutation($i:UpdateReleaseInput!){updateRelease(input:$i){release{id status}}}`
		id := v.at("data.createRelease.release.id")
		w.graphOK(update, "i", map[string]any{"releaseId": id, "status": "interrupted"})
		w.graphFails(codeInvalid, "already finished", update, "i", map[string]any{"releaseId": id, "status": "complete"})
		w.graphFails(codeNotFound, "Could not find Release", update, "i", map[string]any{"releaseId": "1"})
		v = w.graphOK(`mutation{createBuild(input:{appName:"web",builderType:"",strategiesAvailable:["remote"]}){id status}
			finishBuild(input:{appName:"web",buildId:"1",status:"completed",timings:{buildMs:1}}){id status wallclockTimeMs}}`)
		w.says(v, "data.finishBuild.status", "completed")
	})
}

func TestConsoleOrganizations(t *testing.T) {
	o := Options{
		Orgs:   []Org{{Slug: "personal", RawSlug: "jo-doe", Name: "Jo"}, {Slug: "acme", Beta: true}, {Slug: "other"}},
		Tokens: []Token{{Value: DefaultToken, Kind: OrgToken, Org: "acme"}, {Value: "fm2_jo", Kind: OrgToken, Org: "personal"}},
	}
	in(t, o, func(w *world) {
		v := w.want(200, "GET", "/api/v1/organizations?admin=true", "")
		w.says(v, "organizations.0.slug", "acme")
		w.says(v, "organizations.0.provisions_beta_extensions", true)
		w.says(v, "organizations.1", nil)
		w.want(http.StatusForbidden, "GET", "/api/v1/organizations/other", "")
		w.token = "fm2_jo"
		v = w.want(200, "GET", "/api/v1/organizations/personal", "")
		w.says(v, "organization.raw_slug", "jo-doe")
		w.says(v, "organization.personal", true)
		v = w.graphOK(`{a:organization(slug:"jo-doe"){slug} b:organization(slug:"personal"){rawSlug type} personalOrganization{name}}`)
		w.says(v, "data.a.slug", "personal")
		w.says(v, "data.b.rawSlug", "jo-doe")
		w.says(v, "data.b.type", "PERSONAL")
		w.says(v, "data.personalOrganization.name", "Jo")
		// Managed Postgres knows the real slug only.
		w.want(200, "GET", "/api/v1/organizations/jo-doe/postgres", "")
		w.want(http.StatusNotFound, "GET", "/api/v1/organizations/personal/postgres", "")
	})
}

func TestConsoleManagedPostgres(t *testing.T) {
	for _, name := range []string{"postgres", "postgresv2"} {
		t.Run(name, func(t *testing.T) {
			in(t, Options{}, func(w *world) {
				all := "/api/v1/organizations/acme/" + name
				v := w.want(200, "GET", all+"/regions", "")
				w.says(v, "data.0.code", "ams")
				w.says(v, "data.0.available", true)
				w.says(v, "data.1.available", false)
				v = w.want(http.StatusCreated, "POST", all, `{"name":"main","region":"iad","org_slug":"acme","plan":"performance","pg_major_version":"17","storage_in_gb":20,"disk":20,"postgis_enabled":true}`)
				w.says(v, "ok", true)
				w.says(v, "data.plan", "Performance")
				w.says(v, "data.disk", 20)
				id := fmt.Sprint(v.at("data.id"))
				one := "/api/v1/" + name + "/" + id
				v = w.want(200, "GET", one, "")
				w.says(v, "data.status", "creating")
				w.says(v, "credentials.status", "initializing")
				w.says(w.want(200, "GET", "/v1/postgres/"+id, ""), "data.name", "main")
				pass(2 * time.Minute)

				v = w.want(200, "GET", all+"/"+id, "")
				w.says(v, "data.status", "ready")
				w.says(v, "credentials.status", "ready")
				uri, err := url.Parse(fmt.Sprint(v.at("credentials.pgbouncer_uri")))
				if err != nil || uri.Scheme != "postgresql" || uri.User.Username() != "fly-user" || uri.Path != "/fly-db" || !strings.HasPrefix(uri.Host, "pgbouncer.") {
					w.Errorf("the address is %v", uri)
				}
				w.says(w.want(200, "GET", all, ""), "data.0.id", id)

				field := map[string]string{"postgres": "user_name", "postgresv2": "username"}[name]
				v = w.want(http.StatusCreated, "POST", one+"/users", `{"`+field+`":"app","role":"writer"}`)
				w.says(v, "data.name", "app")
				w.says(v, "data.role", "writer")
				if v := w.want(200, "GET", one+"/users", ""); !strings.Contains(v.raw, `"name":"app"`) {
					w.Errorf("the user is not listed: %s", v.raw)
				}
				w.says(w.want(200, "PATCH", one+"/users/app", `{"role":"reader"}`), "data.role", "reader")
				v = w.want(200, "GET", one+"/users/app/credentials", "")
				w.says(v, "data."+map[string]string{"postgres": "user", "postgresv2": "username"}[name], "app")
				w.want(http.StatusNoContent, "DELETE", one+"/users/app", "")
				w.want(http.StatusNotFound, "GET", one+"/users/app/credentials", "")

				w.says(w.want(http.StatusCreated, "POST", one+"/databases", `{"name":"shop"}`), "data.name", "shop")
				w.want(http.StatusNoContent, "POST", one+"/databases/shop/extensions", `{"name":"vector","create_schema_if_needed":false}`)
				v = w.want(200, "GET", one+"/databases/shop/extensions", "")
				if !strings.Contains(v.raw, `"is_system"`) || strings.Contains(v.raw, `"system"`) {
					w.Errorf("extensions are told in other words: %s", v.raw)
				}
				v = w.want(http.StatusConflict, "POST", one+"/databases/shop/extensions", `{"name":"vector"}`)
				if v.at("error") == nil || v.at("errors.detail") != v.at("error") {
					w.Errorf("a refusal is not told: %s", v.raw)
				}

				v = w.want(http.StatusCreated, "POST", one+"/attachments", `{"app_name":"web"}`)
				if v.at("data.app_id") == 0.0 || v.at("data.attached_at") == nil {
					w.Errorf("the attachment lacks what flyctl decodes: %s", v.raw)
				}
				w.says(w.want(200, "GET", one, ""), "data.attached_apps.0.name", "web")
				w.says(w.want(200, "DELETE", one+"/attachments/web", ""), "data.message", "App detached")

				w.want(http.StatusAccepted, "POST", one+"/backups", `{"type":"full"}`)
				pass(time.Minute)
				v = w.want(200, "GET", one+"/backups", "")
				if v.at("data.0.start") == nil || v.at("data.0.stop") == nil {
					w.Errorf("a backup has no times: %s", v.raw)
				}
				v = w.want(http.StatusCreated, "POST", one+"/restore", `{"backup_id":"`+fmt.Sprint(v.at("data.0.id"))+`","name":"again"}`)
				w.says(v, "data.name", "again")
				if v.at("data.id") == id {
					w.Error("a restore is not another cluster")
				}
				at := w.e.Now().Add(-time.Minute).Format(time.RFC3339)
				v = w.want(http.StatusCreated, "POST", one+"/restore", `{"pitr_time":"`+at+`","name":"earlier"}`)
				w.says(v, "data.name", "earlier")
				w.want(http.StatusUnprocessableEntity, "POST", one+"/restore", `{"pitr_time":"2001-01-01T00:00:00Z"}`)

				w.want(http.StatusNoContent, "DELETE", all+"/"+id, "")
				pass(time.Minute)
				w.want(http.StatusGone, "GET", one, "")
				w.says(w.want(200, "GET", all+"/deleted", ""), "data.0.id", id)
				v = w.want(http.StatusUnprocessableEntity, "POST", all, `{"name":"main","region":"jnb","plan":"basic"}`)
				w.says(v, "ok", false)
				if v.at("errors.detail") == nil {
					w.Errorf("a refusal is not told: %s", v.raw)
				}
				w.want(http.StatusNotFound, "GET", "/api/v1/"+name+"/nothing", "")
			})
		})
	}
}

func TestPrometheusStub(t *testing.T) {
	o := Options{Orgs: []Org{{Slug: "acme"}, {Slug: "other"}}, Tokens: []Token{{Value: DefaultToken, Kind: OrgToken, Org: "acme"}, {Value: "fm2_app", Kind: AppToken, Org: "acme", App: "web"}}}
	in(t, o, func(w *world) {
		w.want(201, "POST", "/v1/apps/web/volumes", `{"name":"data","region":"iad","size_gb":2}`)
		w.want(200, "POST", "/v1/apps/web/machines", `{"name":"one","region":"iad","config":{"image":"nginx","guest":{"cpu_kind":"shared","cpus":1,"memory_mb":512}}}`)
		pass(time.Minute)
		ask := func(what string, pairs ...string) value {
			w.Helper()
			q := url.Values{}
			for i := 0; i < len(pairs); i += 2 {
				q.Add(pairs[i], pairs[i+1])
			}
			return w.want(200, "GET", "/prometheus/acme/"+what+"?"+q.Encode(), "")
		}
		v := ask("api/v1/query", "query", `fly_instance_up{app="web",region=~"iad|fra",instance!=""}`)
		w.says(v, "status", "success")
		w.says(v, "data.resultType", "vector")
		w.says(v, "data.result.0.metric.app", "web")
		w.says(v, "data.result.0.value.1", "1")
		w.says(ask("api/v1/query", "query", `fly_instance_memory_mem_total`), "data.result.0.value.1", "524288")
		w.says(ask("api/v1/query", "query", `fly_volume_size_bytes{name="data"}`), "data.result.0.value.1", "2.147483648e+09")
		w.says(ask("api/v1/query", "query", `fly_instance_up{app="none"}`), "data.result.0", nil)
		v = ask("api/v1/query_range", "query", `fly_instance_up`, "start", "0", "end", "60", "step", "15")
		w.says(v, "data.resultType", "matrix")
		w.says(v, "data.result.0.values.4.0", 60)
		w.says(v, "data.result.0.values.5", nil)
		w.says(ask("api/v1/series", "match[]", `{__name__=~"fly_app_.*"}`), "data.0.__name__", "fly_app_concurrency")
		w.says(ask("api/v1/labels"), "data.0", "__name__")
		w.says(ask("api/v1/label/region/values"), "data.0", "iad")
		if v := ask("federate", "match[]", `fly_instance_up`); !strings.HasPrefix(v.raw, `fly_instance_up{app="web",`) {
			w.Errorf("the text is %s", v.raw)
		}
		for _, q := range []string{"query=sum(fly_instance_up)", "query=", "query=up{a}", "query=fly_instance_up&time=noon", `query={a=~"("}`} {
			v := w.want(http.StatusBadRequest, "GET", "/prometheus/acme/api/v1/query?"+strings.ReplaceAll(q, `"`, "%22"), "")
			w.says(v, "errorType", "bad_data")
		}
		w.want(http.StatusBadRequest, "GET", "/prometheus/acme/api/v1/query_range?query=up&step=0", "")
		w.says(w.want(200, "POST", "/prometheus/acme/api/v1/query", "query=fly_instance_up"), "data.result.0.value.1", "1")
		w.want(http.StatusForbidden, "GET", "/prometheus/other/api/v1/labels", "")
		w.token = "fm2_app"
		w.want(http.StatusForbidden, "GET", "/prometheus/acme/api/v1/labels", "")
	})
}
