package flyemulator

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"forged.dev/forged/internal/flyemulator/graphql"
)

func (g *graph) addOn(a *addOn) graphql.Object {
	var plan, planName, app, private, host, failed any
	if p := addOnPlanOf(a.Plan); p != nil {
		plan, planName = p.object(), p.display
	}
	apps := []graphql.Object{}
	if of := g.e.state.Apps[a.App]; of != nil {
		app = g.app(of)
		apps = append(apps, app.(graphql.Object))
	}
	if a.Type == addOnRedis {
		private, host = a.privateIP(), a.hostname()
	}
	if a.Error != "" {
		failed = a.Error
	}
	metadata, _ := plain(a.Metadata).(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
	}
	if a.Kubeconfig != "" {
		metadata["kubeconfig"] = a.Kubeconfig
	}
	return graphql.Object{Type: "AddOn", Fields: map[string]any{
		"id": a.ID, "name": a.Name, "status": a.Status, "errorMessage": failed, "primaryRegion": orNil(a.Region),
		"readRegions": some(a.ReadRegions), "options": a.options(), "metadata": metadata, "environment": a.environment(),
		"publicUrl": a.publicURL(), "password": a.Password, "hostname": host, "privateIp": private, "stats": map[string]any{},
		"ssoLink": "https://emulated.invalid/sso/" + a.ID, "createdAt": a.Created, "updatedAt": a.Updated,
		"addOnPlan": plan, "addOnPlanName": planName, "addOnProvider": addOnProviderOf(a.Type).object(),
		"app": app, "apps": connection("App", apps),
		"organization": graphql.Resolver(func(map[string]any) (any, error) { return g.org(g.e.state.Orgs[a.Org]), nil }),
	}}
}

func (p *addOnPlan) object() graphql.Object {
	return graphql.Object{Type: "AddOnPlan", Fields: map[string]any{
		"id": p.id, "name": p.name, "displayName": p.display, "description": p.description, "maxDataSize": p.size, "pricePerMonth": p.price,
	}}
}

func (p *addOnProvider) object() graphql.Object {
	var tos, tosURL any
	if p.tos {
		tos, tosURL = "Terms of Service", "https://emulated.invalid/tos/"+p.name
	}
	return graphql.Object{Type: "AddOnProvider", Fields: map[string]any{
		"id": "provider-" + p.name, "name": p.name, "displayName": p.display, "resourceName": p.resource,
		"asyncProvisioning": p.async, "autoProvision": false, "beta": p.beta, "internal": p.internal, "detectPlatform": false,
		"selectName": true, "selectRegion": p.region, "selectReplicaRegions": p.replicas,
		"excludedRegions": regionObjects(p.not), "regions": regionObjects(p.regions()),
		"nameSuffix": nil, "provisioningInstructions": "fly ext " + p.name + " status", "tosAgreement": tos, "tosUrl": tosURL,
	}}
}

// addOnNamed is how an add-on is named: by its identity, or by its name, which
// is only unique among those of one provider.
type addOnNamed struct {
	ID, AddOnID string
	Name        string
	Provider    string
}

// addOnOf finds the add-on, if a token reaches its organization.
func (g *graph) addOnOf(n addOnNamed) (*addOn, error) {
	if n.ID == "" {
		n.ID = n.AddOnID
	}
	for _, id := range slices.Sorted(maps.Keys(g.e.state.AddOns)) {
		a := g.e.state.AddOns[id]
		if n.ID != "" && a.ID != n.ID || n.ID == "" && (n.Name == "" || a.Name != n.Name) || n.Provider != "" && a.Type != n.Provider {
			continue
		}
		if _, f := g.orgFor(a.Org, false); f != nil {
			continue // what belongs to others is not found
		}
		if _, f := g.orgFor(a.Org, g.write); f != nil {
			return nil, notAuthorized("addon")
		}
		return a, nil
	}
	return nil, couldNotFind("AddOn")
}

func (g *graph) findAddOn(n addOnNamed) (any, error) {
	a, err := g.addOnOf(n)
	if err != nil {
		return nil, err
	}
	return g.addOn(a), nil
}

// addOns is a connection of those that fit, of a type if one is asked for.
// "redis" is what upstash_redis was called before.
func (g *graph) addOns(fits func(*addOn) bool) graphql.Resolver {
	return graphql.With(func(in struct {
		window
		Type string
	},
	) (any, error) {
		if in.Type == "redis" {
			in.Type = addOnRedis
		}
		var out []graphql.Object
		for _, a := range g.sortedAddOns() {
			if fits(a) && (in.Type == "" || a.Type == in.Type) {
				out = append(out, g.addOn(a))
			}
		}
		return paged("AddOn", out, in.orListed())
	})
}

func (g *graph) sortedAddOns() []*addOn {
	return slices.SortedFunc(maps.Values(g.e.state.AddOns), func(a, b *addOn) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return slices.Compare([]byte(a.ID), []byte(b.ID))
	})
}

func (g *graph) listAddOns(in map[string]any) (any, error) {
	var mine []string
	for _, o := range g.orgs() {
		mine = append(mine, o.Slug)
	}
	if len(mine) == 0 {
		return nil, notAuthorized("organization")
	}
	return g.addOns(func(a *addOn) bool { return slices.Contains(mine, a.Org) })(in)
}

func (g *graph) listAddOnPlans(in struct {
	window
	Type string
},
) (any, error) {
	var out []graphql.Object
	for _, p := range addOnPlans {
		if in.Type == "" || in.Type == p.kind || in.Type == "redis" && p.kind == addOnRedis {
			out = append(out, p.object())
		}
	}
	return paged("AddOnPlan", out, in.window)
}

// createAddOnInput, without what is passed over.
type createAddOnInput struct {
	AppID          string
	Name           string
	Options        json.RawMessage
	OrganizationID string
	PlanID         string
	PrimaryRegion  string
	ReadRegions    []string
	Type           string
}

func (g *graph) createAddOn(in struct{ Input createAddOnInput }) (any, error) {
	r := in.Input
	want := addOnRequest{
		Type: r.Type, App: r.AppID, Name: r.Name, Plan: r.PlanID, Region: r.PrimaryRegion, ReadRegions: r.ReadRegions, Options: r.Options,
	}
	switch {
	case r.OrganizationID != "":
		o, err := g.orgByID(r.OrganizationID)
		if err != nil {
			return nil, err
		}
		want.Org = o
	case r.AppID != "":
		a, err := g.findApp(r.AppID)
		if err != nil {
			return nil, err
		}
		// A token of one app may not make what belongs to the organization.
		if _, f := g.orgFor(a.Org, true); f != nil {
			return nil, notAuthorized("organization")
		}
		want.Org = g.e.state.Orgs[a.Org]
	default:
		return nil, couldNotFind("Organization")
	}
	if r.AppID != "" {
		if _, err := g.findApp(r.AppID); err != nil {
			return nil, err
		}
	}
	a, err := g.e.newAddOn(want)
	if err != nil {
		return nil, unprocessable(err)
	}
	return g.payload("CreateAddOnPayload", "addOn", g.addOn(a)), nil
}

// updateAddOn changes what is named: options and metadata are replaced as a
// whole, the production pack stays as it is unless it is named.
func (g *graph) updateAddOn(in struct {
	Input struct {
		addOnNamed
		Metadata    json.RawMessage
		Options     json.RawMessage
		PlanID      *string
		ProdPack    *bool
		ReadRegions []string
	}
},
) (any, error) {
	r := in.Input
	a, err := g.addOnOf(r.addOnNamed)
	if err != nil {
		return nil, err
	}
	next := *a
	if err := next.change(r.PlanID, r.ReadRegions, r.Options); err != nil {
		return nil, unprocessable(err)
	}
	if r.ProdPack != nil {
		if r.PlanID == nil {
			return nil, unprocessable(errors.New("Validation failed: Plan must be given to change the production pack")) //nolint:staticcheck // Fly's words
		}
		next.ProdPack = *r.ProdPack
	}
	if len(r.Metadata) > 0 && string(r.Metadata) != "null" {
		next.Metadata = r.Metadata
	}
	next.Updated = g.e.now()
	*a = next
	return g.payload("UpdateAddOnPayload", "addOn", g.addOn(a)), nil
}

func (g *graph) removeAddOn(in struct{ Input addOnNamed }) (any, error) {
	a, err := g.addOnOf(in.Input)
	if err != nil {
		return nil, err
	}
	g.e.deleteAddOn(a)
	return g.payload("DeleteAddOnPayload", "deletedAddOnName", a.Name), nil
}

func (g *graph) resetAddOnPassword(in struct{ Input addOnNamed }) (any, error) {
	a, err := g.addOnOf(in.Input)
	if err != nil {
		return nil, err
	}
	a.Password, a.Updated = g.e.newHex("addon password", 32), g.e.now()
	return g.payload("ResetAddOnPasswordPayload", "addOn", g.addOn(a)), nil
}

func (g *graph) agreeToTos(in struct {
	Input struct{ AddOnProviderName, OrganizationID string }
},
) (any, error) {
	if addOnProviderOf(in.Input.AddOnProviderName) == nil {
		return nil, couldNotFind("AddOnProvider")
	}
	o, err := g.orgByID(in.Input.OrganizationID)
	if err != nil {
		return nil, err
	}
	k := &g.e.state.Console
	if k.Agreed == nil {
		k.Agreed = map[string][]string{}
	}
	k.Agreed[o.Slug] = append(k.Agreed[o.Slug], in.Input.AddOnProviderName)
	return g.payload("CreateExtensionTosAgreementPayload", "", nil), nil
}

// payload is the answer of a mutation with one field of note.
func (g *graph) payload(kind, field string, value any) graphql.Object {
	out := graphql.Object{Type: kind, Fields: map[string]any{"clientMutationId": nil}}
	if field != "" {
		out.Fields[field] = value
	}
	return out
}
