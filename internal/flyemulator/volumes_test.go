package flyemulator

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const volumesPath = "/v1/apps/web/volumes"

func (w *world) volume(body string) string {
	w.Helper()
	return w.want(201, "POST", volumesPath, body).at("id").(string)
}

func TestVolumeComesInto(t *testing.T) {
	in(t, Options{}, func(w *world) {
		v := w.want(201, "POST", volumesPath, `{"name":"data","region":"fra"}`)
		for path, want := range map[string]any{
			"state": "creating", "size_gb": 3, "region": "fra", "encrypted": true, "snapshot_retention": 5, "auto_backup_enabled": true,
			"attached_machine_id": nil, "fstype": "", "host_status": "ok",
		} {
			w.says(v, path, want)
		}
		id := v.at("id").(string)
		if !strings.HasPrefix(id, "vol_") {
			t.Errorf("id %q", id)
		}
		if all := w.want(200, "GET", volumesPath, ""); all.raw != "[]\n" {
			t.Errorf("a new volume is listed at once: %s", all.raw)
		}
		w.says(w.want(200, "GET", volumesPath+"/"+id, ""), "id", id) // although it can be read
		pass(volumeListed + time.Millisecond)
		all := w.want(200, "GET", volumesPath, "")
		w.says(all, "0.state", "created")
		w.says(all, "0.fstype", "ext4")
		w.e.SetMode(ModeVolumeCreated, "200")
		w.want(200, "POST", volumesPath, `{"name":"data","region":"fra"}`)
	})
}

func TestVolumeIsRefused(t *testing.T) {
	in(t, Options{}, func(w *world) {
		id := w.volume(`{"name":"big","region":"fra","size_gb":20}`)
		pass(2 * time.Second)
		create := func(name, body string, status int, text string) refused {
			return refused{name, "POST", volumesPath, body, status, text}
		}
		w.refuses([]refused{
			create("no name", `{"region":"fra"}`, 400, "name is required"),
			create("name", `{"name":"Big-Disk","region":"fra"}`, 422, "Validation failed"),
			create("region", `{"name":"data","region":"xxx"}`, 400, "target region 'xxx' not found"),
			create("no region", `{"name":"data"}`, 400, "target region '' not found"),
			create("alias", `{"name":"data","region":"eu"}`, 400, "target region 'eu' not found"),
			create("too small", `{"name":"data","region":"fra","size_gb":0}`, 422, "between 1 and 500"),
			create("too big", `{"name":"data","region":"fra","size_gb":501}`, 422, "between 1 and 500"),
			create("type", `{"name":"data","region":"fra","size_gb":"3"}`, 400, "json"),
			create("file system", `{"name":"data","region":"fra","fstype":"zfs"}`, 422, "Fstype"),
			create("retention", `{"name":"data","region":"fra","snapshot_retention":61}`, 422, "retention"),
			create("source", `{"name":"data","region":"fra","source_volume_id":"vol_none"}`, 404, "not found"),
			create("snapshot", `{"name":"data","region":"fra","snapshot_id":"vs_none"}`, 404, "not found"),
			create("smaller than its source", fmt.Sprintf(`{"name":"data","region":"fra","source_volume_id":%q,"size_gb":10}`, id), 422, "at least"),
			{"unknown", "GET", volumesPath + "/vol_none", "", 404, "not found"},
			{"shrink", "PUT", volumesPath + "/" + id + "/extend", `{"size_gb":10}`, 422, "larger"},
			{"the same size", "PUT", volumesPath + "/" + id + "/extend", `{"size_gb":20}`, 422, "larger"},
			{"beyond the largest", "PUT", volumesPath + "/" + id + "/extend", `{"size_gb":501}`, 422, "500"},
			{"retention of an update", "PUT", volumesPath + "/" + id, `{"snapshot_retention":0}`, 400, "snapshot_retention"},
		})
	})
}

func TestVolumeZones(t *testing.T) {
	in(t, Options{}, func(w *world) {
		zones := map[any]bool{}
		for range hostsPerRegion {
			zones[w.want(201, "POST", volumesPath, `{"name":"data","region":"fra"}`).at("zone")] = true
		}
		if len(zones) != hostsPerRegion {
			t.Errorf("%d zones, want %d", len(zones), hostsPerRegion)
		}
		one := w.want(422, "POST", volumesPath, `{"name":"data","region":"fra"}`)
		w.says(one, "error", "could not find a candidate host")
		w.says(one, "status", "insufficient_capacity")
		w.says(w.want(201, "POST", volumesPath, `{"name":"data","region":"fra, ams"}`), "region", "ams")
		w.want(201, "POST", volumesPath, `{"name":"data","region":"fra","require_unique_zone":false}`)
		w.want(201, "POST", volumesPath, `{"name":"other","region":"fra"}`)
		w.want(422, "POST", volumesPath, `{"name":"third","region":"fra","unique_zone_app_wide":true}`)
	})
}

func TestVolumeGrows(t *testing.T) {
	in(t, Options{}, func(w *world) {
		one := volumesPath + "/" + w.volume(`{"name":"data","region":"fra"}`)
		w.want(412, "PUT", one+"/extend", `{"size_gb":5}`) // it is not there yet
		pass(2 * time.Second)
		v := w.want(200, "PUT", one+"/extend", `{"size_gb":5}`)
		w.says(v, "volume.size_gb", 5)
		w.says(v, "volume.state", "extending")
		w.says(v, "needs_restart", false)
		pass(2 * time.Second)
		w.says(w.want(200, "GET", one, ""), "state", "created")
		w.says(w.want(200, "PUT", one, `{"snapshot_retention":9}`), "snapshot_retention", 9)
		w.says(w.want(200, "PUT", one, `{"auto_backup_enabled":false}`), "snapshot_retention", 9)
	})
}

func TestVolumeEnds(t *testing.T) {
	in(t, Options{}, func(w *world) {
		one := volumesPath + "/" + w.volume(`{"name":"data","region":"fra"}`)
		pass(2 * time.Second)
		w.says(w.want(200, "DELETE", one, ""), "state", "created") // shown as it was, for a moment
		w.says(w.want(200, "GET", volumesPath, ""), "0.state", "created")
		pass(volumeLingers)
		w.says(w.want(200, "GET", volumesPath, ""), "0.state", "pending_destroy")
		w.want(200, "DELETE", one, "") // again
		w.refuses([]refused{
			{"extend", "PUT", one + "/extend", `{"size_gb":9}`, 412, "pending_destroy"},
			{"snapshot", "POST", one + "/snapshots", "", 404, "not found"},
		})
		pass(volumePending)
		w.says(w.want(200, "GET", one, ""), "state", "destroying")
		pass(volumeDestroys)
		w.want(404, "GET", one, "")
		w.want(404, "DELETE", one, "")
	})
}

func TestSnapshots(t *testing.T) {
	in(t, Options{}, func(w *world) {
		one := volumesPath + "/" + w.volume(`{"name":"data","region":"fra","size_gb":7}`)
		pass(2 * time.Second)
		made := w.want(200, "POST", one+"/snapshots", "")
		id := made.at("Msg.id").(string)
		w.refuses([]refused{
			{"a second one", "POST", one + "/snapshots", "", 412, "failed_precondition: snapshot is already scheduled at "},
			{"restore too early", "POST", volumesPath, fmt.Sprintf(`{"name":"back","region":"fra","snapshot_id":%q}`, id), 404, "not found"},
		})
		w.says(w.want(200, "GET", one+"/snapshots", ""), "0.status", "waiting")
		pass(snapshotWaits)
		w.says(w.want(200, "GET", one+"/snapshots", ""), "0.status", "running")
		pass(snapshotRuns)
		list := w.want(200, "GET", one+"/snapshots", "")
		w.says(list, "0.status", "created")
		w.says(list, "0.retention_days", 5)
		back := w.want(201, "POST", volumesPath, fmt.Sprintf(`{"name":"back","region":"fra","snapshot_id":%q}`, id))
		w.says(back, "state", "restoring")
		w.says(back, "size_gb", 7)
		pass(volumeRestores)
		w.says(w.want(200, "GET", volumesPath+"/"+back.at("id").(string), ""), "state", "created")
		fork := w.want(201, "POST", volumesPath, fmt.Sprintf(`{"name":"fork","region":"ams","source_volume_id":%q}`, back.at("id")))
		w.says(fork, "state", "hydrating")
		w.says(fork, "size_gb", 7)
		pass(5 * 24 * time.Hour)
		if list := w.want(200, "GET", one+"/snapshots", ""); list.raw != "[]\n" {
			t.Errorf("kept for longer than %d days: %s", 5, list.raw)
		}
		w.e.SetMode(ModeSnapshotCreated, "201")
		w.want(201, "POST", one+"/snapshots", "")
	})
}

// TestVolumeAndMachine: a volume is bound while its machine is there, and for a
// while after.
func TestVolumeAndMachine(t *testing.T) {
	in(t, Options{}, func(w *world) {
		id := w.volume(`{"name":"data","region":"fra"}`)
		one := volumesPath + "/" + id
		pass(2 * time.Second)
		const machines = "/v1/apps/web/machines"
		body := `{"region":"fra","config":{"image":"nginx","mounts":[{"volume":"` + id + `","path":"/data"}]}}`
		machine := w.want(200, "POST", machines, body).at("id").(string)
		pass(10 * time.Second)
		w.says(w.want(200, "GET", one, ""), "attached_machine_id", machine)
		w.refuses([]refused{
			{"delete", "DELETE", one, "", 412, "failed_precondition: volume is currently bound to machine: " + machine},
			{"a second machine", "POST", machines, body, 412, "failed_precondition: volume already claimed by machine " + machine},
		})
		w.says(w.want(200, "PUT", one+"/extend", `{"size_gb":10}`), "needs_restart", true)
		pass(2 * time.Second)
		w.says(w.want(200, "PUT", one+"/extend", `{"size_gb":12}`), "needs_restart", false)

		w.e.SetHost("web", machine, hostUnreachable, false)
		w.says(w.want(200, "GET", one, ""), "host_status", hostUnreachable)
		w.refuses([]refused{
			{"extend", "PUT", one + "/extend", `{"size_gb":20}`, 503, "cannot be reached"},
			{"snapshot", "POST", one + "/snapshots", "", 503, "cannot be reached"},
		})
		w.e.SetHost("web", machine, hostOK, false)

		w.want(200, "DELETE", machines+"/"+machine+"?force=true", "")
		pass(5 * time.Second)
		w.says(w.want(200, "GET", one, ""), "attached_machine_id", nil)
		w.want(412, "DELETE", one, "")
		w.e.SetMode(ModeVolumeClaimed, "nul")
		w.refuses([]refused{{"another machine", "POST", machines, body, 412, "claimed by machine \x00"}})
		pass(time.Minute)
		w.want(200, "DELETE", one, "")
		w.refuses([]refused{{"a machine on one that is on its way out", "POST", machines, body, 404, "volume does not exist"}})
	})
}

func TestVolumesOfAnOrganization(t *testing.T) {
	in(t, Options{}, func(w *world) {
		const all = "/v1/orgs/acme/volumes"
		id := w.volume(`{"name":"data","region":"fra"}`)
		w.says(w.want(200, "GET", all, ""), "volumes.0", nil)
		pass(2 * time.Second)
		v := w.want(200, "GET", all, "")
		w.says(v, "volumes.0.id", id)
		w.says(v, "volumes.0.app_name", "web")
		before := v.at("volumes.0.updated_at").(string)
		pass(time.Minute)
		w.want(200, "PUT", volumesPath+"/"+id+"/extend", `{"size_gb":9}`)
		w.says(w.want(200, "GET", all+"?updated_after="+before, ""), "volumes.0.size_gb", 9)
		after := w.e.Now().Add(time.Second).Format(time.RFC3339)
		pass(2 * time.Minute)
		w.says(w.want(200, "GET", all+"?updated_after="+after, ""), "volumes.0", nil)
	})
}
