package main

import (
	"context"
	"fmt"
	"iter"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/fks"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/localfiles"
	"forged.dev/forged/internal/providers/helm/chartsource"
	"forged.dev/forged/internal/providers/helm/offline"
	"forged.dev/forged/internal/providers/helm/render"
	"forged.dev/forged/internal/providers/jobs"
)

// fitJudge looks at what is to run on Fly Kubernetes with the eyes of its table,
// without a cluster.
type fitJudge struct {
	// load finds charts of the user; nil: they are not looked at.
	load func(context.Context, forge.ChartSource) (chartsource.Chart, error)
	// templates renders those.
	templates *render.Child
}

// chartLimit is how long a chart of the user may take to render.
const chartLimit = 20 * time.Second

// fits says what of our own charts and of the jobs would not run as asked on
// Fly Kubernetes. What is only said in another way there is nobody's business:
// the charts were made for it.
func fits(ctx context.Context, f *forge.Forge) ([]forge.Finding, error) {
	var found []forge.Finding
	for _, env := range f.Environments {
		if env.Platform.Kind != forge.PlatformFKS {
			continue
		}
		unfit, _, err := fitJudge{}.environment(ctx, env)
		if err != nil {
			return nil, err
		}
		found = append(found, unfit...)
	}
	return found, nil
}

// environment says what of an environment would not run there as asked, and what
// could not be looked at.
func (j fitJudge) environment(ctx context.Context, env forge.Environment) (found, unseen []forge.Finding, err error) {
	resources, err := compile.Environment(env)
	if err != nil {
		return nil, nil, nil // it is told by those who compile it
	}
	for r := range j.renderings(ctx, env.Name, resources) {
		switch {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case r.err != nil && !r.theirs:
			return nil, nil, r.err
		case r.err != nil:
			unseen = append(unseen, forge.Finding{
				Path: r.at, Rule: "fks-support", Message: fmt.Sprintf("whether it runs on Fly Kubernetes could not be looked at: %v", r.err),
				Hint: "once the cluster is there it is looked at again, and refused then if it cannot run",
			})
		default:
			found = append(found, localfiles.Fit(r.at, r.objects, r.options(), false)...)
		}
	}
	return found, unseen, nil
}

// rendering is what a release or a job comes to without a cluster.
type rendering struct {
	id        forge.ID
	at        []string // where forge.cue asks for it
	theirs    bool     // its chart is the user's
	objects   []*unstructured.Unstructured
	rules     forge.Rules
	namespace string
	err       error // it does not render
}

func (r rendering) options() fks.Options {
	return fks.Options{Allow: r.rules.Allow, Namespace: r.namespace}
}

// renderings are those of all releases and jobs of an environment, made one after
// another. Charts of the user are left out where they are not looked at.
func (j fitJudge) renderings(ctx context.Context, environment string, resources []forge.Resource) iter.Seq[rendering] {
	return func(yield func(rendering) bool) {
		for _, resource := range resources {
			r := rendering{id: resource.ID, at: []string{"environments", environment, "app"}}
			switch spec := resource.Spec.(type) {
			case forge.ReleaseSpec:
				r.rules, r.namespace, r.theirs = spec.Rules, spec.Namespace, spec.Chart == ""
				switch {
				case r.theirs && j.load == nil:
					continue
				case r.theirs:
					r.at = chartPlace(environment, r.id.Name, *spec.Source)
					r.objects, r.err = j.foreign(ctx, spec)
				default:
					if spec.Chart != "app" {
						r.at = []string{"environments", environment, "services", spec.Chart}
					}
					r.objects, r.err = own(ctx, spec)
				}
			case forge.JobSpec:
				r.rules, r.namespace = spec.Rules, spec.Namespace
				r.objects = []*unstructured.Unstructured{jobs.Manifest(spec)}
				if spec.Labels["app.kubernetes.io/name"] == "temporal" {
					r.at = []string{"environments", environment, "services", "temporal"}
				}
			default:
				continue
			}
			if !yield(r) {
				return
			}
		}
	}
}

// chartPlace is where forge.cue says where a chart of the user comes from.
func chartPlace(environment, release string, source forge.ChartSource) []string {
	field := "url"
	if source.Kind == forge.ChartPath {
		field = "path"
	}
	if release == "app" {
		return []string{"environments", environment, "app", "chart", field}
	}
	return []string{"environments", environment, "charts", release, field}
}

// own are the objects of a release of one of our charts.
func own(ctx context.Context, spec forge.ReleaseSpec) ([]*unstructured.Unstructured, error) {
	files, err := charts.Files(spec.Chart)
	if err != nil {
		return nil, err
	}
	texts, err := offline.Of(files).Render(ctx, spec.Name, spec.Namespace, spec.Values)
	if err != nil {
		return nil, fmt.Errorf("render the chart %s: %w", spec.Chart, err)
	}
	return localfiles.Objects(texts), nil
}

// foreign are the objects of a release of a chart of the user.
func (j fitJudge) foreign(ctx context.Context, spec forge.ReleaseSpec) ([]*unstructured.Unstructured, error) {
	source, err := j.load(ctx, *spec.Source)
	if err != nil {
		return nil, err
	}
	chart := offline.Of(source.Files)
	chart.Apart = j.templates
	ctx, cancel := context.WithTimeoutCause(ctx, chartLimit, fmt.Errorf("rendering it takes longer than %s", chartLimit))
	defer cancel()
	texts, err := chart.Render(ctx, spec.Name, spec.Namespace, spec.Values)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("it does not render without a cluster: %w", err)
	}
	return localfiles.Objects(texts), nil
}
