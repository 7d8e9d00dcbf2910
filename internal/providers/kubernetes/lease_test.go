package kubernetes

import (
	"context"
	"log/slog"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// forgedAt is one process among several.
type forgedAt struct {
	*bed
	clock  *fakeClock
	leases *Leases
}

func (b *bed) another(clock *fakeClock) *forgedAt {
	b.t.Helper()
	f := &forgedAt{bed: &bed{Env: b.Env, t: b.t, requests: &requests{}}, clock: clock}
	f.clusters = NewClusters(Options{
		Instance: b.Instance, OnRequest: f.requests.observe,
		Logger: slog.New(slog.NewTextHandler(testWriter{b.t}, nil)),
	})
	if clock != nil {
		f.clusters.clock = clock
	}
	b.t.Cleanup(f.clusters.Close)
	f.leases = NewLeases(f.clusters)
	f.leases.process = "" // or the others would see that it lives
	var err error
	if f.c, err = f.clusters.Cluster(b.t.Context(), b.Target()); err != nil {
		b.t.Fatal(err)
	}
	return f
}

func (b *bed) resource() forge.Resource {
	return forge.Resource{ID: releaseID("shop"), Target: b.Target(), Spec: forge.ReleaseSpec{Name: "shop", Namespace: b.Namespace}}
}

func (f *forgedAt) hold() reconcile.Lease {
	f.t.Helper()
	l, err := f.leases.Hold(f.t.Context(), "prod", f.resource())
	if err != nil {
		f.t.Fatal(err)
	}
	return l
}

func (b *bed) liveLease() *coordinationv1.Lease {
	b.t.Helper()
	l, err := b.Client.CoordinationV1().Leases(b.Namespace).Get(b.t.Context(), "forged-prod", metav1.GetOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// Of two forged of one instance one acts; the other one knows who it is, and
// takes over as soon as the first has ended.
func TestLeaseIsHeldByOne(t *testing.T) {
	b := newBed(t)
	clock := newFakeClock()
	one, two := b.another(clock), b.another(clock)
	if l := one.hold(); !l.Held {
		t.Fatalf("nobody has it, and: %+v", l)
	}
	one.requests.reset()
	for range 20 {
		if l := one.hold(); !l.Held {
			t.Fatal(l)
		}
	}
	if all := one.requests.all(); len(all) != 0 {
		t.Errorf("asking for what is held costs %q", all)
	}
	if l := two.hold(); l.Held || l.Holder != one.leases.holder {
		t.Fatalf("the second: %+v", l)
	}
	two.requests.reset()
	for range 20 {
		if l := two.hold(); l.Held {
			t.Fatal("held by both")
		}
	}
	if all := two.requests.all(); len(all) != 0 {
		t.Errorf("asking again at once costs %q", all)
	}
	one.clusters.Close()
	if holder := b.liveLease().Spec.HolderIdentity; holder == nil || *holder != "" {
		t.Errorf("not given back: %v", holder)
	}
	clock.advance(6 * time.Second)
	if l := two.hold(); !l.Held {
		t.Errorf("it was given back, and: %+v", l)
	}
}

// A lease is renewed by one request in its period, and by none besides.
func TestLeaseIsRenewed(t *testing.T) {
	b := newBed(t)
	clock := newFakeClock()
	one, two := b.another(clock), b.another(clock)
	one.hold()
	two.hold()
	const period = 30 * time.Second
	clock.stand(t, period, 2)
	for range 8 {
		one.requests.reset()
		before := b.liveLease().ResourceVersion
		clock.advance(period)
		clock.stand(t, period, 2) // both are done
		if all := one.requests.all(); len(all) != 1 || all[0] != "PATCH 200" {
			t.Errorf("a renewal is %q", all)
		}
		if b.liveLease().ResourceVersion == before {
			t.Error("not renewed")
		}
	}
	if l := two.hold(); l.Held {
		t.Error("taken over from one that renews")
	}
	if l := one.hold(); !l.Held {
		t.Error("lost")
	}
}

func await(t testing.TB, told <-chan struct{}) {
	t.Helper()
	select {
	case <-told:
	case <-time.After(patience):
		t.Fatal("nothing within", patience)
	}
}

// A holder that is not seen to renew loses the lease when its whole duration has
// gone by on the watch of whoever waits; what the clocks on the walls show does
// not matter. What the old holder still has under way is refused.
func TestLeaseOfASilentHolderIsTakenOver(t *testing.T) {
	b := newBed(t)
	theirs, mine := newFakeClock(), newFakeClock()
	mine.now = mine.now.Add(-48 * time.Hour)
	old, young := b.another(theirs), b.another(mine)
	old.hold()
	id := releaseID("shop")
	old.own(id, b.configMap("a", `{x: "1"}`))
	if err := old.inventory().Begin(t.Context(), id, []Ref{RefOf(b.configMap("late", "{}"))}); err != nil {
		t.Fatal(err) // the action that is under way
	}
	for _, d := range []time.Duration{0, 50 * time.Second, 39 * time.Second} {
		mine.advance(d)
		if l := young.hold(); l.Held {
			t.Fatalf("taken over too early, after %s", d)
		}
	}
	mine.advance(2 * time.Second)
	if l := young.hold(); !l.Held {
		t.Fatalf("not taken over: %+v", l)
	}
	if n := *b.liveLease().Spec.LeaseTransitions; n != 1 {
		t.Errorf("%d transitions", n)
	}
	// The new holder knows of the action that was cut.
	if r, ok := young.inventory().Record(id); !ok || !r.Pending {
		t.Errorf("record %+v, %v", r, ok)
	}

	// The old one's clock stands still: it believes that it holds the lease. Its
	// notes are refused all the same, being based on an older inventory.
	err := old.inventory().Commit(t.Context(), Record{ID: id})
	if reconcile.KindOf(err) != reconcile.Stale || err == nil {
		t.Errorf("its note was taken: %v", err)
	}
	err = old.inventory().Begin(t.Context(), releaseID("new"), nil)
	if err != nil {
		t.Logf("begin: %v", err)
	}

	// It looks at its watch: nothing of it leaves any more.
	theirs.advance(61 * time.Second)
	old.requests.reset()
	obj := b.configMap("late", `{x: "1"}`)
	old.c.Stamp(obj, id)
	if _, err := old.c.Apply(t.Context(), obj); err == nil || reconcile.KindOf(err) != reconcile.Stale {
		t.Errorf("an apply: %v", err)
	}
	live := b.get(RefOf(b.configMap("a", "{}")))
	if err := old.c.Delete(t.Context(), RefOf(live), string(live.GetUID())); err == nil || reconcile.KindOf(err) != reconcile.Stale {
		t.Errorf("a deletion: %v", err)
	}
	// Helm's SDK takes neither context nor environment along.
	_, err = old.c.Client().CoreV1().Secrets(b.Namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Errorf("reading is refused: %v", err)
	}
	err = old.c.Client().CoreV1().Secrets(b.Namespace).Delete(context.Background(), "x", metav1.DeleteOptions{})
	if err == nil || !strings.Contains(err.Error(), "lease") {
		t.Errorf("a plain request: %v", err)
	}
	for _, w := range old.requests.writes() {
		if w != "PATCH 409" { // which was an attempt to renew the lease
			t.Errorf("it wrote %q", w)
		}
	}
	if l := old.hold(); l.Held || l.Holder != young.leases.holder {
		t.Errorf("the old one: %+v", l)
	}
	if got := b.get(RefOf(obj)); got != nil {
		t.Error("the late object is there")
	}
}

// The lease of a process that was killed on this machine is free at once.
func TestLeaseOfADeadProcess(t *testing.T) {
	b := newBed(t)
	one, two := b.another(newFakeClock()), b.another(newFakeClock())
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	one.leases.process = processOf(child.Process.Pid)
	if f := strings.Fields(one.leases.process); len(f) != 4 {
		t.Fatalf("this system does not tell processes apart: %q", one.leases.process)
	}
	one.hold()
	if l := two.hold(); l.Held {
		t.Error("taken over from a process that lives")
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	two.clock.advance(6 * time.Second)
	if l := two.hold(); !l.Held {
		t.Errorf("its holder is dead, and: %+v", l)
	}
	if dead(process()) || dead("") || dead("a b c") || dead("x y 1 2") {
		t.Error("called dead without being certain")
	}
}

// Without a namespace there is nothing to hold yet; a Lease that a person deletes
// comes back.
func TestLeaseWithoutAPlace(t *testing.T) {
	b := newBed(t)
	clock := newFakeClock()
	one := b.another(clock)
	r := forge.Resource{Target: b.Target(), Spec: forge.NamespaceSpec{Name: b.Namespace + "-not"}}
	if l, err := one.leases.Hold(t.Context(), "prod", r); err != nil || !l.Held {
		t.Errorf("no namespace: %+v, %v", l, err)
	}
	if l, err := one.leases.Hold(t.Context(), "prod", forge.Resource{Spec: forge.FlyAppSpec{}}); err != nil || !l.Held {
		t.Errorf("no cluster: %+v, %v", l, err)
	}
	one.hold()
	if err := b.Client.CoordinationV1().Leases(b.Namespace).Delete(t.Context(), "forged-prod", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	clock.stand(t, 30*time.Second, 2)
	clock.advance(30 * time.Second)
	clock.stand(t, 30*time.Second, 2) // both places have been tended to
	if h := b.liveLease().Spec.HolderIdentity; *h != one.leases.holder {
		t.Errorf("held by %s", *h)
	}
	// What is not acted on any more is given back.
	one.leases.Keep([]string{"prod"})
	if l := one.hold(); !l.Held {
		t.Error("given back")
	}
	one.leases.Keep(nil)
	deadline := time.Now().Add(patience)
	for *b.liveLease().Spec.HolderIdentity != "" {
		if time.Now().After(deadline) {
			t.Fatal("not given back")
		}
	}
	for clock.waiting() > 2 { // nobody tends to it any more; two are those of verification
		if time.Now().After(deadline) {
			t.Fatalf("%d still wait for their next turn", clock.waiting())
		}
		runtime.Gosched()
	}
}

// A namespace that goes takes its lease with it, which cannot be renewed then.
// The namespace can be made again all the same, however long it was gone, and
// what the environment has in another one is not held up.
func TestLeaseGoesWithItsNamespace(t *testing.T) {
	b := newBed(t)
	clock := newFakeClock()
	one := b.another(clock)
	old := forge.Resource{Target: b.Target(), Spec: forge.NamespaceSpec{Name: b.Namespace + "-old", Create: true}}
	old.ID = forge.ID{Environment: "prod", Kind: forge.KindNamespace, Name: b.Namespace + "-old"}
	p := NewNamespaces(one.clusters)
	r := reconcile.Request{Resource: old}
	do(t, p, r, reconcile.ActionCreate, reconcile.ReasonAbsent)
	held := func(r forge.Resource) {
		t.Helper()
		if l, err := one.leases.Hold(t.Context(), "prod", r); err != nil || !l.Held {
			t.Fatalf("%+v, %v", l, err)
		}
	}
	held(old)
	held(b.resource())
	if err := b.Client.CoreV1().Namespaces().Delete(t.Context(), b.Namespace+"-old", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, one.c, namespaceRef(b.Namespace+"-old"))
	told := one.watched(t.Context())
	clock.stand(t, 30*time.Second, 2)
	for range 4 {
		clock.advance(30 * time.Second)
		clock.stand(t, 30*time.Second, 2) // both have been tended to
	}
	if n := told.Load(); n > 0 {
		t.Errorf("told %d times that it is held, which is no news", n)
	}
	one.own(releaseID("a"), b.configMap("a", `{x: "1"}`))
	held(old)
	do(t, p, r, reconcile.ActionHeal, reconcile.ReasonDeleted)
	held(old)
	if err := b.Client.CoreV1().Namespaces().Delete(t.Context(), b.Namespace+"-old", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// What was noticed before the lease was had is written down when it is, without
// anything else to do.
func TestWhatWasNoticedIsWrittenWithTheLease(t *testing.T) {
	b := newBed(t)
	b.own(releaseID("a"), b.configMap("a", `{x: "1"}`))
	one := b.another(nil)
	inv := one.inventory()
	inv.noteLeft(t.Context(), []Left{{Target: b.Target(), Namespace: "elsewhere", ClusterUID: "x"}})
	if all := one.requests.writes(); len(all) != 0 {
		t.Fatalf("without the lease it wrote %q", all)
	}
	one.hold()
	b.await("the note to be written", func() bool {
		doc, err := decode(b.stored().BinaryData[inventoryKeyGZ])
		return err == nil && len(doc.Left) == 1 && doc.Left[0].Namespace == "elsewhere"
	})
}
