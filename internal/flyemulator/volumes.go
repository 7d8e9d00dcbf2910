package flyemulator

import (
	"cmp"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// volume is a disk of an app. It lies on one host.
type volume struct {
	ID        string
	Name      string
	Region    string
	Host      string // id of the host; its zone is told, not its id
	State     string
	SizeGB    int
	Encrypted bool
	Created   time.Time
	Updated   time.Time
	Machine   string    // that it is attached to
	BoundTo   string    // machine that was destroyed, and holds it still
	BoundTill time.Time // with BoundTo

	FSType     string
	Retention  int // days for which snapshots are kept
	AutoBackup bool
	Listed     time.Time  // from then on the listings have it
	Ending     time.Time  // deleted: from then on one sees it
	Snapshots  []snapshot `json:",omitempty"`
}

// snapshot is one of a volume.
type snapshot struct {
	ID        string
	Status    string // waiting, running, created
	VolumeGB  int
	Created   time.Time
	Retention int
}

// How long volumes take: where nobody has measured it, the right order.
const (
	volumeCreates  = time.Second
	volumeExtends  = time.Second
	volumeRestores = 5 * time.Second
	volumeHydrates = 10 * time.Second
	volumeListed   = time.Second    // measured: a new one is not in the listing at once
	volumeLingers  = time.Second    // measured: a deleted one is shown as it was for a moment
	volumePending  = 24 * time.Hour // documented: support can bring it back until then
	volumeDestroys = 5 * time.Second
	snapshotWaits  = time.Second
	snapshotRuns   = 5 * time.Second
	snapshotEvery  = time.Minute
)

const (
	volumeMaxGB = 500
	growsColdGB = 10 // smaller ones do not grow under a running machine
)

// volumeName is what flyctl and the documents keep to.
var volumeName = regexp.MustCompile(`^[a-z0-9_]{1,30}$`)

// ending says whether a volume is on the way to its end.
func (v *volume) ending() bool {
	return slices.Contains([]string{"scheduling_destroy", "fork_cleanup", "waiting_for_detach", "pending_destroy", "destroying", "destroyed"}, v.State)
}

// volumeRequest asks for a volume.
type volumeRequest struct {
	Name          string `json:"name"`
	Region        string `json:"region"`
	SizeGB        *int   `json:"size_gb"`
	Encrypted     *bool  `json:"encrypted"`
	UniqueZone    *bool  `json:"require_unique_zone"`
	UniqueZoneApp bool   `json:"unique_zone_app_wide"`
	Retention     *int   `json:"snapshot_retention"`
	AutoBackup    *bool  `json:"auto_backup_enabled"`
	FSType        string `json:"fstype"`
	SnapshotID    string `json:"snapshot_id"`
	SourceID      string `json:"source_volume_id"`
}

// newVolume makes a volume. Names may repeat.
func (e *Emulator) newVolume(a *app, r volumeRequest) (*volume, *failure) {
	now := e.now()
	v := &volume{
		Name: r.Name, State: "creating", SizeGB: 3, Encrypted: given(r.Encrypted, true), Created: now, Updated: now,
		FSType: cmp.Or(r.FSType, "ext4"), Retention: given(r.Retention, 5), AutoBackup: given(r.AutoBackup, true), Listed: now.Add(volumeListed),
	}
	switch {
	case r.Name == "":
		return nil, refuse(http.StatusBadRequest, "name is required")
	case !volumeName.MatchString(r.Name):
		return nil, invalid("Name is at most 30 lowercase letters, digits and underscores")
	case v.FSType != "ext4" && v.FSType != "raw":
		return nil, invalid("Fstype is ext4 or raw")
	case v.Retention < 1 || v.Retention > 60:
		return nil, invalid("Snapshot retention must be between 1 and 60")
	}
	takes, least := volumeCreates, 1
	switch {
	case r.SourceID != "":
		source := a.volume(r.SourceID)
		if source == nil || source.ending() {
			return nil, missing("volume %s not found", r.SourceID)
		}
		v.SizeGB, v.State, takes, least = source.SizeGB, "hydrating", volumeHydrates, source.SizeGB
	case r.SnapshotID != "":
		s := a.snapshot(r.SnapshotID)
		if s == nil {
			return nil, missing("snapshot %s not found", r.SnapshotID)
		}
		v.SizeGB, v.State, takes, least = s.VolumeGB, "restoring", volumeRestores, s.VolumeGB
	}
	v.SizeGB = given(r.SizeGB, v.SizeGB)
	switch {
	case v.SizeGB < 1 || v.SizeGB > volumeMaxGB:
		return nil, invalid("Size must be between 1 and %d GB", volumeMaxGB)
	case v.SizeGB < least:
		return nil, invalid("Size must be at least that of the source, %d GB", least)
	}
	if f := e.placeVolume(a, v, r); f != nil {
		return nil, f
	}
	v.ID = "vol_" + e.newID("volume", 16)
	if a.Volumes == nil {
		a.Volumes = map[string]*volume{}
	}
	a.Volumes[v.ID] = v
	e.after(takes, event{Kind: "volume.created", App: a.Name, ID: v.ID})
	return v, nil
}

// placeVolume finds a host: in the first region of the list that has room.
func (e *Emulator) placeVolume(a *app, v *volume, r volumeRequest) *failure {
	unique := given(r.UniqueZone, true) || r.UniqueZoneApp
	for region := range strings.SplitSeq(r.Region, ",") {
		region = strings.TrimSpace(region)
		hosts := e.hostsIn(region)
		if len(hosts) == 0 {
			return refuse(http.StatusBadRequest, "target region '%s' not found", region)
		}
		taken := map[string]int{}
		for _, other := range a.Volumes {
			if other.State != "destroyed" && (other.Name == v.Name || r.UniqueZoneApp) {
				taken[other.Host]++
			}
		}
		if s := e.state.Regions[region]; s != nil && s.Room != nil && *s.Room <= 0 {
			continue
		}
		hosts = slices.DeleteFunc(hosts, func(h *host) bool {
			return h.Full || h.Status != "ok" || unique && taken[h.ID] > 0
		})
		if len(hosts) == 0 {
			continue
		}
		best := slices.MinFunc(hosts, func(x, y *host) int { return cmp.Compare(taken[x.ID], taken[y.ID]) })
		v.Region, v.Host = region, best.ID
		return nil
	}
	return refuse(http.StatusUnprocessableEntity, "could not find a candidate host").as("insufficient_capacity")
}

// hostsIn are the hosts of a region, by their ids.
func (e *Emulator) hostsIn(region string) []*host {
	var all []*host
	for _, id := range slices.Sorted(maps.Keys(e.state.Hosts)) {
		if h := e.state.Hosts[id]; h.Region == region {
			all = append(all, h)
		}
	}
	return all
}

// volume is one of the app, also on the way to its end.
func (a *app) volume(id string) *volume {
	if v := a.Volumes[id]; v != nil && v.State != "destroyed" {
		return v
	}
	return nil
}

// snapshot is one of any volume of the app, also of one that is gone.
func (a *app) snapshot(id string) *snapshot {
	for _, v := range a.Volumes {
		for i := range v.Snapshots {
			if v.Snapshots[i].ID == id && v.Snapshots[i].Status == "created" {
				return &v.Snapshots[i]
			}
		}
	}
	return nil
}

// holder is the machine that has the volume, or that Fly believes to have it.
func (e *Emulator) holder(v *volume) string {
	if v.Machine == "" && v.BoundTill.After(e.now()) {
		return v.BoundTo
	}
	return v.Machine
}

// endVolume begins the end of a volume.
func (e *Emulator) endVolume(a *app, v *volume) *failure {
	if by := e.holder(v); by != "" {
		return refuse(http.StatusPreconditionFailed, "failed_precondition: volume is currently bound to machine: %s", by)
	}
	if v.ending() {
		return nil
	}
	v.State, v.Ending, v.Updated = "pending_destroy", e.now().Add(volumeLingers), e.now()
	e.after(volumePending, event{Kind: "volume.destroying", App: a.Name, ID: v.ID})
	return nil
}

func (e *Emulator) volumeEvents() map[string]func(event) {
	with := func(f func(a *app, v *volume, ev event)) func(event) {
		return func(ev event) {
			if a := e.state.Apps[ev.App]; a != nil && a.Volumes[ev.ID] != nil {
				f(a, a.Volumes[ev.ID], ev)
				a.Volumes[ev.ID].Updated = e.now()
			}
		}
	}
	settled := with(func(_ *app, v *volume, _ event) {
		if !v.ending() {
			v.State = "created"
		}
	})
	shot := func(status string) func(event) {
		return with(func(_ *app, v *volume, ev event) {
			for i := range v.Snapshots {
				if v.Snapshots[i].ID == ev.Data {
					v.Snapshots[i].Status = status
				}
			}
		})
	}
	return map[string]func(event){
		"volume.created":  settled,
		"volume.extended": settled,
		"volume.destroying": with(func(a *app, v *volume, _ event) {
			if v.State == "pending_destroy" {
				v.State = "destroying"
				e.after(volumeDestroys, event{Kind: "volume.destroyed", App: a.Name, ID: v.ID})
			}
		}),
		"volume.destroyed": with(func(_ *app, v *volume, _ event) { v.State = "destroyed" }),
		"snapshot.running": shot("running"),
		"snapshot.created": shot("created"),
	}
}
