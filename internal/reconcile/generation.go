package reconcile

import (
	"errors"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
)

// Generation is one whole desired state. It is taken over as a whole or not
// at all.
type Generation struct {
	Number       int
	Hash         string // of the config it was made from
	Environments []Environment
}

// Environment is the part of a Generation that one environment is.
type Environment struct {
	Name      string
	Platform  string // kind of the platform, for people
	Target    string // where it runs, for people
	Policy    forge.Policy
	Resources []forge.Resource
	Workers   int // passes at a time; 0: as many as the engine has for each

	// Former are places where the environment stood before. They are told to who
	// lists what is owned, and are neither wanted nor looked at themselves.
	Former []forge.Resource

	// Down is the word of a person that everything owned here is to go. Resources
	// are not wanted then: they tell where to look.
	Down bool
}

// generation is a Generation that has been checked, with everything found
// that can be found once.
type generation struct {
	Generation
	environments map[string]*environment
	nodes        map[forge.ID]*node
}

type environment struct {
	Environment
	graph *Graph // of what is wanted
	known *Graph // of what forge.cue asks for: it is wanted, or with Down it is to go
}

// places are the resources that tell where something of an environment may be.
func (env *environment) places() []forge.Resource {
	all := make([]forge.Resource, 0, env.known.Len())
	for _, id := range env.known.order {
		all = append(all, env.known.resources[id])
	}
	return all
}

type node struct {
	resource   forge.Resource
	env        *environment
	provider   Provider
	dependants []forge.ID
	followers  []forge.ID
}

// check turns a Generation into a generation, or says everything that is
// wrong with it in one error of kind Invalid.
func (e *Engine) check(g Generation) (*generation, error) {
	g.Environments = slices.Clone(g.Environments)
	slices.SortStableFunc(g.Environments, func(a, b Environment) int { return strings.Compare(a.Name, b.Name) })
	out := &generation{
		Generation:   g,
		environments: make(map[string]*environment, len(g.Environments)),
		nodes:        map[forge.ID]*node{},
	}
	var errs []error
	for _, spec := range g.Environments {
		if _, twice := out.environments[spec.Name]; twice {
			errs = append(errs, Errorf(Invalid, "graph", "the environment %s is there twice", spec.Name))
			continue
		}
		graph, err := NewGraph(spec.Resources)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		env := &environment{Environment: spec, graph: graph, known: graph}
		if spec.Down {
			env.graph = &Graph{}
		}
		out.environments[spec.Name] = env
		for _, id := range graph.order {
			p := e.providers[id.Kind]
			switch {
			case id.Environment != spec.Name:
				errs = append(errs, invalid(id, "%s is listed in environment %s", id, spec.Name))
			case p == nil:
				errs = append(errs, invalid(id, "nothing is registered that can reconcile the kind %q of %s", id.Kind, id))
			}
			if spec.Down {
				continue
			}
			out.nodes[id] = &node{resource: graph.resources[id], env: env, provider: p, dependants: graph.dependants[id], followers: graph.followers[id]}
		}
	}
	return out, errors.Join(errs...)
}
