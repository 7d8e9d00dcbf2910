package endpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

const health = "https://app.svc.fks-default-x.fly.dev/health/ready"

// The load balancer gets its address, the app answers: both are seen without
// anybody asking in vain.
func TestFromNothingToReady(t *testing.T) {
	bubble(t, func(s *scene) {
		s.set(func(now *sight) { *now = sight{} })
		s.wants(reconcile.Progressing, "Service shop/app is not there yet")
		s.set(func(now *sight) { now.there = true })
		s.wants(reconcile.Progressing, "Service shop/app has no load balancer: it is not of type LoadBalancer")
		s.set(func(now *sight) { now.balanced = true })
		if o := s.wants(reconcile.Progressing, "Service shop/app has no address yet"); len(o.Outputs) > 0 {
			t.Errorf("outputs %v", o.Outputs)
		}
		time.Sleep(time.Hour)
		if n := s.app.times(); n > 0 {
			t.Errorf("asked %d times, and there is no address", n)
		}
		s.app.is(verdict{trouble: "the connection is refused"})
		s.set(func(now *sight) { *now = balanced() })
		o := s.wants(reconcile.Progressing, health+": the connection is refused")
		if o.Outputs[forge.OutputHost].Value != "app.svc.fks-default-x.fly.dev" || o.Outputs[forge.OutputAddress].Value != "app.svc.fks-default-x.fly.dev 2001:db8::1 192.0.2.1" {
			t.Errorf("outputs %v", o.Outputs)
		}
		time.Sleep(16 * time.Second)
		if n := s.app.times(); n != 5 { // at 0, 1, 3, 7 and 15 s
			t.Errorf("asked %d times in 16 s", n)
		}
		s.app.is(verdict{})
		time.Sleep(16 * time.Second)
		s.wants(reconcile.Ready, "")
		if q := s.app.last; !q.same(question{host: "app.svc.fks-default-x.fly.dev", port: 443, tls: true, path: "/health/ready"}) || q.timeout != 5*time.Second {
			t.Errorf("asked for %+v", q)
		}
	})
}

// Looking costs nothing, however often somebody does; an app that answers is
// asked each interval, and nobody is told that nothing has changed.
func TestQuietWhileItAnswers(t *testing.T) {
	bubble(t, func(s *scene) {
		s.wants(reconcile.Ready, "")
		for range 1000 {
			s.look()
		}
		if n := s.app.times(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(time.Hour)
		if n := s.app.times(); n < 170 || n > 181 {
			t.Errorf("asked %d times in an hour", n)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.events > 6 {
			t.Errorf("%d events in an hour in which nothing happened", s.events)
		}
		if !s.p.Follows(s.request.Resource) {
			t.Error("does not know that it follows")
		}
	})
}

// An app that dies silently has failed within the time that a probe takes; one
// bad answer is no death. When it is back that is seen.
func TestAnAppThatDies(t *testing.T) {
	bubble(t, func(s *scene) {
		s.wants(reconcile.Ready, "")
		s.app.is(verdict{trouble: "it answers 502 Bad Gateway"})
		time.Sleep(21 * time.Second)
		s.wants(reconcile.Ready, health+": it answers 502 Bad Gateway; it is asked again")
		s.app.is(verdict{})
		time.Sleep(5 * time.Second)
		s.wants(reconcile.Ready, "")

		s.app.is(verdict{trouble: "no answer within 5s"})
		s.app.takes(5 * time.Second)
		time.Sleep(60*time.Second + 5*time.Second)
		s.wants(reconcile.Failed, health+": no answer within 5s")
		before := s.app.times()
		time.Sleep(time.Hour)
		if n := s.app.times() - before; n > 3600/20+5 {
			t.Errorf("asked %d times in an hour of trouble", n)
		}
		s.wants(reconcile.Failed, health+": no answer within 5s")
		s.app.is(verdict{})
		s.app.takes(0)
		time.Sleep(25 * time.Second)
		s.wants(reconcile.Ready, "")
	})
}

// Pods that are there again are asked for at once, those of the same rollout
// have no time to start.
func TestPodsThatComeAndGo(t *testing.T) {
	bubble(t, func(s *scene) {
		s.wants(reconcile.Ready, "")
		time.Sleep(time.Second)
		s.app.is(verdict{trouble: "the connection is refused"})
		s.set(func(now *sight) { now.pods, now.revisions = "", "" })
		s.wants(reconcile.Ready, "the connection is refused; it is asked again")
		if n := s.app.times(); n != 2 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(time.Minute)
		s.wants(reconcile.Failed, "the connection is refused")
		s.set(func(now *sight) { now.pods, now.revisions = "b", "1" })
		s.wants(reconcile.Failed, "the connection is refused")
		before := s.app.times()
		s.app.is(verdict{})
		s.set(func(now *sight) { now.pods = "b ready" })
		s.wants(reconcile.Ready, "")
		if n := s.app.times() - before; n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// What the pods of before have answered says nothing of those of now: after a
// rollout it is ready when it has answered again.
func TestARolloutIsReadyWhenItAnswers(t *testing.T) {
	bubble(t, func(s *scene) {
		s.wants(reconcile.Ready, "")
		s.app.is(verdict{trouble: "it answers 503 Service Unavailable"})
		s.set(func(now *sight) { now.pods, now.revisions = "a ready,b", "1,2" })
		s.wants(reconcile.Progressing, "it answers 503 Service Unavailable")
		s.app.is(verdict{})
		time.Sleep(5 * time.Second)
		s.wants(reconcile.Ready, "") // both are there; either may have answered
		s.app.takes(time.Second)
		s.set(func(now *sight) { now.pods, now.revisions = "b ready", "2" })                   // the old one has gone
		s.wants(reconcile.Progressing, health+" has not answered since its pods have changed") // although it did a moment ago
		time.Sleep(2 * time.Second)
		s.wants(reconcile.Ready, "")
	})
}

// A rollout has the app's time to start, and has failed then; without one the
// policy says how long it is waited for.
func TestARolloutThatNeverAnswers(t *testing.T) {
	bubble(t, func(s *scene) {
		s.wants(reconcile.Ready, "")
		s.app.is(verdict{trouble: "it answers 500 Internal Server Error"})
		s.set(func(now *sight) { now.pods, now.revisions = "b", "2" })
		time.Sleep(10 * time.Minute)
		s.wants(reconcile.Progressing, "it answers 500") // what it needs is not ready
		s.change(func(r *reconcile.Request) { r.Settled = time.Now() })
		s.wants(reconcile.Progressing, "it answers 500")
		time.Sleep(time.Minute + 50*time.Second)
		s.wants(reconcile.Progressing, "it answers 500")
		time.Sleep(30 * time.Second)
		s.wants(reconcile.Failed, "it answers 500")

		s.change(func(r *reconcile.Request) {
			open := spec()
			open.Startup = 0
			r.Resource.Spec = open
		})
		s.wants(reconcile.Progressing, "it answers 500")
	})
}

// What it needs has become ready anew, as a release does after a rollout: then
// an answer of before does not count, even where no pod was seen to change.
func TestAnAnswerFromBeforeWhatItNeedsWasReady(t *testing.T) {
	bubble(t, func(s *scene) {
		s.wants(reconcile.Ready, "")
		time.Sleep(time.Second)
		s.app.takes(time.Second)
		s.change(func(r *reconcile.Request) { r.Settled = time.Now() })
		if o := s.look(); o.Health.Status != reconcile.Progressing {
			t.Errorf("%+v", o.Health)
		}
		time.Sleep(1500 * time.Millisecond)
		s.wants(reconcile.Ready, "")
		if n := s.app.times(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

// Where this machine has no network nothing is said of the app.
func TestWithoutANetwork(t *testing.T) {
	bubble(t, func(s *scene) {
		s.wants(reconcile.Ready, "")
		s.app.is(verdict{trouble: "no name server answers here", blind: true})
		time.Sleep(2 * time.Minute)
		s.wants(reconcile.Unknown, "whether it answers cannot be told from here: "+health+": no name server answers here")
		s.app.is(verdict{})
		time.Sleep(20 * time.Second)
		s.wants(reconcile.Ready, "")
	})
}

// What is wrong with a domain holds nothing up; with TLS it may be what tells
// that the app serves.
func TestNamesOfTheApp(t *testing.T) {
	bubble(t, func(s *scene) {
		named := spec()
		named.Hosts = []string{"shop.acme.test", "www.acme.test"}
		s.change(func(r *reconcile.Request) { r.Resource.Spec = named })
		s.app.hosts = map[string]verdict{"shop.acme.test": {}, "www.acme.test": {trouble: "it refuses TLS for this name: there may be no certificate yet", encryption: true}}
		o := s.wants(reconcile.Ready, "")
		want := []reconcile.Notice{{
			Code: "host", Object: "Service shop/app",
			Message: "asked for as www.acme.test, app.svc.fks-default-x.fly.dev does not serve the app: it refuses TLS for this name: there may be no certificate yet",
		}}
		if !slices.Equal(o.Notices, want) {
			t.Errorf("%+v", o.Notices)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := s.app.others; n < 8 || n > 11 {
			t.Errorf("asked for its names %d times in 10 minutes", n)
		}

		s.app.is(verdict{trouble: "it refuses TLS for this name: there may be no certificate yet", encryption: true})
		time.Sleep(2 * time.Minute)
		o = s.wants(reconcile.Ready, "")
		if len(o.Notices) != 2 || o.Notices[0].Code != "certificate" || !strings.Contains(o.Notices[0].Message, "the app answers under another name, but not at "+health) {
			t.Errorf("%+v", o.Notices)
		}
		s.app.is(verdict{certificate: "its certificate is for other names"})
		time.Sleep(time.Minute)
		o = s.wants(reconcile.Ready, "")
		if len(o.Notices) != 2 || o.Notices[0].Message != health+" answers, but its certificate is for other names" {
			t.Errorf("%+v", o.Notices)
		}

		s.app.mu.Lock()
		s.app.hosts = map[string]verdict{"shop.acme.test": {trouble: "it answers 404 Not Found"}, "www.acme.test": {trouble: "it answers 404 Not Found"}}
		s.app.mu.Unlock()
		s.app.is(verdict{trouble: "it refuses TLS for this name: there may be no certificate yet", encryption: true})
		time.Sleep(2 * time.Minute)
		s.wants(reconcile.Failed, "it refuses TLS")
	})
}

// What cannot be read is unknown, and what was known is not forgotten.
func TestUnreadable(t *testing.T) {
	bubble(t, func(s *scene) {
		s.wants(reconcile.Ready, "")
		s.ground.mu.Lock()
		s.ground.err = reconcile.Errorf(reconcile.Unavailable, "look", "no answer")
		s.ground.mu.Unlock()
		_, err := s.p.Observe(s.Context(), s.request)
		var e *reconcile.Error
		if !errors.As(err, &e) || e.Kind != reconcile.Unavailable || e.ID != appID {
			t.Errorf("%v", err)
		}
		s.ground.mu.Lock()
		s.ground.err = nil
		s.ground.mu.Unlock()
		s.wants(reconcile.Ready, "")
		if n := s.app.times(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// One that never answers holds up the first look for as long as one question
// may take, and then nobody.
func TestTheFirstLookAsksOnce(t *testing.T) {
	bubble(t, func(s *scene) {
		s.app.is(verdict{trouble: "no answer within 5s"})
		s.app.takes(5 * time.Second)
		began := time.Now()
		s.look()
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("held up for %s", d)
		}
		began = time.Now()
		for range 10 {
			s.look()
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("held up again for %s", d)
		}
	})
}

// A look that is cut off says nothing of the app.
func TestACutLookIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(&ground{now: balanced()}, asking{&outside{slow: time.Minute}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if o, err := p.Observe(ctx, reconcile.Request{Resource: forge.Resource{ID: appID, Spec: spec()}}); err == nil {
			t.Errorf("%+v", o)
		}
		if m := p.known[appID]; m.asked || m.asking || m.failures > 0 {
			t.Errorf("%+v", m)
		}
	})
}

// Without anybody who watches, each look asks when it is time to.
func TestLooksWithoutAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := &outside{}
		p := newProvider(&ground{now: balanced()}, asking{app})
		r := reconcile.Request{Resource: forge.Resource{ID: appID, Spec: spec()}}
		for _, want := range []int{1, 1, 2} {
			if _, err := p.Observe(t.Context(), r); err != nil || len(app.asked) != want {
				t.Errorf("asked %d times, want %d; %v", len(app.asked), want, err)
			}
			time.Sleep(11 * time.Second)
		}
		if p.Follows(r.Resource) {
			t.Error("says that it follows, and nobody watches")
		}
	})
}

// What nobody wants to know any more is not asked for ever.
func TestItEndsWithTheInterest(t *testing.T) {
	bubble(t, func(s *scene) {
		s.wants(reconcile.Ready, "")
		s.change(func(r *reconcile.Request) { r.Remove = true })
		o, err := s.p.Observe(s.Context(), s.req())
		synctest.Wait()
		if err != nil || o.Exists || s.dropped != 1 {
			t.Errorf("%+v, %v", o, err)
		}
		before := s.app.times()
		time.Sleep(time.Hour)
		if n := s.app.times() - before; n > 0 {
			t.Errorf("asked %d times for what is gone", n)
		}
	})
	synctest.Test(t, func(t *testing.T) { // its environment has left forge.cue
		app, g := &outside{}, &ground{now: balanced()}
		p := newProvider(g, asking{app})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Watch(ctx, func(reconcile.Event) {}) }()
		if _, err := p.Observe(ctx, reconcile.Request{Resource: forge.Resource{ID: appID, Spec: spec()}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := len(app.asked); n > 65 || g.dropped != 1 || len(p.known) > 0 {
			t.Errorf("asked %d times in a day; forgotten %d times", n, g.dropped)
		}
		cancel()
		<-ended
	})
}

// Specs that leave things out, and some that nobody should get.
func TestOddSpecs(t *testing.T) {
	bubble(t, func(s *scene) {
		s.change(func(r *reconcile.Request) {
			r.Resource.Spec = forge.EndpointSpec{Namespace: "shop", Service: "app", Port: 80}
		})
		s.app.is(verdict{trouble: "the connection is refused"})
		s.wants(reconcile.Progressing, "http://app.svc.fks-default-x.fly.dev/: the connection is refused")
		if q := s.app.last; q.timeout != 5*time.Second || q.path != "/" {
			t.Errorf("%+v", q)
		}
		s.app.is(verdict{})
		time.Sleep(time.Minute)
		before := s.app.times()
		time.Sleep(time.Minute)
		if n := s.app.times() - before; n != 6 {
			t.Errorf("asked %d times in a minute", n)
		}
		if _, err := s.p.Apply(s.Context(), s.request, reconcile.Step{}); reconcile.KindOf(err) != reconcile.Internal {
			t.Error(err)
		}
		s.change(func(r *reconcile.Request) { r.Resource.Spec = forge.DNSSpec{} })
		if _, err := s.p.Observe(s.Context(), s.req()); reconcile.KindOf(err) != reconcile.Internal {
			t.Error(err)
		}
	})
	m := memory{question: question{host: "2001:db8::1", port: 8080}}
	if got := fmt.Sprint(m.url()); got != "http://[2001:db8::1]:8080" {
		t.Error(got)
	}
}
