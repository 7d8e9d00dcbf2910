package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/certificates"
	"forged.dev/forged/internal/providers/endpoint"
	"forged.dev/forged/internal/providers/external"
	"forged.dev/forged/internal/providers/fks"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/flypostgres"
	"forged.dev/forged/internal/providers/helm"
	"forged.dev/forged/internal/providers/helm/chartsource"
	"forged.dev/forged/internal/providers/helm/render"
	"forged.dev/forged/internal/providers/jobs"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/providers/minikube"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/providers/upstash"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/server"
)

// world is everything that acts: the clusters, and the engine with all its
// providers.
type world struct {
	clusters  *kubernetes.Clusters
	fly       *fly.Accounts
	onFly     *fks.Provider
	secrets   *secret.Resolver
	charts    *chartsource.Source
	templates *render.Child
	leases    reconcile.Leases
	releases  *helm.Provider
	engine    *reconcile.Engine
}

var instanceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// worldOptions say what a world is made of.
type worldOptions struct {
	dir      string // where relative paths of the forge start
	instance string
	log      *slog.Logger
	metrics  *server.Metrics // may be nil
	grace    time.Duration   // to finish what is under way when stopping
	approved []string        // tokens of steps that may destroy data
	flyHTTP  *http.Client    // nil: a new one
}

// newWorld connects to nothing; clusters are connected at first use. Close it.
func newWorld(o worldOptions) (*world, error) {
	if !instanceName.MatchString(o.instance) {
		return nil, fmt.Errorf("the instance %q is not a name: want at most 63 of a-z, 0-9 and -, with none of the last at an end", o.instance)
	}
	options := reconcile.Options{Logger: o.log, Grace: stepGrace(o.grace), Approved: o.approved}
	clusters := kubernetes.Options{Instance: o.instance, Logger: o.log}
	if o.metrics != nil {
		options.Observer = o.metrics
		clusters.OnRequest = func(target forge.Target, verb string, code int) {
			o.metrics.Request(target.String(), verb, code)
		}
		clusters.OnVerified = func(target forge.Target, objects, surprises int) {
			o.metrics.Verified(target.String(), objects, surprises)
		}
	}
	organizations := fly.Options{
		Instance: o.instance, Resolver: &secret.Resolver{Dir: o.dir}, Endpoints: flyEndpoints(os.Getenv), HTTP: o.flyHTTP, Logger: o.log,
	}
	if o.metrics != nil {
		organizations.OnRequest = func(org, action string, status int, _ time.Duration) { o.metrics.Request(org, action, status) }
	}
	accounts := fly.NewAccounts(organizations)
	onFly := fks.New(accounts)
	clusters.Ways = onFly
	secrets := &secret.Resolver{Dir: o.dir}
	w := &world{
		clusters:  kubernetes.NewClusters(clusters),
		fly:       accounts,
		onFly:     onFly,
		secrets:   secrets,
		charts:    chartsource.New(chartsource.Options{CacheDir: chartsDir(), Logger: o.log}),
		templates: newTemplates(),
	}
	build := buildInfo()
	fitter := fks.NewFitter(build.Version + " " + build.Revision)
	exposure := certificates.New(certificates.Options{Clusters: w.clusters})
	w.releases = helm.New(helm.Options{Clusters: w.clusters, Charts: w.charts, Secret: secrets.Resolve, Apart: w.templates, Fitter: fitter, Logger: o.log})
	options.Providers = map[string]reconcile.Provider{
		forge.KindNamespace:   kubernetes.NewNamespaces(w.clusters),
		forge.KindSecrets:     kubernetes.NewSecrets(w.clusters, &secret.Resolver{Dir: o.dir}),
		forge.KindConfig:      objects.NewConfig(w.clusters, o.dir),
		forge.KindClaim:       objects.NewClaims(w.clusters),
		forge.KindJob:         jobs.New(jobs.Options{Clusters: w.clusters, Fitter: fitter}),
		forge.KindCertificate: exposure.Certificates,
		forge.KindIssuer:      exposure.Issuers,
		forge.KindDNS:         exposure.DNS,
		forge.KindEndpoint:    endpoint.New(endpoint.Options{Clusters: w.clusters}),
		forge.KindRoles:       external.NewRoles(w.clusters, &secret.Resolver{Dir: o.dir}, o.instance),
		forge.KindImage:       minikube.NewImages(),
		forge.KindCheck:       external.NewChecks(w.clusters, &secret.Resolver{Dir: o.dir}),
		forge.KindProbe:       external.NewProbes(w.clusters, ownImage(os.Getenv)),
		forge.KindRelease:     w.releases,

		forge.KindFlyApp:         fly.NewApps(w.fly),
		forge.KindFlyIPs:         fly.NewIPs(w.fly),
		forge.KindFlySecrets:     fly.NewSecrets(w.fly, &secret.Resolver{Dir: o.dir}),
		forge.KindFlyVolume:      fly.NewVolumes(w.fly),
		forge.KindFlyCertificate: fly.NewCertificates(w.fly, &secret.Resolver{Dir: o.dir}),
		forge.KindFlyPostgres:    flypostgres.NewManaged(w.fly),
		forge.KindFlyPostgresApp: flypostgres.NewApp(w.fly),
		forge.KindUpstashRedis:   upstash.New(w.fly),
		forge.KindFlyCluster:     onFly,
	}
	w.leases = leases{kubernetes.NewLeases(w.clusters), fly.NewLeases(w.fly)}
	options.Leases = w.leases
	w.engine = reconcile.New(options)
	return w, nil
}

// flyEndpoints are Fly's, or those that Fly's own tools are told by the same
// variables.
func flyEndpoints(getenv func(string) string) api.Endpoints {
	return api.Endpoints{
		Machines: getenv("FLY_FLAPS_BASE_URL"), GraphQL: getenv("FLY_API_BASE_URL"), UI: getenv("FLY_UIEX_BASE_URL"),
		Prometheus: getenv("FLY_API_BASE_URL"),
	}
}

// stepGrace is how long a step under way may go on when the whole process has
// grace to stop: what is left over is for abandoning it in an orderly way.
func stepGrace(grace time.Duration) time.Duration {
	return grace - min(2*time.Second, grace/2)
}

// chartsDir is where charts of other machines are kept; empty where the system
// has no place for such things.
func chartsDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "forged", "charts")
}

// recheck looks again at what an environment is made of.
func (w *world) recheck(environment string) {
	w.charts.Recheck()
	w.engine.Recheck(environment)
}

// verify looks at what is there itself, and not at what is remembered of it.
func (w *world) verify() {
	w.clusters.Verify()
	w.fly.Recheck()
}

func (w *world) close() {
	w.clusters.Close()
	w.fly.Close()
	w.charts.Close()
	w.templates.Close()
}

// warnings lets through what is no detail. client-go would write a line for each
// of its attempts while a cluster is away; how that goes is logged once already.
type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
