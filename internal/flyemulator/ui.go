package flyemulator

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"forged.dev/forged/internal/flyemulator/graphql"
)

// console is what only GraphQL and the console's API know.
type console struct {
	Agreed      map[string][]string // organizations to the terms of providers
	Limited     map[string]*limited // by the token's id
	Peers       []*peer
	Attachments []flexAttachment
	Consul      map[string]string // by app
	Removed     []string          // from the schema of GraphQL

	schema *graphql.Schema
}

func (e *Emulator) uiRoutes() []route {
	return append([]route{
		{method: http.MethodGet, pattern: "/api/v1/organizations", action: "ui.organizations.list", rate: uiRate, handler: e.uiOrganizations},
		{method: http.MethodGet, pattern: "/api/v1/organizations/{org}", action: "ui.organizations.get", scope: scopeOrg, rate: uiRate, handler: e.uiOrganization},
		{method: http.MethodPost, pattern: "/api/v1/releases", action: "ui.releases.create", rate: uiRate, handler: e.uiCreateRelease},
		{method: http.MethodGet, pattern: "/api/v1/releases/all_current", action: "ui.releases.all_current", rate: uiRate, handler: e.uiAllCurrent},
		{method: http.MethodPatch, pattern: "/api/v1/releases/{id}", action: "ui.releases.update", rate: uiRate, handler: e.uiUpdateRelease},
		{method: http.MethodGet, pattern: "/api/v1/apps/{app}/releases", action: "ui.releases.list", scope: scopeApp, rate: uiRate, handler: e.uiReleases},
		{method: http.MethodGet, pattern: "/api/v1/apps/{app}/releases/current", action: "ui.releases.current", scope: scopeApp, rate: uiRate, handler: e.uiCurrentRelease},
	}, e.uiPostgresRoutes()...)
}

// uiRate: no limit of the console's API is documented.
var uiRate = rate{1000, 1000}

// uiFailed is how the console's API refuses.
func uiFailed(status int, text string) reply {
	return reply{status: status, body: object{"errors": map[string]string{"detail": text}}}
}

type uiOrg struct {
	ID      string `json:"id"`
	Number  uint64 `json:"internal_numeric_id"`
	Slug    string `json:"slug"`
	RawSlug string `json:"raw_slug"`
	Name    string `json:"name"`
	Paid    bool   `json:"paid_plan"`
	Own     bool   `json:"personal"`
	Billing string `json:"billing_status"`
	Bill    bool   `json:"billable"`
	Beta    bool   `json:"provisions_beta_extensions"`
	Builder string `json:"remote_builder_image"`
}

func uiOrgOf(o *Org) uiOrg {
	billing := "CURRENT"
	if o.Unpaid {
		billing = "SOURCE_REQUIRED"
	}
	return uiOrg{
		ID: o.ID, Number: uint64(hash32(o.ID)), Slug: o.Slug, RawSlug: o.RawSlug, Name: o.Name, Paid: !o.Unpaid,
		Own: o.Slug == "personal", Billing: billing, Bill: !o.Unpaid, Beta: o.Beta,
	}
}

func (e *Emulator) uiOrganizations(c *call) reply {
	out := []uiOrg{}
	for _, o := range (&graph{call: c, e: e}).orgs() {
		out = append(out, uiOrgOf(o))
	}
	return c.ok(map[string]any{"organizations": out})
}

func (e *Emulator) uiOrganization(c *call) reply {
	return c.ok(map[string]any{"organization": uiOrgOf(c.org)})
}

type uiRelease struct {
	ID         string    `json:"id"`
	Version    int       `json:"version"`
	Stable     bool      `json:"stable"`
	InProgress bool      `json:"in_progress"`
	Status     string    `json:"status"`
	Strategy   string    `json:"strategy"`
	User       string    `json:"user"`
	Created    time.Time `json:"created_at"`
	Image      string    `json:"image_ref"`
}

func (r *release) ui() uiRelease {
	return uiRelease{
		ID: r.ID, Version: r.Version, Stable: r.stable(), InProgress: !r.finished(), Status: r.Status, Strategy: r.Strategy,
		User: r.User, Created: r.Created, Image: r.Image,
	}
}

func (e *Emulator) uiCreateRelease(c *call) reply {
	var r struct {
		App        string          `json:"app_name"`
		Definition json.RawMessage `json:"definition"`
		Image      string          `json:"image"`
		Strategy   string          `json:"strategy"`
	}
	if f := c.decode(&r); f != nil {
		return uiFailed(f.status, f.text)
	}
	a, err := (&graph{call: c, e: e, write: true}).findApp(r.App)
	if err != nil {
		return uiFailed(http.StatusNotFound, "Not Found")
	}
	one, err := e.newRelease(a, r.Image, r.Strategy, r.Definition, c.owner())
	if err != nil {
		return uiFailed(http.StatusUnprocessableEntity, err.Error())
	}
	e.remember(a.Name)
	return c.reply(http.StatusCreated, map[string]any{"release": one.ui()})
}

func (e *Emulator) uiUpdateRelease(c *call) reply {
	var r struct {
		Status   string          `json:"status"`
		Metadata json.RawMessage `json:"metadata"`
	}
	if f := c.decode(&r); f != nil {
		return uiFailed(f.status, f.text)
	}
	a, one := e.findRelease(c.values["id"])
	if one == nil {
		return uiFailed(http.StatusNotFound, "Not Found")
	}
	if _, err := (&graph{call: c, e: e, write: true}).findApp(a.Name); err != nil {
		return uiFailed(http.StatusNotFound, "Not Found")
	}
	if err := e.changeRelease(one, r.Status, r.Metadata); err != nil {
		if errors.Is(err, errFinished) {
			return uiFailed(http.StatusUnprocessableEntity, "Release is already finished")
		}
		return uiFailed(http.StatusUnprocessableEntity, err.Error())
	}
	e.remember(a.Name)
	return c.ok(one.ui())
}

func (e *Emulator) uiReleases(c *call) reply {
	limit := 25
	if n, err := strconv.Atoi(c.query("limit")); err == nil && n > 0 {
		limit = n
	}
	out := []uiRelease{}
	for _, r := range slices.Backward(c.app.Releases) {
		if len(out) < limit {
			out = append(out, r.ui())
		}
	}
	return c.ok(map[string]any{"releases": out})
}

func (e *Emulator) uiCurrentRelease(c *call) reply {
	r := c.app.currentRelease()
	if r == nil {
		return uiFailed(http.StatusNotFound, "Not Found")
	}
	return c.ok(r.ui())
}

func (e *Emulator) uiAllCurrent(c *call) reply {
	out := map[string]time.Time{}
	for _, a := range (&graph{call: c, e: e}).reachable() {
		if r := a.currentRelease(); r != nil {
			out[a.Name] = r.Created
		}
	}
	return c.ok(out)
}
