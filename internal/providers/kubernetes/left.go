package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

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

// HomeID is the id that a resource had, or has, in the place where it is. It
// differs from the one that is asked about for what was left behind when an
// environment moved: there the same name is wanted in another place.
func HomeID(id forge.ID) forge.ID {
	home, _, _, _ := id.Home()
	return home
}

// seenFrom gives a record and its needs the place that an id names.
func (r Record) seenFrom(id forge.ID) Record {
	r.ID = id
	if _, namespace, cluster, ok := id.Home(); ok {
		for i := range r.Needs {
			r.Needs[i] = r.Needs[i].LeftIn(namespace, cluster)
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
	left      bool   // nothing is wanted there
	elsewhere string // the cluster, where nothing is wanted in it at all
}

// elsewhereIn is where something was left in a cluster in which nothing is wanted.
func elsewhereIn(c *Cluster, l Left) placeAt {
	return placeAt{cluster: c, target: l.Target, namespace: l.Namespace, left: true, elsewhere: l.Target.String()}
}

// id is what a resource that the place's inventory lists is called here.
func (at placeAt) id(home forge.ID) forge.ID {
	if !at.left {
		return home
	}
	return home.LeftIn(at.namespace, at.elsewhere)
}

// standing is where resources of an environment are wanted, as far as that can be
// reached.
type standing struct {
	homes   []Left
	targets []forge.Target
	places  []placeAt
}

// places are those where resources are wanted and those where some were left.
// Which these are is known from forge.cue, if it says where the environment was
// before; from the inventories that bear the environment's name in any namespace
// of its clusters; from what this process has seen; and, of other clusters, from
// what is noted in the inventory of where it is now. lost are those that cannot
// be reached. With an error, they are not all.
func (cs *Clusters) places(ctx context.Context, environment string, wanted []forge.Resource) (places, lost []placeAt, err error) {
	at, err := cs.standing(ctx, wanted)
	told, lost := cs.told(ctx, wanted, at.homes)
	places = at.places
	for _, p := range told {
		if !slices.Contains(at.targets, p.target) {
			found, unread := p.cluster.left(ctx, environment, p.target, p.elsewhere, p.namespace)
			places = append(places, found...)
			if unread != nil {
				lost = append(lost, p)
			}
		}
	}
	if err != nil || len(at.homes) == 0 {
		return places, lost, err
	}
	var unlisted error
	for _, t := range at.targets {
		c, err := cs.Cluster(ctx, t)
		if err != nil {
			return places, lost, err
		}
		var named []string
		for _, p := range told {
			if p.target == t {
				named = append(named, p.namespace)
			}
		}
		found, err := c.left(ctx, environment, t, "", named...)
		if unlisted == nil {
			unlisted = err
		}
		for _, p := range found {
			if !slices.Contains(at.homes, Left{t, p.namespace, c.uid}) {
				places = append(places, p)
			}
		}
	}
	found, gone, err := cs.remembered(ctx, environment, at, append(slices.Clone(told), lost...))
	if unlisted != nil {
		err = unlisted
	}
	return append(places, found...), append(lost, gone...), err
}

// standing connects to where resources are wanted. What is in a cluster that is
// gone is gone with it.
func (cs *Clusters) standing(ctx context.Context, wanted []forge.Resource) (at standing, err error) {
	type home struct {
		target    forge.Target
		namespace string
	}
	seen := map[home]bool{}
	for _, r := range wanted {
		namespace := namespaceOf(r.Spec)
		if namespace == "" || seen[home{r.Target, namespace}] {
			continue
		}
		seen[home{r.Target, namespace}] = true
		c, cerr := cs.Cluster(ctx, r.Target)
		if errors.Is(cerr, reconcile.ErrGone) {
			continue
		}
		if cerr != nil {
			if err == nil {
				err = cerr
			}
			continue
		}
		at.homes = append(at.homes, Left{r.Target, namespace, c.uid})
		at.places = append(at.places, placeAt{cluster: c, target: r.Target, namespace: namespace})
		if !slices.Contains(at.targets, r.Target) {
			at.targets = append(at.targets, r.Target)
		}
	}
	return at, err
}

// told are the places where forge.cue says that an environment was before. What
// is among the clusters where it is now bears the name that it has there.
func (cs *Clusters) told(ctx context.Context, wanted []forge.Resource, homes []Left) (known, lost []placeAt) {
	for _, r := range wanted {
		spec, ok := r.Spec.(forge.FormerSpec)
		if !ok {
			continue
		}
		l := Left{Target: r.Target, Namespace: spec.Namespace}
		c, err := cs.reach(ctx, r.Target)
		if err != nil {
			lost = append(lost, elsewhereIn(nil, l)) // whatever is wrong: somebody has said that it is there
			continue
		}
		if i := slices.IndexFunc(homes, func(h Left) bool { return h.ClusterUID == c.uid }); i >= 0 {
			l.Target = homes[i].Target
		}
		known = append(known, elsewhereIn(c, l))
	}
	return known, lost
}

// remembered finds what was left in other clusters without forge.cue saying so,
// and keeps in mind where that was.
func (cs *Clusters) remembered(ctx context.Context, environment string, at standing, told []placeAt) (places, lost []placeAt, err error) {
	note, err := at.places[0].cluster.Inventory(ctx, environment, at.places[0].namespace)
	if err != nil {
		return nil, nil, err
	}
	known := slices.Clone(at.homes)
	for _, p := range told {
		l := Left{Target: p.target}
		if p.cluster != nil {
			l.ClusterUID = p.cluster.uid
		}
		known = append(known, l)
	}
	var still []Left
	for _, l := range cs.formerHomes(environment, at.homes, note.leftElsewhere()) {
		if slices.ContainsFunc(known, l.sameCluster) || slices.ContainsFunc(still, func(s Left) bool { return s.Target == l.Target }) {
			continue // looked at already, under this name or another
		}
		found, reached := cs.lookAt(ctx, environment, l)
		switch {
		case !reached:
			lost, still = append(lost, elsewhereIn(nil, l)), append(still, l)
		case len(found) > 0:
			places, still = append(places, found...), append(still, l)
		}
	}
	note.noteLeft(ctx, still)
	cs.rememberHomes(environment, append(at.homes, still...))
	return places, lost, nil
}

func (l Left) sameCluster(other Left) bool {
	return l.Target == other.Target || l.ClusterUID != "" && l.ClusterUID == other.ClusterUID
}

// lookAt finds what was left in another cluster. A context that the kubeconfig
// does not have any more, or that leads to another cluster now, is how a person
// says that the old one is gone; so is a cluster on Fly that was deleted.
func (cs *Clusters) lookAt(ctx context.Context, environment string, l Left) (found []placeAt, known bool) {
	c, err := cs.reach(ctx, l.Target)
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
	found, err = c.left(ctx, environment, l.Target, l.Target.String())
	return found, err == nil
}

// unreached is a cluster that could not be connected to.
type unreached struct {
	err error
	at  time.Time
}

// reach connects to a cluster in which nothing is wanted. One that does not answer
// is tried once for all providers that ask together: what is to be said of the
// others is not to wait for it.
func (cs *Clusters) reach(ctx context.Context, target forge.Target) (*Cluster, error) {
	cs.mu.Lock()
	known, ok := cs.away[target]
	cs.mu.Unlock()
	if ok && since(cs.clock, known.at) < listedFor {
		return nil, known.err
	}
	c, err := cs.Cluster(ctx, target)
	if err != nil && ctx.Err() == nil {
		cs.mu.Lock()
		cs.away[target] = unreached{err, cs.clock.Now()}
		cs.mu.Unlock()
	}
	return c, err
}

// left are the places of an environment in a cluster, and those that are named,
// even where places may not be listed. With an error, they are not all.
func (c *Cluster) left(ctx context.Context, environment string, target forge.Target, elsewhere string, named ...string) (places []placeAt, err error) {
	listed, err := c.inventoriesOf(ctx, environment)
	for _, namespace := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(listed, named)))) {
		places = append(places, placeAt{cluster: c, target: target, namespace: namespace, left: true, elsewhere: elsewhere})
	}
	return places, err
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
