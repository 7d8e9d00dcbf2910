package flyemulator

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/flyemulator/graphql"
)

func (g *graph) org(o *Org) graphql.Object {
	kind, billing := "SHARED", "CURRENT"
	if o.Slug == "personal" {
		kind = "PERSONAL"
	}
	if o.Unpaid {
		billing = "SOURCE_REQUIRED"
	}
	number := int64(hash32(o.ID))
	return graphql.Object{Type: "Organization", Fields: map[string]any{
		"id": o.ID, "internalNumericId": number, "name": o.Name, "slug": o.Slug, "rawSlug": o.RawSlug, "type": kind,
		"billable": !o.Unpaid, "billingStatus": billing, "isCreditCardSaved": !o.Unpaid, "paidPlan": !o.Unpaid, "highRisk": false,
		"provisionsBetaExtensions": o.Beta, "viewerRole": "admin", "remoteBuilderApp": nil, "remoteBuilderImage": "docker-hub-mirror.fly.io/flyio/rchab:latest",
		"allowAllCrossNetworkReplays": false, "allowedReplaySourceOrgSlugs": []string{}, "addOnSsoLink": "https://emulated.invalid/sso",
		"extensionSsoLink": graphql.With(func(in struct{ Provider string }) (any, error) {
			return "https://emulated.invalid/sso/" + in.Provider, nil
		}),
		"agreedToProviderTos": graphql.With(func(in struct{ ProviderName string }) (any, error) {
			return slices.Contains(g.e.state.Console.Agreed[o.Slug], in.ProviderName), nil
		}),
		"addOns":              g.ofWhole(o, g.addOns(func(a *addOn) bool { return a.Org == o.Slug })),
		"apps":                g.ofWhole(o, graphql.With(func(p window) (any, error) { return paged("App", g.apps(o, ""), p) })),
		"limitedAccessTokens": g.ofWhole(o, connection("LimitedAccessToken", g.tokensFor(func(t *Token) bool { return t.Org == o.Slug }))),
		"members":             graphql.Resolver(func(map[string]any) (any, error) { return g.members(o), nil }),
		"wireGuardPeers":      g.ofWhole(o, connection("WireGuardPeer", g.peers(o))),
		"wireGuardPeer": graphql.With(func(in struct{ Name string }) (any, error) {
			for _, p := range g.e.state.Console.Peers {
				if p.Org == o.Slug && p.Name == in.Name {
					return p.object(), nil
				}
			}
			return nil, couldNotFind("WireGuardPeer")
		}),
	}}
}

// ofWhole is what only a token of the whole organization may see.
func (g *graph) ofWhole(o *Org, r graphql.Resolver) graphql.Resolver {
	return func(args map[string]any) (any, error) {
		if _, f := g.orgFor(o.Slug, false); f != nil {
			return nil, notAuthorized("organization")
		}
		return r(args)
	}
}

// apps are those of an organization, of a role if one is given.
func (g *graph) apps(o *Org, role string) []graphql.Object {
	var out []graphql.Object
	for _, name := range slices.Sorted(maps.Keys(g.e.state.Apps)) {
		if a := g.e.state.Apps[name]; a.Org == o.Slug && (role == "" || a.Role == role) {
			out = append(out, g.app(a))
		}
	}
	return out
}

func (g *graph) members(o *Org) graphql.Object {
	user := g.user("emulator@" + o.Slug + ".invalid")
	return graphql.Object{Type: "OrganizationMembershipsConnection", Fields: map[string]any{
		"nodes": []graphql.Object{user}, "totalCount": 1,
		"edges": []graphql.Object{{Type: "OrganizationMembershipsEdge", Fields: map[string]any{
			"cursor": cursor(0), "joinedAt": g.e.state.Founded, "node": user, "role": "ADMIN",
		}}},
		"pageInfo": graphql.Object{Type: "PageInfo", Fields: map[string]any{
			"hasNextPage": false, "hasPreviousPage": false, "startCursor": cursor(0), "endCursor": cursor(0),
		}},
	}}
}

func (g *graph) user(email string) graphql.Object {
	n := hash32(email) & 0x7fffffff
	return graphql.Object{Type: "User", Fields: map[string]any{
		"id": fmt.Sprintf("user_%08x", n), "email": email, "name": strings.Split(email, "@")[0], "enablePaidHobby": false, "internalNumericId": n,
	}}
}

// viewer is who asks: a person, or a token that is nobody's.
func (g *graph) viewer() graphql.Object {
	if len(g.tokens) == 0 || isMacaroon(g.tokens[0].Value) {
		return graphql.Object{Type: "Macaroon", Fields: map[string]any{"email": g.owner(), "name": nil}}
	}
	return g.user(g.owner())
}

func isMacaroon(token string) bool {
	return slices.ContainsFunc([]string{"fm1r_", "fm1a_", "fm2_"}, func(p string) bool { return strings.HasPrefix(token, p) })
}

func regionObject(code string) graphql.Object {
	i := slices.IndexFunc(regions, func(r region) bool { return r.Code == code })
	r := regions[i]
	return graphql.Object{Type: "Region", Fields: map[string]any{
		"code": r.Code, "name": r.Name, "latitude": r.Latitude, "longitude": r.Longitude, "gatewayAvailable": r.Gateway,
		"requiresPaidPlan": r.Paid, "deprecated": r.Deprecated,
	}}
}

func regionObjects(codes []string) []graphql.Object {
	out := []graphql.Object{}
	for _, code := range codes {
		out = append(out, regionObject(code))
	}
	return out
}

func (g *graph) platform() graphql.Object {
	var codes []string
	for _, r := range regions {
		codes = append(codes, r.Code)
	}
	var sizes []graphql.Object
	for _, s := range []struct {
		name     string
		cpus, mb int
	}{{"shared-cpu-1x", 1, 256}, {"shared-cpu-2x", 2, 512}, {"performance-1x", 1, 2048}, {"performance-2x", 2, 4096}} {
		sizes = append(sizes, graphql.Object{Type: "VMSize", Fields: map[string]any{
			"name": s.name, "cpuCores": s.cpus, "memoryMb": s.mb, "memoryGb": float64(s.mb) / 1024,
		}})
	}
	return graphql.Object{Type: "FlyPlatform", Fields: map[string]any{
		"regions": regionObjects(codes), "requestRegion": nearest, "vmSizes": sizes,
	}}
}

// limited is what is known of a token beside the right it gives.
type limited struct {
	Created time.Time
	Revoked time.Time
	Params  json.RawMessage `json:",omitempty"`
}

// tokensFor are the limited tokens that fit. Their values are never shown
// again.
func (g *graph) tokensFor(fits func(*Token) bool) []graphql.Object {
	var out []graphql.Object
	for _, t := range g.e.state.Tokens {
		if _, ok := g.e.state.Console.Limited[t.ID]; ok && fits(t) {
			out = append(out, g.limitedToken(t, ""))
		}
	}
	return out
}

func (g *graph) limitedToken(t *Token, header string) graphql.Object {
	l := g.e.state.Console.Limited[t.ID]
	var revoked any
	if !l.Revoked.IsZero() {
		revoked = l.Revoked
	}
	return graphql.Object{Type: "LimitedAccessToken", Fields: map[string]any{
		"id": t.ID, "name": t.Name, "profile": t.Profile, "profileParams": plain(l.Params), "createdAt": l.Created, "expiresAt": t.Expires,
		"revokedAt": revoked, "token": strings.TrimPrefix(header, "FlyV1 "), "tokenHeader": orNil(header),
		"user":         g.user(t.owner()),
		"organization": graphql.Resolver(func(map[string]any) (any, error) { return g.org(g.e.state.Orgs[t.Org]), nil }),
	}}
}

// peer is somebody in the network of an organization.
type peer struct {
	Org, Name, Key, Region, Network, IP string
}

func (p *peer) object() graphql.Object {
	return graphql.Object{Type: "WireGuardPeer", Fields: map[string]any{
		"id": p.Org + "/" + p.Name, "name": p.Name, "pubkey": p.Key, "region": p.Region, "network": orNil(p.Network), "peerip": p.IP,
	}}
}

func (g *graph) peers(o *Org) []graphql.Object {
	var out []graphql.Object
	for _, p := range g.e.state.Console.Peers {
		if p.Org == o.Slug {
			out = append(out, p.object())
		}
	}
	return out
}
