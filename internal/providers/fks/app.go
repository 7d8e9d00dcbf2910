package fks

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	forged "forged.dev/forged/internal/providers/kubernetes"
)

// Which app a cluster's Services are in is not documented as an answer of Fly's
// API. It is told by the host of a load balancer, which is made of it; by an
// annotation of a volume; and where an organization has one cluster, and one app
// of the kind, by that. Names are not taken apart: the name of a cluster's app
// does not hold the cluster's.
const (
	appPrefix     = "fks-default-"
	appSuffix     = ".fly.dev"
	annotationApp = "fly.io/app" // of a volume (Fly docs, Kubernetes: volumes)
)

// onlyApp is that of the only cluster of an organization.
func (c *cluster) onlyApp(ctx context.Context) error {
	apps, err := fly.Read(ctx, c.Org, fly.Topic{App: "apps", Section: fly.SectionClusters}, func(ctx context.Context) ([]api.App, error) {
		return c.Org.Client().Apps(ctx, c.Org.Slug(), "")
	})
	if err != nil {
		return fly.Classify("list", "the apps of organization "+c.Org.Slug(), err)
	}
	apps = slices.DeleteFunc(slices.Clone(apps), func(a api.App) bool { return !strings.HasPrefix(a.Name, appPrefix) })
	if len(apps) == 1 {
		c.way.setApp(c.Live.ID, apps[0].Name)
	}
	return nil
}

// setApp notes the app of a cluster, unless it is not that one any more.
func (w *way) setApp(addon, app string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.addon != addon || w.appName == app {
		return false
	}
	w.appName, w.vain = app, 0
	return true
}

// lookInside is findApp for who looks at the cluster, makes nothing at Fly and
// must not wait long: it asks where a token has opened the cluster already. A few
// times it asks at each look, for who applies, and ends, waits for what it has made
// to tell; from then on not so soon after it was in vain, for who stays asks beside
// that.
func (w *way) lookInside(ctx context.Context) {
	w.mu.Lock()
	unanswered, native := w.unanswered, w.native
	w.mu.Unlock()
	if native && !w.tokens.opened() || time.Since(unanswered) < appEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	w.findApp(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.appName != "" {
		return
	}
	if w.vain++; w.vain >= appLooks {
		w.unanswered = time.Now()
	}
}

// findApp looks in the cluster for its app, and tells whether that is news. What
// cannot be read now is read later.
func (w *way) findApp(ctx context.Context) bool {
	w.mu.Lock()
	addon, app := w.addon, w.appName
	w.mu.Unlock()
	if addon == "" || app != "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	app, err := w.appInside(ctx)
	if err != nil {
		w.mu.Lock()
		w.unanswered = time.Now()
		w.mu.Unlock()
		return false
	}
	return app != "" && w.setApp(addon, app)
}

// appInside is what the cluster says of its app; empty: nothing.
func (w *way) appInside(ctx context.Context) (string, error) {
	inside, leave, err := w.inside(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	services, err := inside.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	if app := appOfServices(services.Items, w.id.Environment, w.accounts.Instance()); app != "" {
		return app, nil
	}
	volumes, err := inside.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	return appOfVolumes(volumes.Items), nil
}

// appOfServices is what the hosts of load balancers say: NAME.svc.APP.fly.dev,
// perhaps with more before the svc where the namespace is not the default one.
// Those of this environment count more than others; empty: it cannot be told.
func appOfServices(services []corev1.Service, environment, instance string) string {
	var ours, all []string
	for i := range services {
		s := &services[i]
		for _, in := range s.Status.LoadBalancer.Ingress {
			of, rest, is := strings.Cut(in.Hostname, ".svc.")
			app, ends := strings.CutSuffix(rest, appSuffix)
			if !is || !ends || strings.Contains(app, ".") || of != s.Name && !strings.HasPrefix(of, s.Name+".") {
				continue
			}
			all = append(all, app)
			if s.Labels[forged.LabelInstance] == instance && strings.HasPrefix(s.Annotations[forged.AnnotationOwner], environment+"/") {
				ours = append(ours, app)
			}
		}
	}
	if app := only(ours); app != "" {
		return app
	}
	return only(all)
}

func appOfVolumes(volumes []corev1.PersistentVolume) string {
	var all []string
	for i := range volumes {
		if app := volumes[i].Annotations[annotationApp]; app != "" {
			all = append(all, app)
		}
	}
	return only(all)
}

// only is what all are; empty: they differ, or there are none.
func only(all []string) string {
	slices.Sort(all)
	if all = slices.Compact(all); len(all) == 1 {
		return all[0]
	}
	return ""
}
