package compile

import (
	"slices"

	"forged.dev/forged/internal/forge"
)

// What the language has and this build does not do: it keeps an environment
// from being acted on, or is left out of what is done there.
const (
	ruleUnsupported = "unsupported"
	rulePartial     = "partial"
)

// Gaps finds what is valid and not done by this build yet. Each has a path of
// its environment, so that the others can go on. When what is missing comes,
// its line in one of the tables below goes, and nothing else.
func Gaps(f *forge.Forge) []forge.Finding {
	var all []forge.Finding
	for _, env := range f.Environments {
		all = append(all, gaps(env)...)
	}
	for _, n := range f.Notifications {
		all = append(all, partAt([]string{"notifications", n.Name}, "notifications are", "watch the metrics that forged run exports"))
	}
	return all
}

// Blocked are the findings that keep forged from acting on the environments
// named, or on any if none is named.
func Blocked(found []forge.Finding, environments []string) []forge.Finding {
	return slices.DeleteFunc(slices.Clone(found), func(f forge.Finding) bool {
		return f.Rule != ruleUnsupported || len(environments) > 0 && !slices.Contains(environments, f.Path[1])
	})
}

// leftOut are the kinds that nobody makes yet in an environment of which the
// rest is done.
var leftOut = []string{forge.KindFlyMachines, forge.KindFlyJob}

// Runnable is what this build can do of an environment that no gap keeps it
// from: all resources but those that are told as left out.
func Runnable(env forge.Environment) ([]forge.Resource, error) {
	all, err := Environment(env)
	return slices.DeleteFunc(all, func(r forge.Resource) bool { return slices.Contains(leftOut, r.ID.Kind) }), err
}

// gap is something that this build does not do. where are the paths below the
// environment at which it is asked for; none: it is not.
type gap struct {
	what  string // completes "… not supported by this build yet"
	hint  string
	where func(forge.Environment) [][]string
}

var platformGaps = []gap{
	{"Docker Compose is", "use minikube until then", kindIs(forge.PlatformCompose)},
	{"Redis as a Fly app is", `write mode: "upstash"`, onFly(func(env forge.Environment) bool { return env.Services.Redis.Mode == forge.ModeFlyApp }, "services", partRedis, "mode")},
	{"Temporal as a Fly app is", `write mode: "cloud"`, onFly(func(env forge.Environment) bool { return env.Services.Temporal.Mode == forge.ModeFlyApp }, "services", partTemporal, "mode")},
}

var partGaps = []gap{
	{"the machines of the app are", "run fly deploy for them: forged keeps what is around them", kindIs(forge.PlatformFly)},
}

func gaps(env forge.Environment) []forge.Finding {
	var found []forge.Finding
	for _, g := range platformGaps {
		for _, path := range g.where(env) {
			found = append(found, gapAt(slices.Concat([]string{"environments", env.Name}, path), g.what, g.hint))
		}
	}
	for _, g := range partGaps {
		for _, path := range g.where(env) {
			found = append(found, partAt(slices.Concat([]string{"environments", env.Name}, path), g.what, g.hint))
		}
	}
	return found
}

func partAt(path []string, what, hint string) forge.Finding {
	found := gapAt(path, what, hint)
	found.Rule = rulePartial
	return found
}

func gapAt(path []string, what, hint string) forge.Finding {
	return forge.Finding{Path: path, Rule: ruleUnsupported, Message: what + " not supported by this build yet", Hint: hint}
}

func at(asked func(forge.Environment) bool, path ...string) func(forge.Environment) [][]string {
	return func(env forge.Environment) [][]string {
		if asked(env) {
			return [][]string{path}
		}
		return nil
	}
}

func onFly(asked func(forge.Environment) bool, path ...string) func(forge.Environment) [][]string {
	return at(func(env forge.Environment) bool { return env.Platform.Kind == forge.PlatformFly && asked(env) }, path...)
}

func kindIs(kind string) func(forge.Environment) [][]string {
	return at(func(env forge.Environment) bool { return env.Platform.Kind == kind }, "platform", "kind")
}
