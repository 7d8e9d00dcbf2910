package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// Release is what Fly's web interface shows of a rollout. Nothing else of Fly
// reads it.
type Release struct {
	ID         string `json:"id"`
	Version    int    `json:"version"`
	Status     string `json:"status"` // pending, running, complete, interrupted, failed
	Strategy   string `json:"strategy"`
	Stable     bool   `json:"stable"`
	InProgress bool   `json:"in_progress"`
	ImageRef   string `json:"image_ref"`
	CreatedAt  Time   `json:"created_at"`
}

// CreateRelease asks for a release.
type CreateRelease struct {
	App        string          `json:"app_name"`
	Image      string          `json:"image"`
	Strategy   string          `json:"strategy"`   // BLUEGREEN, CANARY, IMMEDIATE, ROLLING, ROLLING_ONE, SIMPLE
	Definition json.RawMessage `json:"definition"` // the app's config, as the web interface shows it
}

// CreateRelease makes a release.
func (c *Client) CreateRelease(ctx context.Context, ask CreateRelease) (Release, error) {
	reply, err := send[struct {
		Release Release `json:"release"`
	}](ctx, c, request{
		service: ui, action: "release.create", ident: ask.App, method: http.MethodPost, path: "/api/v1/releases", body: ask,
	})
	return reply.Release, err
}

// SetRelease tells how a release goes: running, complete, interrupted, failed.
// Invalid: it has ended before.
func (c *Client) SetRelease(ctx context.Context, id, status string) error {
	return c.do(ctx, request{
		service: ui, action: "release.update", ident: id, method: http.MethodPatch, path: "/api/v1/releases/" + segment(id),
		body: struct {
			Status string `json:"status"`
		}{status},
		repeat: true,
	}, nil)
}

// Releases are the last releases of an app, the newest first.
func (c *Client) Releases(ctx context.Context, app string) ([]Release, error) {
	reply, err := get[struct {
		Releases []Release `json:"releases"`
	}](ctx, c, request{
		service: ui, action: "release.list", ident: app, path: "/api/v1/apps/" + segment(app) + "/releases",
		query: url.Values{"limit": {"25"}},
	})
	return reply.Releases, err
}
