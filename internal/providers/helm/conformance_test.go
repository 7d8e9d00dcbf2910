package helm

import (
	"context"
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fks"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/secret"
)

// withSecret is the demo chart with an object whose values are nobody's
// business.
func withSecret(name string) ([]charts.File, error) {
	files, err := chartFiles(name)
	return append(files, charts.File{Name: "templates/secret.yaml", Data: []byte(`
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {token: {{ .Values.token | quote }}}
`)}), err
}

func TestConforms(t *testing.T) {
	t.Parallel()
	providertest.Test(t, func(t *testing.T) providertest.Harness { return newHarness(t, nil, nil) })
}

// Fitted to what Fly Kubernetes can run.
func TestConformsFitted(t *testing.T) {
	t.Parallel()
	providertest.Test(t, func(t *testing.T) providertest.Harness {
		return newHarness(t, fks.NewFitter(""), func(*rig) map[string]string {
			return map[string]string{"templates/probed.yaml": probed, "templates/hooks.yaml": hook("ConfigMap", "before", `"pre-install,pre-upgrade,pre-rollback"`)}
		})
	})
}

// With hooks, with definitions of kinds and with resources of them.
func TestConformsWithHooksAndCustomResources(t *testing.T) {
	t.Parallel()
	providertest.Test(t, func(t *testing.T) providertest.Harness {
		return newHarness(t, nil, func(r *rig) map[string]string {
			r.dynamic() // which cleans up
			return map[string]string{
				"crds/widget.yaml":      r.crd("v1"),
				"templates/widget.yaml": r.widget(),
				"templates/hooks.yaml": hook("ConfigMap", "before", `"pre-install,pre-upgrade,pre-rollback"`) +
					hook("ConfigMap", "after", `"post-install,post-upgrade,post-rollback"`) + hook("ConfigMap", "end", `"pre-delete,post-delete"`),
			}
		})
	})
}

// newHarness is the demo chart as a release in a namespace of its own, reached
// over a line that breaks. more are files that are added to the chart.
func newHarness(t *testing.T, fitter kubernetes.Fitter, more func(*rig) map[string]string) providertest.Harness {
	const canary = "c4n4ryPassw0rd"
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	proxy := faultproxy.New(t, env.Config)
	files := withSecret
	if more != nil {
		added := more(&rig{t: t, env: env})
		files = func(name string) ([]charts.File, error) {
			all, err := withSecret(name)
			for name, text := range added {
				all = append(all, charts.File{Name: name, Data: []byte(text)})
			}
			return all, err
		}
	}
	target := forge.Target{Kubeconfig: proxy.Kubeconfig(), Context: faultproxy.Context}
	keys := forge.ID{Environment: "prod", Kind: forge.KindSecrets, Name: "shop"}
	var rules forge.Rules
	if fitter != nil {
		rules.Table = forge.TableFKS
	}
	ask := func(values map[string]any) forge.Resource {
		return forge.Resource{
			ID: forge.ID{Environment: "prod", Kind: forge.KindRelease, Name: "app"}, Target: target,
			Needs: []forge.ID{keys},
			Spec: forge.ReleaseSpec{
				Name: releaseName, Namespace: env.Namespace, Chart: "demo", Values: values,
				Inputs: []forge.Input{{Path: []string{"keys", "checksum"}, From: keys, Output: "checksum"}},
				Rules:  rules,
			},
		}
	}
	merge := types.MergePatchType
	by := metav1.PatchOptions{FieldManager: "kubectl-edit"}
	core := env.Client.CoreV1()
	return providertest.Harness{
		Resource: ask(map[string]any{"level": "info", "extra": true, "token": canary + "1", "extraEnv": map[string]any{"A": "1"}}),
		Changed:  ask(map[string]any{"level": "debug", "token": canary + "2", "extraEnv": map[string]any{"B": "2"}, "replicas": 2.0}),
		Inputs: map[forge.ID]reconcile.Outputs{keys: {
			"checksum": {Value: "abc"},

			kubernetes.HashKeyOutput("prod"): {Secret: secret.New([]byte(canary + "key"))},
			"password":                       {Secret: secret.New([]byte(canary))},
		}},
		Policy:  forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10},
		Secrets: []string{canary, "YzRuNHJ5"},
		Start: func(t *testing.T) reconcile.Provider {
			clusters := kubernetes.NewClusters(kubernetes.Options{Instance: env.Instance})
			t.Cleanup(clusters.Close)
			return New(Options{Clusters: clusters, Embedded: files, Fitter: fitter, Logger: slog.New(slog.DiscardHandler)})
		},
		Edit: func(t *testing.T) {
			_, err := core.Secrets(env.Namespace).Patch(t.Context(), "login", merge, []byte(`{"stringData":{"token":"`+canary+`edited"}}`), by)
			if err == nil {
				_, err = core.ConfigMaps(env.Namespace).Patch(t.Context(), "settings", merge, []byte(`{"data":{"level":"edited"}}`), by)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		Delete: func(t *testing.T) {
			if err := core.Secrets(env.Namespace).Delete(t.Context(), "login", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		},
		BreakReads: func(*testing.T) func() { return proxy.CutAfter(0) },
		CutAfter:   func(_ *testing.T, n int) func() { return proxy.CutAfter(n) },
		Writes:     proxy.Mutations,
		Bystander:  bystander(t, env),
		Proxy:      proxy,
	}
}

// bystander makes an object that is nobody's, and returns a check of it.
func bystander(t *testing.T, env *sandboxtest.Env) func(*testing.T) {
	t.Helper()
	client := env.Client.CoreV1().ConfigMaps(env.Namespace)
	was, err := client.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "foreign"}, Data: map[string]string{"a": "b"},
	}, metav1.CreateOptions{FieldManager: "somebody"})
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) {
		now, err := client.Get(context.WithoutCancel(t.Context()), "foreign", metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err != nil || now.ResourceVersion != was.ResourceVersion {
			t.Errorf("a ConfigMap that is not ours was touched: %v", err)
		}
	}
}
