package jobs

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/fks"
	"forged.dev/forged/internal/forge"
)

// Fly Kubernetes runs all that a migration may ask for.
func TestPodCanBeHadOnFlyKubernetes(t *testing.T) {
	t.Parallel()
	spec := forge.JobSpec{
		Process: forge.Process{
			Image: "registry.example/shop:1", Entrypoint: []string{"alembic"}, Args: []string{"upgrade", "head"}, Env: map[string]string{"A": "1"},
		},
		Namespace: "shop", Name: "shop-migrate", Labels: map[string]string{"app": "shop"}, PullPolicy: "IfNotPresent", PullSecret: "login",
		SecretNames: []string{"shop-env"}, Resources: forge.Resources{CPU: "100m", Memory: "256Mi", MemoryLimit: "512Mi"}, Timeout: time.Minute, Pod: true,
		Files: []forge.MountedFile{{Path: "/etc/app.yaml", Config: "shop-config", Key: "app.yaml"}, {Path: "/run/forged/ca.crt", Secret: "tls", Key: "ca.crt"}},
	}
	fitted, findings := fks.Fit([]*unstructured.Unstructured{manifest(spec)}, fks.Options{})
	for _, f := range findings {
		if f.Action == fks.Error {
			t.Errorf("%s %s: %s", f.Rule, f.Path, f.Message)
		}
	}
	if len(fitted) != 1 || fitted[0].GroupVersionKind() != (plainPod{}).gvk() {
		t.Fatalf("fitted: %v", fitted)
	}
	pod := plainPod{}.pod(fitted[0])
	if pod["restartPolicy"] != "Never" || pod["activeDeadlineSeconds"] != int64(60) {
		t.Errorf("it would not end: %v", pod)
	}
}
