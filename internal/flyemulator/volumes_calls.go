package flyemulator

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

func (e *Emulator) volumeRoutes() []route {
	const all, one = "/v1/apps/{app}/volumes", "/v1/apps/{app}/volumes/{volume}"
	return []route{
		{method: http.MethodGet, pattern: all, action: "volumes.list", scope: scopeApp, handler: (*call).listVolumes},
		{method: http.MethodPost, pattern: all, action: "volumes.create", scope: scopeApp, handler: (*call).createVolume},
		{method: http.MethodGet, pattern: one, action: "volumes.get", scope: scopeApp, handler: onVolume((*call).getVolume)},
		{method: http.MethodPut, pattern: one, action: "volumes.update", scope: scopeApp, handler: onVolume((*call).updateVolume)},
		{method: http.MethodDelete, pattern: one, action: "volumes.delete", scope: scopeApp, handler: onVolume((*call).deleteVolume)},
		{method: http.MethodPut, pattern: one + "/extend", action: "volumes.extend", scope: scopeApp, handler: onVolume((*call).extendVolume)},
		{method: http.MethodGet, pattern: one + "/snapshots", action: "snapshots.list", scope: scopeApp, handler: onVolume((*call).listSnapshots)},
		{method: http.MethodPost, pattern: one + "/snapshots", action: "snapshots.create", scope: scopeApp, handler: onVolume((*call).createSnapshot)},
	}
}

// onVolume hands over the volume of the path.
func onVolume(f func(*call, *volume) reply) func(*call) reply {
	return func(c *call) reply {
		v := c.app.volume(c.values["volume"])
		if v == nil {
			return c.failed(missing("volume not found"))
		}
		return f(c, v)
	}
}

// volumeView is a volume as the API shows it.
type volumeView struct {
	ID         string     `json:"id"`
	App        string     `json:"app_name,omitempty"` // in the listing of an organization
	Name       string     `json:"name"`
	State      string     `json:"state"`
	SizeGB     int        `json:"size_gb"`
	Region     string     `json:"region"`
	Zone       string     `json:"zone"`
	Encrypted  bool       `json:"encrypted"`
	Machine    *string    `json:"attached_machine_id"`
	Alloc      *string    `json:"attached_alloc_id"`
	Created    time.Time  `json:"created_at"`
	Updated    *time.Time `json:"updated_at,omitempty"` // in the listing of an organization
	Blocks     int        `json:"blocks"`
	BlockSize  int        `json:"block_size"`
	Free       int        `json:"blocks_free"`
	Avail      int        `json:"blocks_avail"`
	BytesUsed  int64      `json:"bytes_used"`
	BytesTotal int64      `json:"bytes_total"`
	FSType     string     `json:"fstype"`
	Retention  int        `json:"snapshot_retention"`
	AutoBackup bool       `json:"auto_backup_enabled"`
	HostStatus string     `json:"host_status"`
	Type       string     `json:"type"`
	Dedication string     `json:"host_dedication_key"`
}

func (e *Emulator) volumeView(v *volume) volumeView {
	out := volumeView{
		ID: v.ID, Name: v.Name, State: v.State, SizeGB: v.SizeGB, Region: v.Region,
		Encrypted: v.Encrypted, Created: v.Created, Retention: v.Retention, AutoBackup: v.AutoBackup, HostStatus: "ok", Type: "local",
	}
	if v.State == "pending_destroy" && e.now().Before(v.Ending) {
		out.State = "created" // measured by users of the API
	}
	if v.Machine != "" {
		out.Machine = &v.Machine
	}
	if h := e.state.Hosts[v.Host]; h != nil {
		out.HostStatus, out.Zone = h.Status, h.zone()
	}
	if v.State != "creating" {
		const size = 4096
		out.FSType, out.BlockSize, out.Blocks = v.FSType, size, v.SizeGB<<30/size
		out.Free, out.Avail = out.Blocks-6, out.Blocks*95/100
		out.BytesTotal, out.BytesUsed = int64(out.Blocks)*size, 6*size
	}
	return out
}

// orgVolumeRow is a row of the listing of an organization's volumes.
func (e *Emulator) orgVolumeRow(a *app, v *volume) any {
	out := e.volumeView(v)
	out.App, out.Updated = a.Name, &v.Updated
	return out
}

// volumesOf are the volumes that a listing of the app shows, oldest first.
func (e *Emulator) volumesOf(a *app) []*volume {
	var all []*volume
	for _, v := range a.Volumes {
		if v.State != "destroyed" && !v.Listed.After(e.now()) {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(x, y *volume) int { return cmp.Or(x.Created.Compare(y.Created), strings.Compare(x.ID, y.ID)) })
	return all
}

func (c *call) listVolumes() reply {
	out := []volumeView{}
	for _, v := range c.e.volumesOf(c.app) {
		one := c.e.volumeView(v)
		if c.flag("summary") {
			one.Blocks, one.BlockSize, one.Free, one.Avail, one.BytesTotal, one.BytesUsed = 0, 0, 0, 0, 0, 0
		}
		out = append(out, one)
	}
	return c.ok(out)
}

func (c *call) createVolume() reply {
	var in volumeRequest
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	v, f := c.e.newVolume(c.app, in)
	if f != nil {
		return c.failed(f)
	}
	if c.e.mode(ModeVolumeCreated) == "200" {
		return c.ok(c.e.volumeView(v))
	}
	return c.reply(http.StatusCreated, c.e.volumeView(v))
}

func (c *call) getVolume(v *volume) reply { return c.ok(c.e.volumeView(v)) }

func (c *call) updateVolume(v *volume) reply {
	var in struct {
		Retention  *int  `json:"snapshot_retention"`
		AutoBackup *bool `json:"auto_backup_enabled"`
	}
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	days := given(in.Retention, v.Retention)
	if days < 1 || days > 60 {
		return c.failed(refuse(http.StatusBadRequest, "snapshot_retention must be between 1 and 60"))
	}
	v.Retention, v.AutoBackup, v.Updated = days, given(in.AutoBackup, v.AutoBackup), c.now
	return c.ok(c.e.volumeView(v))
}

func (c *call) deleteVolume(v *volume) reply {
	if f := c.e.endVolume(c.app, v); f != nil {
		return c.failed(f)
	}
	return c.ok(c.e.volumeView(v))
}

func (c *call) extendVolume(v *volume) reply {
	var in struct {
		SizeGB int `json:"size_gb"`
	}
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	switch {
	case c.e.hostStatus(v.Host) != hostOK:
		return c.failed(unreachable(v))
	case v.State != "created":
		return c.fail(http.StatusPreconditionFailed, "failed_precondition: volume is in state %s", v.State)
	case in.SizeGB > volumeMaxGB:
		return c.failed(invalid("Size must be between 1 and %d GB", volumeMaxGB))
	case in.SizeGB <= v.SizeGB:
		return c.failed(invalid("Size must be larger than the current size of %d GB", v.SizeGB))
	}
	restart := v.Machine != "" && v.SizeGB < growsColdGB && c.app.runs(v.Machine)
	v.SizeGB, v.State, v.Updated = in.SizeGB, "extending", c.now
	c.e.after(volumeExtends, event{Kind: "volume.extended", App: c.app.Name, ID: v.ID})
	return c.ok(map[string]any{"volume": c.e.volumeView(v), "needs_restart": restart})
}

// unreachable refuses what only the host of a volume could do.
func unreachable(v *volume) *failure {
	return refuse(http.StatusServiceUnavailable, "unavailable: the host of volume %s cannot be reached", v.ID)
}

// runs says whether a machine of the app is running.
func (a *app) runs(id string) bool { return a.Machines[id] != nil && a.Machines[id].running() }

// snapshotView is a snapshot as the API shows it.
type snapshotView struct {
	ID        string    `json:"id"`
	Status    string    `json:"status"`
	Size      int64     `json:"size"` // in bytes
	VolumeGB  int64     `json:"volume_size"`
	Digest    string    `json:"digest"`
	Created   time.Time `json:"created_at"`
	Retention int       `json:"retention_days"`
}

func (c *call) listSnapshots(v *volume) reply {
	out := []snapshotView{}
	for _, s := range slices.Backward(v.Snapshots) {
		if c.e.now().After(s.Created.AddDate(0, 0, s.Retention)) {
			continue
		}
		sum := sha256.Sum256([]byte(s.ID))
		one := snapshotView{ID: s.ID, Status: s.Status, VolumeGB: int64(s.VolumeGB) << 30, Created: s.Created, Retention: s.Retention}
		if s.Status == "created" {
			one.Size, one.Digest = 6*4096, hex.EncodeToString(sum[:])
		}
		out = append(out, one)
	}
	return c.ok(out)
}

func (c *call) createSnapshot(v *volume) reply {
	if n := len(v.Snapshots); n > 0 && c.now.Before(v.Snapshots[n-1].Created.Add(snapshotEvery)) {
		return c.fail(http.StatusPreconditionFailed, "failed_precondition: snapshot is already scheduled at %s", v.Snapshots[n-1].Created.Format(time.RFC3339))
	}
	if v.ending() {
		return c.failed(missing("volume not found"))
	}
	if c.e.hostStatus(v.Host) != hostOK {
		return c.failed(unreachable(v))
	}
	s := snapshot{ID: "vs_" + c.e.newID("snapshot", 20), Status: "waiting", VolumeGB: v.SizeGB, Created: c.now, Retention: v.Retention}
	v.Snapshots = append(v.Snapshots, s)
	c.e.after(snapshotWaits, event{Kind: "snapshot.running", App: c.app.Name, ID: v.ID, Data: s.ID})
	c.e.after(snapshotWaits+snapshotRuns, event{Kind: "snapshot.created", App: c.app.Name, ID: v.ID, Data: s.ID})
	status := http.StatusOK
	if c.e.mode(ModeSnapshotCreated) == "201" {
		status = http.StatusCreated
	}
	// The envelope is measured; the API document says nothing of the answer.
	return c.reply(status, map[string]any{"Msg": map[string]any{"id": s.ID, "status": s.Status, "scheduled_at": s.Created}})
}
