package reconcile

import (
	"errors"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
)

// Graph is the resources of one environment and what they need of each other.
// It never changes once made.
type Graph struct {
	resources  map[forge.ID]forge.Resource
	dependants map[forge.ID][]forge.ID
	followers  map[forge.ID][]forge.ID // those that come after it and do not need it
	waves      [][]forge.ID
	order      []forge.ID
}

// NewGraph checks that every need is met by a resource of the same list, that
// no id appears twice and that nothing needs itself, directly or on a way
// round. All that is wrong is in the error, of kind Invalid.
func NewGraph(resources []forge.Resource) (*Graph, error) {
	g := &Graph{
		resources:  make(map[forge.ID]forge.Resource, len(resources)),
		dependants: make(map[forge.ID][]forge.ID, len(resources)),
		followers:  map[forge.ID][]forge.ID{},
	}
	var errs []error
	for _, r := range resources {
		if _, twice := g.resources[r.ID]; twice {
			errs = append(errs, invalid(r.ID, "the id %s is used by two resources", r.ID))
			continue
		}
		g.resources[r.ID] = r
	}
	missing := make(map[forge.ID]int, len(resources))
	for _, id := range sortedKeys(g.resources) {
		needs := g.resources[id].Needs
		for i, need := range needs {
			if slices.Contains(needs[:i], need) {
				continue
			}
			if _, ok := g.resources[need]; !ok {
				errs = append(errs, invalid(id, "%s needs %s, which is not in this environment", id, need))
				continue
			}
			missing[id]++
			g.dependants[need] = append(g.dependants[need], id)
		}
		for i, before := range g.resources[id].After {
			switch {
			case slices.Contains(needs, before), slices.Contains(g.resources[id].After[:i], before):
				continue
			case !g.has(before):
				errs = append(errs, invalid(id, "%s comes after %s, which is not in this environment", id, before))
				continue
			}
			missing[id]++
			g.followers[before] = append(g.followers[before], id)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if left := g.layer(missing); len(left) > 0 {
		path := g.cycle(left)
		return nil, invalid(path[0], "resources need each other in a circle: %s", joinIDs(path, " → "))
	}
	return g, nil
}

// layer fills waves and order, and returns the ids that no wave can hold.
func (g *Graph) layer(missing map[forge.ID]int) []forge.ID {
	var wave []forge.ID
	for id := range g.resources {
		if missing[id] == 0 {
			wave = append(wave, id)
		}
	}
	for len(wave) > 0 {
		slices.SortFunc(wave, forge.ID.Compare)
		g.waves = append(g.waves, wave)
		g.order = append(g.order, wave...)
		var next []forge.ID
		for _, id := range wave {
			for _, d := range slices.Concat(g.dependants[id], g.followers[id]) {
				if missing[d]--; missing[d] == 0 {
					next = append(next, d)
				}
			}
		}
		wave = next
	}
	var left []forge.ID
	for id, n := range missing {
		if n > 0 {
			left = append(left, id)
		}
	}
	slices.SortFunc(left, forge.ID.Compare)
	return left
}

// cycle finds a circle among ids of which each needs another one of them. It
// starts and ends with the same id.
func (g *Graph) cycle(left []forge.ID) []forge.ID {
	var path []forge.ID
	at := left[0]
	for {
		if i := slices.Index(path, at); i >= 0 {
			return append(path[i:], at)
		}
		path = append(path, at)
		for _, need := range slices.Concat(g.resources[at].Needs, g.resources[at].After) {
			if slices.Contains(left, need) {
				at = need
				break
			}
		}
	}
}

func (g *Graph) has(id forge.ID) bool { _, ok := g.resources[id]; return ok }

// Len is the number of resources.
func (g *Graph) Len() int { return len(g.order) }

// Resource finds a resource by its id.
func (g *Graph) Resource(id forge.ID) (forge.Resource, bool) {
	r, ok := g.resources[id]
	return r, ok
}

// Order lists the ids so that each stands behind what it needs. It depends on
// the set of resources only, not on the order they were given in.
func (g *Graph) Order() []forge.ID { return slices.Clone(g.order) }

// Waves groups Order: the ids of a wave need nothing of each other, only of
// earlier waves.
func (g *Graph) Waves() [][]forge.ID {
	waves := make([][]forge.ID, len(g.waves))
	for i, w := range g.waves {
		waves[i] = slices.Clone(w)
	}
	return waves
}

// Dependants lists the ids that need id directly, in order.
func (g *Graph) Dependants(id forge.ID) []forge.ID { return slices.Clone(g.dependants[id]) }

func invalid(id forge.ID, format string, args ...any) *Error {
	err := Errorf(Invalid, "graph", format, args...)
	err.ID = id
	return err
}

func sortedKeys[V any](m map[forge.ID]V) []forge.ID {
	ids := make([]forge.ID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, forge.ID.Compare)
	return ids
}

func joinIDs(ids []forge.ID, sep string) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(id.String())
	}
	return b.String()
}
