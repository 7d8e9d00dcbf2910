package kubernetes

import (
	"context"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// A connection may come to lead to another cluster while it stands: a name or a
// load balancer points elsewhere, or a cluster was set up anew under its
// address. Seen from here everything of ours has vanished then, and putting it
// back would fill the wrong cluster. So what looks like that is believed only
// when the cluster still is the one that we connected to.

// identify asks which cluster answers. An error means that it is another one,
// or that it cannot be told.
func (c *Cluster) identify(ctx context.Context) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	ns, err := c.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return Classify("see which cluster answers", Ref{}, err)
	}
	if string(ns.UID) == c.uid {
		return nil
	}
	err = anotherCluster(c.target, c.uid, string(ns.UID))
	if c.elsewhere.CompareAndSwap(nil, &err) {
		c.log.Error("another cluster answers; nothing is done to it", "error", err)
		c.clusters.publish(watchEvents(c.owners()))
	}
	return err
}

// strayed is the error of a connection that leads to another cluster, nil
// otherwise.
func (c *Cluster) strayed() error {
	if err := c.elsewhere.Load(); err != nil {
		return *err
	}
	return nil
}

// refuse keeps changing requests from a cluster that is not ours, and from
// environments that somebody else acts on.
func (c *Cluster) refuse(r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if err := c.strayed(); err != nil {
			return err
		}
	}
	return c.fence.request(r)
}

func anotherCluster(target forge.Target, was, is string) error {
	e := &reconcile.Error{
		Kind: reconcile.Conflict, Op: "connect to " + target.String(),
		Err:  fmt.Errorf("context %s leads to another cluster than before (kube-system was %s and is %s); nothing is done to it", target, was, is),
		Hint: "if this is meant, restart forged; if not, repair the kubeconfig",
	}
	if target.Context == "" {
		e.Err = fmt.Errorf("cluster %s is another one than before (kube-system was %s and is %s); nothing is done to it", target, was, is)
		e.Hint = "if it was made anew, and this is meant, restart forged"
	}
	return e
}

// mistaken tells a list that may be of another cluster: it is of an earlier
// time, or of all that was there nothing is left. The caller holds c.mu.
func (w *watch) mistaken(states map[types.NamespacedName]State, rv string) bool {
	if !w.synced {
		return false
	}
	if olderThan(rv, w.rv) {
		return true
	}
	for key, old := range w.states {
		if old.Exists && states[key].UID == old.UID {
			return false
		}
	}
	return len(w.states) > 0
}
