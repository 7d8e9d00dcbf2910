package kubernetes

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// leaseLine is a way to a cluster on which requests about leases can be cut.
type leaseLine struct {
	next http.RoundTripper
	cut  *atomic.Bool
}

// RoundTrip implements http.RoundTripper.
func (l leaseLine) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.cut.Load() && strings.Contains(r.URL.Path, "/leases/") {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, syscall.ECONNREFUSED
	}
	return l.next.RoundTrip(r)
}

type leaseLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *leaseLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *leaseLog) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// While the cluster is out of reach that is told once, and so is its end; and
// whoever watches is told when the lease may not be counted on any more.
func TestLeaseOutOfReach(t *testing.T) {
	b := newBed(t)
	clock, lines, cut := newFakeClock(), &leaseLog{}, &atomic.Bool{}
	clusters := NewClusters(Options{Instance: b.Instance, Logger: slog.New(slog.NewTextHandler(lines, nil))})
	clusters.clock = clock
	clusters.wrap = func(next http.RoundTripper) http.RoundTripper { return leaseLine{next, cut} }
	t.Cleanup(clusters.Close)
	one := &forgedAt{bed: &bed{Env: b.Env, t: b.t, requests: &requests{}}, clock: clock, leases: NewLeases(clusters)}
	one.clusters = clusters
	one.hold()
	told := one.watched(t.Context())

	cut.Store(true)
	clock.stand(t, 30*time.Second, 1)
	clock.advance(30 * time.Second)
	for range 20 { // for 100 s
		clock.stand(t, 5*time.Second, 1)
		clock.advance(5 * time.Second)
	}
	clock.stand(t, 5*time.Second, 1)
	if n := lines.count("lease not renewed"); n != 1 {
		t.Errorf("told %d times in 21 attempts:\n%s", n, lines.text.String())
	}
	if n := told.Load(); n != 1 {
		t.Errorf("watchers were told %d times that it cannot be counted on", n)
	}
	cut.Store(false)
	clock.advance(5 * time.Second)
	clock.stand(t, 30*time.Second, 1)
	if n := lines.count("lease renewed again"); n != 1 || told.Load() != 2 {
		t.Errorf("its end was told %d times, and %d times to watchers", n, told.Load()-1)
	}
	if l := one.hold(); !l.Held {
		t.Errorf("%+v", l)
	}
}

// watched counts how often it is told of the leases of prod, from now on.
func (f *forgedAt) watched(ctx context.Context) *atomic.Int32 {
	f.t.Helper()
	var told atomic.Int32
	var watching atomic.Bool
	go func() {
		_ = f.leases.Watch(ctx, func(environment string) {
			watching.Store(true)
			if environment == "prod" {
				told.Add(1)
			}
		})
	}()
	f.await("it is watched", func() bool {
		f.leases.watchers.Tell("nobody's")
		return watching.Load()
	})
	return &told
}

// One place is given back, and had again by whoever asks.
func TestLeaseOfOnePlaceIsGivenBack(t *testing.T) {
	b := newBed(t)
	one, two := b.another(nil), b.another(nil)
	one.hold()
	other := b.Target()
	other.Context += "-other"
	one.leases.Release("prod", other)
	one.leases.Release("test", b.Target())
	if l := two.hold(); l.Held {
		t.Fatal("another one was given back")
	}
	one.leases.Release("prod", b.Target())
	b.await("it is given back", func() bool { return *b.liveLease().Spec.HolderIdentity == "" })
	two.await("it is had", func() bool { return two.hold().Held })
	if l := one.hold(); l.Held {
		t.Error("held by two")
	}
}
