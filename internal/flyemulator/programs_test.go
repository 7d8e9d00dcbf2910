package flyemulator

import (
	"testing"
	"time"
)

func TestPrograms(t *testing.T) {
	in(t, Options{}, func(w *world) {
		if err := w.e.Program(Program{Match: `worker migrate`, Ends: true, Run: Duration(time.Minute), Exit: 3}); err != nil {
			t.Fatal(err)
		}
		if err := w.e.Program(Program{Match: `shell`, Exec: []ExecText{{Match: `^cat /etc`, Stdout: "text"}, {Match: `false`, Stderr: "no", Code: 1}}}); err != nil {
			t.Fatal(err)
		}
		exited := func(path string) value {
			w.Helper()
			for _, ev := range w.want(200, "GET", path+"/events?limit=50", "").any.([]any) {
				if ev.(map[string]any)["type"] == "exit" {
					return value{any: ev}
				}
			}
			t.Fatal("no event of an end")
			return value{}
		}

		_, job := w.make(`{"config":{"image":"emu/exit","restart":{"policy":"no"}}}`)
		pass(5*time.Second + time.Millisecond)
		w.is(job, stopped)
		w.says(exited(job), "request.exit_event.exit_code", nil) // zero is left out
		w.says(exited(job), "request.exit_event.requested_stop", false)

		_, fails := w.make(`{"config":{"image":"worker","init":{"cmd":["migrate"]},"restart":{"policy":"no"}}}`)
		pass(time.Minute)
		w.is(fails, started)
		pass(4 * time.Second)
		w.is(fails, stopped)
		w.says(exited(fails), "request.exit_event.exit_code", 3)

		id, loops := w.make(`{"config":{"image":"emu/crash","restart":{"policy":"on-failure","max_retries":2}}}`)
		seen := map[any]int{}
		for range 200 {
			pass(100 * time.Millisecond)
			seen[w.want(200, "GET", loops, "").at("state")]++
		}
		if seen[started] == 0 || seen[stopped] == 0 {
			t.Errorf("it was seen %v", seen)
		}
		n := 0
		for _, ev := range w.want(200, "GET", loops+"/events?limit=50", "").any.([]any) {
			if ev.(map[string]any)["type"] == "exit" {
				n++
			}
		}
		if n != 3 {
			t.Errorf("it ended %d times, want 3", n)
		}
		if w.e.Env("web", id)["FLY_MACHINE_ID"] != id {
			t.Errorf("env: %v", w.e.Env("web", id))
		}

		_, once := w.make(`{"config":{"image":"emu/exit","auto_destroy":true}}`)
		pass(7 * time.Second)
		w.is(once, destroyed)

		_, absent := w.make(`{"config":{"image":"emu/unpullable"}}`)
		pass(2 * time.Second)
		w.is(absent, failed)

		_, byEnv := w.make(`{"config":{"image":"nginx","env":{"EMU_RUN":"30s","EMU_EXIT":"7"},"restart":{"policy":"no"}}}`)
		pass(32 * time.Second)
		w.is(byEnv, started)
		pass(2 * time.Second)
		w.is(byEnv, stopped)
		w.says(exited(byEnv), "request.exit_event.exit_code", 7)

		_, shell := w.make(`{"config":{"image":"shell","services":[{"protocol":"tcp","internal_port":80}]}}`)
		w.refuses([]refused{
			{"not yet", "POST", shell + "/exec", `{"command":["true"]}`, 412, "machine not running"},
			{"not yet", "GET", shell + "/ps", "", 412, "machine not running"},
			{"not yet", "POST", shell + "/signal", `{"signal":"SIGHUP"}`, 412, "machine not running"},
			{"no command", "POST", shell + "/exec", `{}`, 400, "command is required"},
			{"no such signal", "POST", shell + "/signal", `{"signal":"SIGX"}`, 400, "invalid signal"},
			{"no such signal", "POST", shell + "/stop", `{"signal":"SIGX"}`, 400, "invalid signal"},
		})
		pass(5 * time.Second)
		w.says(w.want(200, "POST", shell+"/exec", `{"command":["cat","/etc/hosts"]}`), "stdout", "text")
		v := w.want(200, "POST", shell+"/exec", `{"cmd":"false","timeout":5}`)
		w.says(v, "exit_code", 1)
		w.says(v, "stderr", "no")
		w.says(w.want(200, "POST", shell+"/exec", `{"command":["ls"]}`), "exit_code", 0)
		w.says(w.want(200, "GET", shell+"/ps", ""), "0.listen_sockets.0.address", "[::]:80")
		w.want(200, "POST", shell+"/signal", `{"signal":"SIGHUP"}`)
		w.is(shell, started)
		w.want(200, "POST", shell+"/signal", `{"signal":"SIGTERM"}`)
		w.is(shell, stopped)

		w.says(w.want(200, "GET", shell+"/memory", ""), "limit_mb", 256)
		w.says(w.want(200, "PUT", shell+"/memory", `{"limit_mb":128}`), "limit_mb", 128)
		w.says(w.want(200, "POST", shell+"/memory/reclaim", `{"amount_mb":16}`), "actual_mb", 16)
		w.want(400, "PUT", shell+"/memory", `{"limit_mb":512}`)
	})
}

// TestSchedule: a machine with a schedule is started by it, unless its launch
// was skipped.
func TestSchedule(t *testing.T) {
	in(t, Options{}, func(w *world) {
		const config = `"config":{"image":"emu/exit","schedule":"hourly","restart":{"policy":"no"}}}`
		_, runs := w.make(`{` + config)
		_, never := w.make(`{"skip_launch":true,` + config)
		pass(30 * time.Minute)
		w.is(runs, stopped)
		pass(30*time.Minute + 3*time.Second)
		w.is(runs, started)
		w.is(never, stopped)
		pass(24 * time.Hour)
		w.is(never, stopped)
		w.want(200, "POST", runs, `{"skip_launch":true,`+config)
		pass(24 * time.Hour)
		before := len(w.want(200, "GET", runs+"/events?limit=50", "").any.([]any))
		pass(24 * time.Hour)
		if n := len(w.want(200, "GET", runs+"/events?limit=50", "").any.([]any)); n != before {
			t.Errorf("%d events after %d", n, before)
		}
	})
}

func TestChecks(t *testing.T) {
	in(t, Options{}, func(w *world) {
		_, one := w.make(`{"config":{"image":"nginx","env":{"EMU_HEALTH":"fail:3,pass"},
			"checks":{"alive":{"type":"tcp","port":80,"interval":"10s","grace_period":"5s"}},
			"services":[{"protocol":"tcp","internal_port":8080,"checks":[{"type":"http","interval":"10s","grace_period":"20s"}]}]}}`)
		pass(7 * time.Second)
		w.says(w.is(one, started), "checks", nil) // the grace
		pass(2 * time.Second)
		v := w.is(one, started)
		w.says(v, "checks.0.name", "alive")
		w.says(v, "checks.0.status", "critical")
		w.says(v, "checks.1", nil)
		pass(30 * time.Second)
		v = w.is(one, started)
		for path, want := range map[string]any{
			"checks.0.name": "alive", "checks.0.status": "passing", "checks.1.name": "bg_deployments_compat-00-http-8080",
			"checks.2.name": "servicecheck-00-http-8080", "checks.2.status": "critical", "checks.3": nil,
		} {
			w.says(v, path, want)
		}
		pass(30 * time.Second)
		w.says(w.is(one, started), "checks.2.status", "passing")
		w.want(200, "POST", one+"/stop", "")
		pass(time.Second)
		w.says(w.is(one, stopped), "checks", nil)
	})
}

func TestMetadata(t *testing.T) {
	in(t, Options{}, func(w *world) {
		_, one := w.make(`{"config":{"image":"nginx","metadata":{"a":"1","b":"2"}}}`)
		version, _ := w.want(200, "GET", one, "").at("instance_id").(string)
		meta := one + "/metadata"
		w.says(w.want(200, "GET", meta, ""), "a", "1")
		w.says(w.want(200, "GET", meta+"/b", ""), "value", "2")
		w.want(404, "GET", meta+"/c", "")
		w.want(204, "POST", meta+"/c", `{"value":"3"}`)
		w.want(204, "DELETE", meta+"/a", "")
		w.want(204, "PATCH", meta, `{"metadata":{"b":null,"d":"4"},"machine_version":"`+version+`"}`)
		v := w.want(200, "GET", one, "")
		for path, want := range map[string]any{"config.metadata.a": nil, "config.metadata.b": nil, "config.metadata.c": "3", "config.metadata.d": "4", "instance_id": version} {
			w.says(v, path, want)
		}
		w.want(204, "PUT", meta, `{"metadata":{"e":"5"}}`)
		w.says(w.want(200, "GET", meta, ""), "c", nil)
		w.says(w.want(200, "GET", meta, ""), "e", "5")
		w.refuses([]refused{
			{"another version", "PATCH", meta, `{"metadata":{},"machine_version":"x"}`, 412, "machine_version x does not match"},
			{"no value", "POST", meta + "/x", `{}`, 400, "value is required"},
			{"a number", "PATCH", meta, `{"metadata":{"a":1}}`, 400, "json: cannot unmarshal number"},
		})
		pass(5 * time.Second)
		w.want(200, "DELETE", one+"?force=true", "")
		pass(2 * time.Second)
		w.want(404, "POST", meta+"/x", `{"value":"1"}`)
		w.want(200, "GET", meta, "")
	})
}

// TestSecretsOfMachines: a machine sees what was written when it starts, and
// not what is written while it runs.
func TestSecretsOfMachines(t *testing.T) {
	in(t, Options{}, func(w *world) {
		set := func(v string) int {
			w.Helper()
			n, _ := w.want(200, "POST", "/v1/apps/web/secrets", `{"values":{"KEY":"`+v+`"}}`).at("version").(float64)
			return int(n)
		}
		one := set("one")
		body := func(version int) string {
			return `{"min_secrets_version":` + itoa(version) + `,"config":{"image":"nginx"}}`
		}
		w.want(412, "POST", machinesPath, body(one)) // not yet seen
		pass(time.Second)
		id, path := w.make(body(one))
		pass(5 * time.Second)
		if v := w.e.Env("web", id)["KEY"]; v != "one" {
			t.Errorf("KEY is %q", v)
		}
		two := set("two")
		pass(time.Second)
		if v := w.e.Env("web", id)["KEY"]; v != "one" {
			t.Errorf("KEY is %q", v)
		}
		w.want(412, "POST", path, body(two+1))
		w.want(200, "POST", path, body(two))
		pass(10 * time.Second)
		if v := w.e.Env("web", id)["KEY"]; v != "two" {
			t.Errorf("KEY is %q", v)
		}
		other, _ := w.make(`{"skip_secrets":true,"config":{"image":"nginx"}}`)
		pass(5 * time.Second)
		if v, ok := w.e.Env("web", other)["KEY"]; ok {
			t.Errorf("KEY is %q", v)
		}
	})
}
