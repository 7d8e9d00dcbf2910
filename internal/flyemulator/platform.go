package flyemulator

import (
	"net/http"
	"slices"
)

// region is where machines can be.
type region struct {
	Code       string  `json:"code"`
	Name       string  `json:"name"`
	Latitude   float64 `json:"latitude"`
	Longitude  float64 `json:"longitude"`
	Gateway    bool    `json:"gateway_available"`
	Paid       bool    `json:"requires_paid_plan"`
	Deprecated bool    `json:"deprecated"`
	Capacity   int     `json:"capacity"`
	Geo        string  `json:"geo_region"`
	Postgres   bool    `json:"mpg_available"`

	alias string
}

// nearest is the region that the emulator's clients are near to.
const nearest = "iad"

// regions are those of the documentation.
var regions = []region{
	{Code: "ams", Name: "Amsterdam, Netherlands", Latitude: 52.37, Longitude: 4.9, Gateway: true, Geo: "europe", Postgres: true, alias: "eu"},
	{Code: "arn", Name: "Stockholm, Sweden", Latitude: 59.65, Longitude: 17.92, Gateway: true, Geo: "europe", alias: "eu"},
	{Code: "bom", Name: "Mumbai, India", Latitude: 19.09, Longitude: 72.87, Gateway: true, Paid: true, Geo: "asia_pacific", alias: "apac"},
	{Code: "cdg", Name: "Paris, France", Latitude: 48.86, Longitude: 2.35, Gateway: true, Geo: "europe", alias: "eu"},
	{Code: "dfw", Name: "Dallas, Texas (US)", Latitude: 32.78, Longitude: -96.81, Gateway: true, Geo: "north_america", alias: "us"},
	{Code: "ewr", Name: "Secaucus, NJ (US)", Latitude: 40.79, Longitude: -74.06, Gateway: true, Geo: "north_america", alias: "us"},
	{Code: "fra", Name: "Frankfurt, Germany", Latitude: 50.11, Longitude: 8.68, Gateway: true, Paid: true, Geo: "europe", Postgres: true, alias: "eu"},
	{Code: "gru", Name: "Sao Paulo, Brazil", Latitude: -23.55, Longitude: -46.63, Geo: "south_america", Postgres: true, alias: "sa"},
	{Code: "iad", Name: "Ashburn, Virginia (US)", Latitude: 39.02, Longitude: -77.54, Gateway: true, Geo: "north_america", Postgres: true, alias: "us"},
	{Code: "jnb", Name: "Johannesburg, South Africa", Latitude: -26.2, Longitude: 28.04, Geo: "africa"},
	{Code: "lax", Name: "Los Angeles, California (US)", Latitude: 33.94, Longitude: -118.41, Gateway: true, Geo: "north_america", Postgres: true, alias: "us"},
	{Code: "lhr", Name: "London, United Kingdom", Latitude: 51.47, Longitude: -0.46, Gateway: true, Geo: "europe", Postgres: true, alias: "eu"},
	{Code: "nrt", Name: "Tokyo, Japan", Latitude: 35.62, Longitude: 139.78, Gateway: true, Geo: "asia_pacific", Postgres: true, alias: "apac"},
	{Code: "ord", Name: "Chicago, Illinois (US)", Latitude: 41.89, Longitude: -87.64, Gateway: true, Geo: "north_america", Postgres: true, alias: "us"},
	{Code: "sin", Name: "Singapore, Singapore", Latitude: 1.3, Longitude: 103.8, Gateway: true, Geo: "asia_pacific", Postgres: true, alias: "apac"},
	{Code: "sjc", Name: "San Jose, California (US)", Latitude: 37.36, Longitude: -121.93, Gateway: true, Geo: "north_america", Postgres: true, alias: "us"},
	{Code: "syd", Name: "Sydney, Australia", Latitude: -33.87, Longitude: 151.21, Gateway: true, Geo: "oceania", Postgres: true, alias: "apac"},
	{Code: "yyz", Name: "Toronto, Canada", Latitude: 43.68, Longitude: -79.63, Gateway: true, Geo: "north_america", Postgres: true, alias: "na"},
}

func (e *Emulator) platformRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/platform/regions", action: "regions.list", handler: e.listRegions},
		{method: "POST", pattern: "/v1/platform/placements", action: "placements.find", read: true, handler: e.findPlacements},
	}
}

// listRegions answers with capitals, as the service does, and its document does not.
func (e *Emulator) listRegions(c *call) reply {
	all := slices.Clone(regions)
	for i := range all {
		all[i].Capacity = 1000
		if r := e.state.Regions[all[i].Code]; r != nil && r.Room != nil {
			all[i].Capacity = max(*r.Room, 0)
		}
	}
	return c.ok(map[string]any{"Regions": all, "Nearest": nearest})
}

type placement struct {
	Region      string
	Count       int
	Concurrency int
}

// findPlacements says where there is room. Nothing is reserved.
func (e *Emulator) findPlacements(c *call) reply {
	var r struct {
		OrgSlug string `json:"org_slug"`
		Compute *guest `json:"compute"`
		Region  string `json:"region"`
		Count   int    `json:"count"`
	}
	if f := c.decode(&r); f != nil {
		return c.failed(f)
	}
	if r.OrgSlug == "" {
		return c.fail(http.StatusBadRequest, "org_slug is required")
	}
	if _, f := c.orgOf(r.OrgSlug); f != nil {
		return c.failed(f)
	}
	if r.Compute != nil {
		if f := r.Compute.valid(); f != nil {
			return c.failed(f)
		}
	}
	if r.Region == "" {
		r.Region = "any"
	}
	codes, f := regionsOf(r.Region)
	if f != nil {
		return c.failed(f)
	}
	if r.Count == 0 {
		r.Count = 100
	}
	out, left := []placement{}, r.Count
	for _, code := range codes {
		n := left
		if s := e.state.Regions[code]; s.Room != nil {
			n = min(n, *s.Room)
		}
		if e.pickHost(code, nil) == nil || n <= 0 {
			continue
		}
		out = append(out, placement{Region: code, Count: n})
		if left -= n; left == 0 {
			break
		}
	}
	return c.ok(map[string]any{"Regions": out})
}
