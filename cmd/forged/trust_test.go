package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm/offline"
)

// Authorities that services of somebody else are checked against are mounted
// wherever somebody connects to them: in the app, its workers, the migration,
// and Temporal. One that is told a path where nothing is does not start.
func TestAuthoritiesAreMounted(t *testing.T) {
	dir := t.TempDir()
	text := `forge: "v1"
app: {
	name: "shop"
	image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.2"}
	migrate: {run: "before-deploy", args: ["migrate"]}
}
environments: prod: {
	platform: {kind: "kubernetes", context: "c", namespace: "shop"}
	workers: mail: args: ["worker"]
	services: {
		postgres: {mode: "external", url: env: "U", caBundle: file: "ca.pem"}
		redis: {mode: "external", url: env: "R", caBundle: file: "ca.pem"}
		temporal: mode: "in-cluster"
	}
	policy: mode: "apply"
}
`
	for name, text := range map[string]string{"forge.cue": text, "ca.pem": "-"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e, err := newEvaluator(false)
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	l, err := loadFile(t.Context(), e, configFlags{config: filepath.Join(dir, "forge.cue")}, streams{strings.NewReader(""), &errs, &errs})
	if err != nil {
		t.Fatal(err, errs.String())
	}
	const postgresCA, redisCA = "/run/forged/postgres/ca.crt", "/run/forged/redis/ca.crt"
	checked := map[string]int{}
	for _, r := range l.generation.Environments[0].Resources {
		switch spec := r.Spec.(type) {
		case forge.JobSpec:
			want := map[string][]string{"migrate": {postgresCA, redisCA}, "temporal-schema": {postgresCA}}[r.ID.Name]
			for _, path := range want {
				i := slices.IndexFunc(spec.Files, func(f forge.MountedFile) bool { return f.Path == path })
				if i < 0 || spec.Files[i].Secret == "" || spec.Files[i].Key == "" {
					t.Errorf("%s does not mount %s", r.ID, path)
				}
				checked["job"]++
			}
		case forge.ReleaseSpec:
			want := map[string][]string{"app": {postgresCA, redisCA}, "temporal": {postgresCA}}[spec.Chart]
			files, err := charts.Files(spec.Chart)
			if err != nil {
				t.Fatal(err)
			}
			values, err := withInputs(spec)
			if err != nil {
				t.Fatal(err)
			}
			texts, err := offline.Of(files).Render(t.Context(), spec.Name, spec.Namespace, values)
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range texts {
				for doc := range strings.SplitSeq(text, "\n---") {
					checked[spec.Chart] += mounts(t, doc, want)
				}
			}
		}
	}
	// The app and its worker, Temporal's server, the migration and the schema.
	if checked["app"] != 2*2 || checked["temporal"] < 1 || checked["job"] != 2+1 {
		t.Errorf("looked at %v", checked)
	}
}

// mounts wants files in every pod of a Deployment that runs something of the
// chart's own, and counts them.
func mounts(t *testing.T, doc string, paths []string) (found int) {
	t.Helper()
	var o struct {
		Kind     string
		Metadata struct{ Name string }
		Spec     struct {
			Template struct{ Spec corev1.PodSpec }
		}
	}
	if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
		t.Fatal(err)
	}
	if o.Kind != "Deployment" || strings.HasSuffix(o.Metadata.Name, "-web") {
		return 0
	}
	for _, path := range paths {
		for _, c := range o.Spec.Template.Spec.Containers {
			i := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return within(m, path) })
			if i < 0 {
				t.Errorf("%s: container %s does not mount %s", o.Metadata.Name, c.Name, path)
				continue
			}
			if !slices.ContainsFunc(o.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == c.VolumeMounts[i].Name }) {
				t.Errorf("%s: there is no volume %s", o.Metadata.Name, c.VolumeMounts[i].Name)
			}
			found++
		}
	}
	return found
}

func within(m corev1.VolumeMount, path string) bool {
	return m.MountPath == path || strings.HasPrefix(path, strings.TrimSuffix(m.MountPath, "/")+"/")
}
