package flyemulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"forged.dev/forged/internal/flyemulator/graphql"
)

// listed is how many a list has that is not told how many: a client that does
// not page sees no more.
const listed = 50

func (g *graph) queries() map[string]any {
	return map[string]any{
		"app": graphql.With(func(in struct{ Name, ID, InternalID string }) (any, error) {
			for _, name := range []string{in.Name, in.ID, in.InternalID} {
				if name == "" {
					continue
				}
				a, err := g.findApp(name)
				if err != nil {
					return nil, err
				}
				return g.app(a), nil
			}
			return nil, couldNotFind("App")
		}),
		"apps": graphql.With(g.listApps),
		"appNameAvailable": graphql.With(func(in struct{ Name string }) (any, error) {
			return appName.MatchString(in.Name) && g.e.state.Apps[in.Name] == nil, nil
		}),
		"canPerformBluegreenDeployment": graphql.With(func(in struct{ Name string }) (any, error) {
			_, err := g.findApp(in.Name)
			return err == nil, err
		}),
		"organization":         graphql.With(g.organization),
		"organizations":        graphql.With(g.organizations),
		"personalOrganization": graphql.Resolver(func(map[string]any) (any, error) { return g.personal() }),
		"viewer":               g.viewer(),
		"userOnlyToken":        len(g.tokens) > 0 && !isMacaroon(g.tokens[0].Value),
		"platform":             g.platform(),
		"nearestRegion":        regionObject(nearest),
		"addOn":                graphql.With(g.findAddOn),
		"addOns":               graphql.Resolver(g.listAddOns),
		"addOnPlans":           graphql.With(g.listAddOnPlans),
		"addOnProvider": graphql.With(func(in struct{ Name string }) (any, error) {
			if p := addOnProviderOf(in.Name); p != nil {
				return p.object(), nil
			}
			return nil, couldNotFind("AddOnProvider")
		}),
		"machine": graphql.With(func(in struct{ MachineID string }) (any, error) {
			for _, a := range g.reachable() {
				if a.Machines[in.MachineID] != nil {
					return g.machineOf(a, in.MachineID)
				}
			}
			return nil, couldNotFind("Machine")
		}),
		"volume":         graphql.With(g.findVolume),
		"node":           graphql.With(g.node),
		"latestImageTag": graphql.With(func(in struct{ Repository string }) (any, error) { return g.latestImage(in.Repository) }),
		"latestImageDetails": graphql.With(func(in struct{ Image string }) (any, error) {
			ref, err := g.latestImage(strings.Split(in.Image, ":")[0])
			if err != nil {
				return nil, err
			}
			of := g.e.imageOf(ref)
			return graphql.Object{Type: "ImageVersion", Fields: map[string]any{
				"registry": of["registry"], "repository": of["repository"], "tag": of["tag"], "digest": of["digest"], "version": "v0.1.0",
			}}, nil
		}),
		"postgresAttachments": graphql.With(g.postgresAttachments),
	}
}

// latestImage is the newest of those that Fly publishes.
func (g *graph) latestImage(repository string) (string, error) {
	tag := map[string]string{"flyio/postgres-flex": "17.2", "flyio/postgres": "14.6", "flyio/redis": "6.2.6"}[repository]
	if tag == "" {
		return "", couldNotFind("Image")
	}
	ref := repository + ":" + tag
	return fmt.Sprintf("%s@%s", ref, g.e.digestOf(ref)), nil
}

// reachable are the apps that a token of the request reaches.
func (g *graph) reachable() []*app {
	var out []*app
	for _, name := range slices.Sorted(maps.Keys(g.e.state.Apps)) {
		if a := g.e.state.Apps[name]; g.reaches(a) {
			out = append(out, a)
		}
	}
	return out
}

func (p window) orListed() window {
	if p.First == nil && p.Last == nil {
		n := listed
		p.First = &n
	}
	return p
}

// listApps needs a token of an organization: one of an app may not list.
func (g *graph) listApps(in struct {
	window
	OrganizationID string
	Role           string
	Type, Platform string
	IDs            []string
},
) (any, error) {
	orgs := g.orgs()
	if in.OrganizationID != "" {
		o, err := g.orgByID(in.OrganizationID)
		if err != nil {
			return nil, err
		}
		orgs = []*Org{o}
	}
	if len(orgs) == 0 {
		return nil, notAuthorized("organization")
	}
	var out []graphql.Object
	for _, o := range orgs {
		for _, a := range g.apps(o, in.Role) {
			if len(in.IDs) == 0 || slices.Contains(in.IDs, fmt.Sprint(a.Fields["id"])) {
				out = append(out, a)
			}
		}
	}
	return paged("App", out, in.orListed())
}

func (g *graph) organization(in struct{ ID, Name, Slug string }) (any, error) {
	o, err := g.findOrg(func(o *Org) bool {
		return in.ID != "" && o.ID == in.ID || in.Slug != "" && (o.Slug == in.Slug || o.RawSlug == in.Slug) || in.Name != "" && o.Name == in.Name
	})
	if err != nil {
		return nil, err
	}
	return g.org(o), nil
}

func (g *graph) organizations(in struct {
	window
	Type string
},
) (any, error) {
	var out []graphql.Object
	for _, o := range g.orgs() {
		if one := g.org(o); in.Type == "" || one.Fields["type"] == in.Type {
			out = append(out, one)
		}
	}
	return paged("Organization", out, in.orListed())
}

func (g *graph) personal() (any, error) {
	all := g.orgs()
	if len(all) == 0 {
		return nil, notAuthorized("organization")
	}
	for _, o := range all {
		if o.Slug == "personal" {
			return g.org(o), nil
		}
	}
	return g.org(all[0]), nil
}

func (g *graph) findVolume(in struct{ ID string }) (any, error) {
	for _, a := range g.reachable() {
		if v := a.Volumes[in.ID]; v != nil {
			return g.volume(a, v), nil
		}
	}
	return nil, couldNotFind("Volume")
}

// node finds what has an identity of its own.
func (g *graph) node(in struct{ ID string }) (any, error) {
	if strings.HasPrefix(in.ID, "vol_") {
		return g.findVolume(in)
	}
	if a := g.e.state.AddOns[in.ID]; a != nil {
		return g.findAddOn(addOnNamed{ID: in.ID})
	}
	if a, err := g.findApp(in.ID); err == nil {
		return g.app(a), nil
	}
	if o, err := g.orgByID(in.ID); err == nil {
		return g.org(o), nil
	}
	return nil, couldNotFind("Node")
}

func (g *graph) postgresAttachments(in struct {
	window
	AppName, PostgresAppName string
},
) (any, error) {
	if _, err := g.findApp(in.PostgresAppName); err != nil {
		return nil, err
	}
	var out []graphql.Object
	for _, a := range g.e.state.Console.Attachments {
		if a.Postgres == in.PostgresAppName && (in.AppName == "" || a.App == in.AppName) {
			out = append(out, graphql.Object{Type: "PostgresClusterAttachment", Fields: map[string]any{
				"id": a.ID, "databaseName": a.Database, "databaseUser": a.User, "environmentVariableName": a.Variable,
			}})
		}
	}
	return paged("PostgresClusterAttachment", out, in.window)
}
