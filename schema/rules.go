package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
)

// maxLabel is the most characters a namespace or the value of a label may
// have in Kubernetes.
const maxLabel = 63

// check reports what two places of a forge do to each other. It runs on the
// parts that are valid by themselves.
func (l *loader) check(w wire) {
	if v := l.whole.LookupPath(selectors(l.whole, path{"environments"})); len(l.diags) == 0 && len(fields(v)) == 0 {
		l.rule(path{"environments"}, "no-environment", "there is no environment",
			`write one, such as environments: dev: platform: kind: "minikube"`)
	}
	if w.app != nil {
		l.checkApp(w)
	}
	for i := range w.envs {
		l.checkEnvironment(&w.envs[i], w.app)
	}
	l.checkNeighbours(w)
}

// rule reports a broken rule at a value.
func (l *loader) rule(p path, rule, message, hint string) {
	l.add(p, l.pos(p, false), rule, message, hint)
}

// ruleAt reports a broken rule at the name of a field.
func (l *loader) ruleAt(p path, rule, message, hint string) {
	l.add(p, l.pos(p, true), rule, message, hint)
}

func (l *loader) checkApp(w wire) {
	app := path{"app"}
	l.checkVariables(app, w.app.Env, w.app.Secrets)
	l.checkLimits(app.with("resources"), w.app.Resources)
	h := app.with("health")
	l.between(h.with("startup"), w.app.Health.Startup, time.Second, time.Hour)
	l.between(h.with("interval"), w.app.Health.Interval, time.Second, time.Hour)
	l.between(h.with("timeout"), w.app.Health.Timeout, time.Second, time.Hour)

	if w.app.Image.Tag == "" && w.app.Image.Digest == "" {
		var loose []string
		for _, e := range w.envs {
			if e.App.Image.Tag == "" && e.App.Image.Digest == "" {
				loose = append(loose, e.name)
			}
		}
		if len(loose) > 0 {
			l.ruleAt(app.with("image"), "image-not-pinned",
				fmt.Sprintf("the image has neither tag nor digest, and environment %s adds none", strings.Join(loose, ", ")),
				`write a tag, such as "1.4.2", or a digest, here or in each environment`)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(injected)) {
		for _, e := range w.envs {
			p, ok := named(app, name, w.app.Env, w.app.Secrets)
			if ok && e.runs(injected[name]) {
				l.injectedRule(p, name, e.name)
				break
			}
		}
	}
}

func (l *loader) checkEnvironment(e *wireEnv, app *wireApp) {
	p := path{"environments", e.name}
	l.checkVariables(p.with("app"), e.App.Env, e.App.Secrets)
	for _, name := range slices.Sorted(maps.Keys(injected)) {
		if at, ok := named(p.with("app"), name, e.App.Env, e.App.Secrets); ok && e.runs(injected[name]) {
			l.injectedRule(at, name, e.name)
		}
	}
	if app != nil {
		if r := e.App.Resources; r != (wireResources{}) {
			l.checkLimits(p.with("app", "resources"), wireResources(e.overlay(app.app()).Resources))
		}
		if ns := e.namespace(app.Name); len(ns) > maxLabel {
			l.ruleAt(p, "namespace", fmt.Sprintf("the namespace %s would be longer than %d characters", ns, maxLabel),
				"write a shorter one at platform.namespace")
		}
	}
	if ns := e.Platform.Namespace; strings.HasPrefix(ns, "kube-") {
		l.rule(p.with("platform", "namespace"), "namespace", fmt.Sprintf("%q is the cluster's own", ns), "choose a namespace for this app alone")
	}
	l.checkExpose(p, e)
	l.checkScaling(p.with("scaling"), e.Scaling)
	for _, name := range slices.Sorted(maps.Keys(e.Workers)) {
		worker, at := e.Workers[name], p.with("workers", name)
		if app != nil && len(app.Name)+len("-worker-")+len(name) > maxLabel {
			l.ruleAt(at, "object-name", fmt.Sprintf("%s-worker-%s would be longer than %d characters", app.Name, name, maxLabel),
				"shorten the name of the worker or of the app")
		}
		l.checkScaling(at.with("scaling"), worker.Scaling)
		l.checkLimits(at.with("resources"), worker.Resources)
		l.between(at.with("drain"), worker.Drain, time.Second, 24*time.Hour)
	}
	for service, s := range map[string]*wireSecret{"postgres": e.Services.Postgres.Password, "redis": e.Services.Redis.Password} {
		if s != nil {
			l.checkSecret(p.with("services", service, "password"), *s)
		}
	}
	l.between(p.with("policy", "interval"), e.Policy.Interval, 10*time.Second, 24*time.Hour)
	l.between(p.with("policy", "timeout"), e.Policy.Timeout, 10*time.Second, 24*time.Hour)
}

func (l *loader) checkExpose(p path, e *wireEnv) {
	switch {
	case e.Expose.Kind == forge.ExposeIngress && len(e.Domains) == 0:
		l.ruleAt(p.with("expose"), "ingress-without-domain", "an ingress needs a domain: without one it takes the requests of everybody",
			`write domains: ["api.example.com"] in this environment`)
	case e.Expose.Kind != forge.ExposeIngress && len(e.Domains) > 0:
		l.ruleAt(p.with("domains"), "unread-key", fmt.Sprintf("domains are read only by an ingress, and expose.kind is %q", e.Expose.Kind),
			`write expose: kind: "ingress", or leave domains out`)
	}
}

// checkVariables looks at names that are set twice, or not by the user.
func (l *loader) checkVariables(p path, env map[string]string, refs map[string]wireSecret) {
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		at := p.with("secrets", name)
		l.checkSecret(at, refs[name])
		if _, ok := env[name]; ok {
			l.ruleAt(at, "set-twice", fmt.Sprintf("%s is also set by %s", name, p.with("env", name)), "keep one of the two")
		}
		l.checkPrefix(at, name)
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		l.checkPrefix(p.with("env", name), name)
	}
}

// checkPrefix refuses names that beat others inside the app, so that what
// forged sets would not be what the app uses.
func (l *loader) checkPrefix(at path, name string) {
	for _, prefix := range []string{"PRODUCTION_", "DEVELOPMENT_"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			l.ruleAt(at, "prefix", fmt.Sprintf("%s… is not accepted: apps let such names override the plain ones", prefix),
				fmt.Sprintf("write %s, in each environment where it differs", rest))
		}
	}
}

func (l *loader) checkSecret(p path, s wireSecret) {
	n := 0
	for _, set := range []bool{s.Env != "", s.File != "", s.Generate != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		l.ruleAt(p, "secret-source", fmt.Sprintf("a secret has one source, and this one has %s", []string{"none", "", "two", "three"}[n]),
			`write {env: "NAME"}, {file: "path"} or {generate: {}}`)
	}
}

// injected are the variables that forged sets, by the service they lead to.
var injected = map[string]string{
	"DATABASE_URL": "postgres", "APP_DB": "postgres", "APP_DB_USER": "postgres", "REDIS_URL": "redis",
}

func (e *wireEnv) runs(service string) bool {
	mode := e.Services.Postgres.Mode
	if service == "redis" {
		mode = e.Services.Redis.Mode
	}
	return mode == forge.ModeInCluster
}

func named(p path, name string, env map[string]string, refs map[string]wireSecret) (path, bool) {
	if _, ok := env[name]; ok {
		return p.with("env", name), true
	}
	_, ok := refs[name]
	return p.with("secrets", name), ok
}

func (l *loader) injectedRule(p path, name, env string) {
	service := injected[name]
	l.ruleAt(p, "injected", fmt.Sprintf("forged sets %s, because services.%s of %s is in-cluster", name, service, env),
		fmt.Sprintf(`leave it out, or write services: %s: mode: "off" there`, service))
}

func (l *loader) checkScaling(p path, s wireScaling) {
	switch {
	case s.max() < s.Min:
		l.rule(p.with("max"), "scaling", fmt.Sprintf("max %d is less than min %d", s.max(), s.Min), "")
	case s.max() > s.Min && s.CPUTarget == 0 && s.MemoryTarget == 0:
		l.ruleAt(p, "scaling", "a range needs a metric to move along it", "write cpuTarget: 75, or memoryTarget, beside min and max")
	case s.max() == s.Min && (s.CPUTarget != 0 || s.MemoryTarget != 0):
		l.ruleAt(p, "scaling", "a target is read only when max is more than min", "write max, or leave the target out")
	}
	l.between(p.with("scaleDownWindow"), s.ScaleDownWindow, 0, time.Hour)
}

// checkLimits compares what is promised with what is allowed.
func (l *loader) checkLimits(p path, r wireResources) {
	for _, x := range []struct{ key, request, limit string }{
		{"memory", r.Memory, r.MemoryLimit},
		{"cpu", r.CPU, r.CPULimit},
	} {
		if x.limit != "" && quantity(x.limit) < quantity(x.request) {
			l.rule(p.with(x.key+"Limit"), "limit", fmt.Sprintf("the limit %s is less than the request %s", x.limit, x.request),
				fmt.Sprintf("raise %sLimit, or lower %s", x.key, x.key))
		}
	}
}

// quantity is the amount of a Kubernetes quantity, exact enough to compare.
func quantity(s string) float64 {
	digits := strings.TrimRight(s, "kKMGTim")
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		panic("quantity " + s + ": " + err.Error())
	}
	return n * map[string]float64{
		"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
		"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
	}[s[len(digits):]]
}

// between checks a duration that the schema has let through.
func (l *loader) between(p path, s string, least, most time.Duration) {
	switch d := duration(s); {
	case d < least:
		l.rule(p, "bound", fmt.Sprintf("%s is less than %s", s, short(least)), "")
	case d > most:
		l.rule(p, "bound", fmt.Sprintf("%s is more than %s", s, short(most)), "")
	}
}

// short is a duration as people write it: 1h, not 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// checkNeighbours looks at environments that would get in each other's way.
func (l *loader) checkNeighbours(w wire) {
	type cluster struct{ kubeconfig, context string }
	type namespace struct {
		cluster
		name string
	}
	type domain struct {
		cluster
		name string
	}
	namespaces, domains := map[namespace]string{}, map[domain]string{}
	for i := range w.envs {
		e := &w.envs[i]
		p := path{"environments", e.name}
		c := cluster{e.kubeconfig(l.src.Dir), e.Platform.Context}
		if w.app != nil {
			ns := namespace{c, e.namespace(w.app.Name)}
			if other, ok := namespaces[ns]; ok {
				at := p.with("platform", "namespace")
				if e.Platform.Namespace == "" {
					at = p.with("platform")
				}
				l.ruleAt(at, "same-namespace", fmt.Sprintf("namespace %s of context %s is already that of environment %s", ns.name, c.context, other),
					"give each environment a namespace of its own")
			}
			namespaces[ns] = e.name
		}
		for i, name := range e.Domains {
			d := domain{c, name}
			if other, ok := domains[d]; ok {
				l.rule(p.with("domains", strconv.Itoa(i)), "same-domain",
					fmt.Sprintf("%s is already a domain of environment %s on the same cluster", name, other), "")
			}
			domains[d] = e.name
		}
	}
}
