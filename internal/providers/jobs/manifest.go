package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// containerUser is who the process runs as, the same as in our charts.
const containerUser = 1001

const container = "job"

// manifest is what is to run, under the name of the resource and without our
// marks.
func manifest(s forge.JobSpec) *unstructured.Unstructured {
	labels := maps.Clone(s.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[kubernetes.LabelJob] = s.Name
	f := formOf(s)
	obj := &unstructured.Unstructured{Object: f.object(s, stringMap(labels), podSpec(s))}
	obj.SetGroupVersionKind(f.gvk())
	obj.SetNamespace(s.Namespace)
	obj.SetName(s.Name)
	obj.SetLabels(labels)
	return obj
}

// fit brings what is to run into the form that the cluster can run. That it
// cannot be had there is told when it is planned: what has run stays known.
func (l *look) fit(ctx context.Context) error {
	l.object, l.fitted, l.refused, l.fits = manifest(l.spec), kubernetes.Fitted{}, nil, ""
	rules := l.spec.Rules
	if rules.Table == "" || l.done() {
		return nil
	}
	if l.fitter == nil {
		return reconcile.Errorf(reconcile.Internal, "make", "nothing here fits objects by the table of rules %q", rules.Table)
	}
	fitted, err := l.fitter.Fit(ctx, l.cluster, rules, []*unstructured.Unstructured{l.object})
	switch {
	case reconcile.KindOf(err) == reconcile.Invalid:
		l.refused = err
		if e := (*reconcile.Error)(nil); errors.As(err, &e) && e.Object == "" {
			of := *e
			of.Object = kubernetes.RefOf(l.object).String()
			l.refused = &of
		}
		return nil
	case err != nil:
		return err
	case len(fitted.Objects) != 1 || fitted.Objects[0].GroupVersionKind() != l.object.GroupVersionKind():
		return reconcile.Errorf(reconcile.Internal, "make", "the table of rules %q makes something else of a %s", rules.Table, l.object.GetKind())
	}
	l.object, l.fitted = fitted.Objects[0], fitted
	// What came of the table counts, and not the table: a failure is not tried
	// again because of what has nothing to do with it.
	l.fits = digest(formOf(l.spec).pod(l.object))
	return nil
}

func podSpec(s forge.JobSpec) map[string]any {
	volumes, mounts := files(s.Files)
	c := map[string]any{
		"name": container, "image": s.Image,
		"securityContext": map[string]any{
			"allowPrivilegeEscalation": false,
			"capabilities":             map[string]any{"drop": []any{"ALL"}},
		},
		"volumeMounts": append([]any{map[string]any{"name": "tmp", "mountPath": "/tmp"}}, mounts...),
	}
	if s.PullPolicy != "" {
		c["imagePullPolicy"] = s.PullPolicy
	}
	if len(s.Entrypoint) > 0 {
		c["command"] = list(s.Entrypoint)
	}
	if len(s.Args) > 0 {
		c["args"] = list(s.Args)
	}
	var env, from []any
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		env = append(env, map[string]any{"name": name, "value": s.Env[name]})
	}
	for _, name := range s.SecretNames {
		from = append(from, map[string]any{"secretRef": map[string]any{"name": name}})
	}
	if len(env) > 0 {
		c["env"] = env
	}
	if len(from) > 0 {
		c["envFrom"] = from
	}
	if resources := resourcesOf(s.Resources); len(resources) > 0 {
		c["resources"] = resources
	}
	pod := map[string]any{
		"restartPolicy":                "Never",
		"automountServiceAccountToken": false,
		"enableServiceLinks":           false, // they would put variables like SHOP_PORT into the environment
		"securityContext": map[string]any{
			"runAsNonRoot": true,
			"runAsUser":    int64(containerUser), "runAsGroup": int64(containerUser), "fsGroup": int64(containerUser),
			"fsGroupChangePolicy": "OnRootMismatch",
			"seccompProfile":      map[string]any{"type": "RuntimeDefault"},
		},
		"containers": []any{c},
		"volumes":    append([]any{map[string]any{"name": "tmp", "emptyDir": map[string]any{"sizeLimit": "1Gi"}}}, volumes...),
	}
	if s.PullSecret != "" {
		pod["imagePullSecrets"] = []any{map[string]any{"name": s.PullSecret}}
	}
	return pod
}

// files mounts each file at its own path, from one volume.
func files(all []forge.MountedFile) (volumes, mounts []any) {
	if len(all) == 0 {
		return nil, nil
	}
	var sources []any
	for i, f := range all {
		name := fmt.Sprintf("file-%d", i)
		kind, from := "secret", f.Secret
		if f.Config != "" {
			kind, from = "configMap", f.Config
		}
		sources = append(sources, map[string]any{kind: map[string]any{
			"name": from, "items": []any{map[string]any{"key": f.Key, "path": name}},
		}})
		mounts = append(mounts, map[string]any{"name": "files", "mountPath": f.Path, "subPath": name, "readOnly": true})
	}
	return []any{map[string]any{"name": "files", "projected": map[string]any{"defaultMode": int64(0o440), "sources": sources}}}, mounts
}

func resourcesOf(r forge.Resources) map[string]any {
	pick := func(pairs ...string) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] != "" {
				m[pairs[i]] = pairs[i+1]
			}
		}
		return m
	}
	all := map[string]any{}
	if requests := pick("cpu", r.CPU, "memory", r.Memory); len(requests) > 0 {
		all["requests"] = requests
	}
	if limits := pick("cpu", r.CPULimit, "memory", r.MemoryLimit); len(limits) > 0 {
		all["limits"] = limits
	}
	return all
}

func list(texts []string) []any {
	all := make([]any, 0, len(texts))
	for _, t := range texts {
		all = append(all, t)
	}
	return all
}

func stringMap(m map[string]string) map[string]any {
	all := make(map[string]any, len(m))
	for k, v := range m {
		all[k] = v
	}
	return all
}

// Manifest is what is to run, before it is fitted to a cluster and without the
// marks of forged.
func Manifest(s forge.JobSpec) *unstructured.Unstructured { return manifest(s) }
