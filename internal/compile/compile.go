// Package compile turns an environment into the resources the engine
// reconciles: one pure function for each platform, without I/O. The same
// environment always gives the same resources, in the same order.
//
// It also says, as findings at a path of forge.cue, what cannot be had as
// written, and what this build does not do yet.
package compile

import (
	"errors"

	"forged.dev/forged/internal/forge"
)

// Forge compiles every environment, in their order. Either all of them
// compile or none does: the error joins what is wrong with each.
func Forge(f *forge.Forge) ([]forge.Resource, error) {
	var (
		resources []forge.Resource
		problems  []error
	)
	for _, env := range f.Environments {
		compiled, err := Environment(env)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		resources = append(resources, compiled...)
	}
	for _, found := range neighbours(f.Environments) {
		problems = append(problems, asError(found))
	}
	problems = append(problems, crowded(resources)...)
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return resources, nil
}

// Environment compiles one environment. Its resources come in an order in
// which each stands after the ones it needs. An error says what in forge.cue
// cannot be had, and what to write instead, as [Check] does with a path; or
// that the model is none that the language lets through, which is a mistake of
// forged itself.
func Environment(env forge.Environment) ([]forge.Resource, error) {
	if problems := broken(env); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	var problems []error
	for _, found := range check(env) {
		problems = append(problems, asError(found))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	resources, err := platform(env)
	if err == nil {
		resources, err = order(resources)
	}
	if err != nil {
		return nil, bug(env.Name, err.Error())
	}
	return resources, nil
}

func platform(env forge.Environment) ([]forge.Resource, error) {
	switch env.Platform.Kind {
	case forge.PlatformKubernetes:
		return kubernetes(env)
	case forge.PlatformMinikube:
		return minikube(env)
	case forge.PlatformFKS:
		return fks(env)
	case forge.PlatformFly:
		return fly(env)
	default:
		return compose(env)
	}
}
