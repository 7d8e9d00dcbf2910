package kubernetes

import (
	"log/slog"
	"strings"
	"testing"
)

// What the API server warns of is told once, and of what: in which environment,
// by which resource and of which object.
func TestWarningsSayWhatTheyAreAbout(t *testing.T) {
	b := newBed(t)
	b.edit(namespaceRef(b.Namespace), "kubectl-label", merge, `{"metadata":{"labels":{"pod-security.kubernetes.io/warn":"restricted"}}}`)
	b.clusters.Close()
	var said lockedBuffer
	b.begin(func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&said, nil)) }, func(*Clusters) {})
	id := releaseID("shop")
	for range 2 {
		stamped := b.manifest(twoContainers)
		b.c.Stamp(stamped, id)
		if _, err := b.c.DryRun(t.Context(), stamped); err != nil {
			t.Fatal(err)
		}
		b.apply(id, b.manifest(twoContainers))
	}
	said.mu.Lock()
	defer said.mu.Unlock()
	text := said.String()
	if n := strings.Count(text, "the API server warns"); n != 1 {
		t.Fatalf("told %d times:\n%s", n, text)
	}
	ref := RefOf(b.manifest(twoContainers))
	for _, part := range []string{"cluster=cluster-1", "environment=prod", "resource=prod/release/shop", `object="` + ref.String() + `"`, "would violate PodSecurity"} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is missing in\n%s", part, text)
		}
	}
}
