package endpoint

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

var appID = forge.ID{Environment: "prod", Kind: forge.KindEndpoint, Name: "app"}

func spec() forge.EndpointSpec {
	return forge.EndpointSpec{
		Namespace: "shop", Service: "app", Port: 443, TLS: true, Path: "/health/ready",
		Timeout: 5 * time.Second, Interval: 20 * time.Second, Failures: 3, Startup: 2 * time.Minute,
	}
}

// ground is a cluster of which only what is read of it is there.
type ground struct {
	mu      sync.Mutex
	now     sight
	err     error
	looks   int
	notify  func(reconcile.Event)
	dropped int
}

func (g *ground) see(context.Context, forge.Resource) (sight, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looks++
	return g.now, g.err
}

func (g *ground) forget(forge.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropped++
}
func (g *ground) follows(forge.Resource) bool { return true }

func (g *ground) watch(ctx context.Context, notify func(reconcile.Event)) error {
	g.mu.Lock()
	g.notify = notify
	g.mu.Unlock()
	<-ctx.Done()
	return nil
}

// set changes what is there, and tells.
func (g *ground) set(change func(*sight)) {
	g.mu.Lock()
	change(&g.now)
	notify := g.notify
	g.mu.Unlock()
	if notify != nil {
		notify(reconcile.Event{ID: appID, Cause: "health"})
	}
}

// balanced is a Service that has its load balancer, and one pod.
func balanced() sight {
	return sight{
		there: true, balanced: true, host: "app.svc.fks-default-x.fly.dev",
		addresses: []string{"app.svc.fks-default-x.fly.dev", "2001:db8::1", "192.0.2.1"}, pods: "a ready", revisions: "1",
	}
}

// outside is the app as it is seen from outside.
type outside struct {
	mu     sync.Mutex
	v      verdict
	hosts  map[string]verdict
	slow   time.Duration
	asked  []time.Time
	others int
	last   question
}

func (a *outside) own(ctx context.Context, q question) verdict {
	a.mu.Lock()
	v, slow := a.v, a.slow
	a.last, a.asked = q, append(a.asked, time.Now())
	a.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
		}
	}
	return v
}

func (a *outside) further(context.Context, question) map[string]verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.others++
	return a.hosts
}

func (a *outside) is(v verdict) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.v = v
}

func (a *outside) takes(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slow = d
}

func (a *outside) times() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked)
}

// scene is the provider in virtual time, with whoever looks at each event.
type scene struct {
	*testing.T
	*ground
	app     *outside
	p       *Provider
	request reconcile.Request

	mu     sync.Mutex
	events int
}

type asking struct{ *outside }

func (a asking) others(ctx context.Context, q question) map[string]verdict { return a.further(ctx, q) }

// bubble runs a test with an app that answers, behind a load balancer.
func bubble(t *testing.T, f func(s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{T: t, ground: &ground{now: balanced()}, app: &outside{}}
		s.request.Resource = forge.Resource{ID: appID, Spec: spec()}
		s.p = newProvider(s.ground, asking{s.app})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		looks := make(chan struct{}, 1)
		var work sync.WaitGroup
		work.Go(func() {
			for {
				select {
				case <-looks:
					if _, err := s.p.Observe(ctx, s.req()); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				case <-ctx.Done():
					return
				}
			}
		})
		go func() {
			ended <- s.p.Watch(ctx, func(e reconcile.Event) {
				s.mu.Lock()
				s.events++
				s.mu.Unlock()
				select {
				case looks <- struct{}{}:
				default:
				}
			})
		}()
		synctest.Wait()
		f(s)
		cancel()
		work.Wait()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func (s *scene) req() reconcile.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.request
}

func (s *scene) change(f func(*reconcile.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.request)
}

func (s *scene) look() reconcile.Observed {
	s.Helper()
	synctest.Wait()
	o, err := s.p.Observe(s.Context(), s.req())
	if err != nil {
		s.Fatal(err)
	}
	if steps, err := s.p.Plan(s.Context(), s.req(), o); len(steps) > 0 || err != nil || !o.Exists {
		s.Fatalf("planned %v, %v; exists %v", steps, err, o.Exists)
	}
	return o
}

// wants looks, and is not content with less.
func (s *scene) wants(status reconcile.HealthStatus, message string) reconcile.Observed {
	s.Helper()
	o := s.look()
	if o.Health.Status != status || !strings.Contains(o.Health.Message, message) || message == "" && o.Health.Message != "" {
		s.Errorf("%+v, want %s: %q", o.Health, status, message)
	}
	return o
}
