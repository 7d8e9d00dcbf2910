// Package compile turns an environment into the resources the engine
// reconciles: one pure function for each platform, without I/O. The same
// environment always gives the same resources, in the same order.
package compile

import (
	"errors"
	"fmt"

	"forged.dev/forged/internal/forge"
)

// Forge compiles every environment, in their order. Either all of them
// compile or none does: the error joins what is wrong with each.
func Forge(f *forge.Forge) ([]forge.Resource, error) {
	type place struct {
		target    forge.Target
		namespace string
	}
	var (
		resources []forge.Resource
		problems  []error
		taken     = map[place]string{}
	)
	for _, env := range f.Environments {
		compiled, err := Environment(env)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		at := place{target(env), env.Platform.Namespace}
		if other, ok := taken[at]; ok {
			problems = append(problems, fmt.Errorf(
				"environment %q: namespace %q in context %q belongs to environment %q already; give one of them another platform.namespace",
				env.Name, at.namespace, at.target.Context, other))
			continue
		}
		taken[at] = env.Name
		resources = append(resources, compiled...)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return resources, nil
}

// Environment compiles one environment. Its resources come in an order in
// which each stands after the ones it needs. An error says what in forge.cue
// cannot be had, and what to write instead.
func Environment(env forge.Environment) ([]forge.Resource, error) {
	if err := check(env); err != nil {
		return nil, err
	}
	switch env.Platform.Kind {
	case forge.PlatformKubernetes:
		return kubernetes(env, sharedSizes)
	case forge.PlatformMinikube:
		return minikube(env)
	default:
		return nil, fmt.Errorf("environment %q: platform.kind %q is none of %q, %q",
			env.Name, env.Platform.Kind, forge.PlatformKubernetes, forge.PlatformMinikube)
	}
}

func target(env forge.Environment) forge.Target {
	return forge.Target{Kubeconfig: env.Platform.Kubeconfig, Context: env.Platform.Context}
}
