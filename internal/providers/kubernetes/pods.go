package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// causePods is the cause of events about the pods of an object.
const causePods = "pods"

// coalesce is how long changes of pods are gathered before they are judged.
const coalesce = 100 * time.Millisecond

// reasonWait is how long the reason of a failure is waited for.
const reasonWait = 3 * time.Second

// mostPause bounds the time between two looks for pods that do not come.
const mostPause = 5 * time.Minute

// hasPods tells kinds whose pods say why they are not ready.
func hasPods(gk schema.GroupKind) bool {
	return gk == jobKind || gk == podKind ||
		gk.Group == "apps" && slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, gk.Kind)
}

// Health is the health of an object, state being what its watch shows, with
// what its pods have to say. While an object with pods is not ready its pods
// are watched; that begins here and ends as soon as it is ready, so that
// nothing is watched nor asked for in the steady state. What is found out
// later is told by an event of the resource. Only the reason of what has failed
// already is waited for, and not for long.
func (c *Cluster) Health(ctx context.Context, id forge.ID, ref Ref, state State) reconcile.Health {
	h := state.Health
	if !hasPods(ref.GVK.GroupKind()) {
		return h
	}
	f := c.podsOf(id, ref, state)
	if f == nil {
		return h
	}
	if h.Status == reconcile.Failed {
		late := time.NewTimer(reasonWait)
		defer late.Stop()
		select {
		case <-f.judged:
		case <-late.C:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return f.told.on(h)
}

// podsOf is the watch of the pods of an object that is not ready; nil for one
// that is, whose watch has ended.
func (c *Cluster) podsOf(id forge.ID, ref Ref, state State) *podWatch {
	c.mu.Lock()
	defer c.mu.Unlock()
	status := state.Health.Status
	troubled := state.Exists && !state.Deleting && (status == reconcile.Progressing || status == reconcile.Failed)
	f := c.pods[ref]
	if f != nil && (f.uid != state.UID || !troubled) {
		f.stop()
		delete(c.pods, ref)
		f = nil
	}
	if f != nil || !troubled {
		return f
	}
	ctx, cancel := context.WithCancel(c.ctx)
	f = &podWatch{
		c: c, id: id, ref: ref, uid: state.UID, stop: cancel, grace: c.clusters.podGrace,
		pods: map[string]podSeen{}, since: map[string]time.Time{},
		moved: make(chan struct{}, 1), judged: make(chan struct{}),
	}
	if !c.start(func(context.Context) { f.run(ctx) }) {
		cancel()
		return nil
	}
	if c.pods == nil {
		c.pods = map[Ref]*podWatch{}
	}
	c.pods[ref] = f
	return f
}

// podVerdict is what is told of the pods of an object.
type podVerdict struct {
	text  string // what is the matter, and the last lines of the log
	final bool
}

// on adds the verdict to a health.
func (v podVerdict) on(h reconcile.Health) reconcile.Health {
	if v.text == "" || strings.Contains(h.Message, v.text) {
		return h
	}
	if h.Message != "" {
		h.Message += "; "
	}
	h.Message += v.text
	if v.final {
		h.Status = reconcile.Failed
	}
	return h
}

// podWatch watches the pods of one object that is not ready. It is the store
// of a reflector.
type podWatch struct {
	c     *Cluster
	id    forge.ID
	ref   Ref
	uid   string // of the object
	stop  context.CancelFunc
	grace time.Duration
	moved chan struct{}

	judged chan struct{} // closed when there was a first verdict, or will be none
	once   sync.Once     // closes it

	told podVerdict // guarded by Cluster.mu

	mu    sync.Mutex
	pods  map[string]podSeen
	fresh bool  // a pod has come since the newest revision was looked for
	blind error // of the last list of the pods

	// Of run alone:
	since  map[string]time.Time // when troubles were first seen, by kind of trouble
	newest func(podSeen) bool
	logged string // key of the trouble whose log was read
	log    string
	left   string // by the container, to be shown with it
	quoted struct{ raw, clean string }
	pause  time.Duration // between looks for pods that nobody makes

	refused string // why no pods are made, where the object says so itself
}

// run watches until ctx ends, or the object has gone.
func (f *podWatch) run(ctx context.Context) {
	defer f.once.Do(func() { close(f.judged) })
	selector, err := f.look(ctx)
	for pause := f.grace; err != nil && ctx.Err() == nil; pause = min(2*pause, mostPause) {
		f.tell(podVerdict{}, err)
		f.once.Do(func() { close(f.judged) })
		select {
		case <-time.After(pause):
			selector, err = f.look(ctx)
		case <-ctx.Done():
		}
	}
	if err != nil || selector == nil {
		f.forget()
		f.stop()
		return
	}
	var watching sync.WaitGroup
	defer func() {
		f.stop()
		watching.Wait()
	}()
	watching.Go(func() { f.watch(quiet(ctx), selector) })
	timer := time.NewTimer(f.grace)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-f.moved:
			pause := time.NewTimer(coalesce)
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
				return
			}
		}
		next, gone := f.judge(ctx)
		if gone {
			f.forget()
			return
		}
		f.once.Do(func() { close(f.judged) })
		timer.Reset(next)
	}
}

// forget makes the next question about the object's health begin anew.
func (f *podWatch) forget() {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.c.pods[f.ref] == f {
		delete(f.c.pods, f.ref)
	}
}

// look reads the object, and finds out which of its pods are of the newest
// revision. A nil selector means that it is gone.
func (f *podWatch) look(ctx context.Context) (labels.Selector, error) {
	live, err := f.c.Get(ctx, f.ref)
	if err != nil || live == nil || string(live.GetUID()) != f.uid {
		return nil, err
	}
	f.refused = ""
	if c := conditionOf(conditionsOf(live.Object, "status"), "ReplicaFailure"); c.status == "True" {
		f.refused = "pods are refused: " + c.text()
	}
	if f.ref.GVK.GroupKind() == podKind {
		f.newest = func(p podSeen) bool { return p.owner == f.uid }
		return labels.Everything(), nil // it is found by its name
	}
	raw, _, _ := unstructured.NestedMap(live.Object, "spec", "selector")
	var s metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &s); err != nil {
		return nil, reconcile.Errorf(reconcile.Internal, "read the selector of "+f.ref.String(), "%v", err)
	}
	selector, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil {
		return nil, reconcile.Errorf(reconcile.Internal, "read the selector of "+f.ref.String(), "%v", err)
	}
	f.newest, err = f.revision(ctx, live, selector.String())
	return selector, err
}

// revision tells the pods of the newest revision of an object from others,
// which may be in trouble without that being the fault of what is rolled out.
func (f *podWatch) revision(ctx context.Context, live *unstructured.Unstructured, selector string) (func(podSeen) bool, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	switch f.ref.GVK.Kind {
	case "Deployment":
		sets, err := f.c.metadata.Resource(appsv1.SchemeGroupVersion.WithResource("replicasets")).Namespace(f.ref.Namespace).
			List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return nil, Classify("list the replica sets of", f.ref, err)
		}
		uid, most := types.UID(""), -1
		for _, set := range sets.Items {
			number := 0
			_, _ = fmt.Sscan(set.Annotations["deployment.kubernetes.io/revision"], &number)
			if metav1.IsControlledBy(&set, live) && number > most {
				uid, most = set.UID, number
			}
		}
		return func(p podSeen) bool { return p.owner == string(uid) }, nil
	case "StatefulSet":
		hash, _, _ := unstructured.NestedString(live.Object, "status", "updateRevision")
		return func(p podSeen) bool { return p.owner == f.uid && (hash == "" || p.hash == hash) }, nil
	case "DaemonSet":
		revisions, err := f.c.client.AppsV1().ControllerRevisions(f.ref.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return nil, Classify("list the revisions of", f.ref, err)
		}
		hash, most := "", int64(-1)
		for _, r := range revisions.Items {
			if metav1.IsControlledBy(&r, live) && r.Revision > most {
				hash, most = r.Labels[appsv1.ControllerRevisionHashLabelKey], r.Revision
			}
		}
		return func(p podSeen) bool { return p.owner == f.uid && (hash == "" || p.hash == hash) }, nil
	default:
		return func(p podSeen) bool { return p.owner == f.uid }, nil
	}
}

// judge finds the worst trouble of the pods that count and tells of it. It
// returns when to look again, and whether the object is gone.
func (f *podWatch) judge(ctx context.Context) (next time.Duration, gone bool) {
	f.mu.Lock()
	all := make([]podSeen, 0, len(f.pods))
	for _, p := range f.pods {
		all = append(all, p)
	}
	fresh, blind := f.fresh, f.blind
	f.fresh = false
	f.mu.Unlock()
	next = f.grace
	if blind != nil {
		f.tell(podVerdict{}, blind)
		return next, false
	}
	if len(all) == 0 {
		f.pause = min(max(f.grace, 2*f.pause), mostPause)
		next = f.pause
	}
	if fresh || len(all) == 0 {
		selector, err := f.look(ctx)
		if err == nil && selector == nil {
			return 0, true
		}
		if err != nil {
			f.mu.Lock()
			f.fresh = true
			f.mu.Unlock()
			f.tell(podVerdict{}, err)
			return next, false
		}
	}
	job := f.ref.GVK.Kind == "Job"
	if job && len(all) == 0 && f.logged != "" {
		return next, false // the pod that has said why is gone; what it said stands
	}
	slices.SortFunc(all, func(a, b podSeen) int { return strings.Compare(a.name, b.name) })
	now, worst := time.Now(), trouble{}
	current := map[string]time.Time{}
	for _, p := range all {
		t := p.trouble
		if p.ending && job && t.rank == rankNone {
			// Out of time: only its log can say what took so long.
			t = trouble{pod: p.name, container: p.first, rank: rankFailed, reason: "it was stopped", log: true}
		}
		if !f.newest(p) || p.ending && !job || t.rank == rankNone {
			continue // on its way out, or nobody's trouble
		}
		kind := fmt.Sprintf("%s/%s/%d", p.name, t.container, t.rank)
		current[kind] = now
		if first, known := f.since[kind]; known {
			current[kind] = first
		}
		lasted := now.Sub(current[kind])
		if t.toldAfter || t.failsAfter {
			if left := f.grace - lasted; left > 0 {
				next = min(next, left)
				if t.toldAfter {
					continue
				}
			} else if t.failsAfter {
				t.final = true
			}
		}
		if t.rank > worst.rank || t.rank == worst.rank && t.final && !worst.final {
			worst = t
		}
	}
	f.since = current
	f.tell(f.describe(ctx, worst, len(all)), nil)
	return next, false
}

// describe puts a trouble into words, with the log of its container.
func (f *podWatch) describe(ctx context.Context, t trouble, pods int) podVerdict {
	switch {
	case t.rank == rankNone && pods == 0:
		if f.refused != "" {
			return podVerdict{text: guarded(f.refused)}
		}
		return podVerdict{text: guarded(f.event(ctx, f.ref.GVK.Kind, f.ref.Name))}
	case t.rank == rankNone:
		return podVerdict{}
	case t.rank == rankPending, t.rank == rankUnready:
		t.words = f.event(ctx, "Pod", t.pod)
	default:
		t.words = f.words(ctx, t.reason, t.words)
	}
	if key := t.key(); t.log && key != f.logged {
		f.left, f.log = f.lastWords(ctx, t)
		f.logged = key
	}
	if t.log && t.left != "" {
		t.words = f.left
	}
	v := podVerdict{text: guarded(t.String()), final: t.final}
	if t.log && f.log != "" {
		v.text += "; " + f.log
	}
	return v
}

// tell notes a verdict, and has the resource looked at again if it is another
// one. That pods cannot be seen is said, and decides nothing.
func (f *podWatch) tell(v podVerdict, err error) {
	if err != nil {
		v.text = "why it is not ready cannot be seen: " + err.Error()
	}
	f.c.mu.Lock()
	same := f.told == v
	f.told = v
	f.c.mu.Unlock()
	if !same {
		f.c.clusters.publish([]reconcile.Event{{ID: f.id, Cause: causePods, At: time.Now(), Object: f.ref.String()}})
	}
}
