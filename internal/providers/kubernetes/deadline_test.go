package kubernetes

import (
	"testing"
	"time"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
)

// A line on which connections are closed without an answer, as a load balancer
// without servers does, is not one on which nothing happens: what client-go
// calls an empty watch is a broken one.
func TestDeadLineIsNotSilence(t *testing.T) {
	env := sandboxtest.Cluster(t)
	proxy := faultproxy.New(t, env.Config)
	clusters := NewClusters(Options{Instance: env.Instance})
	t.Cleanup(clusters.Close)
	c, err := clusters.Cluster(t.Context(), forge.Target{Kubeconfig: proxy.Kubeconfig(), Context: faultproxy.Context})
	if err != nil {
		t.Fatal(err)
	}
	ref := Ref{GVK: parse(t, "{apiVersion: v1, kind: ConfigMap}").GroupVersionKind(), Namespace: "default", Name: "any"}
	w, err := c.watchFor(t.Context(), ref.GVK, ref.Name)
	if err != nil {
		t.Fatal(err)
	}
	await := func(what string, ok func(error) bool) {
		t.Helper()
		timeout := time.After(patience)
		for {
			c.mu.Lock()
			moved := w.moved
			c.mu.Unlock()
			_, err := c.Live(t.Context(), ref)
			if ok(err) {
				return
			}
			select {
			case <-moved:
			case <-timeout:
				t.Fatalf("%s: last error %v", what, err)
			}
		}
	}
	await("the watch", func(err error) bool { return err == nil })
	mend := proxy.CutAfter(0)
	await("that nothing is known", func(err error) bool { return err != nil && reconcile.KindOf(err) == reconcile.Unavailable })
	mend()
	await("the watch again", func(err error) bool { return err == nil })
}
