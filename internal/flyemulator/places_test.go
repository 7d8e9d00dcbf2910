package flyemulator

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// disk makes a volume in app web, and waits until it is there.
func (w *world) disk(region string) string {
	w.Helper()
	id, _ := w.want(201, "POST", "/v1/apps/web/volumes", `{"name":"data","size_gb":3,"region":"`+region+`"}`).at("id").(string)
	pass(2 * time.Second)
	return id
}

func mounts(volume string) string {
	return `"config":{"image":"nginx","mounts":[{"volume":"` + volume + `","path":"/data"}]}`
}

func TestMounts(t *testing.T) {
	in(t, Options{}, func(w *world) {
		vol := w.disk("lhr")
		w.refuses([]refused{
			{"another region", "POST", machinesPath, `{"region":"iad",` + mounts(vol) + `}`, 422, "is in region lhr"},
			{"no such volume", "POST", machinesPath, `{` + mounts("vol_none") + `}`, 404, "volume does not exist"},
		})
		id, one := w.make(`{"region":"lhr",` + mounts(vol) + `}`)
		v := w.want(200, "GET", one, "")
		for path, want := range map[string]any{
			"region": "lhr", "config.mounts.0.volume": vol, "config.mounts.0.name": "data", "config.mounts.0.size_gb": 3, "config.mounts.0.encrypted": true,
		} {
			w.says(v, path, want)
		}
		w.says(w.want(200, "GET", "/v1/apps/web/volumes/"+vol, ""), "attached_machine_id", id)
		w.says(w.want(412, "POST", machinesPath, `{`+mounts(vol)+`}`), "error", "failed_precondition: volume already claimed by machine "+id)
		w.e.SetMode(ModeVolumeClaimed, "nul")
		w.says(w.want(412, "POST", machinesPath, `{`+mounts(vol)+`}`), "error", "failed_precondition: volume already claimed by machine "+strings.Repeat("\x00", 14))
		w.e.SetMode(ModeVolumeClaimed, "id")

		// An update keeps it, and cannot change it.
		pass(5 * time.Second)
		other := w.disk("lhr")
		w.want(400, "POST", one, `{`+mounts(other)+`}`)
		w.want(400, "POST", one, nginx)
		w.want(200, "POST", one, `{`+mounts(vol)+`}`)
		pass(10 * time.Second)
		w.says(w.want(200, "POST", one, `{"config":{"image":"nginx","mounts":[{"name":"data","path":"/other"}]}}`), "config.mounts.0.volume", vol)
		pass(10 * time.Second)

		// The machine is destroyed; the volume stays bound for a while.
		w.want(200, "DELETE", one+"?force=true", "")
		pass(time.Second)
		w.is(one, destroyed)
		w.says(w.want(412, "DELETE", "/v1/apps/web/volumes/"+vol, ""), "error", "failed_precondition: volume is currently bound to machine: "+id)
		w.want(412, "POST", machinesPath, `{`+mounts(vol)+`}`)
		pass(30 * time.Second)
		_, two := w.make(`{"region":"lhr",` + mounts(vol) + `}`)
		w.says(w.want(200, "GET", two, ""), "region", "lhr")

		// By name, one that is free is taken.
		_, three := w.make(`{"region":"lhr","config":{"image":"nginx","mounts":[{"name":"data","path":"/data"}]}}`)
		w.says(w.want(200, "GET", three, ""), "config.mounts.0.volume", other)
		w.want(404, "POST", machinesPath, `{"region":"lhr","config":{"image":"nginx","mounts":[{"name":"data","path":"/data"}]}}`)
	})
}

func TestCapacity(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.e.SetRoom("cdg", 1)
		w.e.SetRoom("lhr", 1)
		in := func(region string) string { return `{"region":"` + region + `",` + nginx[1:] }
		_, one := w.make(in("cdg"))
		_, two := w.make(in("cdg,lhr")) // the next on the list
		w.says(w.want(200, "GET", two, ""), "region", "lhr")
		v := w.want(422, "POST", machinesPath, in("cdg,lhr"))
		w.says(v, "error", "could not find a candidate host")
		w.says(v, "status", "insufficient_capacity")
		_, three := w.make(in("eu"))
		if r := w.want(200, "GET", three, "").at("region"); r == "cdg" || r == "lhr" || r == "iad" {
			t.Errorf("region %v", r)
		}
		w.want(200, "DELETE", one+"?force=true", "")
		pass(time.Second)
		w.make(in("cdg")) // there is room again

		// The host of a volume is full.
		vol := w.disk("iad")
		w.e.SetHost("web", vol, "", true)
		v = w.want(412, "POST", machinesPath, `{`+mounts(vol)+`}`)
		w.says(v, "error", fmt.Sprintf("insufficient resources to create new machine with existing volume id '%s'", vol))
		w.says(v, "status", "volume_placement_capacity")

		// The host of a machine is full: it may go on, but not grow, nor start.
		id, four := w.make(nginx)
		pass(5 * time.Second)
		w.e.SetHost("web", id, "", true)
		w.want(200, "POST", four, nginx)
		pass(10 * time.Second)
		w.says(w.want(409, "POST", four, `{"config":{"image":"nginx","guest":{"cpu_kind":"shared","cpus":1,"memory_mb":512}}}`), "error",
			"aborted: could not reserve resource for machine: insufficient memory available to fulfill request on the current host")
		w.want(200, "POST", four+"/stop", "")
		pass(10 * time.Second)
		w.want(409, "POST", four+"/start", "")
		w.e.SetHost("web", id, "", false)
		w.want(200, "POST", four+"/start", "")
	})
}

func TestHosts(t *testing.T) {
	in(t, Options{}, func(w *world) {
		id, one := w.make(`{"config":{"image":"nginx","env":{"A":"b"},"metadata":{"k":"v"}}}`)
		_, spare := w.make(`{"config":{"image":"nginx","standbys":["` + id + `"]}}`)
		pass(20 * time.Second)
		w.is(spare, stopped)
		w.e.SetHost("web", id, hostUnreachable, false)
		v := w.want(200, "GET", one, "")
		for path, want := range map[string]any{"host_status": "unreachable", "config": nil, "incomplete_config.image": "nginx", "incomplete_config.env": nil, "checks": nil} {
			w.says(v, path, want)
		}
		v = w.want(200, "GET", machinesPath+"?metadata.k=v", "")
		w.says(v, "0.config", nil)
		for _, r := range []refused{
			{"update", "POST", one, nginx, 503, "cannot be reached"},
			{"start", "POST", one + "/start", "", 503, "cannot be reached"},
			{"stop", "POST", one + "/stop", "", 503, "cannot be reached"},
			{"lease", "POST", one + "/lease", "", 503, "cannot be reached"},
			{"exec", "POST", one + "/exec", `{"command":["true"]}`, 503, "cannot be reached"},
			{"destroy", "DELETE", one, "", 503, "cannot be reached"},
		} {
			w.refuses([]refused{r})
		}
		w.want(204, "POST", one+"/metadata/k2", `{"value":"v2"}`)
		pass(2 * time.Second)
		w.is(spare, started) // it stands in

		w.e.SetHost("web", id, hostOK, false)
		v = w.want(200, "GET", one, "")
		w.says(v, "config.env.A", "b")
		w.says(v, "incomplete_config", nil)

		w.e.SetHost("web", id, hostUnreachable, false)
		w.want(200, "DELETE", one+"?force=true", "") // it is noted, and done later
		pass(time.Hour)
		w.is(one, started)
		w.e.SetHost("web", id, hostOK, false)
		pass(time.Second)
		w.is(one, destroyed)

		// What was under way goes on when the host is back.
		two, path := w.make(nginx)
		w.e.SetHost("web", two, hostUnknown, false)
		pass(time.Minute)
		w.is(path, created)
		w.e.SetHost("web", two, hostOK, false)
		pass(10 * time.Second)
		w.is(path, started)
	})
}

// TestMigration: the machine keeps its id; its address, its volume's id and
// its version do not stay.
func TestMigration(t *testing.T) {
	in(t, Options{}, func(w *world) {
		vol := w.disk("iad")
		id, one := w.make(`{` + mounts(vol) + `}`)
		pass(5 * time.Second)
		was := w.is(one, started)
		w.e.Migrate("web", id)
		now := w.is(one, started)
		for _, path := range []string{"private_ip", "config.mounts.0.volume", "instance_id"} {
			if was.at(path) == now.at(path) {
				t.Errorf("%s stayed %v", path, now.at(path))
			}
		}
		w.want(404, "GET", "/v1/apps/web/volumes/"+vol, "")
		v := w.want(200, "GET", "/v1/apps/web/volumes/"+now.at("config.mounts.0.volume").(string), "")
		w.says(v, "attached_machine_id", id)
		w.want(412, "POST", one, `{"current_version":"`+was.at("instance_id").(string)+`",`+mounts(vol)+`}`)
		w.want(400, "POST", one, `{`+mounts(vol)+`}`)
	})
}

// TestProxy: Fly's proxy starts and stops what it may, and nothing else.
func TestProxy(t *testing.T) {
	in(t, Options{}, func(w *world) {
		service := func(stop string) string {
			return `{"config":{"image":"nginx","services":[{"protocol":"tcp","internal_port":80,"autostart":true,"autostop":"` + stop + `"}]}}`
		}
		_, stops := w.make(service("stop"))
		_, suspends := w.make(service("suspend"))
		_, stays := w.make(service("off"))
		_, none := w.make(nginx)
		pass(5 * time.Second)
		w.e.SetProxy(true)
		seen := map[string]map[any]bool{}
		for range 60 {
			pass(10 * time.Second)
			for _, path := range []string{stops, suspends, stays, none} {
				if seen[path] == nil {
					seen[path] = map[any]bool{}
				}
				seen[path][w.want(200, "GET", path, "").at("state")] = true
			}
		}
		w.e.SetProxy(false)
		pass(10 * time.Second)
		w.e.SetProxy(true)
		w.e.SetProxy(true)
		for path, want := range map[string]string{stops: stopped, suspends: suspended} {
			if !seen[path][want] || !seen[path][started] {
				t.Errorf("it was seen %v, want %s and started", seen[path], want)
			}
		}
		if len(seen[stays]) != 1 || len(seen[none]) != 1 {
			t.Errorf("it touched what it may not: %v %v", seen[stays], seen[none])
		}
	})
}
