package compile

import (
	"slices"

	"forged.dev/forged/internal/forge"
)

// place is one cluster of an environment: the only one, or a region.
type place struct {
	name      string // empty: the only one
	target    forge.Target
	namespace string
	domains   []string
	tls       forge.TLS
	scaling   forge.Scaling
}

// Regions are the regions of an environment that are clusters, in the order in
// which they are rolled out: home first.
func Regions(env forge.Environment) []forge.Region {
	if env.Platform.Kind != forge.PlatformKubernetes {
		return nil
	}
	var all []forge.Region
	for _, at := range places(env) {
		if i := slices.IndexFunc(env.Regions, func(r forge.Region) bool { return r.Name == at.name }); i >= 0 {
			all = append(all, env.Regions[i])
		}
	}
	return all
}

// Former is where an environment stood before, for who lists what it owns there.
func Former(env forge.Environment) []forge.Resource {
	was := env.Platform.MovedFrom
	if was == nil || !env.Platform.OnKubernetes() {
		return nil
	}
	target := forge.Target{Kubeconfig: was.Kubeconfig, Context: was.Context, Impersonate: was.Impersonate}
	home := forge.ID{Environment: env.Name, Kind: forge.KindNamespace, Name: was.Namespace}
	return []forge.Resource{{ID: home.LeftIn(was.Namespace, target.String()), Target: target, Spec: forge.FormerSpec{Namespace: was.Namespace}}}
}

// places are the clusters of an environment. The first is home: where the
// migration runs.
func places(env forge.Environment) []place {
	only := place{
		target:    forge.Target{Kubeconfig: env.Platform.Kubeconfig, Context: env.Platform.Context, Impersonate: env.Platform.Impersonate},
		namespace: env.Platform.Namespace,
		domains:   env.Domains,
		tls:       env.Expose.TLS,
		scaling:   env.Scaling,
	}
	if env.Platform.Kind != forge.PlatformKubernetes || len(env.Regions) == 0 {
		return []place{only}
	}
	var all []place
	home := 0
	for i, region := range env.Regions {
		at := only
		at.name = region.Name
		at.target.Context = region.Context
		if region.Kubeconfig != "" {
			at.target.Kubeconfig = region.Kubeconfig
		}
		if region.Namespace != "" {
			at.namespace = region.Namespace
		}
		if region.Domains != nil {
			at.domains = region.Domains
		}
		if region.TLS != nil {
			at.tls = *region.TLS
		}
		if region.Scaling != nil {
			at.scaling = *region.Scaling
		}
		if at.target == only.target && at.namespace == only.namespace {
			home = i
		}
		all = append(all, at)
	}
	first := all[home]
	return slices.Concat([]place{first}, slices.Delete(all, home, home+1))
}
