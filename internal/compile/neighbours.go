package compile

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"forged.dev/forged/internal/forge"
)

// neighbours finds environments that would be in each other's way by a name
// that forged gives or uses. Each finding stands at the later environment.
func neighbours(envs []forge.Environment) []forge.Finding {
	var n neighbourhood
	for _, env := range envs {
		n.env = env
		n.flyApps()
		n.databases()
		n.projects()
		n.ports()
		n.issuers()
	}
	return n.found
}

// neighbourhood is what the environments so far have taken.
type neighbourhood struct {
	env   forge.Environment // the one that is looked at
	found []forge.Finding

	apps  []flyApp
	other map[string]string // the environment that has something, by what it is
	bound []boundPort
}

// find reports that something belongs to an environment already: to another
// one, or to the one that is looked at.
func (n *neighbourhood) find(rule, what, owner, hint string, path ...string) {
	whose := "that of environment " + owner
	if owner == n.env.Name {
		whose = "another one of this environment"
	}
	n.found = append(n.found, forge.Finding{
		Path: slices.Concat([]string{"environments", n.env.Name}, path), Rule: rule,
		Message: fmt.Sprintf("%s is already %s", what, whose), Hint: hint,
	})
}

// take records that the environment has something. It returns who has it
// already, or nothing.
func (n *neighbourhood) take(what ...string) string {
	key := strings.Join(what, "\x00")
	if owner, ok := n.other[key]; ok && owner != n.env.Name {
		return owner
	}
	if n.other == nil {
		n.other = map[string]string{}
	}
	n.other[key] = n.env.Name
	return ""
}

// flyApp is an app of Fly that an environment makes, or only names. Names are
// the same in all of Fly.
type flyApp struct {
	environment, name string
	path              []string
	made              bool
}

// flyApps are the apps of an environment, its own first.
func flyApps(env forge.Environment) []flyApp {
	switch env.Platform.Kind {
	case forge.PlatformFKS:
		return []flyApp{{environment: env.Name, name: env.Platform.Inventory, path: []string{"platform", "inventory"}, made: true}}
	case forge.PlatformFly:
	default:
		return nil
	}
	f := flyBuilder{builder: builder{env: env}}
	all := []flyApp{{name: env.Platform.AppName, path: []string{"platform", "appName"}}}
	if env.Services.Redis.Mode == forge.ModeFlyApp {
		all = append(all, flyApp{name: f.redisApp(), path: []string{"services", partRedis}})
	}
	if f.hasTemporal() {
		all = append(all, flyApp{name: f.temporalApp(), path: []string{"services", partTemporal}})
		if env.Services.Temporal.Web {
			all = append(all, flyApp{name: f.temporalWebApp(), path: []string{"services", partTemporal, "web"}})
		}
	}
	all = append(all, flyApp{name: env.Platform.Inventory, path: []string{"platform", "inventory"}})
	for i := range all {
		all[i].made = true
	}
	if postgres := env.Services.Postgres; postgres.Mode == forge.ModeFlyUnmanaged {
		all = append(all, flyApp{name: postgres.AppName, path: []string{"services", partPostgres, "appName"}})
	}
	for i := range all {
		all[i].environment = env.Name
	}
	return all
}

// flyApps may be named by several environments, and made by one.
func (n *neighbourhood) flyApps() {
	said := false
	for _, app := range flyApps(n.env) {
		if said && app.name == n.env.Platform.Inventory {
			continue // its name may be made of one that is told already
		}
		at := slices.IndexFunc(n.apps, func(other flyApp) bool { return other.name == app.name && (other.made || app.made) })
		if at >= 0 {
			n.find(ruleSameFlyApp, "the Fly app "+app.name, n.apps[at].environment, "give each environment an app of its own: write another platform.appName", app.path...)
			said = true
			continue
		}
		n.apps = append(n.apps, app)
	}
}

// databases at Fly may hold the data of several environments, but not the same
// database. Temporal's have one name everywhere.
func (n *neighbourhood) databases() {
	const hint = "give each environment data of its own"
	postgres, redis := n.env.Services.Postgres, n.env.Services.Redis
	var server []string
	switch postgres.Mode {
	case forge.ModeFlyManaged:
		server = []string{"cluster", postgres.Cluster, n.env.Platform.Org}
	case forge.ModeFlyUnmanaged:
		server = []string{"app", postgres.AppName}
	}
	if server != nil {
		what := fmt.Sprintf("database %s of %s %s", postgres.Database, server[0], server[1])
		if owner := n.take(append([]string{"database", postgres.Database}, server...)...); owner != "" {
			n.find(ruleSameDatabase, what, owner, hint, "services", partPostgres)
		} else if (builder{env: n.env}).hasTemporal() {
			what := fmt.Sprintf("Temporal's database in %s %s", server[0], server[1])
			if owner := n.take(append([]string{"temporal"}, server...)...); owner != "" {
				n.find(ruleSameDatabase, what, owner, "give one of the two another "+server[0]+" for its PostgreSQL", "services", partTemporal)
			}
		}
	}
	if redis.Mode == forge.ModeUpstash {
		if owner := n.take("upstash", n.env.Platform.Org, redis.Name); owner != "" {
			n.find(ruleSameDatabase, "database "+redis.Name, owner, hint, "services", partRedis)
		}
	}
}

// projects of Docker Compose are what it tells containers apart by.
func (n *neighbourhood) projects() {
	project := n.env.Platform.Project
	if n.env.Platform.Kind != forge.PlatformCompose {
		return
	}
	if owner := n.take("project", project); owner != "" {
		n.find(ruleSameProject, "the project "+project, owner, "give each environment a project of its own", "platform", "project")
	}
}

// boundPort is a port of this machine.
type boundPort struct {
	environment string
	port        int
	ip          net.IP
}

// ports are published once. An address that stands for all of them, of either
// family, leaves none for others.
func (n *neighbourhood) ports() {
	if n.env.Platform.Kind != forge.PlatformCompose || n.env.Expose.Kind != forge.ExposePort {
		return
	}
	here := boundPort{n.env.Name, n.env.Expose.Port, net.ParseIP(n.env.Platform.Bind)}
	at := slices.IndexFunc(n.bound, func(other boundPort) bool {
		return other.port == here.port && (other.ip.IsUnspecified() || here.ip.IsUnspecified() || other.ip.Equal(here.ip))
	})
	if at >= 0 {
		n.find(ruleSameProject, fmt.Sprintf("port %d of %s", here.port, n.env.Platform.Bind), n.bound[at].environment,
			fmt.Sprintf("publish another port, such as expose: port: %d", here.port%65535+1), "expose", "port")
		return
	}
	n.bound = append(n.bound, here)
}

// issuers that serve all namespaces of a cluster are made once.
func (n *neighbourhood) issuers() {
	issuer := n.env.Expose.TLS.Issuer
	if n.env.Expose.Kind != forge.ExposeIngress || n.env.Expose.TLS.Mode != forge.TLSCertManager || !issuer.Create || issuer.Kind != "ClusterIssuer" {
		return
	}
	for _, at := range places(n.env) {
		if owner := n.take("issuer", at.target.Kubeconfig, at.target.Context, issuer.Name); owner != "" {
			n.find(ruleObjectName, "the ClusterIssuer "+issuer.Name+" of context "+at.target.Context, owner,
				"leave create out here, or write a kind or a name of its own", "expose", "tls", "issuer")
			return
		}
	}
}
