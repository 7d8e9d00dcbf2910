package flyemulator

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	in(t, Options{}, func(w *world) {
		const machines, body = "/v1/apps/web/machines", `{"config":{"image":"nginx"}}`
		count := func() int {
			w.Helper()
			all, _ := w.want(200, "GET", machines, "").any.([]any)
			return len(all)
		}
		for _, row := range []struct {
			name   string
			fault  Fault
			status int
			text   string
			made   int
		}{
			{"an answer", Fault{Action: "machines.create", Status: 502, Text: "bad gateway"}, 502, "bad gateway", 0},
			{"a status word", Fault{Action: "machines.create", Status: 422, Text: "x", Word: "insufficient_capacity"}, 422, "x", 0},
			{"a whole body", Fault{Method: "POST", Path: "machines$", Status: 422, Text: `{"error":"uniqueness constraint violated"}`}, 422, "uniqueness constraint violated", 0},
			{"by app and body", Fault{App: "web", Body: `"image":"nginx"`, Status: 500}, 500, "Internal Server Error", 0},
			{"another app", Fault{App: "other", Status: 500}, 200, "", 1},
			{"another body", Fault{Body: "redis", Status: 500}, 200, "", 1},
			{"silent success", Fault{Action: "machines.create", Status: 408, Commit: true}, 408, "Request Timeout", 1},
			{"dropped before", Fault{Action: "machines.create", Drop: DropBefore}, 0, "", 0},
			{"dropped after", Fault{Action: "machines.create", Drop: DropAfter}, 0, "", 1},
			{"spared", Fault{Action: "machines.create", Skip: 1, Status: 500}, 200, "", 1},
		} {
			was := count()
			mend := w.e.Fault(row.fault)
			a := w.send(w.Context(), "POST", machines, body)
			mend()
			text, _ := a.at("error").(string)
			if a.status != row.status || text != row.text {
				w.Errorf("%s: %d %s", row.name, a.status, a.raw)
			}
			if row.status == 0 && !errors.Is(a.err, syscall.ECONNRESET) {
				w.Errorf("%s: %v", row.name, a.err)
			}
			if got := count() - was; got != row.made {
				w.Errorf("%s: %d machines were made, want %d", row.name, got, row.made)
			}
		}
		w.e.Fault(Fault{Action: "apps.get", Count: 2, Status: 503, Delay: Duration(29 * time.Second), Header: map[string]string{"Retry-After": "7"}})
		for range 2 {
			w.took(29*time.Second, func() {
				if a := w.with(503, "GET", "/v1/apps/web", ""); a.header.Get("Retry-After") != "7" {
					w.Errorf("headers: %v", a.header)
				}
			})
		}
		w.want(200, "GET", "/v1/apps/web", "")

		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		w.e.Fault(Fault{Action: "machines.create", Delay: Duration(time.Minute)})
		was := count()
		if a := w.send(ctx, "POST", machines, body); !errors.Is(a.err, context.DeadlineExceeded) {
			w.Errorf("given up: %d %v", a.status, a.err)
		}
		w.e.MendAll()
		if count() != was {
			w.Error("a request that was given up before it began made a machine")
		}
	})
}

func TestControls(t *testing.T) {
	in(t, Options{}, func(w *world) {
		at := "/_emulator/"
		before := w.want(200, "GET", at+"now", "").at("now")
		w.want(204, "POST", at+"advance", `{"by":"1h"}`)
		now, err := time.Parse(time.RFC3339Nano, w.want(200, "GET", at+"now", "").at("now").(string))
		if then, _ := time.Parse(time.RFC3339Nano, before.(string)); err != nil || now.Sub(then) != time.Hour {
			w.Errorf("%v to %v: %v", before, now, err)
		}
		id, _ := w.want(200, "POST", "/v1/apps/web/machines", `{"config":{"image":"nginx","env":{"A":"b"}}}`).at("id").(string)
		one := "/v1/apps/web/machines/" + id
		w.want(204, "POST", at+"advance", `{"by":"3s"}`)
		w.says(w.want(200, "GET", one, ""), "state", started)
		w.says(w.want(200, "GET", at+"machines/"+id+"/env", ""), "env.A", "b")

		fault := w.want(201, "POST", at+"faults", `{"action":"apps.get","status":503,"delay":"1s"}`)
		w.want(503, "GET", "/v1/apps/web", "")
		if all := w.want(200, "GET", at+"faults", "").any.([]any); len(all) != 1 {
			w.Errorf("faults: %v", all)
		}
		if fault.at("id") != 1.0 {
			w.Errorf("fault: %s", fault.raw)
		}
		w.want(204, "DELETE", at+"faults/1", "")
		w.want(200, "GET", "/v1/apps/web", "")
		w.want(201, "POST", at+"faults", `{"status":503}`)
		w.want(204, "DELETE", at+"faults", "")
		w.want(200, "GET", "/v1/apps/web", "")

		w.want(204, "POST", at+"lag", `{"replica":"1s","listing":"1m"}`)
		w.want(204, "POST", at+"lag", `{}`)
		w.want(204, "POST", at+"hosts", `{"app":"web","machine":"`+id+`","status":"unreachable"}`)
		w.says(w.want(200, "GET", one, ""), "host_status", "unreachable")
		w.want(204, "POST", at+"hosts", `{"app":"web","machine":"`+id+`","status":"ok","full":true}`)
		w.want(204, "POST", at+"migrate", `{"app":"web","machine":"`+id+`"}`)
		w.want(204, "POST", at+"regions", `{"region":"iad","room":0,"silent":true}`)
		w.want(422, "POST", "/v1/apps/web/machines", `{"config":{"image":"nginx"}}`)
		w.says(w.want(200, "GET", "/v1/orgs/acme/machines", ""), "error_regions.0", "iad")
		w.want(204, "POST", at+"regions", `{"region":"iad","room":-1,"silent":false}`)
		w.want(204, "POST", at+"programs", `{"match":"redis","unpullable":true}`)
		w.want(204, "POST", at+"images", `{"image":"x:1","digest":"sha256:00"}`)
		w.want(204, "POST", at+"proxy", `{"on":true}`)
		w.want(204, "POST", at+"proxy", `{"on":false}`)
		w.want(204, "POST", at+"tokens", `{"Value":"fm2_x","Kind":"org","Org":"acme"}`)
		w.with(200, "GET", "/v1/apps/web", "", "Authorization", "Bearer fm2_x")
		w.want(204, "POST", at+"tokens/revoke", `{"value":"fm2_x"}`)
		w.with(401, "GET", "/v1/apps/web", "", "Authorization", "Bearer fm2_x")

		v := w.want(200, "POST", at+"drift", `{"path":"`+one+`","patch":true,"body":{"image":"nginx:2","env":{"A":null,"C":"d"}}}`)
		w.says(v, "config.env.C", "d")
		w.says(v, "config.env.A", nil)
		w.says(v, "config.image", "nginx:2")

		state := w.want(200, "GET", at+"state", "")
		w.want(204, "PUT", at+"state", state.raw)
		w.says(w.want(200, "GET", one, ""), "config.image", "nginx:2")
		if n := len(w.want(200, "GET", at+"requests", "").any.([]any)); n == 0 {
			w.Error("no requests")
		}
		w.want(204, "DELETE", at+"requests", "")
		if n := len(w.want(200, "GET", at+"requests", "").any.([]any)); n != 0 {
			w.Errorf("%d requests", n)
		}
		for _, row := range [][3]string{
			{"advance", `{"by":"-1s"}`, "time does not go back"},
			{"advance", `{"by":true}`, "a duration is written as"},
			{"faults", `{"drop":"never"}`, "drop is"},
			{"faults", `{"path":"("}`, "path"},
			{"hosts", `{"app":"none"}`, "no app"},
			{"hosts", `{"app":"web","machine":"none"}`, "has neither machine"},
			{"hosts", `{"host":"none"}`, "no host"},
			{"hosts", `{"host":"iad-1","status":"tired"}`, "a host is"},
			{"regions", `{"region":"none"}`, "no region"},
			{"migrate", `{"app":"web","machine":"none"}`, "no machine"},
			{"programs", `{"match":"("}`, "regexp"},
			{"drift", `{"path":"/v1/apps/web/machines/none","patch":true,"body":{}}`, "no machine at"},
		} {
			v := w.want(400, "POST", at+row[0], row[1])
			if text, _ := v.at("error").(string); !strings.Contains(text, row[2]) {
				w.Errorf("%v: %s", row, v.raw)
			}
		}
	})
}
