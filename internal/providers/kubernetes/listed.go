package kubernetes

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// listedPlaces is what a listing has shown, for the providers that ask together.
type listedPlaces struct {
	namespaces []string
	err        error
	at         time.Time
}

const listedFor = 5 * time.Second

// inventoriesOf lists the namespaces of the cluster in which an environment has
// an inventory of ours. Where that may not be listed, what is left elsewhere is
// not seen, and so not touched: it is no error, since who may only act in namespaces
// of their own could remove nothing there ever.
func (c *Cluster) inventoriesOf(ctx context.Context, environment string) ([]string, error) {
	clock := c.clusters.clock
	c.mu.Lock()
	known, ok := c.listed[environment]
	c.mu.Unlock()
	if ok && since(clock, known.at) < listedFor {
		return known.namespaces, known.err
	}
	short, cancel := bound(ctx)
	defer cancel()
	list, err := c.metadata.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).
		List(short, metav1.ListOptions{LabelSelector: labelInventory + "=" + c.instance})
	if err != nil {
		if apierrors.IsForbidden(err) {
			err = nil
		}
		err = Classify("list what is owned in "+c.target.String(), Ref{}, err)
		if ctx.Err() == nil { // who asks for another kind gets the same answer
			c.mu.Lock()
			defer c.mu.Unlock()
			c.listed[environment] = listedPlaces{nil, err, clock.Now()}
		}
		return nil, err
	}
	all := map[string][]string{environment: nil}
	for i := range list.Items {
		if name, ok := strings.CutPrefix(list.Items[i].Name, inventoryPrefix); ok {
			all[name] = append(all[name], list.Items[i].Namespace)
		}
	}
	now := clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, namespaces := range all {
		slices.Sort(namespaces)
		c.listed[name] = listedPlaces{namespaces, nil, now}
	}
	return all[environment], nil
}
