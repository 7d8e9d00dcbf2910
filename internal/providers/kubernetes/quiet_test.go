package kubernetes

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"forged.dev/forged/internal/reconcile"
)

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

// said is what client-go logs while the tests run. Its logger is one for all,
// and is read by goroutines that nobody can wait for.
var said lockedBuffer

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Reset()
}

// client-go tries again by itself, and says so each time. While a cluster is
// away that would be a line a second, and more for each watch.
func TestAttemptsAreNotLogged(t *testing.T) {
	b, line := through(t)
	id := releaseID("a")
	b.own(id, b.configMap("c", `{a: "1"}`), b.manifest(twoContainers))
	b.still(id, "at first")
	said.reset()
	back := line.away()
	if live, err := b.c.Get(t.Context(), RefOf(b.configMap("c", "{}"))); err == nil || reconcile.KindOf(err) != reconcile.Unavailable {
		t.Errorf("got %v, %v", live, err)
	}
	_, err := b.c.Apply(t.Context(), b.configMap("c", `{a: "1"}`))
	if reconcile.KindOf(err) != reconcile.Unavailable {
		t.Errorf("apply: %v", err)
	}
	back()
	for !b.event(id, causeWatch).Retry {
	}
	said.mu.Lock()
	defer said.mu.Unlock()
	if text := said.String(); strings.TrimSpace(text) != "" {
		t.Errorf("client-go said:\n%s", text)
	}
}
