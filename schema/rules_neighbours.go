package schema

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"forged.dev/forged/internal/forge"
)

// taken tells which environment has something already.
type taken map[string]string

// by records that an environment has something, and returns who has it
// already.
func (t taken) by(environment string, what ...string) (other string, ok bool) {
	key := strings.Join(what, "\x00")
	if other, ok = t[key]; !ok {
		t[key] = environment
	}
	return other, ok && other != environment
}

// checkNeighbours looks at environments that would get in each other's way by
// what is written. Names that forged gives are compared where it gives them.
func (l *loader) checkNeighbours(w wire) {
	if w.app == nil {
		return
	}
	namespaces, domains, databases, clusters := taken{}, taken{}, taken{}, taken{}
	for i := range w.envs {
		e := &w.envs[i]
		p := path{"environments", e.name}
		for _, at := range e.clusters(w.app.Name, l.src.Dir) {
			if other, ok := namespaces.by(e.name, at.cluster, at.namespace); ok {
				where := p.with(at.where...)
				l.ruleAt(where, "same-namespace", fmt.Sprintf("namespace %s of %s is already that of environment %s", at.namespace, at.name, other),
					"give each environment a namespace of its own")
			}
			for j, name := range at.domains {
				if other, ok := domains.by(e.name, at.cluster, name); ok {
					l.rule(p.with(at.named...).with(strconv.Itoa(j)), "same-domain",
						fmt.Sprintf("%s is already a domain of environment %s on the same cluster", name, other), "")
				}
			}
		}
		if fks := e.Platform; fks.Kind == forge.PlatformFKS && fks.Create {
			if other, ok := clusters.by(e.name, fks.Org, fks.Cluster); ok {
				l.rule(p.with("platform", "create"), "fks-create", fmt.Sprintf("environment %s makes cluster %s of organization %s already", other, fks.Cluster, fks.Org),
					"let one environment make it, and the others use it: write create: false")
			}
		}
		if e.onFly() {
			for j, name := range e.Domains {
				if other, ok := domains.by(e.name, forge.PlatformFly, name); ok {
					l.rule(p.with("domains", strconv.Itoa(j)), "same-domain", fmt.Sprintf("%s is already a domain of environment %s at Fly", name, other), "")
				}
			}
		}
		l.checkDatabases(p.with("services"), e, databases)
	}
}

// placeOf is a namespace that an environment lives in.
type placeOf struct {
	cluster, name, namespace string
	where                    path // in the environment
	domains                  []string
	named                    path // where they are written
}

func (e *wireEnv) clusters(app, dir string) []placeOf {
	if !e.onKubernetes() {
		return nil
	}
	cluster := func(kubeconfig, context string) string { return beside(dir, kubeconfig) + "\x00" + context }
	if e.Platform.Kind == forge.PlatformFKS && e.Platform.Kubeconfig == "" {
		return []placeOf{{
			"fks\x00" + e.Platform.Org + "\x00" + e.Platform.Cluster, "cluster " + e.Platform.Cluster,
			e.namespace(app), e.namespacePath(), e.Domains,
			path{"domains"},
		}}
	}
	if len(e.Regions) == 0 {
		return []placeOf{{
			cluster(e.Platform.Kubeconfig, e.Platform.Context), "context " + e.Platform.Context,
			e.namespace(app), e.namespacePath(), e.Domains,
			path{"domains"},
		}}
	}
	var all []placeOf
	for _, name := range slices.Sorted(maps.Keys(e.Regions)) {
		r := e.Regions[name]
		domains, named := e.Domains, path{"domains"}
		if r.Domains != nil {
			domains, named = r.Domains, path{"regions", name, "domains"}
		}
		all = append(all, placeOf{
			cluster(cmp.Or(r.Kubeconfig, e.Platform.Kubeconfig), r.Context), "context " + r.Context,
			cmp.Or(r.Namespace, e.namespace(app)),
			path{"regions", name},
			domains, named,
		})
	}
	return all
}

func (e *wireEnv) namespacePath() path {
	if e.Platform.Namespace == "" {
		return path{"platform"}
	}
	return path{"platform", "namespace"}
}

// checkDatabases looks for data of somebody else that two environments would
// write.
func (l *loader) checkDatabases(p path, e *wireEnv, databases taken) {
	report := func(at path, what, other string) {
		l.ruleAt(at, "same-database", fmt.Sprintf("%s is already that of environment %s", what, other), "give each environment data of its own")
	}
	if pg := e.Services.Postgres; pg.Mode == forge.ModeExternal {
		if other, ok := databases.by(e.name, "postgres", e.reference(pg.URL)); ok {
			report(p.with("postgres", "url"), "the database at this URL", other)
		}
	}
	if redis := e.Services.Redis; redis.Mode == forge.ModeExternal {
		if other, ok := databases.by(e.name, "redis", e.reference(redis.URL)); ok {
			report(p.with("redis", "url"), "the database at this URL", other)
		}
	}
	if t := e.Services.Temporal; t.Mode == forge.ModeCloud || t.Mode == forge.ModeExternal {
		if other, ok := databases.by(e.name, "temporal", t.Address, t.Namespace); ok {
			report(p.with("temporal"), "namespace "+t.Namespace+" of "+t.Address, other)
		}
	}
}

// reference is a text that is the same for references to the same value.
func (e *wireEnv) reference(s *wireSecret) string {
	ref := s.ref()
	where := ""
	if k := ref.Kubernetes; k != nil {
		where = e.Platform.Kubeconfig + "\x00" + e.Platform.Context
		if k.Namespace == "" {
			where += "\x00" + e.name
		}
	}
	b, err := json.Marshal(ref)
	if err != nil {
		panic(err) // plain strings
	}
	return where + "\x00" + string(b)
}

func (l *loader) checkNotifications(w wire) {
	var names []string
	for _, e := range w.envs {
		names = append(names, e.name)
	}
	for _, name := range slices.Sorted(maps.Keys(w.notifications)) {
		n, at := w.notifications[name], path{"notifications", name}
		l.checkGiven(at.with("url"), n.URL)
		for i, env := range n.Environments {
			if p := (path{"environments", env}); !slices.Contains(names, env) && !l.written(p) {
				hint := didYouMean(env, names)
				if hint == "" {
					hint = "there are " + strings.Join(names, ", ")
				}
				l.rule(at.with("environments", strconv.Itoa(i)), "unknown-environment", fmt.Sprintf("there is no environment %q", env), hint)
			}
		}
	}
}
