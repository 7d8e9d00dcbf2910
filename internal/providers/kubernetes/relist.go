package kubernetes

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
)

// pageSize of listings.
const pageSize = 500

// relist lists all that is watched and compares it with what the watches know,
// and looks whether the inventories are there.
func (v *verification) relist(ctx context.Context) {
	c := v.c
	c.sweep()
	c.mu.Lock()
	watches := make([]*watch, 0, len(c.watches))
	for _, w := range c.watches {
		if w.synced && w.err == nil {
			watches = append(watches, w)
		}
	}
	var inventories []*Inventory
	for _, slot := range c.inventories {
		if slot.inv != nil {
			inventories = append(inventories, slot.inv)
		}
	}
	c.mu.Unlock()
	for _, w := range watches {
		if ctx.Err() != nil {
			return
		}
		n, surprises, err := v.compare(ctx, w)
		if err != nil {
			c.log.DebugContext(ctx, "could not be listed for verification", "resource", w.key.gvr.GroupResource().String(), "error", err)
			continue
		}
		v.verified(n, len(surprises))
		if len(surprises) == 0 {
			continue
		}
		c.log.ErrorContext(ctx, "a watch had missed changes; it is begun anew; this is a bug in forged or in the API server, please report it",
			"resource", w.key.gvr.GroupResource().String(), "objects", len(surprises), "object", surprises[0].String())
		c.mu.Lock()
		events := c.eventsOf(w)
		if !w.ended {
			c.endWatch(w.key, w)
		}
		c.mu.Unlock()
		c.clusters.publish(events)
	}
	for _, inv := range inventories {
		inv.restore(ctx)
	}
}

// metadataList lists what a watch is to show, from the server's storage and not
// from a cache of it.
func (w *watch) metadataList(ctx context.Context) (items map[types.NamespacedName]*metav1.PartialObjectMetadata, rv string, err error) {
	o := metav1.ListOptions{Limit: pageSize}
	w.narrow(&o)
	items = map[types.NamespacedName]*metav1.PartialObjectMetadata{}
	for {
		bounded, cancel := bound(ctx)
		list, err := w.c.metadata.Resource(w.key.gvr).Namespace(w.key.namespace).List(bounded, o)
		cancel()
		if err != nil {
			return nil, "", err
		}
		for i := range list.Items {
			item := &list.Items[i]
			items[types.NamespacedName{Namespace: item.Namespace, Name: item.Name}] = item
		}
		if list.Continue == "" {
			return items, list.ResourceVersion, nil
		}
		o.Continue = list.Continue
	}
}

func (w *watch) narrow(o *metav1.ListOptions) {
	if w.key.name != "" {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, w.key.name).String()
	} else {
		o.LabelSelector = LabelInstance + "=" + w.c.instance
	}
}

// compare finds objects of which the watch knows something else than the server
// says. A watch may be a moment behind or ahead: what differs at first is
// compared again with a second listing, when the watch has had time.
func (v *verification) compare(ctx context.Context, w *watch) (objects int, surprises []Ref, err error) {
	items, rv, err := w.metadataList(ctx)
	if err != nil {
		return 0, nil, err
	}
	doubtful := w.doubtful(items, rv)
	if len(doubtful) == 0 {
		return len(items), nil, nil
	}
	if !v.wait(ctx, w, func() bool { return len(w.doubtful(items, rv)) == 0 }) {
		return 0, nil, ctx.Err()
	}
	again, rv, err := w.metadataList(ctx)
	if err != nil {
		return 0, nil, err
	}
	for key, was := range doubtful {
		// Only what has stayed as it was, and still is not known: everything
		// else is on its way.
		if now := w.doubtful(again, rv); now[key] != nil && now[key].same(was) {
			surprises = append(surprises, w.ref(key))
		}
	}
	return len(again), surprises, nil
}

// doubt is what the server says of an object of which the watch says otherwise.
type doubt struct{ rv string } // empty: it is not there

func (d *doubt) same(o *doubt) bool { return d.rv == o.rv }

func (w *watch) doubtful(items map[types.NamespacedName]*metav1.PartialObjectMetadata, rv string) map[types.NamespacedName]*doubt {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[types.NamespacedName]*doubt{}
	for key, item := range items {
		state, known := w.states[key]
		if known && (state.ResourceVersion == item.ResourceVersion || olderThan(item.ResourceVersion, state.ResourceVersion)) {
			continue
		}
		if !known && olderThan(rv, w.rv) {
			continue // the watch is ahead: it may have been deleted since
		}
		all[key] = &doubt{item.ResourceVersion}
	}
	for key, state := range w.states {
		if _, listed := items[key]; !listed && !olderThan(rv, state.ResourceVersion) {
			all[key] = &doubt{}
		}
	}
	return all
}

// wait gives a watch the time that it may lag behind; false when ctx ends.
func (v *verification) wait(ctx context.Context, w *watch, done func() bool) bool {
	late, stop := v.c.clusters.clock.After(lagTimeout)
	defer stop()
	for !done() {
		v.c.mu.Lock()
		moved := w.moved
		v.c.mu.Unlock()
		if done() {
			return true
		}
		select {
		case <-moved:
		case <-late:
			return true
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// restore writes an inventory anew that somebody has deleted: what it held is
// known as long as this process lives.
func (inv *Inventory) restore(ctx context.Context) {
	c := inv.c
	c.mu.Lock()
	kept, at := len(inv.records) > 0, inv.stored
	c.mu.Unlock()
	if !kept || !c.fence.acts(inv.key) {
		return
	}
	bounded, cancel := bound(ctx)
	defer cancel()
	_, err := c.metadata.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).
		Namespace(inv.key.namespace).Get(bounded, inv.name(), metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return
	}
	c.mu.Lock()
	same := inv.stored == at
	inv.dirty = inv.dirty || same
	c.mu.Unlock()
	if same {
		c.log.WarnContext(ctx, "somebody deleted an inventory; it is written again", "object", inv.ref().String())
		inv.flush(ctx)
	}
}
