package schema

import (
	"cmp"
	"fmt"
	"maps"
	slashpath "path"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
)

func (l *loader) checkVolumes(p path, e *wireEnv, app *wireApp) {
	mounts := map[string]string{} // what is at a path, by path
	for _, name := range slices.Sorted(maps.Keys(e.Volumes)) {
		v, at := e.Volumes[name], p.with("volumes", name)
		mount := slashpath.Clean(v.Mount)
		l.checkPlace(at.with("mount"), v.Mount, false)
		if other, ok := mounts[mount]; ok {
			l.rule(at.with("mount"), "mount-twice", fmt.Sprintf("%s is already the place of volume %s", mount, other), "choose another directory")
		}
		mounts[mount] = name
		if v.Access == "ReadWriteMany" || !e.onKubernetes() {
			continue
		}
		if n := e.Scaling.max(); n > 1 {
			where, hint := "on one node", `write access: "ReadWriteMany" with a storageClass that has it, or one replica`
			if e.Platform.Kind == forge.PlatformFKS {
				where, hint = "by one pod", "keep what they share in a service, or write one replica"
			}
			l.ruleAt(at, "volume-shared", fmt.Sprintf("up to %d replicas would mount it, and it can be mounted %s only", n, where), hint)
		}
	}
	if n := len(e.Regions); n > 1 && len(e.Volumes) > 0 && e.onKubernetes() {
		name := slices.Min(slices.Collect(maps.Keys(e.Volumes)))
		l.ruleAt(p.with("volumes", name), "volume-shared", fmt.Sprintf("a volume is in one region, and %s runs in %s", e.name, regionNames(e)),
			"run in one region, or keep the data in a service")
	}
	shared := map[string]wireConfigFile{}
	if app != nil {
		shared = app.ConfigFiles
	}
	for _, from := range []struct {
		at    path
		files map[string]wireConfigFile
	}{{path{"app"}, shared}, {p.with("app"), e.App.ConfigFiles}} {
		for _, file := range slices.Sorted(maps.Keys(from.files)) {
			where := from.at.with("configFiles", file)
			if volume, ok := mounts[file]; ok {
				l.ruleAt(where, "mount-twice", fmt.Sprintf("it is already the place of volume %s in %s", volume, e.name), "choose another path")
			}
			for dir := slashpath.Dir(file); dir != "/"; dir = slashpath.Dir(dir) {
				_, here := e.App.ConfigFiles[dir]
				if _, there := shared[dir]; here || there {
					l.ruleAt(where, "mount-twice", fmt.Sprintf("%s is a file already, and no directory", dir), "choose another path")
				}
			}
		}
	}
}

// checkRegions looks at environments in several clusters.
func (l *loader) checkRegions(p path, e *wireEnv, app *wireApp) {
	if e.Platform.Kind != forge.PlatformKubernetes {
		return
	}
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(e.Regions)) {
		r := e.Regions[name]
		namespace := cmp.Or(r.Namespace, e.Platform.Namespace)
		if app != nil {
			namespace = cmp.Or(r.Namespace, e.namespace(app.Name))
		}
		key := cmp.Or(r.Kubeconfig, e.Platform.Kubeconfig) + "\x00" + r.Context + "\x00" + namespace
		if other, ok := seen[key]; ok {
			l.ruleAt(p.with(name), "region-twice", "it is the same place as region "+other, "name another context or namespace")
		}
		seen[key] = name
		if r.Scaling.Min != nil || r.Scaling.Max != nil {
			s := e.Scaling
			if r.Scaling.Min != nil {
				s.Min = r.Scaling.Min
			}
			if r.Scaling.Max != nil {
				s.Max = r.Scaling.Max
			} else if s.Max != nil && *s.Max < s.min() {
				s.Max = s.Min
			}
			l.checkScaling(p.with(name, "scaling"), s)
		}
		if r.ARN != "" && e.Expose.TLS.Mode != forge.TLSACM {
			l.ruleAt(p.with(name, "arn"), "unread-key", `it is read only when expose.tls.mode is "acm"`, "")
		}
	}
	if at := slices.IndexFunc(slices.Sorted(maps.Keys(e.Regions)), func(name string) bool {
		r := e.Regions[name]
		return r.Context == e.Platform.Context && (r.Kubeconfig == "" || r.Kubeconfig == e.Platform.Kubeconfig)
	}); at < 0 && len(e.Regions) > 0 {
		l.rule(path{"environments", e.name, "platform", "context"}, "home-region",
			fmt.Sprintf("migrations run in the cluster %s, and the app runs in %s", e.Platform.Context, regionNames(e)), "name the context of one of the regions")
	}
	if len(e.Regions) < 2 {
		return
	}
	l.checkGenerated(e, app)
	for _, service := range needServices {
		if e.mode(service) == forge.ModeInCluster {
			at := path{"environments", e.name, "services", service}
			if !l.written(at) {
				at = p // by default
			}
			l.ruleAt(at, "data-in-two-clusters",
				fmt.Sprintf("%s runs in %s, and the %s of each cluster would have data of its own", e.name, regionNames(e), service),
				fmt.Sprintf(`write services: %s: mode: "external" or "off"`, service))
		}
	}
}

// checkMoved looks whether an environment has moved at all.
func (l *loader) checkMoved(p path, e *wireEnv, app *wireApp) {
	was := e.Platform.MovedFrom
	if was == nil || app == nil || !e.onKubernetes() {
		return
	}
	now := e.namespace(app.Name)
	same := func(kubeconfig, context, namespace string) bool {
		// Of a file of Fly Kubernetes the only context need not be named.
		return beside(l.src.Dir, was.Kubeconfig) == beside(l.src.Dir, kubeconfig) && cmp.Or(was.Namespace, now) == namespace &&
			(was.Context == context || context == "" && kubeconfig != "")
	}
	here := same(e.Platform.Kubeconfig, e.Platform.Context, now)
	for _, r := range e.Regions {
		here = here || same(cmp.Or(r.Kubeconfig, e.Platform.Kubeconfig), r.Context, cmp.Or(r.Namespace, now))
	}
	if here {
		l.ruleAt(p, "moved-from", e.name+" is still there", "name the context or the namespace where it was before, or leave movedFrom out")
	}
}

func regionNames(e *wireEnv) string {
	return strings.ReplaceAll(quoted(slices.Sorted(maps.Keys(e.Regions))), `"`, "")
}

// checkGenerated looks for values that each cluster makes for itself.
func (l *loader) checkGenerated(e *wireEnv, app *wireApp) {
	report := func(p path) {
		l.ruleAt(p, "generated-per-region", fmt.Sprintf("each of %s makes a value of its own", regionNames(e)), "keep the value in a file of SOPS, or where all of them can read it")
	}
	for _, name := range slices.Sorted(maps.Keys(e.App.Secrets)) {
		if e.App.Secrets[name].Generate != nil {
			report(path{"environments", e.name, "app", "secrets", name})
		}
	}
	if app == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(app.Secrets)) {
		if _, replaced := named(nil, name, e.App.Env, e.App.Secrets); app.Secrets[name].Generate != nil && !replaced {
			report(path{"app", "secrets", name})
		}
	}
}
