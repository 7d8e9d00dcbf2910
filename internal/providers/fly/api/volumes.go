package api

import (
	"context"
	"net/http"
)

// Volume is a volume.
type Volume struct {
	ID                string `json:"id"`
	Name              string `json:"name"` // not unique
	State             string `json:"state"`
	Region            string `json:"region"`
	Zone              string `json:"zone"`
	SizeGB            int    `json:"size_gb"`
	Encrypted         bool   `json:"encrypted"`
	FSType            string `json:"fstype"`
	Type              string `json:"type"` // local, cache
	AttachedMachine   string `json:"attached_machine_id"`
	HostStatus        string `json:"host_status"`
	SnapshotRetention int    `json:"snapshot_retention"` // days
	AutoBackup        bool   `json:"auto_backup_enabled"`
	BytesUsed         uint64 `json:"bytes_used"`
	BytesTotal        uint64 `json:"bytes_total"`
	CreatedAt         Time   `json:"created_at"`
}

// Deleted tells of a volume that is there no more, or soon.
func (v Volume) Deleted() bool {
	switch v.State {
	case "scheduling_destroy", "pending_destroy", "destroying", "destroyed", "fork_cleanup":
		return true
	}
	return false
}

// CreateVolume asks for a volume.
type CreateVolume struct {
	Name              string `json:"name"`
	Region            string `json:"region"`
	SizeGB            int    `json:"size_gb,omitempty"`
	Encrypted         *bool  `json:"encrypted,omitempty"`           // nil: yes
	RequireUniqueZone *bool  `json:"require_unique_zone,omitempty"` // apart from others of its name
	SnapshotRetention int    `json:"snapshot_retention,omitempty"`  // days
	AutoBackup        *bool  `json:"auto_backup_enabled,omitempty"`
	SnapshotID        string `json:"snapshot_id,omitempty"`
	SourceVolumeID    string `json:"source_volume_id,omitempty"`
	Compute           *Guest `json:"compute,omitempty"` // what must fit beside it
	ComputeImage      string `json:"compute_image,omitempty"`
}

// UpdateVolume changes a volume; nil leaves as it is.
type UpdateVolume struct {
	SnapshotRetention *int  `json:"snapshot_retention,omitempty"`
	AutoBackup        *bool `json:"auto_backup_enabled,omitempty"`
}

// Volumes are the volumes of an app, those among them that are Deleted.
func (c *Client) Volumes(ctx context.Context, app string) ([]Volume, error) {
	return get[[]Volume](ctx, c, request{action: "volume.list", ident: app, app: app, path: appPath(app, "volumes")})
}

// Volume is a volume.
func (c *Client) Volume(ctx context.Context, app, id string) (Volume, error) {
	return get[Volume](ctx, c, request{action: "volume.get", ident: id, app: app, path: appPath(app, "volumes", id), holds: "state"})
}

// CreateVolume makes a volume. Names are not unique: after Ambiguous look in
// the list before another is made.
func (c *Client) CreateVolume(ctx context.Context, app string, ask CreateVolume) (Volume, error) {
	return send[Volume](ctx, c, request{
		action: "volume.create", ident: app, app: app, method: http.MethodPost, path: appPath(app, "volumes"), body: ask, holds: "id",
	})
}

// UpdateVolume changes what is kept of a volume.
func (c *Client) UpdateVolume(ctx context.Context, app, id string, ask UpdateVolume) (Volume, error) {
	return send[Volume](ctx, c, request{
		action: "volume.update", ident: id, app: app, method: http.MethodPut, repeat: true,
		path: appPath(app, "volumes", id), body: ask,
	})
}

// ExtendVolume makes a volume larger, and tells whether its machine must be
// started again to see it.
func (c *Client) ExtendVolume(ctx context.Context, app, id string, sizeGB int) (Volume, bool, error) {
	reply, err := send[struct {
		Volume       Volume `json:"volume"`
		NeedsRestart bool   `json:"needs_restart"`
	}](ctx, c, request{
		action: "volume.extend", ident: id, app: app, method: http.MethodPut, repeat: true,
		path: appPath(app, "volumes", id, "extend"),
		body: struct {
			SizeGB int `json:"size_gb"`
		}{sizeGB},
	})
	return reply.Volume, reply.NeedsRestart, err
}

// DeleteVolume deletes a volume. NotYet: a machine has it, or had it a minute
// ago. It is content when there is none.
func (c *Client) DeleteVolume(ctx context.Context, app, id string) error {
	return c.gone(ctx, request{action: "volume.delete", ident: id, app: app, path: appPath(app, "volumes", id)})
}

// VolumeSnapshot is what a volume held once.
type VolumeSnapshot struct {
	ID            string `json:"id"`
	Status        string `json:"status"` // waiting, pending, running, created
	Size          int64  `json:"size"`
	VolumeSize    int64  `json:"volume_size"`
	Digest        string `json:"digest"`
	RetentionDays int    `json:"retention_days"`
	CreatedAt     Time   `json:"created_at"`
}

// Snapshots are the snapshots of a volume.
func (c *Client) Snapshots(ctx context.Context, app, volume string) ([]VolumeSnapshot, error) {
	return get[[]VolumeSnapshot](ctx, c, request{
		action: "volume.snapshot.list", ident: volume, app: app, path: appPath(app, "volumes", volume, "snapshots"),
	})
}

// CreateSnapshot asks for a snapshot of a volume. NotYet: one is under way.
func (c *Client) CreateSnapshot(ctx context.Context, app, volume string) error {
	return c.do(ctx, request{
		action: "volume.snapshot.create", ident: volume, app: app, method: http.MethodPost,
		path: appPath(app, "volumes", volume, "snapshots"),
	}, nil)
}
