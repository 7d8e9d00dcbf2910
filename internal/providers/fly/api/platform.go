package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Region is a place where machines run.
type Region struct {
	Code             string `json:"code"`
	Name             string `json:"name"`
	GatewayAvailable bool   `json:"gateway_available"`
	RequiresPaidPlan bool   `json:"requires_paid_plan"`
	Deprecated       bool   `json:"deprecated"`
	Capacity         int    `json:"capacity"`
	GeoRegion        string `json:"geo_region"`
	Postgres         bool   `json:"mpg_available"` // of Managed Postgres
}

// Regions are the places where machines run. The answer spells its fields with
// capitals where the OpenAPI document does not; encoding/json takes both.
func (c *Client) Regions(ctx context.Context) ([]Region, error) {
	list, err := get[struct {
		Regions []Region `json:"regions"`
	}](ctx, c, request{action: "region.list", path: "/v1/platform/regions"})
	return list.Regions, err
}

// PlacementQuery asks where machines would find room.
type PlacementQuery struct {
	Org         string `json:"org_slug"`
	Guest       *Guest `json:"compute,omitempty"`
	Region      string `json:"region,omitempty"` // or several: "lhr,eu"
	Count       int    `json:"count,omitempty"`
	VolumeName  string `json:"volume_name,omitempty"`
	VolumeBytes uint64 `json:"volume_size_bytes,omitempty"`
}

// Placement is how many machines find room in a region.
type Placement struct {
	Region      string `json:"region"`
	Count       int    `json:"count"`
	Concurrency int    `json:"concurrency"`
}

// Placements tells where there is room now. Regions without are left out, and
// nothing is reserved.
func (c *Client) Placements(ctx context.Context, q PlacementQuery) ([]Placement, error) {
	list, err := send[struct {
		Regions []Placement `json:"regions"`
	}](ctx, c, request{
		action: "placement.list", ident: q.Org, method: http.MethodPost, path: "/v1/platform/placements", body: q, repeat: true,
	})
	return list.Regions, err
}

// Scope is what a token covers.
type Scope struct {
	Orgs    []string // slugs, sorted
	Apps    []string // sorted; empty: all of the organization
	User    string   // of a token of a person; else empty
	Machine string   // that it may be used from alone; empty: from everywhere
}

// TokenScope asks what the token covers.
func (c *Client) TokenScope(ctx context.Context) (Scope, error) {
	reply, err := get[struct {
		Tokens []struct {
			Org     string   `json:"org_slug"`
			Apps    []string `json:"apps"`
			User    string   `json:"user"`
			Machine string   `json:"restricted_to_machine"`
		} `json:"tokens"`
	}](ctx, c, request{action: "token.get", path: "/v1/tokens/current", holds: "tokens"})
	if err != nil {
		return Scope{}, err
	}
	var s Scope
	whole := false
	for _, t := range reply.Tokens {
		if t.Org != "" {
			s.Orgs = append(s.Orgs, t.Org)
		}
		apps := slices.DeleteFunc(t.Apps, func(a string) bool { return a == "" || a == "*" })
		whole = whole || len(apps) == 0 // one that covers everything is enough
		s.Apps = append(s.Apps, apps...)
		s.User = or(s.User, t.User)
		s.Machine = or(s.Machine, t.Machine)
	}
	if whole {
		s.Apps = nil
	}
	for _, list := range []*[]string{&s.Orgs, &s.Apps} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return s, nil
}

// OrgQuery says what of an organization is listed.
type OrgQuery struct {
	IncludeDeleted bool
	Region         string
	UpdatedAfter   time.Time // zero: since ever. Let the times overlap: the list lags
}

// OrgMachine is what the list of an organization tells of a machine.
type OrgMachine struct {
	ID         string `json:"id"`
	App        string `json:"app_name"`
	Name       string `json:"name"`
	State      string `json:"state"`
	Region     string `json:"region"`
	InstanceID string `json:"instance_id"`
	PrivateIP  string `json:"private_ip"`
	CreatedAt  Time   `json:"created_at"`
	UpdatedAt  Time   `json:"updated_at"`
	Config     struct {
		Image    string            `json:"image"`
		Guest    *Guest            `json:"guest"`
		Metadata map[string]string `json:"metadata"`
	} `json:"config"`
}

// OrgVolume is what the list of an organization tells of a volume.
type OrgVolume struct {
	Volume
	App       string `json:"app_name"`
	UpdatedAt Time   `json:"updated_at"`
}

// OrgList is a list of what an organization has. What is not in it is not
// certain to be gone: least of all if some regions did not answer.
type OrgList[T any] struct {
	All          []T
	ErrorRegions []string // which did not answer, sorted
	LastUpdated  time.Time
}

// OrgMachines are the machines of all apps of an organization.
func (c *Client) OrgMachines(ctx context.Context, org string, q OrgQuery) (OrgList[OrgMachine], error) {
	return orgList(ctx, c, org, "machines", q, func(p orgPage) []OrgMachine { return p.Machines })
}

// OrgVolumes are the volumes of all apps of an organization.
func (c *Client) OrgVolumes(ctx context.Context, org string, q OrgQuery) (OrgList[OrgVolume], error) {
	return orgList(ctx, c, org, "volumes", q, func(p orgPage) []OrgVolume { return p.Volumes })
}

const orgPageSize = 1000 // the most that Fly gives

type orgPage struct {
	Machines     []OrgMachine `json:"machines"`
	Volumes      []OrgVolume  `json:"volumes"`
	NextCursor   string       `json:"next_cursor"`
	LastUpdated  Time         `json:"last_updated_at"`
	ErrorRegions []string     `json:"error_regions"`
}

func orgList[T any](ctx context.Context, c *Client, org, what string, q OrgQuery, of func(orgPage) []T) (OrgList[T], error) {
	var list OrgList[T]
	all, err := pages("org."+what, func(cursor string) ([]T, string, error) {
		query := url.Values{"limit": {strconv.Itoa(orgPageSize)}}
		for name, value := range map[string]string{"cursor": cursor, "region": q.Region} {
			if value != "" {
				query.Set(name, value)
			}
		}
		if q.IncludeDeleted {
			query.Set("include_deleted", "true")
		}
		if !q.UpdatedAfter.IsZero() {
			query.Set("updated_after", q.UpdatedAfter.UTC().Format(time.RFC3339))
		}
		page, err := get[orgPage](ctx, c, request{
			action: "org." + what, ident: org, path: "/v1/orgs/" + segment(org) + "/" + what, query: query,
		})
		list.ErrorRegions = append(list.ErrorRegions, page.ErrorRegions...)
		if page.LastUpdated.After(list.LastUpdated) {
			list.LastUpdated = page.LastUpdated.Time
		}
		return of(page), page.NextCursor, err
	})
	if err != nil {
		return OrgList[T]{}, err
	}
	slices.Sort(list.ErrorRegions)
	list.All, list.ErrorRegions = all, slices.Compact(list.ErrorRegions)
	return list, nil
}
