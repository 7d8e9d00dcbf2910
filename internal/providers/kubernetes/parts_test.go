package kubernetes

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// manyEntries look like real ones to a packer: what is random in those is
// random in these.
func manyEntries(resource string, n int) []Entry {
	entries := make([]Entry, n)
	for i := range entries {
		name := fmt.Sprintf("%s-%d", resource, i)
		sum := partName(name, []byte(name))
		digest := sum[len(name)+1:]
		entries[i] = Entry{
			Ref: secretRef("shop", name), Desired: digest + digest,
			Baseline: Baseline{UID: digest + "-" + digest, ResourceVersion: fmt.Sprint(i), Digest: digest + digest},
		}
	}
	return entries
}

func TestPackKeepsEverything(t *testing.T) {
	for _, sizes := range [][]int{{1}, {0, 2000}, {2001}, {5000, 0, 3, 800}, slices.Repeat([]int{30}, 300), {50000}} {
		doc := document{Version: formatVersion, Instance: "i", ClusterUID: "u", Environment: "prod"}
		total := 0
		for i, n := range sizes {
			doc.Records = append(doc.Records, Record{ID: releaseID(fmt.Sprintf("r%d", i)), Revision: i, Entries: manyEntries(fmt.Sprintf("r%d", i), n)})
			total += n
		}
		head, parts, err := pack(doc, "forged-inventory-prod")
		if err != nil {
			t.Fatal(err)
		}
		if (len(parts) > 0) != (total > inOnePiece) {
			t.Errorf("%v: %d parts", sizes, len(parts))
		}
		if len(head) > mostPacked {
			t.Errorf("%v: the head is %d bytes", sizes, len(head))
		}
		for name, p := range parts {
			if len(p) > mostPacked || len(name) > 253 {
				t.Errorf("%v: part %s is %d bytes", sizes, name, len(p))
			}
		}
		// What one resource changes leaves most parts as they are.
		if total < 2*inOnePiece {
			continue
		}
		doc.Records = slices.Clone(doc.Records)
		last := &doc.Records[len(doc.Records)-1]
		last.Revision++
		_, again, err := pack(doc, "forged-inventory-prod")
		if err != nil {
			t.Fatal(err)
		}
		changed := 0
		for name := range again {
			if parts[name] == nil {
				changed++
			}
		}
		if pieces := (len(last.Entries) + mostOfPiece - 1) / mostOfPiece; changed > max(1, pieces) {
			t.Errorf("%v: %d of %d parts changed with a record of %d pieces", sizes, changed, len(parts), pieces)
		}
	}
}

// large commits an inventory that needs parts.
func (b *bed) large(records ...Record) {
	b.t.Helper()
	for _, r := range records {
		if err := b.inventory().Commit(b.t.Context(), r); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bed) parts() []string {
	b.t.Helper()
	list, err := b.Client.CoreV1().ConfigMaps(b.Namespace).List(b.t.Context(), metav1.ListOptions{LabelSelector: labelPart + "=" + b.Instance})
	if err != nil {
		b.t.Fatal(err)
	}
	var names []string
	for _, cm := range list.Items {
		names = append(names, cm.Name)
	}
	return names
}

func (b *bed) wantRecords(records ...Record) {
	b.t.Helper()
	inv := b.inventory()
	if got := len(inv.IDs()); got != len(records) {
		b.t.Errorf("%d records, want %d", got, len(records))
	}
	for _, want := range records {
		got, ok := inv.Record(want.ID)
		if !ok || got.Revision != want.Revision || !slices.Equal(got.Entries, want.Entries) {
			b.t.Errorf("%s: %v, revision %d with %d entries, want %d with %d", want.ID, ok, got.Revision, len(got.Entries), want.Revision, len(want.Entries))
		}
	}
}

// An environment may own more than fits into one object of the API server.
func TestLargeInventory(t *testing.T) {
	b := newBed(t)
	a := Record{ID: releaseID("a"), Entries: manyEntries("a", 3000)}
	c := Record{ID: releaseID("c"), Entries: manyEntries("c", 40)}
	b.large(a, c)
	if n := len(b.parts()); n < 2 {
		t.Fatalf("%d parts", n)
	}
	b.restart()
	b.wantRecords(a, c)

	// A change of one small resource writes one part, names it, and removes the
	// old one.
	b.requests.reset()
	c.Revision = 2
	b.large(c)
	writes := b.requests.writes()
	if !slices.Equal(writes, []string{"CREATE 201", "UPDATE 200", "DELETE 200"}) && len(writes) > 3 {
		t.Errorf("one small change wrote %q", writes)
	}
	named := strings.Split(b.inventory().stored.parts, ",")
	if got := b.parts(); len(got) != len(named) {
		t.Errorf("%d parts are left, %d are named", len(got), len(named))
	}

	// Small again, it is one ConfigMap.
	a.Entries = a.Entries[:10]
	b.large(a)
	if got := b.parts(); len(got) != 0 {
		t.Errorf("left over: %q", got)
	}
	b.restart()
	b.wantRecords(a, c)
}

// A crash at any request of a write in parts leaves what was before or what is
// after, and in the end nothing but what is named.
func TestLargeInventoryCrash(t *testing.T) {
	b := newBed(t)
	old := Record{ID: releaseID("a"), Entries: manyEntries("a", 2500)}
	small := Record{ID: releaseID("c"), Entries: manyEntries("c", 3)}
	b.large(old, small)
	next := Record{ID: releaseID("a"), Revision: 1, Entries: manyEntries("b", 2700)}
	for n := 0; ; n++ {
		if n > 40 {
			t.Fatal("a write does not end")
		}
		b.clusters.Close()
		f := &faults{allowed: -1}
		cut := NewClusters(Options{Instance: b.Instance})
		cut.wrap = f.wrap
		c, err := cut.Cluster(t.Context(), b.Target())
		if err != nil {
			t.Fatal(err)
		}
		inv, err := c.Inventory(t.Context(), "prod", b.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		f.set(n)
		err = inv.Commit(t.Context(), next)
		cut.Close()
		done := err == nil
		b.restart()
		r, _ := b.inventory().Record(next.ID)
		if r.Revision == 0 && !slices.Equal(r.Entries, old.Entries) || r.Revision == 1 && !slices.Equal(r.Entries, next.Entries) {
			t.Fatalf("cut after %d requests: revision %d with %d entries", n, r.Revision, len(r.Entries))
		}
		if done {
			break
		}
		b.large(old)
	}
	b.restart()
	b.wantRecords(next, small)
	small.Revision++
	b.large(small)
	if got, named := b.parts(), strings.Split(b.inventory().stored.parts, ","); len(got) != len(named) {
		t.Errorf("%d parts are left, %d are named", len(got), len(named))
	}
}

// A part that somebody deleted or changed makes the inventory unknown, not
// smaller: nothing is deleted or made anew because of it.
func TestDamagedPart(t *testing.T) {
	b := newBed(t)
	b.large(Record{ID: releaseID("a"), Entries: manyEntries("a", 2500)})
	name := b.parts()[0]
	cms := b.Client.CoreV1().ConfigMaps(b.Namespace)
	cm, err := cms.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	packed := cm.BinaryData[inventoryKeyGZ]
	if cm.BinaryData[inventoryKeyGZ], err = encode(part{Version: partsVersion}); err != nil {
		t.Fatal(err)
	}
	if _, err := cms.Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.restart()
	_, err = b.c.Inventory(t.Context(), "prod", b.Namespace)
	wantError(t, err, reconcile.Invalid, name, "something else than was written")
	if err := cms.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = b.c.Inventory(t.Context(), "prod", b.Namespace)
	wantError(t, err, reconcile.Invalid, name, "is gone")

	// From a backup it is whole again.
	cm.ResourceVersion, cm.UID, cm.BinaryData[inventoryKeyGZ] = "", "", packed
	if _, err := cms.Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if r, ok := b.inventory().Record(releaseID("a")); !ok || len(r.Entries) != 2500 {
		t.Errorf("%v, %d entries", ok, len(r.Entries))
	}
}

// Two forged with ids of their own live side by side, in one namespace too, if
// their environments have different names.
func TestTwoForgedSideBySide(t *testing.T) {
	b := newBed(t)
	other := NewClusters(Options{Instance: b.Instance + "o"})
	defer other.Close()
	c, err := other.Cluster(t.Context(), b.Target())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Inventory(t.Context(), "prod", b.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	mine := b.own(releaseID("a"), b.configMap("a", `{x: "1"}`))[0]
	theirs, err := c.Inventory(t.Context(), "stage", b.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	id := forge.ID{Environment: "stage", Kind: forge.KindRelease, Name: "a"}
	obj := b.configMap("b", `{x: "1"}`)
	ref := RefOf(obj)
	if err := theirs.Begin(t.Context(), id, []Ref{ref}); err != nil {
		t.Fatal(err)
	}
	c.Stamp(obj, id)
	a, err := c.Apply(t.Context(), obj)
	if err != nil {
		t.Fatal(err)
	}
	entry := Entry{Ref: ref, Baseline: a.Baseline}
	if err := theirs.Commit(t.Context(), Record{ID: id, Entries: []Entry{entry}}); err != nil {
		t.Fatal(err)
	}
	// Neither sees, drifts from or prunes what the other has.
	if d := b.drifted(releaseID("a")); len(d) != 0 {
		t.Errorf("drifted: %+v", d)
	}
	if got, err := b.inventory().Prune(t.Context(), releaseID("a"), entry); err != nil || got != PrunedForeign {
		t.Errorf("theirs: %s, %v", got, err)
	}
	if got, err := theirs.Prune(t.Context(), id, mine); err != nil || got != PrunedForeign {
		t.Errorf("ours: %s, %v", got, err)
	}
	// Of one environment's name there is only one in a namespace, and the second
	// one is told whose it is.
	second := NewClusters(Options{Instance: b.Instance + "s"})
	defer second.Close()
	if c, err = second.Cluster(t.Context(), b.Target()); err != nil {
		t.Fatal(err)
	}
	_, err = c.Inventory(t.Context(), "prod", b.Namespace)
	wantError(t, err, reconcile.Conflict, "managed by another forged, \""+b.Instance+"\"")
}
