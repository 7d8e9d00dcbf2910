package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// annotationProcess lets a process on the same machine see that the holder has
// ended, without waiting for its lease to run out.
const annotationProcess = "forged.dev/process"

// leaseTimes of one lease. A renewal is a request, so they are long.
type leaseTimes struct {
	duration time.Duration // after so long without renewal, as seen by another, it is free
	renew    time.Duration
	lapse    time.Duration // after so long without renewal the holder stops writing
	retry    time.Duration // after a renewal that failed
}

var defaultLeaseTimes = leaseTimes{duration: 90 * time.Second, renew: 30 * time.Second, lapse: 60 * time.Second, retry: 5 * time.Second}

// Leases keeps one Lease for each environment in each of its namespaces, and
// renews those it holds. No clock is compared with another machine's: a lease is
// free when nobody was seen to renew it for its whole duration.
type Leases struct {
	clusters *Clusters
	holder   string
	process  string
	times    leaseTimes
	watchers reconcile.LeaseWatchers

	mu     sync.Mutex
	leases map[leaseKey]*lease
}

var _ reconcile.Leases = (*Leases)(nil)

type leaseKey struct {
	target forge.Target
	inventoryKey
}

// NewLeases makes leases for this process. They are given back when the
// clusters are closed.
func NewLeases(clusters *Clusters) *Leases {
	return &Leases{
		clusters: clusters, holder: reconcile.LeaseHolder(), process: process(), times: defaultLeaseTimes,
		leases: map[leaseKey]*lease{},
	}
}

// lease is one of them.
type lease struct {
	all *Leases
	c   *Cluster
	key leaseKey

	turn chan struct{} // lock around requests
	gone chan struct{} // closed when nobody wants it any more

	mu      sync.Mutex
	held    bool
	renewed time.Time // when the last renewal that succeeded was sent
	rv      string    // of the Lease as it was seen last
	seen    time.Time // since when it is this one
	asked   time.Time // when it was looked at last
	other   string    // who holds it, in words
	given   bool      // given back: it is not asked for again
	told    bool      // that it is held: what everybody knows

	trouble reconcile.LeaseTrouble // of whoever has the turn
}

func (l *lease) name() string { return "forged-" + l.key.environment }

func (l *lease) ref() Ref {
	return Ref{GVK: coordinationv1.SchemeGroupVersion.WithKind("Lease"), Namespace: l.key.namespace, Name: l.name()}
}

// lapsed tells that this process held the lease and may not count on it now.
func (l *lease) lapsed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.valid()
}

// valid tells that it is held, and was renewed not long ago. The caller holds mu.
func (l *lease) valid() bool {
	return l.held && since(l.c.clusters.clock, l.renewed) < l.all.times.lapse
}

// Hold implements reconcile.Leases.
func (ls *Leases) Hold(ctx context.Context, environment string, r forge.Resource) (reconcile.Lease, error) {
	namespace := leasedIn(r.Spec)
	if namespace == "" {
		return reconcile.Lease{Held: true, None: true}, nil // it is in no namespace
	}
	key := leaseKey{r.Target, inventoryKey{environment, namespace}}
	ls.mu.Lock()
	l := ls.leases[key]
	ls.mu.Unlock()
	if l != nil && l.c.ctx.Err() == nil {
		l.mu.Lock()
		valid := l.valid()
		l.mu.Unlock()
		if valid {
			return reconcile.Lease{Held: true}, nil
		}
	} else {
		c, err := ls.clusters.Cluster(ctx, r.Target)
		if err != nil {
			return reconcile.Lease{}, err
		}
		l = ls.open(c, key)
	}
	return l.ask(ctx)
}

// leasedIn is the namespace whose lease covers a resource.
func leasedIn(spec forge.Spec) string {
	switch s := spec.(type) {
	case forge.CheckSpec:
		return s.Namespace
	case forge.RolesSpec:
		return s.Namespace
	default:
		return namespaceOf(spec)
	}
}

// open begins to keep a lease in a cluster.
func (ls *Leases) open(c *Cluster, key leaseKey) *lease {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.leases[key]; l != nil && l.c == c {
		return l
	}
	l := &lease{all: ls, c: c, key: key, turn: make(chan struct{}, 1), gone: make(chan struct{})}
	ls.leases[key] = l
	c.Go(l.run)
	c.atEnd(l.release)
	return l
}

// ask makes sure of the lease, with a request if need be.
func (l *lease) ask(ctx context.Context) (reconcile.Lease, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return reconcile.Lease{}, Classify("ask for", l.ref(), ctx.Err())
	}
	l.mu.Lock()
	switch clock := l.c.clusters.clock; {
	case l.valid():
		l.mu.Unlock()
		return reconcile.Lease{Held: true}, nil
	case l.other != "" && !l.held && since(clock, l.asked) < l.all.times.retry && since(clock, l.seen) < l.all.times.duration:
		other := l.other // asked a moment ago
		l.mu.Unlock()
		return reconcile.Lease{Holder: other}, nil
	}
	l.given = false
	l.mu.Unlock()
	ctx, cancel := bound(ctx)
	defer cancel()
	now, err := l.acquire(ctx)
	if err == nil {
		l.news(now.Held)
	}
	return now, err
}

// news tells whether it is news that the lease is held, or is not.
func (l *lease) news(held bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	news := l.told != held
	l.told = held
	return news
}

// run renews the lease while it is held, and looks whether it is free while it
// is not, until the cluster is closed.
func (l *lease) run(ctx context.Context) {
	wait := l.all.times.renew
	for {
		fires, stop := l.c.clusters.clock.After(wait)
		select {
		case <-fires:
		case <-l.gone:
			stop()
			return
		case <-ctx.Done():
			stop()
			return
		}
		wait = l.tend(ctx)
	}
}

// tend renews or looks once, and says when to do so again.
func (l *lease) tend(ctx context.Context) time.Duration {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return l.all.times.renew
	}
	l.mu.Lock()
	was, valid, given, never := l.held, l.valid(), l.given, l.renewed.IsZero() && l.other == ""
	l.mu.Unlock()
	if given || never {
		return l.all.times.renew // nobody has asked for it
	}
	bounded, cancel := context.WithTimeout(ctx, min(requestTimeout, l.all.times.renew))
	defer cancel()
	now, err := l.renewOrAsk(bounded, was)
	if ctx.Err() != nil {
		return l.all.times.renew
	}
	over := l.trouble.Tell(l.c.log, l.key.environment, now, err)
	held := now.Held || err != nil && !l.lapsed()
	if l.news(held) || over || !valid && !l.lapsed() {
		l.all.watchers.Tell(l.key.environment)
	}
	if err != nil {
		return l.all.times.retry
	}
	return l.all.times.renew
}

// renewOrAsk renews with one request what is held and was seen last by us.
func (l *lease) renewOrAsk(ctx context.Context, held bool) (reconcile.Lease, error) {
	if !held {
		return l.acquire(ctx)
	}
	l.mu.Lock()
	rv := l.rv
	l.mu.Unlock()
	sent := l.c.clusters.clock.Now()
	patch := fmt.Sprintf(`{"metadata":{"resourceVersion":%q},"spec":{"renewTime":%q}}`, rv, sent.UTC().Format(metav1.RFC3339Micro))
	live, err := l.c.client.CoordinationV1().Leases(l.key.namespace).
		Patch(ctx, l.name(), types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: l.c.manager})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return l.acquire(ctx) // somebody else wrote or deleted it
	}
	if err != nil {
		return reconcile.Lease{}, Classify("renew", l.ref(), err)
	}
	l.mu.Lock()
	l.renewed, l.rv, l.seen = sent, live.ResourceVersion, sent
	l.mu.Unlock()
	return reconcile.Lease{Held: true}, nil
}

// release gives the lease back, so that nobody has to wait for it.
func (l *lease) release(ctx context.Context) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return
	}
	l.mu.Lock()
	held, rv := l.held, l.rv
	l.held, l.given = false, true
	l.mu.Unlock()
	if !held {
		return
	}
	patch := fmt.Sprintf(`{"metadata":{"resourceVersion":%q,"annotations":{%q:null}},"spec":{"holderIdentity":""}}`, rv, annotationProcess)
	_, err := l.c.client.CoordinationV1().Leases(l.key.namespace).
		Patch(ctx, l.name(), types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: l.c.manager})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		l.c.log.Warn("lease not given back; another forged waits until it has run out", "environment", l.key.environment, "error", Classify("release", l.ref(), err))
	}
}

// Keep implements reconcile.Leases.
func (ls *Leases) Keep(environments []string) {
	ls.part(func(key leaseKey) bool { return !slices.Contains(environments, key.environment) })
}

// Release implements reconcile.Leases.
func (ls *Leases) Release(environment string, target forge.Target) {
	ls.part(func(key leaseKey) bool { return key.environment == environment && key.target == target })
}

// part gives back leases in the background.
func (ls *Leases) part(with func(leaseKey) bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for key, l := range ls.leases {
		if !with(key) {
			continue
		}
		delete(ls.leases, key)
		close(l.gone)
		l.c.Go(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, requestTimeout)
			defer cancel()
			l.release(ctx)
		})
	}
}

// Watch implements reconcile.Leases.
func (ls *Leases) Watch(ctx context.Context, notify func(environment string)) error {
	ls.watchers.Watch(ctx, ls.clusters.ctx.Done(), notify)
	return nil
}
