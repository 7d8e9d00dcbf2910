package compile

import "forged.dev/forged/internal/forge"

// laptopSizes leave room for everything else on a laptop: requests are small,
// limits stay what they are, so that what works here works elsewhere.
var laptopSizes = sizes{
	postgres: forge.Resources{CPU: "50m", Memory: "128Mi", MemoryLimit: sharedSizes.postgres.MemoryLimit},
	redis:    forge.Resources{CPU: "20m", Memory: "32Mi"},
	temporal: forge.Resources{CPU: "50m", Memory: "128Mi", MemoryLimit: sharedSizes.temporal.MemoryLimit},

	temporalWeb: forge.Resources{CPU: "20m", Memory: "32Mi", MemoryLimit: sharedSizes.temporalWeb.MemoryLimit},
	tools:       forge.Resources{CPU: "20m", Memory: "32Mi"},
}

// minikube is Kubernetes with smaller servers.
func minikube(env forge.Environment) ([]forge.Resource, error) {
	p, err := builder{env: env, at: places(env)[0], sizes: laptopSizes}.cluster(true)
	if err != nil {
		return nil, err
	}
	return p.resources, nil
}
