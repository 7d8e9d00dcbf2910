package schema

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	slashpath "path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

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

const (
	classALB = "alb" // IngressClass of the AWS Load Balancer Controller
	maxHost  = 253   // characters of a host name: RFC 1035, 2.3.4
	maxPort  = 65535
)

func (l *loader) checkExpose(p path, e *wireEnv) {
	x := e.Expose
	at := p.with("expose")
	switch needs := x.Kind == forge.ExposeIngress || x.Kind == forge.ExposeGateway; {
	case needs && len(e.Domains) == 0:
		what := "an ingress"
		if x.Kind == forge.ExposeGateway {
			what = "a route"
		}
		l.ruleAt(at, "domain-needed", what+" needs a domain: without one it takes the requests of everybody",
			`write domains: ["api.example.com"] in this environment`)
	case !needs && len(e.Domains) > 0 && (e.Platform.Kind == forge.PlatformMinikube || e.Platform.Kind == forge.PlatformKubernetes):
		l.ruleAt(p.with("domains"), "unread-key", fmt.Sprintf("domains are read only by an ingress or a gateway, and expose.kind is %q", x.Kind),
			`write expose: kind: "ingress", or leave domains out`)
	case x.Kind == forge.ExposeNone && len(e.Domains) > 0:
		l.ruleAt(p.with("domains"), "unread-key", `domains are not read, because expose.kind is "none"`, "leave domains or expose out")
	}
	for _, name := range slices.Sorted(maps.Keys(x.Annotations)) {
		l.checkText(at.with("annotations", name), name, x.Annotations[name])
	}
	tls := at.with("tls")
	l.between(tls.with("validity"), x.TLS.Validity, 24*time.Hour, 10*365*24*time.Hour)
	if x.TLS.Mode == forge.TLSSecret {
		switch {
		case x.TLS.Name != "" && x.TLS.SecretName != "":
			l.ruleAt(tls.with("name"), "set-twice", "it is the old name of secretName, which is written too", "leave name out")
		case x.TLS.Name != "":
			l.ruleAt(tls.with("name"), "deprecated-key", "it is called secretName now", "write secretName")
		case x.TLS.SecretName == "":
			l.ruleAt(tls, "missing-key", "secretName has to be written", "Secret of type kubernetes.io/tls in the same namespace.")
		}
	}
	if x.Kind == forge.ExposeIngress && x.ClassName == classALB && (x.TLS.Mode == forge.TLSSecret || x.TLS.Mode == forge.TLSCertManager) {
		l.rule(tls.with("mode"), "tls-class", "a load balancer of AWS reads certificates from AWS Certificate Manager only", `write mode: "acm", or className: "nginx" where that controller runs`)
	}
	if x.Kind == forge.ExposeIngress && x.RedirectHTTP != nil && *x.RedirectHTTP && x.TLS.Mode == forge.TLSNone {
		l.rule(at.with("redirectHTTP"), "redirect", "there is no HTTPS to send requests to, because tls.mode is none", "choose a tls.mode, or leave redirectHTTP out")
	}
	for i, d := range e.Domains {
		where := p.with("domains", strconv.Itoa(i))
		switch {
		case len(d) > maxHost:
			l.rule(where, "bound", fmt.Sprintf("a host name has at most %d characters", maxHost), "")
		case slices.Contains(e.Domains[:i], d):
			l.rule(where, "same-domain", d+" is there twice", "leave it out")
		}
		if !strings.HasPrefix(d, "*.") {
			continue
		}
		why := ""
		switch {
		case x.TLS.Mode == forge.TLSGKEManaged:
			why = "certificates that Google manages have no wildcards"
		case x.TLS.Issuer.Create != nil:
			why = "the issuer that forged makes proves a name over HTTP, which no wildcard has"
		}
		if why != "" {
			l.rule(where, "tls-domain", why, "name each host, or bring a certificate of your own")
		}
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
			l.ruleAt(at, "volume-shared", fmt.Sprintf("up to %d replicas would mount it, and it can be mounted on one node only", n),
				`write access: "ReadWriteMany" with a storageClass that has it, or one replica`)
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

func regionNames(e *wireEnv) string {
	return strings.ReplaceAll(quoted(slices.Sorted(maps.Keys(e.Regions))), `"`, "")
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
	for _, service := range []string{"postgres", "redis", "temporal"} {
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

// Things of an environment that others may need.
const (
	needApp = "app"
)

var needServices = []string{"postgres", "redis", "temporal"}

func (l *loader) checkCharts(p path, e *wireEnv) {
	edges := map[string][]string{}
	places := map[[2]string]path{}
	check := func(of string, at path, needs []string) {
		for i, need := range needs {
			known := need == needApp || e.Charts[need].Kind != "" || slices.Contains(needServices, need) && e.mode(need) != forge.ModeOff
			where := at.with("needs", strconv.Itoa(i))
			if !known {
				words := append([]string{needApp}, slices.Sorted(maps.Keys(e.Charts))...)
				for _, s := range needServices {
					if e.mode(s) != forge.ModeOff {
						words = append(words, s)
					}
				}
				hint := didYouMean(need, words)
				if hint == "" {
					hint = "there are " + strings.Join(words, ", ")
				}
				if slices.Contains(needServices, need) {
					hint = fmt.Sprintf("services.%s is off", need)
				}
				l.rule(where, "unknown-need", fmt.Sprintf("%s has no %q", e.name, need), hint)
				continue
			}
			edges[of] = append(edges[of], need)
			places[[2]string{of, need}] = where
		}
	}
	check(needApp, p.with("app"), e.App.Needs)
	if c := e.App.Chart; c != nil {
		l.checkChart(p.with("app", "chart"), *c)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Charts)) {
		c, at := e.Charts[name], p.with("charts", name)
		if name == needApp || slices.Contains(needServices, name) {
			l.ruleAt(at, "name", fmt.Sprintf("%q is the name of something that forged makes itself", name), "choose another name")
			continue
		}
		l.checkChart(at, c.wireChart)
		check(name, at, c.Needs)
	}
	for _, service := range needServices {
		// The app needs its services without saying so.
		if e.mode(service) != forge.ModeOff {
			edges[needApp] = append(edges[needApp], service)
		}
	}
	for _, cycle := range cycles(edges) {
		last := len(cycle) - 1
		for i := range cycle {
			from, to := cycle[i], cycle[(i+1)%len(cycle)]
			if at, ok := places[[2]string{from, to}]; ok && i <= last {
				l.rule(at, "need-cycle", "everything here waits for something else: "+strings.Join(append(slices.Clone(cycle[i:]), append(slices.Clone(cycle[:i]), from)...), " needs "), "leave one of the needs out")
				break
			}
		}
	}
}

// cycles returns one cycle for each group of nodes that need each other, each
// beginning with its smallest name.
func cycles(edges map[string][]string) [][]string {
	var found [][]string
	done := map[string]bool{}
	var visit func(node string, stack []string)
	visit = func(node string, stack []string) {
		if i := slices.Index(stack, node); i >= 0 {
			cycle := slices.Clone(stack[i:])
			least := slices.Index(cycle, slices.Min(cycle))
			found = append(found, append(cycle[least:], cycle[:least]...))
			return
		}
		if done[node] {
			return
		}
		done[node] = true
		for _, next := range edges[node] {
			visit(next, append(stack, node))
		}
	}
	for _, node := range slices.Sorted(maps.Keys(edges)) {
		visit(node, nil)
	}
	return found
}

func (l *loader) checkChart(p path, c wireChart) {
	if c.Version != "" {
		if _, err := semver.NewConstraint(c.Version); err != nil {
			l.rule(p.with("version"), "chart-source", fmt.Sprintf("%q is neither a version nor a constraint", c.Version), `write one, such as "1.4.2" or "^1.4"`)
		}
	}
	l.checkValues(p.with("values"), c.Values)
	l.optional(p.with("username"), c.Username, l.checkGiven)
	l.optional(p.with("password"), c.Password, l.checkGiven)
}

// checkValues warns of what looks like a secret in the values of a chart.
func (l *loader) checkValues(p path, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			l.checkValues(p.with(name), v[name])
		}
	case []any:
		for i, x := range v {
			l.checkValues(p.with(strconv.Itoa(i)), x)
		}
	case string:
		l.checkSecretLike(p, p[len(p)-1], v)
	}
}
