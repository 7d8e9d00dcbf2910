package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// mostOfKind is how many objects of one kind are looked at in a namespace that
// is to be empty, and shownTenants how many of all are named.
const (
	mostOfKind   = 50
	shownTenants = 8
)

// published are ConfigMaps that the control plane puts into every namespace.
var published = []string{"kube-root-ca.crt", "openshift-service-ca.crt", "istio-ca-root-cert"}

// passing are kinds whose objects come and go by themselves.
var passing = []string{"events", "events.events.k8s.io", "pods.metrics.k8s.io"}

// delete deletes the namespace if nothing is left in it.
func (n *namespace) delete(ctx context.Context, id forge.ID) error {
	if blocked, err := n.inhabited(ctx, id); err != nil || blocked != "" {
		if err == nil {
			err = &reconcile.Error{Kind: reconcile.Stale, ID: id, Object: n.ref.String(), Op: "delete", Err: errors.New(blocked)}
		}
		return err
	}
	live, err := n.cluster.Get(ctx, n.ref)
	if err != nil {
		return err
	}
	if live != nil && n.cluster.Still(live, id, n.entry) {
		if Kept(live) {
			err = n.cluster.letGo(ctx, n.ref, live, id)
		} else {
			err = n.cluster.Delete(ctx, n.ref, n.entry.Baseline.UID)
		}
		if err != nil {
			return err
		}
	}
	return n.inv.Drop(ctx, id)
}

// inhabited says what keeps the namespace from being deleted; empty: nothing.
func (n *namespace) inhabited(ctx context.Context, id forge.ID) (string, error) {
	found, more, err := n.cluster.tenants(ctx, n.spec.Name, id.Environment)
	if err != nil || len(found) == 0 {
		return "", err
	}
	names := make([]string, 0, shownTenants)
	for _, ref := range found[:min(shownTenants, len(found))] {
		names = append(names, ref.GVK.Kind+" "+ref.Name)
	}
	text := strings.Join(names, ", ")
	switch rest := len(found) - len(names); {
	case more && rest == 0:
		text += " and others"
	case more:
		text += fmt.Sprintf(" and more than %d others", rest)
	case rest > 0:
		text += fmt.Sprintf(" and %d others", rest)
	}
	return "it is not empty, and forged deletes no namespace that is not: it holds " + text +
		"; when nothing of that is needed: " + n.kubectl("delete"), nil
}

// tenants lists what is in a namespace, of every kind that can be listed, but
// for what a control plane puts there by itself and for our own notes. What an
// object controls goes with it and is not named. more tells that there may be
// others. An error means that nothing is known: what cannot be listed is not
// taken for absent. A kind may go while it is looked for: what is served then is
// asked for again.
func (c *Cluster) tenants(ctx context.Context, namespace, environment string) (found []Ref, more bool, err error) {
	for range attemptsAgainstOthers {
		found, more, err = c.tenantsNow(ctx, namespace, environment)
		if _, gone := errors.AsType[goneKind](err); !gone {
			break
		}
	}
	return found, more, err
}

// goneKind is the error of a list of a kind that was served a moment ago.
type goneKind struct{ error }

func (e goneKind) Unwrap() error { return e.error }

func (c *Cluster) tenantsNow(ctx context.Context, namespace, environment string) (found []Ref, more bool, err error) {
	kinds, err := c.namespaced(ctx)
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	each := make([]struct {
		found []Ref
		more  bool
	}, len(kinds))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxWrites)
	for i, k := range kinds {
		g.Go(func() (err error) {
			each[i].found, each[i].more, err = c.tenantsOf(ctx, k, namespace, environment)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, false, err
	}
	for _, e := range each {
		found, more = append(found, e.found...), more || e.more
	}
	slices.SortFunc(found, func(a, b Ref) int {
		if x, y := holdsData(a), holdsData(b); x != y {
			if x {
				return -1
			}
			return 1
		}
		return a.Compare(b)
	})
	return found, more, nil
}

// tenantsOf are those of one kind. Pages of what does not count are read to their
// end, or to the first that does: a namespace is empty when all of it was seen.
func (c *Cluster) tenantsOf(ctx context.Context, k listable, namespace, environment string) (found []Ref, more bool, err error) {
	gr := k.gvr.GroupResource()
	o := metav1.ListOptions{Limit: mostOfKind}
	for {
		list, err := c.metadata.Resource(k.gvr).Namespace(namespace).List(ctx, o)
		if err != nil {
			gone := apierrors.IsNotFound(err)
			err = Classify("list "+gr.String()+" in namespace "+namespace, Ref{}, err)
			var e *reconcile.Error
			if errors.As(err, &e) && e.Kind == reconcile.Denied {
				e.Hint = "to delete a namespace, forged has to see that it is empty: it needs the verb list on everything in it; or delete it yourself"
			}
			if gone {
				err = goneKind{err}
			}
			return nil, false, err
		}
		for i := range list.Items {
			item := &list.Items[i]
			ref := Ref{GVK: k.gvk, Namespace: namespace, Name: item.Name}
			// What is controlled counts by its controller; but data always does.
			if (controllerOf(item) == "" || holdsData(ref)) && !c.furniture(gr, item, environment) && !going(gr, item) {
				found = append(found, ref)
			}
		}
		if o.Continue = list.Continue; o.Continue == "" || len(found) > 0 {
			return found, o.Continue != "", nil
		}
	}
}

// furniture is what does not count as content of a namespace.
func (c *Cluster) furniture(gr schema.GroupResource, o *metav1.PartialObjectMetadata, environment string) bool {
	inventory := inventoryPrefix + environment
	switch gr.String() {
	case "configmaps":
		return slices.Contains(published, o.Name) ||
			o.Name == inventory && o.Labels[labelInventory] == c.instance ||
			strings.HasPrefix(o.Name, inventory+".") && o.Labels[labelPart] == c.instance
	case "leases.coordination.k8s.io":
		return o.Name == "forged-"+environment && o.Labels[managedByLabel] == managedByForged
	case "serviceaccounts":
		return o.Name == "default"
	case "secrets":
		return o.Annotations["kubernetes.io/service-account.name"] == "default" && strings.HasPrefix(o.Name, "default-token-")
	}
	return false
}

// going tells whether an object of a kind of Kubernetes itself is being deleted:
// nothing can keep it, and a claim or a load balancer may take a while. What does
// that for custom resources may need the namespace for it. Their groups have a
// dot, by the rules for definitions.
func going(gr schema.GroupResource, o *metav1.PartialObjectMetadata) bool {
	return o.DeletionTimestamp != nil && !strings.Contains(gr.Group, ".")
}

// listable is a kind of objects in namespaces.
type listable struct {
	gvr schema.GroupVersionResource
	gvk schema.GroupVersionKind
}

// namespaced lists the kinds that live in namespaces and can be listed, each in
// one version. It fails when an API does not answer: its objects would be
// overlooked.
func (c *Cluster) namespaced(ctx context.Context) ([]listable, error) {
	c.ResetDiscovery() // a kind that was defined since may have objects there
	_, lists, err := c.discovery.ServerGroupsAndResourcesWithContext(quiet(ctx))
	if err != nil {
		e := Classify("discover what may be in a namespace", Ref{}, err)
		var typed *reconcile.Error
		if errors.As(e, &typed) && typed.Kind == reconcile.Internal {
			typed.Kind = reconcile.Unavailable
		}
		return nil, e
	}
	var kinds []listable
	known := map[schema.GroupResource]bool{}
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			return nil, reconcile.Errorf(reconcile.Internal, "discover what may be in a namespace", "%v", err)
		}
		for _, r := range l.APIResources {
			gvr := gv.WithResource(r.Name)
			if gvr.GroupResource().String() == "endpoints" {
				continue // a Service's, and listing them is answered with a warning
			}
			if slices.Contains(passing, gvr.GroupResource().String()) {
				continue
			}
			if !r.Namespaced || strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") || known[gvr.GroupResource()] {
				continue
			}
			known[gvr.GroupResource()] = true
			kinds = append(kinds, listable{gvr, gv.WithKind(r.Kind)})
		}
	}
	return kinds, nil
}
