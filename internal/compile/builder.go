package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
)

// builder holds what all parts of one environment's compilation in one place
// share.
type builder struct {
	env   forge.Environment
	at    place
	sizes sizes
}

// id names a resource. Where an environment is in several places, the name
// ends in "@" and the place, which no name of a cluster or of Fly holds.
func (b builder) id(kind, name string) forge.ID {
	if b.at.name != "" {
		name += "@" + b.at.name
	}
	return forge.ID{Environment: b.env.Name, Kind: kind, Name: name}
}

// resource is one that lives where the builder is.
func (b builder) resource(kind, name string, spec forge.Spec, needs ...forge.ID) forge.Resource {
	if cluster := b.at.target.Cluster; cluster != (forge.ID{}) {
		needs = slices.Concat([]forge.ID{cluster}, needs)
	}
	return forge.Resource{ID: b.id(kind, name), Target: b.at.target, Needs: unique(needs), Spec: spec}
}

// labels are those of objects that no chart makes.
func (b builder) labels() map[string]string {
	return map[string]string{
		"app.kubernetes.io/part-of":    b.env.App.Name,
		"app.kubernetes.io/managed-by": "forged",
		"forged.dev/environment":       b.env.Name,
	}
}

// selector are the labels that name the pods of one component.
func (b builder) selector(chart, instance, component string) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":      chart,
		"app.kubernetes.io/instance":  instance,
		"app.kubernetes.io/component": component,
		"forged.dev/environment":      b.env.Name,
	}
}

// Names of what clients connect to: releases, whose charts call their Service
// after them, and secrets.
func (b builder) postgresName() string { return b.env.App.Name + "-postgres" }
func (b builder) redisName() string    { return b.env.App.Name + "-redis" }
func (b builder) temporalName() string { return b.env.App.Name + "-temporal" }

func (b builder) hasPostgres() bool { return b.env.Services.Postgres.Mode == forge.ModeInCluster }
func (b builder) hasRedis() bool    { return b.env.Services.Redis.Mode == forge.ModeInCluster }

// hasTemporal tells whether forged runs Temporal, wherever that is.
func (b builder) hasTemporal() bool {
	mode := b.env.Services.Temporal.Mode
	return mode == forge.ModeInCluster || mode == forge.ModeFlyApp
}

func (b builder) migrates() bool { return b.env.App.Migrate.Run == forge.MigrateBeforeDeploy }

func (b builder) account() forge.FlyAccount {
	return forge.FlyAccount{Org: b.env.Platform.Org, Token: b.env.Platform.Token, Inventory: b.env.Platform.Inventory}
}

// parts are the resources of an environment, and what has to be ready before
// one can say that a part is.
type parts struct {
	resources []forge.Resource
	ready     map[string][]forge.ID // by the names that a need may have
}

func (p *parts) add(part string, r forge.Resource) forge.ID {
	p.resources = append(p.resources, r)
	if part != "" {
		if p.ready == nil {
			p.ready = map[string][]forge.ID{}
		}
		p.ready[part] = append(p.ready[part], r.ID)
	}
	return r.ID
}

// services are what the app and its workers wait for.
func (p *parts) services() []forge.ID {
	return slices.Concat(p.ready[partPostgres], p.ready[partRedis], p.ready[partTemporal])
}

// Names that a need may have, besides those of charts.
const (
	partApp      = "app"
	partPostgres = "postgres"
	partRedis    = "redis"
	partTemporal = "temporal"
)

// needs resolves names to what stands for them.
func (p *parts) needs(names []string) ([]forge.ID, error) {
	var ids []forge.ID
	for _, name := range names {
		found, ok := p.ready[name]
		if !ok {
			return nil, fmt.Errorf("%q is needed and not there; it has %s", name, strings.Join(slices.Sorted(maps.Keys(p.ready)), ", "))
		}
		ids = append(ids, found...)
	}
	return ids, nil
}

// order puts each resource after those it needs and otherwise leaves them as
// they are.
func order(resources []forge.Resource) ([]forge.Resource, error) {
	known, done := map[forge.ID]bool{}, map[forge.ID]bool{}
	for _, r := range resources {
		if known[r.ID] {
			return nil, fmt.Errorf("two resources would be called %s; rename one of them", r.ID)
		}
		known[r.ID] = true
	}
	ordered := make([]forge.Resource, 0, len(resources))
	for len(ordered) < len(resources) {
		next := slices.IndexFunc(resources, func(r forge.Resource) bool {
			return !done[r.ID] && !slices.ContainsFunc(r.Needs, func(id forge.ID) bool { return !done[id] })
		})
		if next < 0 {
			return nil, fmt.Errorf("%s wait for each other; take one of the needs away", circle(resources, done))
		}
		done[resources[next].ID] = true
		ordered = append(ordered, resources[next])
	}
	return ordered, nil
}

func circle(resources []forge.Resource, done map[forge.ID]bool) string {
	var names []string
	for _, r := range resources {
		if !done[r.ID] {
			names = append(names, r.ID.String())
		}
	}
	return strings.Join(names, ", ")
}

// unique drops what is there already.
func unique(ids []forge.ID) []forge.ID {
	var out []forge.ID
	for _, id := range ids {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}
