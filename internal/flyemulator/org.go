package flyemulator

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (e *Emulator) orgRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/orgs/{org}/machines", action: "orgs.machines", scope: scopeOrg, handler: e.listOrgMachines},
		{method: "GET", pattern: "/v1/orgs/{org}/volumes", action: "orgs.volumes", scope: scopeOrg, handler: e.listOrgVolumes},
	}
}

// listing is what an organization's listings said last: while they lag, they
// say it again.
type listing struct {
	at       time.Time
	machines []orgRow
	volumes  []orgRow
}

// orgRow is a line of a listing, with what it is filtered by.
type orgRow struct {
	id, region, state string
	updated           time.Time
	deleted           bool
	body              any
}

type orgMachine struct {
	ID       string   `json:"id"`
	App      string   `json:"app_name"`
	Name     string   `json:"name"`
	State    string   `json:"state"`
	Region   string   `json:"region"`
	Version  string   `json:"version"`
	Instance string   `json:"instance_id"`
	IP       string   `json:"private_ip"`
	Created  string   `json:"created_at"`
	Updated  string   `json:"updated_at"`
	Config   overview `json:"config"`
}

// listingOf is what the organization's listings say now.
func (e *Emulator) listingOf(o *Org) *listing {
	if l := e.listed[o.Slug]; l != nil && e.now().Sub(l.at) < e.o.Lag.Listing {
		return l
	}
	l := &listing{at: e.now()}
	for _, name := range slices.Sorted(maps.Keys(e.state.Apps)) {
		a := e.state.Apps[name]
		if a.Org != o.Slug {
			continue
		}
		for _, m := range a.inOrder() {
			l.machines = append(l.machines, orgRow{
				id: m.ID, region: m.Region, state: m.State, updated: m.Updated, deleted: m.State == destroyed,
				body: orgMachine{
					ID: m.ID, App: a.Name, Name: m.Name, State: m.State, Region: m.Region, Version: m.Instance, Instance: m.Instance,
					IP: m.IP, Created: stamp(m.Created), Updated: m.Updated.UTC().Format(time.RFC3339Nano),
					Config: overview{Image: m.Config.Image, Guest: m.Config.Guest, Metadata: maps.Clone(m.Config.Metadata)},
				},
			})
		}
		for _, id := range slices.Sorted(maps.Keys(a.Volumes)) {
			v := a.Volumes[id]
			if v.Listed.After(e.now()) {
				continue
			}
			l.volumes = append(l.volumes, orgRow{
				id: v.ID, region: v.Region, state: v.State, updated: v.Updated, deleted: v.State == destroyed, body: e.orgVolumeRow(a, v),
			})
		}
	}
	byID := func(a, b orgRow) int { return cmp.Compare(a.id, b.id) }
	slices.SortFunc(l.machines, byID)
	slices.SortFunc(l.volumes, byID)
	if e.o.Lag.Listing > 0 {
		e.listed[o.Slug] = l
	}
	return l
}

// orgPage is what of a listing a request asks for.
type orgPage struct {
	rows    []any
	next    string
	lastID  string
	updated string
	errors  []string // regions that did not answer
}

// maxPage is the most rows of one answer.
const maxPage = 1000

func (e *Emulator) pageOf(c *call, all []orgRow) (orgPage, *failure) {
	p := orgPage{rows: []any{}, errors: []string{}}
	limit := maxPage
	if s := c.query("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxPage {
			return p, refuse(http.StatusBadRequest, "invalid limit, must be between 1 and %d", maxPage)
		}
		limit = n
	}
	var after time.Time
	if s := c.query("updated_after"); s != "" {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return p, refuse(http.StatusBadRequest, "invalid updated_after, must be RFC 3339")
		}
		after = t
	}
	cursor, ok := strings.CutPrefix(c.query("cursor"), "after-")
	if c.query("cursor") != "" && !ok {
		return p, refuse(http.StatusBadRequest, "invalid cursor")
	}
	var states []string
	if s := c.query("state"); s != "" {
		states = strings.Split(s, ",")
	}
	for code, r := range e.state.Regions {
		if r.Silent {
			p.errors = append(p.errors, code)
		}
	}
	slices.Sort(p.errors)
	var last time.Time
	for _, r := range all {
		if r.id <= cursor || r.deleted && !c.flag("include_deleted") || slices.Contains(p.errors, r.region) ||
			c.query("region") != "" && r.region != c.query("region") ||
			states != nil && !slices.Contains(states, r.state) || !after.IsZero() && !r.updated.After(after) {
			continue
		}
		if len(p.rows) == limit {
			p.next = "after-" + p.lastID
			break
		}
		p.rows = append(p.rows, r.body)
		p.lastID = r.id
		if r.updated.After(last) {
			last = r.updated
		}
	}
	if !last.IsZero() {
		p.updated = last.UTC().Format(time.RFC3339Nano)
	}
	return p, nil
}

func (e *Emulator) listOrgMachines(c *call) reply {
	p, f := e.pageOf(c, e.listingOf(c.org).machines)
	if f != nil {
		return c.failed(f)
	}
	return c.ok(map[string]any{
		"machines": p.rows, "next_cursor": p.next, "last_machine_id": p.lastID, "last_updated_at": p.updated, "error_regions": p.errors,
	})
}

func (e *Emulator) listOrgVolumes(c *call) reply {
	p, f := e.pageOf(c, e.listingOf(c.org).volumes)
	if f != nil {
		return c.failed(f)
	}
	return c.ok(map[string]any{
		"volumes": p.rows, "next_cursor": p.next, "last_volume_id": p.lastID, "last_updated_at": p.updated,
	})
}
