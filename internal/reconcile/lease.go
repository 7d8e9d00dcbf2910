package reconcile

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"forged.dev/forged/internal/forge"
)

// Leases see to it that of several forged of one instance only one acts on an
// environment. The others look, and say who it is.
type Leases interface {
	// Hold takes the lease of the place where a resource of an environment is,
	// or confirms it. While it is held that costs no request. An error means
	// that nothing is known: nothing is done then.
	Hold(ctx context.Context, environment string, r forge.Resource) (Lease, error)

	// Keep names the environments that may be acted on. The leases of all
	// others are given back. It does not block.
	Keep(environments []string)

	// Release gives back the leases of an environment in one place, until Hold
	// asks for them again. It does not block.
	Release(environment string, target forge.Target)

	// Watch tells whenever a lease was won or lost without anybody asking,
	// until ctx ends. notify does not block.
	Watch(ctx context.Context, notify func(environment string)) error
}

// LeaseHolder names this process to people, and tells it from every other one.
func LeaseHolder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	random := make([]byte, 4)
	_, _ = rand.Read(random) // it never fails
	return fmt.Sprintf("%s, process %d (%s)", host, os.Getpid(), hex.EncodeToString(random))
}

// LeaseWatchers are those who watch the leases of one Leases. The zero value is
// ready for use.
type LeaseWatchers struct {
	mu     sync.Mutex
	notify map[*func(environment string)]struct{}
}

// Watch has notify be told until ctx or ended does.
func (w *LeaseWatchers) Watch(ctx context.Context, ended <-chan struct{}, notify func(environment string)) {
	key := &notify
	w.mu.Lock()
	if w.notify == nil {
		w.notify = map[*func(string)]struct{}{}
	}
	w.notify[key] = struct{}{}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.notify, key)
		w.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
	case <-ended:
	}
}

// Tell says that a lease of an environment was won or lost.
func (w *LeaseWatchers) Tell(environment string) {
	w.mu.Lock()
	to := slices.Collect(maps.Keys(w.notify))
	w.mu.Unlock()
	for _, notify := range to {
		(*notify)(environment)
	}
}

// LeaseTrouble tells of a lease that cannot be renewed: once when that begins,
// once when the reason is another, once when it is over. The zero value is ready
// for use, by one at a time.
type LeaseTrouble struct{ said string }

// Tell is told how each attempt ended, and says whether that ended the trouble:
// much may have changed meanwhile.
func (t *LeaseTrouble) Tell(log *slog.Logger, environment string, now Lease, err error) (over bool) {
	before := t.said
	if t.said = gist(err); t.said == before {
		return false
	}
	switch {
	case err != nil:
		log.Warn("lease not renewed", "environment", environment, "kind", KindOf(err), "error", err)
	case now.Held:
		log.Info("lease renewed again", "environment", environment)
	}
	return err == nil
}

// gist is what an error says without what differs from one time to the next:
// ports, ages and numbers of requests.
func gist(err error) string {
	if err == nil {
		return ""
	}
	words := strings.Fields(err.Error())
	return string(KindOf(err)) + " " + strings.Join(slices.DeleteFunc(words, func(word string) bool { return strings.ContainsAny(word, "0123456789") }), " ")
}

// Lease is who may act.
type Lease struct {
	Held   bool
	Holder string // who else, in words; empty when held
	None   bool   // held in name only: nothing is changed where this resource is
}

// LeaseStatus is a lease as people see it.
type LeaseStatus struct {
	Held   bool      `json:"held"`
	Holder string    `json:"holder,omitempty"` // who else; empty: it was held, and cannot be counted on now
	Since  time.Time `json:"since"`
}

// Message says why this forged does not act, or not everywhere; empty: it does.
func (l *LeaseStatus) Message() string {
	switch {
	case l == nil || l.Held:
		return ""
	case l.Holder == "":
		return "this forged cannot renew a lease of this environment, and changes nothing where it cannot"
	}
	return "another forged acts on this environment: " + l.Holder
}
