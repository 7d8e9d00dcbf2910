package flyemulator

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// app is an app with all that hangs on it. It is deleted with it.
type app struct {
	Name     string
	Number   int
	Org      string // slug
	Network  string // empty: the organization's own
	Role     string
	Created  time.Time
	Visible  time.Time // from then on the Machines API knows it
	Affinity string    // value of the cookie of the replica that serves it

	Machines     map[string]*machine
	Volumes      map[string]*volume
	Secrets      secrets
	Certificates map[string]*certificate // by host name
	IPs          []*ip                   `json:",omitempty"`
	Policies     []*policy               `json:",omitempty"`
	Releases     []*release              `json:",omitempty"`
	Images       map[string]int          // that were fetched, with how often it failed
}

// appRequest asks for an app.
type appRequest struct {
	Name    string `json:"name"`
	AppName string `json:"app_name"` // older clients, and the documentation
	OrgSlug string `json:"org_slug"`
	Network string `json:"network"`
	Role    string `json:"app_role_id"`
}

var appName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// newApp makes an app. Names are global.
func (e *Emulator) newApp(org *Org, r appRequest) (*app, *failure) {
	if r.Name == "" {
		r.Name = r.AppName
	}
	if !appName.MatchString(r.Name) {
		return nil, refuse(http.StatusUnprocessableEntity, "Validation failed: Name under 63 chars using numbers, lowercase letters and dashes")
	}
	if e.state.Apps[r.Name] != nil || e.now().Before(e.state.Leaving[r.Name]) {
		return nil, refuse(http.StatusUnprocessableEntity, "Validation failed: Name has already been taken").as("name_taken")
	}
	if r.Network == "default" {
		r.Network = ""
	}
	a := &app{
		Name: r.Name, Number: int(e.next()), Org: org.Slug, Network: r.Network, Role: r.Role, Created: e.now(), Visible: e.now(),
		Affinity: e.newHex("affinity", 16),
		Machines: map[string]*machine{}, Volumes: map[string]*volume{}, Certificates: map[string]*certificate{}, Images: map[string]int{},
	}
	e.state.Apps[a.Name] = a
	e.remember(a.Name)
	return a, nil
}

// deleteApp deletes an app and all that hangs on it. Nothing shows it any
// more, but its name is free only a moment later.
func (e *Emulator) deleteApp(a *app) {
	for _, m := range a.Machines {
		if m.State != destroyed {
			e.useRoom(m.Region, -1)
		}
	}
	delete(e.state.Apps, a.Name)
	for name, until := range e.state.Leaving {
		if !e.now().Before(until) {
			delete(e.state.Leaving, name)
		}
	}
	e.state.Leaving[a.Name] = e.now().Add(e.o.Times.AppLeaves)
	e.remember(a.Name)
}

func (e *Emulator) appRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/apps", action: "apps.list", handler: e.listApps},
		{method: "POST", pattern: "/v1/apps", action: "apps.create", handler: e.createApp},
		{method: "GET", pattern: "/v1/apps/{app}", action: "apps.get", scope: scopeApp, handler: e.getApp},
		{method: "DELETE", pattern: "/v1/apps/{app}", action: "apps.delete", scope: scopeApp, handler: e.removeApp, rate: appDeletion},
	}
}

// status is pending until there is a machine, and suspended when none runs.
func (a *app) status() string {
	status := "pending"
	for _, m := range a.Machines {
		switch {
		case m.running():
			return "deployed"
		case m.State != destroyed:
			status = "suspended"
		}
	}
	return status
}

// counts are the machines and volumes that there are.
func (a *app) counts() (machines, volumes int) {
	for _, m := range a.Machines {
		if m.State != destroyed {
			machines++
		}
	}
	for _, v := range a.Volumes {
		if !v.ending() {
			volumes++
		}
	}
	return machines, volumes
}

// network is the name of the app's network.
func (a *app) network() string {
	if a.Network == "" {
		return "default"
	}
	return a.Network
}

func (e *Emulator) shownApp(a *app) map[string]any {
	machines, volumes := a.counts()
	o := e.state.Orgs[a.Org]
	b := map[string]any{
		"id": a.Name, "name": a.Name, "internal_numeric_id": a.Number, "network": a.network(), "status": a.status(),
		"machine_count": machines, "volume_count": volumes, "cname_target": fmt.Sprintf("%07x.%s.fly.dev", hash32(a.Name)&0xfffffff, a.Name),
		"organization": map[string]any{"name": o.Name, "slug": o.Slug, "internal_numeric_id": o.Number},
	}
	if a.Role != "" {
		b["app_role"] = a.Role
	}
	return b
}

func (e *Emulator) listApps(c *call) reply {
	if c.query("org_slug") == "" {
		return c.fail(http.StatusBadRequest, "org_slug is required")
	}
	o, f := c.orgOf(c.query("org_slug"))
	if f != nil {
		return c.failed(f)
	}
	all := []any{}
	for _, name := range slices.Sorted(maps.Keys(e.state.Apps)) {
		a := e.state.Apps[name]
		if a.Org == o.Slug && (c.query("app_role") == "" || a.Role == c.query("app_role")) && !e.now().Before(a.Visible) {
			all = append(all, e.shownApp(a))
		}
	}
	return c.ok(map[string]any{"total_apps": len(all), "apps": all})
}

func (e *Emulator) createApp(c *call) reply {
	var r appRequest
	if f := c.decode(&r); f != nil {
		return c.failed(f)
	}
	if r.OrgSlug == "" {
		return c.fail(http.StatusBadRequest, "org_slug is required")
	}
	o, f := c.orgOf(r.OrgSlug)
	if f != nil {
		return c.failed(f)
	}
	a, f := e.newApp(o, r)
	if f != nil {
		return c.failed(f)
	}
	a.Visible = e.now().Add(e.o.Times.AppVisible)
	if c.flag("wait") {
		e.sleep(c, e.o.Times.AppVisible)
		return c.reply(http.StatusCreated, e.shownApp(a))
	}
	return c.reply(http.StatusCreated, map[string]any{"id": a.Name, "created_at": a.Created.UnixMilli()})
}

func (e *Emulator) getApp(c *call) reply { return c.ok(e.shownApp(c.app)) }

func (e *Emulator) removeApp(c *call) reply {
	a := c.app
	if !c.flag("force") {
		for _, m := range a.inOrder() {
			if m.running() {
				return c.fail(http.StatusPreconditionFailed, "failed_precondition: app %s has running machines", a.Name)
			}
		}
	}
	e.deleteApp(a)
	return c.nothing(http.StatusAccepted)
}
