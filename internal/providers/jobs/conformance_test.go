package jobs

import (
	"context"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
	"forged.dev/forged/internal/sandboxtest"
)

func TestConforms(t *testing.T) {
	t.Parallel()
	for name, pod := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			providertest.Test(t, func(t *testing.T) providertest.Harness { return newHarness(t, pod) })
		})
	}
}

func newHarness(t *testing.T, pod bool) providertest.Harness {
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	proxy := faultproxy.New(t, env.Config)
	target := forge.Target{Kubeconfig: proxy.Kubeconfig(), Context: faultproxy.Context}
	api := objectsOf(t, env, pod)
	foreign, err := api.Create(t.Context(), theirs(t, pod), metav1.CreateOptions{FieldManager: "somebody"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(image string) forge.Resource {
		return forge.Resource{
			ID: forge.ID{Environment: "prod", Kind: forge.KindJob, Name: "migrate"}, Target: target,
			Spec: forge.JobSpec{
				Process:   forge.Process{Image: image, Args: []string{"migrate"}, Env: map[string]string{"A": "1"}},
				Namespace: env.Namespace, Name: "shop-migrate", Labels: map[string]string{"app": "shop"},
				Resources: forge.Resources{CPU: never}, Timeout: time.Hour, Pod: pod,
			},
		}
	}
	find := func(t *testing.T) string {
		t.Helper()
		list, err := api.List(t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelInstance})
		if err != nil || len(list.Items) == 0 {
			t.Fatalf("nothing is there: %v", err)
		}
		return list.Items[0].GetName()
	}
	edit := `{"spec":{"activeDeadlineSeconds":5000}}`
	if pod { // whose time limit can only be lowered
		edit = `{"metadata":{"labels":{"app":"till"}}}`
	}
	return providertest.Harness{
		Resource: ask("shop:1"), Changed: ask("shop:2"), Secrets: []string{"there is none"}, Patience: patience,
		Policy: forge.Policy{Mode: forge.ModeApply, Prune: true, MaxDelete: 10},
		Start: func(t *testing.T) reconcile.Provider {
			clusters := kubernetes.NewClusters(kubernetes.Options{Instance: env.Instance})
			t.Cleanup(clusters.Close)
			return New(Options{Clusters: clusters})
		},
		Edit: func(t *testing.T) {
			if _, err := api.Patch(t.Context(), find(t), types.MergePatchType, []byte(edit), person); err != nil {
				t.Fatal(err)
			}
		},
		Delete: func(t *testing.T) {
			name, now := find(t), metav1.DeletePropagationBackground
			if err := api.Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &now}); err != nil {
				t.Fatal(err)
			}
			// While its pods are still there no other is made.
			eventually(t, "the pods have gone", func() bool {
				pods, err := env.Client.CoreV1().Pods(env.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelJob})
				return err == nil && len(pods.Items) == 0
			})
		},
		BreakReads: func(*testing.T) func() { return proxy.CutAfter(0) },
		CutAfter:   func(_ *testing.T, n int) func() { return proxy.CutAfter(n) },
		Writes:     proxy.Mutations,
		Bystander: func(t *testing.T) {
			now, err := api.Get(context.WithoutCancel(t.Context()), "foreign", metav1.GetOptions{})
			if apierrors.IsNotFound(err) || err != nil || now.GetUID() != foreign.GetUID() || now.GetDeletionTimestamp() != nil || now.GetLabels()[kubernetes.LabelInstance] != "" {
				t.Errorf("what is not ours was touched: %v", err)
			}
		},
	}
}

// theirs is a process of somebody else.
func theirs(t *testing.T, pod bool) *unstructured.Unstructured {
	t.Helper()
	spec := corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	meta := metav1.ObjectMeta{Name: "foreign"}
	var typed any = &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: spec}}}
	if pod {
		typed = &corev1.Pod{ObjectMeta: meta, Spec: spec}
	}
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: raw}
	u.SetGroupVersionKind(formOf(forge.JobSpec{Pod: pod}).gvk())
	return u
}
