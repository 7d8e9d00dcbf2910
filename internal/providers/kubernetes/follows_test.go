package kubernetes

import "testing"

// What is not connected, or does not answer, may have changed without a word.
func TestFollows(t *testing.T) {
	b, line := through(t)
	target := b.Target()
	if NewClusters(Options{}).Follows(target) {
		t.Error("a target that nobody has connected to is followed")
	}
	obj := b.configMap("c", `{a: "1"}`)
	b.own(releaseID("a"), obj)
	b.still(releaseID("a"), "at first")
	if !b.clusters.Follows(target) {
		t.Error("a target with all its watches is not followed")
	}
	back := line.away()
	if _, err := b.c.Get(t.Context(), RefOf(obj)); err == nil {
		t.Error("it answers")
	}
	if b.clusters.Follows(target) {
		t.Error("a target that does not answer is followed")
	}
	back()
	b.await("it to be followed again", func() bool {
		_, err := b.c.Get(t.Context(), RefOf(obj))
		return err == nil && b.clusters.Follows(target)
	})
}
