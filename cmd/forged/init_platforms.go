package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
)

// write writes one environment. What is not plain is explained, once.
func (e *draftEnv) write(p *page, app string) {
	name := e.name
	if !ast.IsValidIdent(name) {
		name = fmt.Sprintf("%q", name)
	}
	p.why(map[string]string{
		"compose":    "Docker Compose on this machine. forged acts at once here, because nobody else is hurt: policy.mode is \"apply\" by default.",
		"minikube":   "A cluster on this machine. forged acts at once here, because nobody else is hurt: policy.mode is \"apply\" by default.",
		"kubernetes": "A cluster that others use too.",
		"fks":        "Fly Kubernetes.",
		"fly":        "Fly Machines.",
	}[e.kind])
	p.add("%s: {", name)
	e.platform(p, app)
	switch e.kind {
	case "compose":
		p.why("The port of this machine that leads to the app.")
		p.add("expose: {kind: \"port\", port: %d}\n", e.port)
	case "minikube":
		p.why(fmt.Sprintf("http://%s: run minikube addons enable ingress, and put the name into /etc/hosts beside the address that minikube ip prints.", e.domains[0]))
		p.add("%s\nexpose: kind: \"ingress\"\n", e.domainList())
	case "kubernetes":
		e.expose(p)
		p.why("Two replicas at least, four under load; they come when the CPU is busier than 75 percent of what a replica is promised.")
		p.add("scaling: {min: 2, max: 4, cpuTarget: 75}\n")
	default:
		if len(e.domains) == 0 {
			p.why("With a name of your own, Fly makes the certificate:", `domains: ["api.example.com"]`)
		} else {
			p.why("Fly makes the certificate once the name leads there.")
			p.add("%s\n", e.domainList())
		}
	}
	e.services(p, app)
	if e.public() {
		p.why("forged only looks and reports. Write \"apply\" when forged plan shows what you want: what others use is changed only by whoever has typed that word.")
		p.add("policy: mode: \"observe\"")
	}
	p.add("}")
}

// platform writes where an environment runs.
func (e *draftEnv) platform(p *page, app string) {
	if e.kind == "compose" {
		p.add("platform: kind: \"compose\"\n")
		return
	}
	p.add("platform: {\nkind: %q", e.kind)
	switch e.kind {
	case "minikube", "kubernetes":
		if e.distribution != "" {
			p.why("Whose Kubernetes it is decides how the app can be exposed.")
			p.add("distribution: %q", e.distribution)
		}
		p.why("The context of the kubeconfig; kubectl config get-contexts lists yours. The current one is never used, because it moves under a daemon's feet.")
		p.add("context: %q\n}\n", cmp.Or(e.context, map[string]string{"minikube": "minikube"}[e.kind], e.name))
	case "fks":
		p.add("org: %q", e.org)
		p.why("Name of the cluster in the organization. It must be there; with create: true forged makes it, and it costs money.")
		p.add("cluster: %q\nregion: %q", app+"-"+e.name, e.region)
		p.why("Fly calls it a closed beta that is not for critical production. This line says that you know.")
		p.add("acknowledgeClosedBeta: true\n}\n")
	case "fly":
		p.why("forged acts with the token in FLY_API_TOKEN; fly tokens create org makes one.")
		p.add("org: %q", e.org)
		p.why("The size of one machine.")
		p.add("guest: {cpus: 1, memoryMB: 1024}\n}\n")
		p.why("Where machines run, and how many. With several regions one is the primary: that of databases and migrations.")
		p.add("regions: %s: machines: 2\n", e.region)
	}
}

// expose is the way in on a cluster that others use too.
func (e *draftEnv) expose(p *page) {
	tls, why := `{mode: "cert-manager", issuer: name: "letsencrypt-prod"}`,
		"cert-manager, which must run in the cluster, has the certificate signed by this issuer; with create: email: \"you@example.com\" in issuer, forged makes the issuer too."
	switch e.distribution {
	case "eks":
		tls = fmt.Sprintf(`{mode: "acm", arn: %q}`, placeholderARN)
		why = "a load balancer of AWS reads its certificate from AWS Certificate Manager, in its own region. This ARN is a placeholder: write yours; aws acm list-certificates lists them."
	case "gke":
		tls, why = `{mode: "gke-managed"}`, "Google makes the certificate once the name leads there."
	}
	if len(e.domains) == 0 {
		p.why("Nothing leads in from outside yet. With a name of your own:",
			`domains: ["api.example.com"]`, fmt.Sprintf(`expose: {kind: "ingress", tls: %s}`, tls))
		return
	}
	p.why("An Ingress with HTTPS: " + why)
	p.add("%s\nexpose: {\nkind: \"ingress\"\ntls: %s\n}\n", e.domainList(), tls)
}

// placeholderARN is nobody's certificate: the account is the one of AWS's own
// examples.
const placeholderARN = "arn:aws:acm:eu-central-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"

// placeholders are what the forge says that cannot be true yet.
func (d *draft) placeholders() []string {
	var all []string
	for _, e := range d.envs {
		if e.distribution == "eks" && len(e.domains) > 0 {
			all = append(all, fmt.Sprintf("environments.%s.expose.tls.arn is a placeholder: aws acm list-certificates lists yours", e.name))
		}
	}
	return all
}

// domainList are the host names as the forge has them.
func (e *draftEnv) domainList() string {
	var all []string
	for _, domain := range e.domains {
		all = append(all, strconv.Quote(domain))
	}
	return "domains: [" + strings.Join(all, ", ") + "]"
}

// services are the backing services: those that were asked for, and those that
// the platform has by default, so that they can be seen.
func (e *draftEnv) services(p *page, app string) {
	p.why("Backing services. The app finds the way to them in DATABASE_URL and REDIS_URL; mode: \"off\" is for an app that needs none.")
	p.add("services: {")
	for _, service := range services {
		mode, asked := e.modes[service]
		if !asked {
			if service == "temporal" {
				continue // nobody has one by default
			}
			mode = e.usual(service)
		}
		e.service(p, service, mode, app)
	}
	p.add("}")
	if e.public() {
		p.add("")
	}
}

// usual is the mode of a service that nobody asked about.
func (e *draftEnv) usual(service string) string {
	return e.can(service)[0]
}

// service writes a service with what its mode needs.
func (e *draftEnv) service(p *page, service, mode, app string) {
	variable := envName(e.name) + "_" + map[string]string{"postgres": "DATABASE_URL", "redis": "REDIS_URL"}[service]
	if e.kind == "compose" && mode == "in-cluster" {
		p.add("%s: mode: %q", service, mode) // its data is in a directory, which has no size
		return
	}
	switch service + " " + mode {
	case "postgres in-cluster":
		p.add("postgres: {\nmode: \"in-cluster\"")
		p.why("Its volume can grow later, and never shrink.")
		p.add("storage: \"20Gi\"\n}")
	case "redis in-cluster":
		p.add("redis: {\nmode: \"in-cluster\"\nstorage: \"5Gi\"\n}")
	case "postgres external", "redis external":
		p.add("%s: {\nmode: \"external\"", service)
		p.why("The whole URL with its password, from the environment of forged.")
		p.add("url: env: %q\n}", variable)
	case "postgres fly-managed":
		p.add("postgres: {\nmode: \"fly-managed\"")
		p.why("It must be there; with create: true forged buys it.")
		p.add("cluster: %q\n}", app+"-"+e.name+"-db")
	case "postgres fly-unmanaged":
		p.add("postgres: {\nmode: \"fly-unmanaged\"")
		p.why("The Fly app that runs it.")
		p.add("appName: %q\n}", app+"-"+e.name+"-db")
	case "redis upstash":
		p.add("redis: {\nmode: \"upstash\"")
		p.why("It must be there; with create: true forged buys it.")
		p.add("name: %q\n}", app+"-"+e.name+"-redis")
	case "temporal in-cluster", "temporal fly-app":
		p.add("temporal: {\nmode: %q", mode)
		p.why("Fixed for ever with the first start.")
		p.add("historyShards: 512\n}")
	case "temporal cloud":
		p.add("temporal: {\nmode: \"cloud\"\naddress: \"%s.a1b2c.tmprl.cloud:7233\"\nnamespace: \"%s.a1b2c\"", app, app)
		p.why("The key, from the environment of forged.")
		p.add("apiKey: env: \"TEMPORAL_API_KEY\"\n}")
	case "temporal external":
		p.add("temporal: {\nmode: \"external\"\naddress: \"temporal.example.com:7233\"\n}")
	default:
		p.add("%s: mode: %q", service, mode)
	}
}

// envName is the name of an environment as variables have it.
func envName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }
