package kubernetes

import (
	"context"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Drift is found without a request, so something has to look whether that is
// true. Every half hour each kind is listed once, as metadata, and compared with
// what its watch knows; and one after the other, spread over a day, objects are
// checked against the server itself. What either finds is counted as a surprise.
// There is to be none.
const (
	relistEvery  = 30 * time.Minute
	checkWithin  = 24 * time.Hour // every object
	checkAtLeast = time.Second    // between two objects
	// When resource versions went backwards nothing that was noted is certain:
	// everything is checked again, at this pace.
	checkHurried = 100 * time.Millisecond
)

// Verdict is what a check of one object shows.
type Verdict int

// Verdicts.
const (
	VerdictUnknown Verdict = iota // it cannot be said now
	VerdictSame                   // it is what was applied last
	VerdictDiffers
)

// Verifier checks one object of a record against the server.
type Verifier func(ctx context.Context, c *Cluster, namespace string, r Record, e Entry) (Verdict, error)

// VerifyBy sets who checks the objects of resources of a kind. namespace, as it
// is given to the verifier, is that of the inventory.
func (cs *Clusters) VerifyBy(kind string, v Verifier) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.verifiers[kind] = v
}

// Verify has every object of every cluster that is connected checked soon
// against the server itself, instead of in the course of the day. It does not
// block.
func (cs *Clusters) Verify() {
	cs.mu.Lock()
	slots := slices.Collect(maps.Values(cs.slots))
	cs.mu.Unlock()
	for _, s := range slots {
		select {
		case s.turn <- struct{}{}:
			if s.cluster != nil {
				s.cluster.suspect()
			}
			<-s.turn
		default: // it is being connected; what is found there is new
		}
	}
}

func (cs *Clusters) verifier(kind string) Verifier {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.verifiers[kind]
}

// Unchanged checks with one dry run whether applying obj again would change
// anything: it is how most objects are verified.
func (c *Cluster) Unchanged(ctx context.Context, obj *unstructured.Unstructured, e Entry) (Verdict, error) {
	after, err := c.DryRun(ctx, obj)
	if err != nil {
		return VerdictUnknown, err
	}
	b := baselineOf(after, c.manager, e.Baseline.Lens)
	if b.UID == e.Baseline.UID && b.Digest == e.Baseline.Digest {
		return VerdictSame, nil
	}
	return VerdictDiffers, nil
}

// verification is the work of one cluster.
type verification struct {
	c      *Cluster
	hurry  chan struct{} // resource versions went backwards
	cursor Ref           // the object that was checked last
	rushed int           // objects still to be checked in a hurry
}

func newVerification(c *Cluster) *verification {
	return &verification{c: c, hurry: make(chan struct{}, 1)}
}

// run verifies until ctx ends.
func (v *verification) run(ctx context.Context) {
	clock := v.c.clusters.clock
	relist, stopRelist := clock.After(relistEvery)
	next, stopNext := clock.After(v.pace())
	defer func() { stopRelist(); stopNext() }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.hurry:
			stopRelist()
			stopNext()
			v.rushed = len(v.objects())
			v.relist(ctx)
			relist, stopRelist = clock.After(relistEvery)
		case <-relist:
			v.relist(ctx)
			relist, stopRelist = clock.After(relistEvery)
			continue
		case <-next:
			v.check(ctx)
		}
		next, stopNext = clock.After(v.pace())
	}
}

// pace is the time between two objects.
func (v *verification) pace() time.Duration {
	if v.rushed > 0 {
		return checkHurried
	}
	n := len(v.objects())
	if n == 0 {
		return relistEvery
	}
	return max(checkAtLeast, checkWithin/time.Duration(n))
}

// verified tells about one object or many.
func (v *verification) verified(objects, surprises int) {
	v.c.clusters.opts.OnVerified(v.c.target, objects, surprises)
}

// objects are those that are owned, in an order.
func (v *verification) objects() []Ref {
	c := v.c
	c.mu.Lock()
	defer c.mu.Unlock()
	refs := make([]Ref, 0, len(c.index))
	for ref := range c.index {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, Ref.Compare)
	return refs
}

// check checks the next object.
func (v *verification) check(ctx context.Context) {
	refs := v.objects()
	if len(refs) == 0 {
		return
	}
	if v.rushed > 0 {
		v.rushed--
	}
	i, found := slices.BinarySearchFunc(refs, v.cursor, Ref.Compare)
	if found {
		i++
	}
	v.cursor = refs[i%len(refs)]
	before, ok := v.settled(v.cursor)
	if !ok {
		return // it is being worked on, or known to differ
	}
	verify := v.c.clusters.verifier(before.id.Kind)
	if verify == nil {
		return
	}
	bounded, cancel := bound(ctx)
	defer cancel()
	verdict, err := verify(bounded, v.c, before.inv.key.namespace, before.record, before.entry)
	switch {
	case err != nil:
		v.c.log.DebugContext(ctx, "could not be verified", "object", v.cursor.String(), "error", err)
	case verdict == VerdictSame:
		v.verified(1, 0)
	case verdict == VerdictDiffers:
		v.differs(ctx, before)
	}
}

// moment is an object and all that is known of it at one moment.
type moment struct {
	inv    *Inventory
	id     forge.ID
	record Record
	entry  Entry
	state  State
}

// settled is what is known of an object, if it is as it was applied last and
// nobody works on it.
func (v *verification) settled(ref Ref) (moment, bool) {
	c := v.c
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.index[ref]
	if t == nil || t.inv.busy[t.id] != nil {
		return moment{}, false
	}
	if own := c.own[ref.id()]; own != nil && own.inFlight > 0 {
		return moment{}, false
	}
	state, known := c.lastSeen(ref)
	m := moment{t.inv, t.id, t.inv.records[t.id].clone(), t.entry, state}
	return m, known && !m.record.Pending && t.entry.Baseline.matches(state)
}

// differs is told when the server knows of a difference of which the watch has
// shown nothing. If it still has not, that is a surprise, and the object is put
// back like any other.
func (v *verification) differs(ctx context.Context, before moment) {
	after, ok := v.settled(v.cursor)
	if !ok || after.entry.Baseline != before.entry.Baseline || after.state.ResourceVersion != before.state.ResourceVersion {
		return // it has moved meanwhile: the watch tells
	}
	v.verified(1, 1)
	v.c.log.ErrorContext(ctx, "an object had changed without being noticed; this is a bug in forged, please report it",
		"object", v.cursor.String(), "resource", before.id.String())
	doubted := after.entry
	doubted.Baseline.Digest = "" // nothing matches it
	after.inv.Rebase(after.id, doubted)
	v.c.clusters.publish([]reconcile.Event{{ID: after.id, Cause: causeLive, At: time.Now(), Object: v.cursor.String()}})
}

// suspect has everything verified again soon. It does not block.
func (c *Cluster) suspect() {
	select {
	case c.verification.hurry <- struct{}{}:
	default: // it is known
	}
}
