package main

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/fks"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/localfiles"
	"forged.dev/forged/internal/providers/helm/offline"
	"forged.dev/forged/internal/providers/jobs"
)

// fits says what of our own charts and of the jobs would not run as asked on
// Fly Kubernetes. What is only said in another way there is nobody's business:
// the charts were made for it.
func fits(ctx context.Context, f *forge.Forge) ([]forge.Finding, error) {
	var found []forge.Finding
	for _, env := range f.Environments {
		if env.Platform.Kind != forge.PlatformFKS {
			continue
		}
		resources, err := compile.Environment(env)
		if err != nil {
			continue // it is told by those who compile it
		}
		for _, r := range resources {
			var objects []*unstructured.Unstructured
			var rules forge.Rules
			var namespace string
			part := "app"
			switch spec := r.Spec.(type) {
			case forge.ReleaseSpec:
				if spec.Chart == "" {
					continue // one of the user
				}
				if objects, err = own(ctx, spec); err != nil {
					return nil, err
				}
				part, rules, namespace = spec.Chart, spec.Rules, spec.Namespace
			case forge.JobSpec:
				objects, rules, namespace = []*unstructured.Unstructured{jobs.Manifest(spec)}, spec.Rules, spec.Namespace
				if spec.Labels["app.kubernetes.io/name"] == "temporal" {
					part = "temporal"
				}
			default:
				continue
			}
			at := []string{"environments", env.Name, "app"}
			if part != "app" {
				at = []string{"environments", env.Name, "services", part}
			}
			found = append(found, localfiles.Fit(at, objects, fks.Options{Allow: rules.Allow, Namespace: namespace}, false)...)
		}
	}
	return found, nil
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
