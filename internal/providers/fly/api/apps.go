package api

import (
	"context"
	"net/http"
	"net/url"
)

// Organization is whom an app belongs to.
type Organization struct {
	Name string `json:"name"`
	Slug string `json:"slug"`
}

// App is an app of Fly.
type App struct {
	ID           string       `json:"id"`
	NumericID    int64        `json:"internal_numeric_id"` // not that of an app which had the name before; 0: not told
	Name         string       `json:"name"`
	Network      string       `json:"network"` // "default": the organization's own
	Status       string       `json:"status"`  // pending, deployed, suspended
	Role         string       `json:"app_role"`
	MachineCount int          `json:"machine_count"` // may lag
	VolumeCount  int          `json:"volume_count"`  // may lag
	Organization Organization `json:"organization"`
	CnameTarget  string       `json:"cname_target"`
	CreatedAt    Time         `json:"created_at"`
}

// CreateApp asks for an app.
type CreateApp struct {
	Name    string // unique on all of Fly
	Org     string // slug
	Network string // empty: the organization's own
	Role    string // empty: the usual; "postgres_cluster"
}

// App is an app by its name. Denied: it belongs to an organization that the
// token does not see.
func (c *Client) App(ctx context.Context, name string) (App, error) {
	return get[App](ctx, c, request{action: "app.get", ident: name, app: name, path: appPath(name), holds: "name"})
}

// Apps are the apps of an organization, of one role or of all. A token of one
// app is denied it.
func (c *Client) Apps(ctx context.Context, org, role string) ([]App, error) {
	query := url.Values{"org_slug": {org}}
	if role != "" {
		query.Set("app_role", role)
	}
	list, err := get[struct {
		Apps []App `json:"apps"`
	}](ctx, c, request{action: "app.list", ident: org, path: "/v1/apps", query: query})
	return list.Apps, err
}

// CreateApp makes an app, and returns when it can be read. After Ambiguous,
// App tells whether it is there and whose it is.
func (c *Client) CreateApp(ctx context.Context, ask CreateApp) (App, error) {
	app, err := send[App](ctx, c, request{
		action: "app.create", ident: ask.Org, app: ask.Name,
		method: http.MethodPost, path: "/v1/apps", query: url.Values{"wait": {"true"}}, holds: "id",
		body: struct {
			Name    string `json:"name"`     // the OpenAPI document
			AppName string `json:"app_name"` // the docs
			Org     string `json:"org_slug"`
			Network string `json:"network,omitempty"`
			Role    string `json:"app_role_id,omitempty"`
		}{ask.Name, ask.Name, ask.Org, ask.Network, ask.Role},
	})
	if err == nil && app.Name == "" { // the answer may hold the id alone
		app.Name = ask.Name
	}
	return app, err
}

// DeleteApp deletes an app with its machines and volumes. It is content when
// there is none.
func (c *Client) DeleteApp(ctx context.Context, name string) error {
	return c.gone(ctx, request{
		action: "app.delete", app: name, // the limit is that of all apps together
		path: appPath(name), query: url.Values{"force": {"true"}},
	})
}

func appPath(name string, more ...string) string {
	path := "/v1/apps/" + segment(name)
	for _, s := range more {
		path += "/" + segment(s)
	}
	return path
}
