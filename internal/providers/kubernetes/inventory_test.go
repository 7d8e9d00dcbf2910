package kubernetes

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func (b *bed) stored() *corev1.ConfigMap {
	b.t.Helper()
	cm, err := b.Client.CoreV1().ConfigMaps(b.Namespace).Get(b.t.Context(), "forged-inventory-prod", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return cm
}

func (b *bed) storedRecords() []Record {
	b.t.Helper()
	cm := b.stored()
	if cm == nil {
		return nil
	}
	doc, err := decode(cm.BinaryData[inventoryKeyGZ])
	if err != nil {
		b.t.Fatal(err)
	}
	return doc.Records
}

func TestInventoryLife(t *testing.T) {
	b := newBed(t)
	inv := b.inventory()
	if len(inv.IDs()) != 0 || b.stored() != nil {
		t.Fatal("an inventory that does not exist is not empty")
	}
	id, other := releaseID("a"), releaseID("b")
	entries := b.own(id, b.configMap("a", `{x: "1"}`))
	b.own(other, b.configMap("b", `{x: "1"}`))
	if got := inv.IDs(); !slices.Equal(got, []forge.ID{id, other}) {
		t.Errorf("IDs %v", got)
	}
	r, ok := inv.Record(id)
	if !ok || r.Pending || !slices.Equal(r.Entries, entries) {
		t.Errorf("record %+v, %v", r, ok)
	}
	if got := b.storedRecords(); len(got) != 2 || !slices.Equal(got[0].Entries, entries) || got[0].Pending {
		t.Errorf("stored %+v", got)
	}
	r.Entries[0].Desired = "scribbled" // what Record returns is a copy
	if again, _ := inv.Record(id); again.Entries[0].Desired == "scribbled" {
		t.Error("the record can be changed from outside")
	}
	cm := b.stored()
	if cm.Labels[LabelInstance] != "" || cm.Labels[labelInventory] != b.Instance {
		t.Errorf("labels %v", cm.Labels)
	}
	for _, id := range []forge.ID{id, other} {
		if err := inv.Drop(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if b.stored() != nil {
		t.Error("an empty inventory is left behind")
	}
}

// A crash between Begin and Commit leaves the names of all that may have been
// made.
func TestInventoryCrashWindow(t *testing.T) {
	b := newBed(t)
	id := releaseID("a")
	old := b.own(id, b.configMap("old", `{x: "1"}`))
	fresh := RefOf(b.configMap("new", `{}`))
	if err := b.inventory().Begin(t.Context(), id, []Ref{fresh, old[0].Ref}); err != nil {
		t.Fatal(err)
	}
	b.apply(id, b.configMap("new", `{x: "1"}`))
	b.restart()

	r, ok := b.inventory().Record(id)
	want := []Entry{old[0], {Ref: fresh}}
	if !ok || !r.Pending || !slices.Equal(r.Entries, want) {
		t.Errorf("record %+v, want pending %+v", r, want)
	}
}

// A restart with nothing changed costs the reads that fill the watches, and no
// write; after that a look costs nothing.
func TestRestartCostsNoWrite(t *testing.T) {
	b := newBed(t)
	id := releaseID("all")
	var names []string
	for kind := range manifests {
		names = append(names, kind)
	}
	slices.Sort(names)
	inv := b.inventory()
	var record Record
	for _, kind := range names {
		obj := b.manifest(strings.ReplaceAll(manifests[kind], "NAME", kind))
		record.Entries = append(record.Entries, Entry{Ref: RefOf(obj), Baseline: b.apply(id, obj).Baseline})
	}
	record.ID = id
	if err := inv.Commit(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	before := b.stored().ResourceVersion
	b.restart()
	if d := b.drifted(id); len(d) != 0 {
		t.Errorf("drifted: %+v", d)
	}
	if w := b.requests.writes(); len(w) != 0 {
		t.Errorf("writes: %q", w)
	}
	// kube-system, inventory, 2 discovery, one watch for each of 8 resources.
	if all := b.requests.all(); len(all) > 12 {
		t.Errorf("%d requests: %q", len(all), all)
	}
	b.requests.reset()
	for range 100 {
		if d := b.drifted(id); len(d) != 0 {
			t.Fatalf("drifted: %+v", d)
		}
	}
	if all := b.requests.all(); len(all) != 0 {
		t.Errorf("a steady state costs %q", all)
	}
	if b.stored().ResourceVersion != before {
		t.Error("the inventory was written")
	}
}

// Edits made while no forged runs are found at its start, and told by events
// too.
func TestEditWhileDown(t *testing.T) {
	b := newBed(t)
	id := releaseID("a")
	entry := b.own(id, b.configMap("a", `{x: "1"}`))[0]
	b.clusters.Close()
	cm := b.Client.CoreV1().ConfigMaps(b.Namespace)
	if _, err := cm.Patch(t.Context(), "a", merge, []byte(`{"data":{"x":"2"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	b.start()
	if d := b.drifted(id); len(d) != 1 || d[0].Code != reconcile.ReasonEdited || d[0].Entry != entry {
		t.Errorf("drifts %+v", d)
	}
	b.event(id, causeLive)
}

func TestInventoryBusyHoldsEventsBack(t *testing.T) {
	b := newBed(t)
	id := releaseID("a")
	entry := b.own(id, b.configMap("a", `{x: "1"}`))[0]
	inv := b.inventory()
	if d := b.drifted(id); len(d) != 0 {
		t.Fatal(d)
	}
	if err := inv.Begin(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	live := b.edit(entry.Ref, "kubectl-edit", merge, `{"data":{"x":"2"}}`)
	b.seen(entry.Ref, live.GetResourceVersion())
	b.quiet(id, causeLive)
	if err := inv.Commit(t.Context(), Record{ID: id, Entries: []Entry{entry}}); err != nil {
		t.Fatal(err)
	}
	b.event(id, causeLive)

	// Put back in the middle of an action: nothing is left to tell.
	if err := inv.Begin(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	b.edit(entry.Ref, "kubectl-edit", merge, `{"data":{"x":"3"}}`)
	entry.Baseline = b.apply(id, b.configMap("a", `{x: "1"}`)).Baseline
	if err := inv.Commit(t.Context(), Record{ID: id, Entries: []Entry{entry}}); err != nil {
		t.Fatal(err)
	}
	b.seen(entry.Ref, entry.Baseline.ResourceVersion)
	b.quiet(id, causeLive)
}

func TestRebaseIsWrittenDown(t *testing.T) {
	b := newBed(t)
	id := releaseID("a")
	entry := b.own(id, b.configMap("a", `{x: "1"}`))[0]
	b.edit(entry.Ref, "kubectl-edit", merge, `{"data":{"x":"2"}}`)
	b.event(id, causeLive)
	b.requests.reset()
	entry.Baseline = b.apply(id, b.configMap("a", `{x: "1"}`)).Baseline
	b.inventory().Rebase(id, entry)
	if d := b.drifted(id); len(d) != 0 {
		t.Errorf("drifted: %+v", d)
	}
	if got := b.requests.all(); len(got) != 1 {
		t.Errorf("one heal took %q", got)
	}
	b.clusters.Close() // does not wait for the delay
	if got := b.storedRecords(); len(got) != 1 || got[0].Entries[0] != entry {
		t.Errorf("stored %+v, want %+v", got, entry)
	}
}

// Whoever wrote the inventory last is right; the other one looks again.
func TestInventoryFence(t *testing.T) {
	b := newBed(t)
	id := releaseID("a")
	b.own(id, b.configMap("a", `{x: "1"}`))

	rival := NewClusters(Options{Instance: b.Instance})
	defer rival.Close()
	c, err := rival.Cluster(t.Context(), b.Target())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := c.Inventory(t.Context(), "prod", b.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Begin(t.Context(), releaseID("theirs"), []Ref{RefOf(b.configMap("z", "{}"))}); err != nil {
		t.Fatal(err)
	}
	inv := b.inventory()
	err = inv.Begin(t.Context(), id, nil)
	if reconcile.KindOf(err) != reconcile.Stale {
		t.Fatalf("got %v, want stale", err)
	}
	var e *reconcile.Error
	if !errors.As(err, &e) || e.ID != id {
		t.Errorf("the error does not name the resource: %+v", e)
	}
	if r, ok := inv.Record(releaseID("theirs")); !ok || !r.Pending {
		t.Errorf("their record was not read: %+v, %v", r, ok)
	}
	if r, _ := inv.Record(id); r.Pending {
		t.Error("ours stays pending")
	}
	if err := inv.Begin(t.Context(), id, nil); err != nil {
		t.Errorf("second try: %v", err)
	}
	inv.Abort(id)
}

func TestInventoryDeletedByHandIsWrittenAgain(t *testing.T) {
	b := newBed(t)
	a, c := releaseID("a"), releaseID("c")
	b.own(a, b.configMap("a", `{x: "1"}`))
	if err := b.Client.CoreV1().ConfigMaps(b.Namespace).Delete(t.Context(), "forged-inventory-prod", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.own(c, b.configMap("c", `{x: "1"}`))
	if got := b.storedRecords(); len(got) != 2 {
		t.Errorf("stored %+v", got)
	}
}

func TestForeignInventoryIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*document)
		text   string
	}{
		"of another cluster":     {func(d *document) { d.ClusterUID = "another" }, "written in another cluster"},
		"of another forged":      {func(d *document) { d.Instance = "another" }, `managed by another forged, "another"`},
		"of another environment": {func(d *document) { d.Environment = "staging" }, "inventory of environment staging"},
		"of another version":     {func(d *document) { d.Version = 99 }, "format version 99"},
		"that cannot be read":    {nil, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.own(releaseID("a"), b.configMap("a", `{x: "1"}`))
			cm := b.stored()
			if tt.change != nil {
				doc, err := decode(cm.BinaryData[inventoryKeyGZ])
				if err != nil {
					t.Fatal(err)
				}
				tt.change(&doc)
				if cm.BinaryData[inventoryKeyGZ], err = encode(doc); err != nil {
					t.Fatal(err)
				}
			} else {
				cm.BinaryData[inventoryKeyGZ] = bytes.ToUpper(cm.BinaryData[inventoryKeyGZ][:20])
			}
			if _, err := b.Client.CoreV1().ConfigMaps(b.Namespace).Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			b.restart()
			inv, err := b.c.Inventory(t.Context(), "prod", b.Namespace)
			if inv != nil || err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, %v, want an error with %q", inv, err, tt.text)
			}
			if kind := reconcile.KindOf(err); kind != reconcile.Conflict && kind != reconcile.Invalid {
				t.Errorf("kind %s", kind)
			}
		})
	}
}

func TestHealthEvents(t *testing.T) {
	b := newBed(t)
	id := releaseID("web")
	entry := b.own(id, b.manifest(strings.ReplaceAll(manifests["deployment"], "NAME", "web")))[0]
	for {
		state, err := b.c.Live(t.Context(), entry.Ref)
		if err != nil {
			t.Fatal(err)
		}
		if state.Health.Status == reconcile.Ready {
			break
		}
		if state.Health.Message == "" {
			t.Errorf("not ready and no word why: %+v", state.Health)
		}
		b.event(id, causeHealth)
	}
	b.quiet(id, causeLive)
}

func FuzzDecodeInventory(f *testing.F) {
	packed, err := encode(document{Version: formatVersion, Records: []Record{{ID: releaseID("a"), Entries: []Entry{{Ref: secretRef("n", "s"), Desired: "d", Baseline: Baseline{UID: "u", ResourceVersion: "1", Digest: "d"}}}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := decode(b)
		if err != nil {
			return
		}
		again, err := encode(doc)
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		back, err := decode(again)
		if err != nil {
			t.Fatal(err)
		}
		x, _ := json.Marshal(doc)
		y, _ := json.Marshal(back)
		if !bytes.Equal(x, y) {
			t.Errorf("%s became %s", x, y)
		}
	})
}

// Who only looks at an environment writes nothing, whatever is noticed: not a
// note, not a new baseline, not where something was left, and not at its end.
func TestLookingWritesNothing(t *testing.T) {
	b := newBed(t)
	id := releaseID("a")
	entry := b.own(id, b.configMap("a", `{x: "1"}`))[0]
	b.restart()
	before := b.get(b.inventory().ref()).GetResourceVersion()
	notice := func() {
		b.inventory().Note(id, []byte(`{"seen":true}`))
		b.inventory().Rebase(id, entry)
		b.inventory().noteLeft(t.Context(), []Left{{Namespace: "elsewhere", ClusterUID: "x"}})
		b.inventory().restore(t.Context())
	}
	notice()
	b.clusters.Close()
	if all := b.requests.writes(); len(all) != 0 {
		t.Errorf("looking wrote %q", all)
	}
	b.start()
	if now := b.get(b.inventory().ref()).GetResourceVersion(); now != before {
		t.Error("the inventory was written")
	}
	notice()
	b.apply(id, b.configMap("a", `{x: "2"}`)) // now it acts
	b.clusters.Close()
	b.start()
	if r := b.storedRecords(); len(r) != 1 || string(r[0].Detail) != `{"seen":true}` {
		t.Errorf("what was noticed is lost: %+v", r)
	}
}
