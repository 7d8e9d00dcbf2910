package jobs

import (
	"context"
	"errors"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// Killed after any one request, the next process goes on where that one was:
// every image is run once, to its end, whether the Job was made, recorded or
// had ended at that moment.
func TestKilledAnywhereRunsOnce(t *testing.T) {
	t.Parallel()
	for name, pod := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killedAnywhere(t, pod)
		})
	}
}

func killedAnywhere(t *testing.T, pod bool) {
	const most = 30
	for n := 1; n <= most; n++ {
		if !killedAt(t, n, pod) {
			if n < 4 {
				t.Errorf("an install and an update take %d requests", n-1)
			}
			return // n requests are enough: it was killed everywhere before
		}
	}
	t.Errorf("not done after %d requests", most)
}

// killedAt runs an install and an update, and kills the provider after its nth
// changing request. It tells whether that came to be.
func killedAt(t *testing.T, n int, pod bool) (killed bool) {
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	proxy := faultproxy.New(t, env.Config)
	r := &rig{Env: env, t: t, policy: forge.Policy{Mode: forge.ModeApply, MaxDelete: 10}}
	target := forge.Target{Kubeconfig: proxy.Kubeconfig(), Context: faultproxy.Context}
	ask := func(image string) reconcile.Request {
		return reconcile.Request{Policy: r.policy, Resource: forge.Resource{
			ID: forge.ID{Environment: "prod", Kind: forge.KindJob, Name: "migrate"}, Target: target,
			Spec: forge.JobSpec{Process: forge.Process{Image: image}, Namespace: env.Namespace, Name: "shop-migrate", Pod: pod},
		}}
	}
	start := func() (*Provider, func()) {
		clusters := kubernetes.NewClusters(kubernetes.Options{Instance: env.Instance})
		return New(Options{Clusters: clusters}), clusters.Close
	}
	// pass is one look and what follows.
	pass := func(ctx context.Context, p *Provider, req reconcile.Request) (ready bool, err error) {
		o, err := p.Observe(ctx, req)
		if err != nil {
			return false, err
		}
		steps, err := p.Plan(ctx, req, o)
		for _, s := range steps {
			if _, err := p.Apply(ctx, req, s); err != nil {
				return false, err
			}
		}
		return o.Health.Status == reconcile.Ready && len(steps) == 0, err
	}

	p, stop := start()
	dead := proxy.DieAfter(n)
	for _, image := range []string{"shop:1", "shop:2"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			select {
			case <-dead:
				cancel(errors.New("killed"))
			case <-ctx.Done():
			}
		}()
		eventually(t, fmt.Sprintf("%s, or killed after %d", image, n), func() bool {
			ready, _ := pass(ctx, p, ask(image))
			return ready || ctx.Err() != nil
		})
		killed = ctx.Err() != nil
		cancel(nil)
		if killed {
			break
		}
	}
	stop()
	if !killed {
		return false
	}
	proxy = faultproxy.New(t, env.Config)
	target = forge.Target{Kubeconfig: proxy.Kubeconfig(), Context: faultproxy.Context}
	p, stop = start()
	defer stop()
	for _, image := range []string{"shop:1", "shop:2"} {
		eventually(t, fmt.Sprintf("%s after a kill at %d", image, n), func() bool {
			ready, err := pass(t.Context(), p, ask(image))
			if kind := reconcile.KindOf(err); err != nil && kind != reconcile.Stale && kind != reconcile.Unavailable {
				t.Errorf("after a kill at %d: %v", n, err)
			}
			return ready
		})
	}
	all, err := objectsOf(t, env, pod).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := []string{"spec", "containers"}
	if !pod {
		at = []string{"spec", "template", "spec", "containers"}
	}
	runs := map[string]int{}
	for _, j := range all.Items {
		containers, _, _ := unstructured.NestedSlice(j.Object, at...)
		runs[fmt.Sprint(containers[0].(map[string]any)["image"])]++
	}
	if len(all.Items) != 2 || runs["shop:1"] != 1 || runs["shop:2"] != 1 {
		t.Errorf("after a kill at %d: runs %v", n, runs)
	}
	return true
}
