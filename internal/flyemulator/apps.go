package flyemulator

import (
	"net/http"
	"regexp"
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
	V6       int       // of its network

	Machines     map[string]*machine `json:",omitempty"`
	Volumes      map[string]*volume  `json:",omitempty"`
	Secrets      secrets
	Certificates map[string]*certificate `json:",omitempty"` // by host name
	IPs          []*ip                   `json:",omitempty"`
	Policies     []*policy               `json:",omitempty"`
	Releases     []*release              `json:",omitempty"`
	Images       map[string]int          `json:",omitempty"` // that were fetched, with how often it failed
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
	if e.state.Apps[r.Name] != nil {
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

func (e *Emulator) appRoutes() []route { return nil }
