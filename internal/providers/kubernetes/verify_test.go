package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// audit is a forged whose time is the test's, and what it has verified.
type audit struct {
	*bed
	clock *fakeClock

	mu        sync.Mutex
	objects   int
	surprises int
	told      chan struct{}
	manifests map[Ref]*unstructured.Unstructured
}

func newAudit(t *testing.T) *audit {
	b := newBed(t)
	b.clusters.Close()
	a := &audit{bed: b, clock: newFakeClock(), told: make(chan struct{}, 1000), manifests: map[Ref]*unstructured.Unstructured{}}
	b.begin(func(o *Options) {
		o.OnVerified = func(_ forge.Target, objects, surprises int) {
			a.mu.Lock()
			a.objects += objects
			a.surprises += surprises
			a.mu.Unlock()
			a.told <- struct{}{}
		}
	}, func(cs *Clusters) { cs.clock = a.clock })
	b.clusters.VerifyBy(forge.KindRelease, func(ctx context.Context, c *Cluster, _ string, r Record, e Entry) (Verdict, error) {
		obj := a.manifests[e.Ref].DeepCopy()
		c.Stamp(obj, r.ID)
		return c.Unchanged(ctx, obj, e)
	})
	return a
}

func (a *audit) counts() (objects, surprises int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.objects, a.surprises
}

// have makes ConfigMaps and waits until their watch has shown them.
func (a *audit) have(id forge.ID, names ...string) []Entry {
	a.t.Helper()
	var objs []*unstructured.Unstructured
	for _, name := range names {
		obj := a.configMap(name, `{x: "1"}`)
		a.manifests[RefOf(obj)] = obj.DeepCopy()
		objs = append(objs, obj)
	}
	entries := a.own(id, objs...)
	for _, e := range entries {
		a.seen(e.Ref, e.Baseline.ResourceVersion)
	}
	return entries
}

// unseen does something to an object of which its watch then knows nothing.
func (a *audit) unseen(ref Ref, change func() string) {
	a.t.Helper()
	w, err := a.c.watchFor(a.t.Context(), ref.GVK, ref.Name)
	if err != nil {
		a.t.Fatal(err)
	}
	a.c.mu.Lock()
	before, known := w.states[ref.key()]
	a.c.mu.Unlock()
	rv := change()
	a.seen(ref, rv)
	a.c.mu.Lock()
	if delete(w.states, ref.key()); known {
		w.states[ref.key()] = before
	}
	a.c.mu.Unlock()
	for len(a.events) > 0 {
		<-a.events
	}
}

// Every object is checked against the server itself once a day, and no more
// often: a thousand objects cost a request in a minute and a half.
func TestVerificationGoesRoundInADay(t *testing.T) {
	a := newAudit(t)
	a.have(releaseID("a"), "a", "b", "c", "d")
	if pace := a.c.verification.pace(); pace != 6*time.Hour {
		t.Errorf("4 objects are checked every %s", pace)
	}
	await(t, a.clock.asked) // both timers stand
	await(t, a.clock.asked)
	a.clock.advance(relistEvery) // begun when there was nothing to check
	await(t, a.clock.asked)
	await(t, a.clock.asked)
	a.requests.reset()
	for range 4 {
		a.clock.advance(6*time.Hour + time.Second)
		await(t, a.clock.asked) // a listing and a check are done, and both timers
		await(t, a.clock.asked) // stand again
	}
	if n := count(a.requests.all(), "DRYRUN 200"); n != 4 {
		t.Errorf("%d dry runs: %q", n, a.requests.all())
	}
	if _, surprises := a.counts(); surprises != 0 {
		t.Errorf("%d surprises", surprises)
	}
	if w := a.requests.writes(); len(w) != 0 {
		t.Errorf("it wrote %q", w)
	}
	many := newVerification(a.c)
	a.c.mu.Lock()
	for i := range 996 {
		a.c.index[secretRef("n", fmt.Sprint(i))] = &tracked{}
	}
	a.c.mu.Unlock()
	if pace := many.pace(); pace != 86400*time.Millisecond {
		t.Errorf("1000 objects: one every %s", pace)
	}
	a.c.mu.Lock()
	for i := range 996 {
		delete(a.c.index, secretRef("n", fmt.Sprint(i)))
	}
	a.c.mu.Unlock()
}

func drain(ch <-chan struct{}) {
	for {
		select {
		case <-ch:
		default:
			return
		}
	}
}

func count(all []string, what string) (n int) {
	for _, s := range all {
		if s == what {
			n++
		}
	}
	return n
}

// A change that was not noticed is counted, told, and put back like any other.
func TestCheckFindsWhatWasOverlooked(t *testing.T) {
	a := newAudit(t)
	id := releaseID("a")
	ref := a.have(id, "a")[0].Ref
	a.unseen(ref, func() string {
		return a.edit(ref, "kubectl-edit", merge, `{"data":{"x":"2"}}`).GetResourceVersion()
	})
	if d := a.drifted(id); len(d) != 0 {
		t.Fatalf("it was noticed: %+v", d)
	}
	// The server notes to the second when our fields changed: what would change
	// them in the second of our own apply does not show.
	deadline := time.Now().Add(patience)
	surprises := 0
	for surprises == 0 {
		if time.Now().After(deadline) {
			t.Fatal("it was overlooked again")
		}
		a.c.verification.check(t.Context())
		_, surprises = a.counts()
	}
	a.event(id, causeLive)
	if d := a.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonEdited {
		t.Fatalf("drifts %+v", d)
	}
	e := a.drifted(id)[0].Entry
	e.Baseline = a.apply(id, a.configMap("a", `{x: "1"}`)).Baseline
	a.inventory().Rebase(id, e)
	a.seen(ref, e.Baseline.ResourceVersion)
	before, _ := a.counts()
	a.c.verification.check(t.Context())
	if objects, surprises := a.counts(); objects != before+1 || surprises != 1 {
		t.Errorf("put back: %d checked, %d surprises", objects-before, surprises)
	}
}

// What is known to differ, or is being worked on, is no surprise.
func TestCheckLeavesAloneWhatIsKnown(t *testing.T) {
	a := newAudit(t)
	id := releaseID("a")
	ref := a.have(id, "a")[0].Ref
	a.edit(ref, "kubectl-edit", merge, `{"data":{"x":"2"}}`)
	a.event(id, causeLive)
	a.c.verification.check(t.Context())
	if err := a.inventory().Begin(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	a.c.verification.check(t.Context())
	a.inventory().Abort(id)
	if objects, surprises := a.counts(); objects != 0 || surprises != 0 {
		t.Errorf("%d checked, %d surprises", objects, surprises)
	}
}

// A watch that has missed something is found by a listing, whatever it was, and
// begun anew.
func TestRelistFindsWhatAWatchHasMissed(t *testing.T) {
	for name, change := range map[string]func(a *audit, ref Ref) string{
		"edit": func(a *audit, ref Ref) string {
			return a.edit(ref, "kubectl-edit", merge, `{"data":{"x":"2"}}`).GetResourceVersion()
		},
		"deletion": func(a *audit, ref Ref) string {
			if err := a.Client.CoreV1().ConfigMaps(a.Namespace).Delete(a.t.Context(), ref.Name, metav1.DeleteOptions{}); err != nil {
				a.t.Fatal(err)
			}
			awaitGone(a.t, a.c, ref)
			return "1"
		},
		"label taken off": func(a *audit, ref Ref) string {
			a.edit(ref, "kubectl-label", merge, `{"metadata":{"labels":{"`+LabelInstance+`":null}}}`)
			awaitGone(a.t, a.c, ref)
			return "1"
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAudit(t)
			id := releaseID("a")
			refs := a.have(id, "a", "b")
			a.unseen(refs[0].Ref, func() string { return change(a, refs[0].Ref) })
			if d := a.drifted(id); len(d) != 0 {
				t.Fatalf("it was noticed: %+v", d)
			}
			done := a.relist()
			await(t, a.told)
			<-done
			if _, surprises := a.counts(); surprises != 1 {
				t.Fatalf("%d surprises", surprises)
			}
			a.event(id, causeWatch)
			if d := a.drifted(id); len(d) != 1 || d[0].Entry.Ref != refs[0].Ref {
				t.Errorf("drifts %+v", d)
			}
			drain(a.told)
			<-a.relist()
			if _, surprises := a.counts(); surprises != 1 {
				t.Errorf("%d surprises in the end", surprises)
			}
		})
	}
}

// relist runs one listing of everything, and gives watches no time to lag.
func (a *audit) relist() <-chan struct{} {
	done := make(chan struct{})
	drain(a.clock.asked)
	go func() {
		defer close(done)
		a.c.verification.relist(a.t.Context())
	}()
	go func() {
		for {
			select {
			case <-a.clock.asked:
				a.clock.advance(lagTimeout)
			case <-done:
				return
			}
		}
	}()
	return done
}

// In the steady state, and while objects change, nothing is a surprise.
func TestRelistIsNotSurprisedByChanges(t *testing.T) {
	a := newAudit(t)
	id := releaseID("a")
	refs := a.have(id, "a", "b", "c")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				a.edit(refs[n%3].Ref, "kubectl-edit", merge, fmt.Sprintf(`{"data":{"x":"%d"}}`, n))
			}
		}
	})
	for range 20 {
		<-a.relist()
	}
	close(stop)
	wg.Wait()
	if _, surprises := a.counts(); surprises != 0 {
		t.Errorf("%d surprises", surprises)
	}
}

// When a cluster was put back to an earlier time, everything is verified again,
// at once and not within a day.
func TestRestoredClusterIsVerifiedAgain(t *testing.T) {
	a := newAudit(t)
	refs := a.have(releaseID("a"), "a", "b", "c")
	w, err := a.c.watchFor(t.Context(), refs[0].Ref.GVK, "")
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.c.metadata.Resource(w.key.gvr).List(t.Context(), metav1.ListOptions{LabelSelector: LabelInstance + "=" + a.Instance})
	if err != nil {
		t.Fatal(err)
	}
	var all []any
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	for len(a.clock.asked) > 0 {
		<-a.clock.asked
	}
	if err := w.Replace(all, "1"); err != nil {
		t.Fatal(err)
	}
	checked := func() int { return count(a.requests.all(), "DRYRUN 200") }
	deadline := time.Now().Add(patience)
	for checked() < 3 {
		if time.Now().After(deadline) {
			t.Fatalf("%d objects were checked: %q", checked(), a.requests.all())
		}
		select {
		case <-a.clock.asked:
			a.clock.advance(checkHurried)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if !slices.Contains(a.requests.all(), "LIST 200") {
		t.Error("nothing was listed")
	}
}

// An inventory that somebody deletes comes back by itself.
func TestDeletedInventoryIsRestored(t *testing.T) {
	a := newAudit(t)
	a.have(releaseID("a"), "a")
	if err := a.Client.CoreV1().ConfigMaps(a.Namespace).Delete(t.Context(), "forged-inventory-prod", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	<-a.relist()
	if got := a.storedRecords(); len(got) != 1 || len(got[0].Entries) != 1 {
		t.Errorf("stored %+v", got)
	}
	a.requests.reset()
	<-a.relist()
	if w := a.requests.writes(); len(w) != 0 {
		t.Errorf("the next look wrote %q", w)
	}
}
