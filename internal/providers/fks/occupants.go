package fks

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"forged.dev/forged/internal/providers/fly/api"
	forged "forged.dev/forged/internal/providers/kubernetes"
)

// inside is a client for one look into a cluster, and what ends it.
func (w *way) inside(ctx context.Context) (client *kubernetes.Clientset, leave func(), err error) {
	cfg, err := w.config(ctx)
	if err != nil {
		return nil, nil, err
	}
	over, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, nil, err
	}
	client, err = kubernetes.NewForConfigAndClient(cfg, over)
	return client, func() { utilnet.CloseIdleConnectionsFor(over.Transport) }, err
}

// occupantsLimit is how long it may take to find out who is in a cluster.
const occupantsLimit = 15 * time.Second

// occupants are the environments that forged keeps in a cluster, but for that of
// the cluster itself, as a person reads them: a cluster goes with all of them. Of
// those that nobody keeps here it knows nothing.
func occupants(ctx context.Context, w *way) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, occupantsLimit)
	defer cancel()
	inside, leave, err := w.inside(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	found, err := forged.Occupants(ctx, inside)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, o := range found {
		if o.Instance != w.accounts.Instance() || o.Environment != w.id.Environment {
			all = append(all, fmt.Sprintf("%s of %s (namespace %s)", o.Environment, o.Instance, o.Namespace))
		}
	}
	slices.Sort(all)
	return all, nil
}

// inhabited says what keeps a cluster from being destroyed; empty: nothing.
func (c *cluster) inhabited(ctx context.Context, occupants func(context.Context, *way) ([]string, error)) string {
	if c.Live.Status != api.AddOnReady && c.Live.Status != "" {
		return "" // nothing in it can be used
	}
	byHand := fmt.Sprintf("; when nobody needs it: fly ext kubernetes destroy %s", c.spec.Name)
	all, err := occupants(ctx, c.way)
	switch {
	case err != nil:
		return "who else is in it could not be looked at: " + err.Error() + byHand
	case len(all) > 0:
		return "others are in it: " + strings.Join(all, ", ") + "; take them down first" + byHand
	}
	return ""
}
