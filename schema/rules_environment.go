package schema

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
)

func (l *loader) checkEnvironment(e *wireEnv, app *wireApp) {
	p := path{"environments", e.name}
	l.checkOverlay(p.with("app"), e, app)
	l.checkNames(p, e, app)
	l.checkExpose(p, e)
	l.checkScaling(p.with("scaling"), e.Scaling)
	l.checkWorkers(p.with("workers"), e)
	l.checkServices(p.with("services"), e)
	l.checkVolumes(p, e, app)
	l.checkRegions(p.with("regions"), e, app)
	l.checkMoved(p.with("platform", "movedFrom"), e, app)
	l.checkCharts(p, e)
	l.checkPolicy(p.with("policy"), e.Policy)
	if t := e.Platform.Token; t != nil {
		l.checkGiven(p.with("platform", "token"), *t)
	}
	switch e.Platform.Kind {
	case forge.PlatformFly:
		l.checkFly(p, e, app)
	case forge.PlatformFKS:
		l.checkFKS(p, e, app)
	}
}

func (l *loader) checkOverlay(p path, e *wireEnv, app *wireApp) {
	l.checkVariables(p, e.App.Env, e.App.Secrets)
	l.checkConfigFiles(p, e.App.ConfigFiles)
	l.checkTexts(p.with("args"), e.App.Args)
	if app == nil {
		return
	}
	if r := e.App.Resources; r != (wireResources{}) {
		l.checkLimits(p.with("resources"), wireResources(e.overlay(app.app(), "").Resources))
	}
	digest := e.App.Image.Digest
	if e.App.Image.Tag == "" && digest == "" {
		digest = app.Image.Digest
	}
	if e.Policy.Pin == "digest" && digest == "" {
		at := path{"app", "image"}
		if e.App.Image.Tag != "" {
			at = p.with("image")
		}
		l.ruleAt(at, "digest-needed", fmt.Sprintf("%s accepts images by digest only, and this one is named by a tag", e.name),
			`write digest: "sha256:..." as the registry shows it, or pin: "tag" there`)
	}
	if e.onKubernetes() {
		return
	}
	for _, from := range []struct {
		at   path
		refs map[string]wireSecret
	}{{path{"app"}, app.Secrets}, {p, e.App.Secrets}} {
		for _, name := range slices.Sorted(maps.Keys(from.refs)) {
			if from.refs[name].Kubernetes != nil {
				if _, replaced := named(nil, name, e.App.Env, e.App.Secrets); !replaced || len(from.at) > 1 {
					l.ruleAt(from.at.with("secrets", name), "secret-source",
						fmt.Sprintf("%s is on %s and has no cluster that holds a Secret", e.name, e.Platform.Kind), "name another source, there or here")
				}
			}
		}
	}
}

func (l *loader) checkNames(p path, e *wireEnv, app *wireApp) {
	if app != nil {
		if ns := e.namespace(app.Name); len(ns) > maxLabel {
			l.ruleAt(p, "namespace", fmt.Sprintf("the namespace %s would be longer than %d characters", ns, maxLabel),
				"write a shorter one at platform.namespace")
		}
		for _, name := range slices.Sorted(maps.Keys(e.Workers)) {
			if e.onKubernetes() && len(app.Name)+len("-worker-")+len(name) > maxLabel {
				l.ruleAt(p.with("workers", name), "object-name", fmt.Sprintf("%s-worker-%s would be longer than %d characters", app.Name, name, maxLabel),
					"shorten the name of the worker or of the app")
			}
		}
	}
	if ip := e.Platform.Bind; ip != "" {
		if _, err := netip.ParseAddr(ip); err != nil {
			l.rule(p.with("platform", "bind"), "value", fmt.Sprintf("%q is not an IP address", ip), `write one, such as "127.0.0.1"`)
		}
	}
	for i, cidr := range e.Platform.PodCIDRs {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			l.rule(p.with("platform", "podCIDRs", strconv.Itoa(i)), "value", fmt.Sprintf("%q is not an address range", cidr), `write one, such as "10.244.0.0/16"`)
		}
	}
	if ns := e.Platform.Namespace; strings.HasPrefix(ns, "kube-") {
		l.rule(p.with("platform", "namespace"), "namespace", fmt.Sprintf("%q is the cluster's own", ns), "choose a namespace for this app alone")
	}
}

func (l *loader) checkWorkers(p path, e *wireEnv) {
	for _, name := range slices.Sorted(maps.Keys(e.Workers)) {
		worker, at := e.Workers[name], p.with(name)
		l.checkScaling(at.with("scaling"), worker.Scaling)
		l.checkLimits(at.with("resources"), worker.Resources)
		l.between(at.with("drain"), worker.Drain, time.Second, 24*time.Hour)
		l.checkTexts(at.with("args"), worker.Args)
		l.checkTexts(at.with("health", "exec"), worker.Health.Exec)
		if e.onFly() {
			l.checkGuest(at.with("guest"), worker.Guest)
		}
	}
}

func (l *loader) checkScaling(p path, s wireScaling) {
	switch {
	case s.max() < s.min():
		l.rule(p.with("max"), "scaling", fmt.Sprintf("max %d is less than min %d", s.max(), s.min()), "")
	case s.max() > s.min() && s.CPUTarget == 0 && s.MemoryTarget == 0:
		l.ruleAt(p, "scaling", "a range needs a metric to move along it", "write cpuTarget: 75, or memoryTarget, beside min and max")
	case s.max() > s.min() && s.min() < 1:
		l.rule(p.with("min"), "scaling", "an autoscaler cannot go below 1", "write min: 1")
	case s.max() == s.min() && (s.CPUTarget != 0 || s.MemoryTarget != 0):
		l.ruleAt(p, "autoscaler-fixed", fmt.Sprintf("a target moves nothing, because min and max are both %d", s.min()), "write a larger max, or leave the target out")
	case s.Max != nil && s.max() == s.min():
		l.ruleAt(p, "autoscaler-fixed", fmt.Sprintf("nothing can move, because min and max are both %d", s.min()), "leave max out to say that the number is fixed")
	}
	l.between(p.with("scaleDownWindow"), s.ScaleDownWindow, 0, time.Hour)
}

func (l *loader) checkServices(p path, e *wireEnv) {
	pg, redis, temporal := e.Services.Postgres, e.Services.Redis, e.Services.Temporal
	at := p.with("postgres")
	l.optional(at.with("password"), pg.Password, l.checkSecret)
	l.optional(at.with("url"), pg.URL, l.checkGiven)
	l.optional(at.with("caBundle"), pg.CABundle, l.checkGiven)
	l.optional(at.with("admin"), pg.Admin, l.checkGiven)

	at = p.with("redis")
	l.optional(at.with("password"), redis.Password, l.checkSecret)
	l.optional(at.with("url"), redis.URL, l.checkGiven)
	l.optional(at.with("caBundle"), redis.CABundle, l.checkGiven)

	at = p.with("temporal")
	l.optional(at.with("password"), temporal.Password, l.checkSecret)
	l.optional(at.with("apiKey"), temporal.APIKey, l.checkGiven)
	l.optional(at.with("caBundle"), temporal.CABundle, l.checkGiven)
	l.between(at.with("retention"), temporal.Retention, 24*time.Hour, 10*365*24*time.Hour)
	if m := temporal.MTLS; m != nil {
		l.checkGiven(at.with("mtls", "cert"), m.Cert)
		l.checkGiven(at.with("mtls", "key"), m.Key)
	}
	if _, port, ok := strings.Cut(temporal.Address[strings.LastIndex(temporal.Address, "]")+1:], ":"); ok {
		if n, err := strconv.Atoi(port); err != nil || n > maxPort {
			l.rule(at.with("address"), "bound", fmt.Sprintf("a port is at most %d", maxPort), "")
		}
	}
	if b := pg.Backup; b.Enabled {
		if why := cronMistake(b.Schedule); why != "" {
			l.rule(p.with("postgres", "backup", "schedule"), "value", why, `the fields are minute, hour, day, month and weekday, such as "15 2 * * *"`)
		}
	}
	if temporal.Mode == forge.ModeCloud {
		switch key, cert := temporal.APIKey != nil, temporal.MTLS != nil; {
		case key && cert:
			l.ruleAt(at, "cloud-auth", "there are an API key and a certificate, and a client shows just one", "keep apiKey or mtls")
		case !key && !cert:
			l.ruleAt(at, "cloud-auth", "Temporal Cloud lets nobody in without an API key or a certificate", `write apiKey: env: "TEMPORAL_API_KEY"`)
		}
	}
	if temporal.Mode == forge.ModeInCluster || temporal.Mode == forge.ModeFlyApp {
		if pg.Mode == forge.ModeOff {
			l.ruleAt(at, "temporal-database", "Temporal keeps its data in PostgreSQL, and services.postgres is off", "give it a PostgreSQL, or use Temporal Cloud")
		}
	}
}

func (l *loader) optional(p path, s *wireSecret, check func(path, wireSecret)) {
	if s != nil {
		check(p, *s)
	}
}
