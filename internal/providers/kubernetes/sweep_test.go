package kubernetes

import (
	"testing"

	"forged.dev/forged/internal/reconcile"
)

// What nobody owns any more is neither watched nor remembered. What is owned, or
// was asked for a moment ago, is.
func TestWhatNobodyNeedsIsForgotten(t *testing.T) {
	b := newBed(t)
	stays, goes := releaseID("stays"), releaseID("goes")
	b.own(stays, b.configMap("a", `{x: "1"}`))
	job := b.manifest(shortJob)
	entry := b.own(goes, job)[0]
	awaitLive(t, b.c, entry.Ref, "complete", func(s State) bool { return s.Health.Status == reconcile.Ready })
	watched := func(ref Ref) bool {
		b.c.mu.Lock()
		defer b.c.mu.Unlock()
		for _, w := range b.c.watches {
			if w.shows(ref) {
				return true
			}
		}
		return false
	}
	for range 3 {
		b.c.sweep()
	}
	if !watched(entry.Ref) || b.c.completed[entry.Ref.id()] == "" || b.c.own[entry.Ref.id()] == nil {
		t.Fatal("what is owned is forgotten")
	}
	if _, err := b.inventory().Prune(t.Context(), goes, entry); err != nil {
		t.Fatal(err)
	}
	hook := b.manifest(shortJob)
	hook.SetName("hook") // nobody's, as those are that Helm runs
	b.apply(goes, hook)
	if err := b.inventory().Drop(t.Context(), goes); err != nil {
		t.Fatal(err)
	}
	if _, err := b.c.Live(t.Context(), RefOf(hook)); err != nil {
		t.Fatal(err)
	}
	b.c.sweep()
	if !watched(entry.Ref) || b.c.own[RefOf(hook).id()] == nil {
		t.Error("what was just used is forgotten")
	}
	b.c.sweep()
	if watched(entry.Ref) {
		t.Error("a kind of which nothing is owned is watched on")
	}
	if n, m, l := len(b.c.completed), len(b.c.own), len(b.c.lenses); n != 0 || m != 1 || l != 0 {
		t.Errorf("remembered: %d completed Jobs, %d writes, %d lenses", n, m, l)
	}
	b.still(stays, "what is owned")
	if s, err := b.c.Live(t.Context(), RefOf(hook)); err != nil || !s.Exists {
		t.Errorf("asked for again: %+v, %v", s, err)
	}
}
