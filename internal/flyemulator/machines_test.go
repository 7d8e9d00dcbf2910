package flyemulator

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	machinesPath = "/v1/apps/web/machines"
	nginx        = `{"config":{"image":"nginx"}}`
)

// make makes a machine in app web.
func (w *world) make(body string) (id, path string) {
	w.Helper()
	id, _ = w.want(200, "POST", machinesPath, body).at("id").(string)
	return id, machinesPath + "/" + id
}

// is wants a state.
func (w *world) is(path, state string) value {
	w.Helper()
	v := w.want(200, "GET", path, "")
	w.says(v, "state", state)
	return v
}

// states wants each state to begin at a time, not a tenth of a second earlier.
func (w *world) states(path string, at ...any) {
	w.Helper()
	last, begun := "", time.Now()
	for i := 0; i < len(at); i += 2 {
		d, state := at[i].(time.Duration), at[i+1].(string)
		if last != "" {
			pass(d - time.Since(begun) - 100*time.Millisecond)
			w.is(path, last)
		}
		pass(d - time.Since(begun) + time.Millisecond)
		w.is(path, state)
		last = state
	}
}

func TestMachineLifecycle(t *testing.T) {
	in(t, Options{}, func(w *world) {
		v := w.want(200, "POST", machinesPath, `{"name":"one","region":"lhr","config":{"image":"nginx"},"nobody":"knows"}`)
		w.says(v, "state", "created")
		w.says(v, "region", "lhr")
		w.says(v, "nonce", nil)
		id, _ := v.at("id").(string)
		if len(id) != 14 {
			t.Errorf("id %q", id)
		}
		one := machinesPath + "/" + id
		w.says(w.want(412, "POST", one+"/start", ""), "error", "failed_precondition: unable to start machine from current state: 'created'")
		w.states(one, time.Duration(0), created, time.Second, starting, 3*time.Second, started)
		w.says(w.want(200, "POST", one+"/start", ""), "previous_state", "started")
		w.says(w.want(412, "DELETE", one, ""), "error", "failed_precondition: unable to destroy machine, not currently stopped")

		w.want(200, "POST", one+"/stop", "")
		w.says(w.want(412, "POST", one+"/start", ""), "error", "failed_precondition: unable to start machine from current state: 'stopping'")
		w.states(one, time.Duration(0), stopping, time.Second, stopped)
		w.want(200, "POST", one+"/stop", `{"signal":"SIGINT","timeout":"5s"}`)
		w.says(w.want(412, "POST", one+"/start", ""), "error", "failed_precondition: machine still active, refusing to start")
		pass(8 * time.Second)
		w.says(w.want(200, "POST", one+"/start", ""), "previous_state", "stopped")
		w.says(w.want(412, "POST", one+"/start", ""), "error", "failed_precondition: machine still attempting to start")
		w.states(one, time.Duration(0), starting, 2*time.Second, started)

		w.want(200, "POST", one+"/suspend", "")
		w.states(one, time.Duration(0), suspending, time.Second, suspended)
		w.want(200, "POST", one+"/start", "")
		w.states(one, time.Duration(0), starting, 300*time.Millisecond, started)
		w.want(200, "POST", one+"/restart", "")
		w.states(one, time.Duration(0), restarting, 3*time.Second, started)

		w.says(w.want(200, "DELETE", one+"?kill=true", ""), "ok", true)
		w.states(one, time.Duration(0), destroying, time.Second, destroyed)
		pass(24 * time.Hour)
		w.is(one, destroyed) // it stays readable
		w.want(404, "DELETE", one+"?force=true", "")
		w.want(404, "POST", one+"/start", "")
		w.want(404, "POST", one, nginx)
		w.want(404, "POST", one+"/lease", "")
		if list := w.want(200, "GET", machinesPath, "").any.([]any); len(list) != 0 {
			t.Errorf("the listing has it: %v", list)
		}
		if list := w.want(200, "GET", machinesPath+"?include_deleted=true", "").any.([]any); len(list) != 1 {
			t.Error("the listing with the deleted has it not")
		}
		w.want(404, "GET", machinesPath+"/00000000000000", "")

		events := w.want(200, "GET", one+"/events?limit=3", "").any.([]any)
		if len(events) != 3 {
			t.Errorf("%d events", len(events))
		}
		w.says(value{any: events}, "0.type", "destroy")
		w.says(value{any: events}, "0.status", "destroyed")
		w.want(400, "GET", one+"/events?limit=x", "")
	})
}

// TestSkipLaunch: a machine that is not to be started gets its image, and
// rests stopped, not created.
func TestSkipLaunch(t *testing.T) {
	in(t, Options{Times: Times{PrepareCold: 70 * time.Second}}, func(w *world) {
		_, one := w.make(`{"skip_launch":true,"config":{"image":"nginx"}}`)
		w.states(one, time.Duration(0), created, 70*time.Second, stopped)
		_, two := w.make(`{"skip_launch":true,"config":{"image":"nginx"}}`)
		w.states(two, time.Duration(0), created, 9*time.Second, stopped)
		w.want(200, "POST", two+"/start", "") // it never was active
		_, three := w.make(`{"skip_launch":true,"config":{"image":"nginx"}}`)
		w.want(200, "DELETE", three, "")
	})
}

func TestMachineUpdate(t *testing.T) {
	in(t, Options{}, func(w *world) {
		id, one := w.make(`{"name":"one","config":{"image":"nginx","env":{"A":"b"},"metadata":{"k":"v"}}}`)
		pass(5 * time.Second)
		was := w.is(one, started).at("instance_id")
		v := w.want(200, "POST", one, `{"name":"one","region":"iad","current_version":"`+was.(string)+`","config":{"image":"nginx:2"}}`)
		now, _ := v.at("instance_id").(string)
		if now == was || now <= was.(string) || v.at("version") != now {
			t.Errorf("version %v after %v", now, was)
		}
		w.says(v, "config.env", nil) // what is left out is gone
		w.says(v, "config.metadata", nil)
		w.says(w.want(412, "POST", one+"/start", ""), "error", "failed_precondition: machine getting replaced, refusing to start")
		w.says(w.want(409, "POST", one, nginx), "error", "aborted: machine update failed due to concurrent update")
		w.states(one, time.Duration(0), replacing, 3500*time.Millisecond, stopped, 4*time.Second, starting, 6*time.Second, started)
		w.says(w.want(412, "POST", one, `{"current_version":"`+was.(string)+`","config":{"image":"nginx:3"}}`), "error",
			"failed_precondition: current_version "+was.(string)+" does not match the machine's version "+now)
		w.says(w.is(one, started), "config.image", "nginx:2")

		v = w.want(200, "GET", one+"/versions", "")
		for path, want := range map[string]any{
			"0.version": now, "1.version": was, "0.user_config.image": "nginx:2", "1.user_config.image": "nginx", "1.user_config.env.A": "b", "2": nil,
		} {
			w.says(v, path, want)
		}

		w.want(200, "POST", one, `{"skip_launch":true,"config":{"image":"nginx:3"}}`)
		pass(10 * time.Second)
		w.is(one, stopped)
		w.want(200, "POST", one, `{"config":{"image":"nginx:4"}}`) // one that rests stays at rest
		w.says(w.want(412, "POST", one+"/start", ""), "error", "failed_precondition: machine getting replaced, refusing to start")
		w.states(one, time.Duration(0), replacing, 3500*time.Millisecond, stopped)
		pass(time.Hour)
		w.is(one, stopped)

		// The image of an update cannot be fetched: the old version comes back.
		w.want(200, "POST", one+"/start", "")
		pass(3 * time.Second)
		before := w.is(one, started).at("instance_id")
		w.want(200, "POST", one, `{"config":{"image":"emu/unpullable"}}`)
		pass(10 * time.Second)
		v = w.is(one, started)
		w.says(v, "instance_id", before)
		w.says(v, "config.image", "nginx:4")
		w.refuses([]refused{
			{"another name", "POST", one, `{"name":"two","config":{"image":"x"}}`, 400, "the name of a machine cannot be changed"},
			{"another region", "POST", one, `{"region":"lhr","config":{"image":"x"}}`, 400, "the region of a machine cannot be changed"},
			{"no config", "POST", one, `{}`, 400, "invalid config"},
			{"no image", "POST", one, `{"config":{}}`, 400, "invalid config.image"},
			{"a mount", "POST", one, `{"config":{"image":"x","mounts":[{"volume":"vol_x","path":"/x"}]}}`, 400, "the mounts of a machine cannot be changed"},
		})
		w.want(200, "DELETE", machinesPath+"/"+id+"?force=true", "")
		w.says(w.want(412, "POST", one, nginx), "error", "failed_precondition: unable to update machine from current state: 'destroying'")
	})
}

func TestMachineNames(t *testing.T) {
	in(t, Options{}, func(w *world) {
		id, one := w.make(`{"name":"one","config":{"image":"nginx"}}`)
		text := fmt.Sprintf("already_exists: unique machine name violation, machine ID %s already exists with name %q", id, "one")
		w.says(w.want(409, "POST", machinesPath, `{"name":"one","config":{"image":"nginx"}}`), "error", text)
		w.app("other")
		w.want(200, "POST", "/v1/apps/other/machines", `{"name":"one","config":{"image":"nginx"}}`)
		w.want(200, "DELETE", one+"?force=true", "")
		w.want(409, "POST", machinesPath, `{"name":"one","config":{"image":"nginx"}}`) // not yet gone
		pass(time.Second)
		w.make(`{"name":"one","config":{"image":"nginx"}}`)
		a, _ := w.want(200, "POST", machinesPath, nginx).at("name").(string)
		b, _ := w.want(200, "POST", machinesPath, nginx).at("name").(string)
		if a == b || strings.Count(a, "-") != 2 {
			t.Errorf("names %q and %q", a, b)
		}
	})
}

func TestMachineRules(t *testing.T) {
	in(t, Options{}, func(w *world) {
		guest := func(kind string, cpus, memory int) string {
			return fmt.Sprintf(`{"config":{"image":"nginx","guest":{"cpu_kind":%q,"cpus":%d,"memory_mb":%d}}}`, kind, cpus, memory)
		}
		config := func(s string) string { return `{"config":{"image":"nginx",` + s + `}}` }
		row := func(name, body string, status int, text string) refused {
			return refused{name, "POST", machinesPath, body, status, text}
		}
		w.refuses([]refused{
			row("no kind of CPU", `{"config":{"image":"nginx","guest":{"cpus":1,"memory_mb":256}}}`, 400, "invalid config.guest.cpu_kind"),
			row("five shared CPUs", guest("shared", 5, 1280), 400, "invalid config.guest.cpus, must be one of [1 2 4 6 8]"),
			row("too little for four", guest("shared", 4, 512), 400, "invalid config.guest.memory_mb, minimum required 1024 MiB"),
			row("too much for one", guest("shared", 1, 4096), 400, "invalid config.guest.memory_mb, cannot exceed 2048 MiB"),
			row("no multiple", guest("shared", 1, 300), 400, "invalid config.guest.memory_mb, must be a multiple of 256 MiB"),
			row("too little for eight", guest("performance", 8, 8192), 400, "invalid config.guest.memory_mb, minimum required 16384 MiB"),
			row("too much performance", guest("performance", 1, 9216), 400, "cannot exceed 8192 MiB"),
			row("odd performance", guest("performance", 3, 6144), 400, "invalid config.guest.cpus"),
			row("no multiple of performance", guest("performance", 1, 2304), 400, "must be a multiple of 1024 MiB"),
			row("two mounts", config(`"mounts":[{"volume":"a","path":"/a"},{"volume":"b","path":"/b"}]`), 400, "only one volume"),
			row("no path", config(`"mounts":[{"volume":"a"}]`), 400, "absolute path"),
			row("no such volume", config(`"mounts":[{"volume":"vol_none","path":"/a"}]`), 404, "volume does not exist"),
			row("schedule", config(`"schedule":"sometimes"`), 400, "config.schedule"),
			row("restart", config(`"restart":{"policy":"spot-price"}`), 400, "config.restart.policy"),
			row("protocol", config(`"services":[{"internal_port":80}]`), 400, "services[0].protocol"),
			row("port", config(`"services":[{"protocol":"tcp"}]`), 400, "services[0].internal_port"),
			row("handler", config(`"services":[{"protocol":"tcp","internal_port":80,"ports":[{"port":80,"handlers":["ftp"]}]}]`), 400, "unknown handler"),
			row("https", config(`"services":[{"protocol":"tcp","internal_port":80,"ports":[{"port":80,"force_https":true,"handlers":["tls"]}]}]`), 400, "force_https"),
			row("concurrency", config(`"services":[{"protocol":"tcp","internal_port":80,"concurrency":{"type":"cats"}}]`), 400, "concurrency.type"),
			row("autostop", config(`"services":[{"protocol":"tcp","internal_port":80,"autostop":"sometimes"}]`), 400, "invalid autostop"),
			row("check", config(`"checks":{"c":{"port":80}}`), 400, "config.checks.c.type"),
			row("check's port", config(`"checks":{"c":{"type":"tcp"}}`), 400, "config.checks.c.port"),
			row("interval", config(`"checks":{"c":{"type":"tcp","port":80,"interval":"soon"}}`), 400, "duration"),
			row("file", config(`"files":[{"guest_path":"x","raw_value":"eA=="}]`), 400, "files[0].guest_path"),
			row("file of nothing", config(`"files":[{"guest_path":"/x"}]`), 400, "exactly one of"),
			row("file not in base64", config(`"files":[{"guest_path":"/x","raw_value":"%"}]`), 400, "base64"),
			row("a number in env", config(`"env":{"A":1}`), 400, "json: cannot unmarshal number"),
			row("no such region", `{"region":"xxx","config":{"image":"nginx"}}`, 400, "target region xxx not found"),
			row("secrets to come", `{"min_secrets_version":3,"config":{"image":"nginx"}}`, 412, "min_secrets_version 3 is not yet available"),
			row("a tag that is not there", `{"config":{"image":"emu/absent:1"}}`, 422, "MANIFEST_UNKNOWN"),
			row("a tag that is just pushed", `{"config":{"image":"emu/late:1"}}`, 422, "MANIFEST_UNKNOWN"),
			row("and a moment later", `{"config":{"image":"emu/late:1"}}`, 422, "MANIFEST_UNKNOWN"),
		})
		w.make(`{"config":{"image":"emu/late:1"}}`)
		for _, body := range []string{
			guest("shared", 1, 256), guest("shared", 8, 16384), guest("performance", 1, 8192), guest("performance", 16, 32768),
			config(`"size":"performance-2x"`), config(`"files":[{"guest_path":"/x","secret_name":"X"}]`),
		} {
			w.make(body)
		}
	})
	in(t, Options{Orgs: []Org{{Slug: "acme", Unpaid: true}}, Tokens: []Token{{Value: DefaultToken, Kind: OrgToken, Org: "acme"}}}, func(w *world) {
		w.make(nginx)
		w.refuses([]refused{{"no payment method", "POST", machinesPath, nginx, 422, "To create more than 1 machine per app please add a payment method."}})
	})
}

// TestReadBack: what is read is not what was written, and stays the same when
// it is written again.
func TestReadBack(t *testing.T) {
	in(t, Options{}, func(w *world) {
		_, one := w.make(`{"config":{"image":"nginx:1.27","env":{},"metadata":{},"mounts":[],"statics":null,"nobody":{"knows":1},
			"init":{"exec":["/bin/app"]},"stop_config":{"timeout":"90s","signal":"SIGTERM"},
			"files":[{"guest_path":"/x","raw_value":"eA==","mode":420}],
			"checks":{"alive":{"type":"http","port":80,"interval":"120s","timeout":2000000000,"grace_period":"1500ms"}},
			"services":[
				{"protocol":"tcp","internal_port":80,"autostop":"off","autostart":false,"min_machines_running":0,"checks":[{"type":"http","interval":"2m"}]},
				{"protocol":"tcp","internal_port":81,"autostop":"stop"},{"protocol":"tcp","internal_port":82,"autostop":"suspend"},
				{"protocol":"tcp","internal_port":83,"autostop":true},{"protocol":"tcp","internal_port":84,"autostop":false},{"protocol":"udp","internal_port":85}]}}`)
		v := w.want(200, "GET", one, "")
		for path, want := range map[string]any{
			"config.services.0.autostop": false, "config.services.1.autostop": true, "config.services.2.autostop": "suspend",
			"config.services.3.autostop": true, "config.services.4.autostop": false, "config.services.5.autostop": nil,
			"config.services.0.autostart": false, "config.services.0.min_machines_running": 0,
			"config.services.0.checks.0.interval": "1m0s", "config.checks.alive.interval": "2m0s", "config.checks.alive.timeout": "2s",
			"config.checks.alive.grace_period": "1.5s", "config.stop_config.timeout": "1m30s",
			"config.guest.cpu_kind": "shared", "config.guest.cpus": 1, "config.guest.memory_mb": 256,
			"config.files.0.raw_value": "eA==", "config.files.0.mode": 420, "config.nobody": nil,
			"image_ref.registry": "docker-hub-mirror.fly.io", "image_ref.repository": "library/nginx", "image_ref.tag": "1.27",
			"host_status": "ok", "cordoned": false,
		} {
			w.says(v, path, want)
		}
		for _, s := range []string{`"dns":{}`, `"restart":{}`, `"force_instance_key":null`} {
			if !strings.Contains(v.raw, s) {
				t.Errorf("no %s in %s", s, v.raw)
			}
		}
		for _, s := range []string{`"env"`, `"metadata"`, `"mounts"`, `"statics"`} {
			if strings.Contains(v.raw, s) {
				t.Errorf("%s in %s", s, v.raw)
			}
		}
		config := func(v value) string {
			_, s, _ := strings.Cut(v.raw, `"config":`)
			s, _, _ = strings.Cut(s, `,"host_status"`)
			return s
		}
		pass(5 * time.Second)
		again := w.want(200, "POST", one, `{"config":`+config(v)+`}`)
		if config(again) != config(v) {
			t.Errorf("written again:\n%s\n%s", config(v), config(again))
		}
		_, sized := w.make(`{"config":{"image":"registry.fly.io/web@sha256:ab","size":"performance-2x"}}`)
		v = w.want(200, "GET", sized, "")
		for path, want := range map[string]any{
			"config.size": nil, "config.guest.cpu_kind": "performance", "config.guest.cpus": 2, "config.guest.memory_mb": 4096,
			"image_ref.registry": "registry.fly.io", "image_ref.repository": "web", "image_ref.digest": "sha256:ab",
		} {
			w.says(v, path, want)
		}
	})
}

// TestMovedTag: a machine has the image that the tag named when it was made.
func TestMovedTag(t *testing.T) {
	in(t, Options{}, func(w *world) {
		_, one := w.make(`{"config":{"image":"app:1"}}`)
		was := w.want(200, "GET", one, "").at("image_ref.digest")
		w.e.MoveTag("app:1", "sha256:moved")
		w.says(w.want(200, "GET", one, ""), "image_ref.digest", was)
		_, two := w.make(`{"config":{"image":"app:1"}}`)
		w.says(w.want(200, "GET", two, ""), "image_ref.digest", "sha256:moved")
		pass(5 * time.Second)
		w.says(w.want(200, "POST", one, `{"config":{"image":"app:1"}}`), "image_ref.digest", "sha256:moved")
	})
}

func TestMachineList(t *testing.T) {
	in(t, Options{}, func(w *world) {
		a, one := w.make(`{"region":"iad","lease_ttl":60,"config":{"image":"nginx","env":{"A":"b"},"metadata":{"group":"app","id":"1"}}}`)
		w.make(`{"region":"lhr","skip_launch":true,"config":{"image":"nginx","metadata":{"group":"app","id":"2"}}}`)
		w.make(`{"region":"lhr","config":{"image":"nginx","metadata":{"group":"worker"}}}`)
		pass(20 * time.Second)
		for query, want := range map[string]int{
			"": 3, "?region=lhr": 2, "?state=started": 2, "?state=started,stopped": 3, "?metadata.group=app": 2,
			"?metadata.group=app&metadata.id=2": 1, "?metadata.group=none": 0,
		} {
			if list := w.want(200, "GET", machinesPath+query, "").any.([]any); len(list) != want {
				t.Errorf("%q: %d machines, want %d", query, len(list), want)
			}
		}
		v := w.want(200, "GET", machinesPath+"?metadata.id=1", "")
		w.says(v, "0.id", a)
		w.says(v, "0.config.env.A", "b")
		w.says(v, "0.lease", nil)
		v = w.want(200, "GET", machinesPath+"?summary=true&include_leases=true&metadata.id=1", "")
		w.says(v, "0.config.env", nil)
		w.says(v, "0.config.metadata.id", "1")
		if v.at("0.lease.owner") == nil || v.at("0.lease.nonce") != nil {
			t.Errorf("lease: %s", v.raw)
		}
		if v := w.want(200, "GET", one+"?include_leases=true", ""); v.at("lease.expires_at") == nil {
			t.Errorf("lease: %s", v.raw)
		}
	})
}
