package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Left is a place where resources of an environment are, or were before forge.cue
// moved it elsewhere.
type Left struct {
	Target     forge.Target
	Namespace  string
	ClusterUID string
}

// leftText is a Left as it is written down.
type leftText struct {
	Kubeconfig  string   `json:"kubeconfig,omitempty"`
	Context     string   `json:"context"`
	Impersonate string   `json:"impersonate,omitempty"`
	Cluster     forge.ID `json:"cluster,omitzero"`
	Namespace   string   `json:"namespace"`
	ClusterUID  string   `json:"clusterUID"`
}

// MarshalJSON implements json.Marshaler.
func (l Left) MarshalJSON() ([]byte, error) {
	return json.Marshal(leftText{l.Target.Kubeconfig, l.Target.Context, l.Target.Impersonate, l.Target.Cluster, l.Namespace, l.ClusterUID})
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *Left) UnmarshalJSON(b []byte) error {
	var t leftText
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	*l = Left{forge.Target{Kubeconfig: t.Kubeconfig, Context: t.Context, Impersonate: t.Impersonate, Cluster: t.Cluster}, t.Namespace, t.ClusterUID}
	return nil
}

// aside separates the name of a resource from the place where it was left:
// "app@@old-namespace".
const aside = "@@"

// HomeID is the id that a resource had, or has, in the place where it is. It
// differs from the one that is asked about for what was left behind when an
// environment moved: there the same name is wanted in another place.
func HomeID(id forge.ID) forge.ID {
	id.Name, _, _ = strings.Cut(id.Name, aside)
	return id
}

func suffixOf(namespace string, target forge.Target, sameTarget bool) string {
	if sameTarget {
		return aside + namespace
	}
	return aside + namespace + "@" + target.String()
}

// seenFrom gives a record and its needs the place that an id names.
func (r Record) seenFrom(id forge.ID) Record {
	r.ID = id
	if _, place, ok := strings.Cut(id.Name, aside); ok {
		for i := range r.Needs {
			r.Needs[i].Name += aside + place
		}
	}
	return r
}

// atHome is a copy of a record as it is kept.
func (r Record) atHome() Record {
	r = r.clone()
	r.ID = HomeID(r.ID)
	for i := range r.Needs {
		r.Needs[i] = HomeID(r.Needs[i])
	}
	return r
}

// placeAt is a place where an environment has, or had, an inventory.
type placeAt struct {
	cluster   *Cluster
	target    forge.Target
	namespace string
	suffix    string // of ids there; empty where resources are wanted
}

// places are those where resources are wanted and those where some were left.
// Which these are is known from the inventories that bear the environment's name
// in any namespace of its clusters; from what this process has seen; and, of
// other clusters, from what is noted in the inventory of where it is now. lost
// are those that cannot be reached.
func (cs *Clusters) places(ctx context.Context, environment string, wanted []forge.Resource) (places []placeAt, lost []Left, err error) {
	var targets []forge.Target
	var homes []Left
	for _, r := range wanted {
		namespace := namespaceOf(r.Spec)
		if namespace == "" || slices.ContainsFunc(homes, func(h Left) bool { return h.Target == r.Target && h.Namespace == namespace }) {
			continue
		}
		c, err := cs.Cluster(ctx, r.Target)
		if errors.Is(err, reconcile.ErrGone) {
			continue // with all that was in it
		}
		if err != nil {
			return nil, nil, err
		}
		homes = append(homes, Left{r.Target, namespace, c.uid})
		places = append(places, placeAt{c, r.Target, namespace, ""})
		if !slices.Contains(targets, r.Target) {
			targets = append(targets, r.Target)
		}
	}
	if len(homes) == 0 {
		return nil, nil, nil
	}
	for _, t := range targets {
		c, err := cs.Cluster(ctx, t)
		if err != nil {
			return nil, nil, err
		}
		for _, namespace := range c.inventoriesOf(ctx, environment) {
			if !slices.Contains(homes, Left{t, namespace, c.uid}) {
				places = append(places, placeAt{c, t, namespace, suffixOf(namespace, t, true)})
			}
		}
	}
	note, err := places[0].cluster.Inventory(ctx, environment, places[0].namespace)
	if err != nil {
		return nil, nil, err
	}
	uids := make([]string, 0, len(homes))
	for _, h := range homes {
		uids = append(uids, h.ClusterUID)
	}
	var still []Left
	for _, l := range cs.formerHomes(environment, homes, note.leftElsewhere()) {
		if slices.Contains(targets, l.Target) || slices.Contains(uids, l.ClusterUID) || slices.ContainsFunc(still, func(s Left) bool { return s.Target == l.Target }) {
			continue // seen above, under this name or another
		}
		found, known := cs.lookAt(ctx, environment, l)
		switch {
		case !known:
			lost, still = append(lost, l), append(still, l)
		case len(found) > 0:
			places, still = append(places, found...), append(still, l)
		}
	}
	note.noteLeft(ctx, still)
	cs.rememberHomes(environment, append(homes, still...))
	return places, lost, nil
}

// lookAt finds what was left in another cluster. A context that the kubeconfig
// does not have any more, or that leads to another cluster now, is how a person
// says that the old one is gone; so is a cluster on Fly that was deleted.
func (cs *Clusters) lookAt(ctx context.Context, environment string, l Left) (found []placeAt, known bool) {
	c, err := cs.Cluster(ctx, l.Target)
	dropped := err != nil && reconcile.KindOf(err) == reconcile.Invalid
	if l.Target.Context == "" {
		dropped = errors.Is(err, reconcile.ErrGone) // what else is wrong with the way says nothing of the cluster
	}
	if dropped || err == nil && c.uid != l.ClusterUID {
		cs.opts.Logger.WarnContext(ctx, "an environment had moved away from a cluster that cannot be reached any more; what was left there is forgotten",
			"environment", environment, "cluster", l.Target.String(), "namespace", l.Namespace)
		return nil, true
	}
	if err != nil {
		return nil, false
	}
	for _, namespace := range c.inventoriesOf(ctx, environment) {
		found = append(found, placeAt{c, l.Target, namespace, suffixOf(namespace, l.Target, false)})
	}
	return found, true
}

// formerHomes are places known from before that are not wanted now.
func (cs *Clusters) formerHomes(environment string, homes, noted []Left) []Left {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var former []Left
	for _, l := range append(slices.Clone(cs.homes[environment]), noted...) {
		if !slices.Contains(homes, l) && !slices.Contains(former, l) {
			former = append(former, l)
		}
	}
	return former
}

func (cs *Clusters) rememberHomes(environment string, homes []Left) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.homes[environment] = homes
}

// leftElsewhere is what is noted of other clusters.
func (inv *Inventory) leftElsewhere() []Left {
	inv.c.mu.Lock()
	defer inv.c.mu.Unlock()
	return slices.Clone(inv.left)
}

// noteLeft notes where else to look after a restart. If it cannot be written
// now, it is with the next write.
func (inv *Inventory) noteLeft(ctx context.Context, left []Left) {
	c := inv.c
	c.mu.Lock()
	same := slices.Equal(inv.left, left)
	inv.left, inv.dirty = left, inv.dirty || !same
	c.mu.Unlock()
	if same || !c.fence.acts(inv.key) {
		return // who only looks writes nothing; who acts does it when that is certain
	}
	if err := inv.update(ctx, func() func() { return func() {} }); err != nil {
		c.log.DebugContext(ctx, "where an environment had been is not noted yet", "environment", inv.key.environment, "error", err)
	}
}

// listedPlaces is what a listing has shown, for the providers that ask together.
type listedPlaces struct {
	namespaces []string
	at         time.Time
}

const listedFor = 5 * time.Second

// inventoriesOf lists the namespaces of the cluster in which an environment has
// an inventory of ours. Where that may not be listed, what is left elsewhere is
// not seen, and so not touched.
func (c *Cluster) inventoriesOf(ctx context.Context, environment string) []string {
	clock := c.clusters.clock
	c.mu.Lock()
	known, ok := c.listed[environment]
	c.mu.Unlock()
	if ok && since(clock, known.at) < listedFor {
		return known.namespaces
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	list, err := c.metadata.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).
		List(ctx, metav1.ListOptions{LabelSelector: labelInventory + "=" + c.instance})
	if err != nil {
		if !apierrors.IsForbidden(err) {
			c.log.WarnContext(ctx, "whether something of an environment was left in another namespace is not known",
				"environment", environment, "error", Classify("list inventories", Ref{}, err))
		}
		return nil
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
		c.listed[name] = listedPlaces{namespaces, now}
	}
	return all[environment]
}
