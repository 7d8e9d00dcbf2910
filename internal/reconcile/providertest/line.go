package providertest

import (
	"context"
	"net/http"
	"testing"
	"time"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/reconcile"
)

// badLine runs the subtests about a line that is bad and not dead, for
// harnesses that have one.
func badLine(t *testing.T, setup func(t *testing.T) Harness, within func(*testing.T, func(*testing.T))) {
	for _, tt := range []struct {
		name string
		test func(*trial)
	}{
		{"ThrottledIsHeeded", throttledIsHeeded},
		{"ErrorsOfTheServerPass", errorsOfTheServerPass},
		{"SlowAnswersAreWaitedFor", slowAnswersAreWaitedFor},
		{"BrokenWatchesLoseNothing", brokenWatchesLoseNothing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			within(t, func(t *testing.T) {
				h := setup(t)
				if h.Proxy == nil {
					return // its place has no line
				}
				tt.test(newTrial(t, h))
				h.Bystander(t)
			})
		})
	}
}

// throttledIsHeeded: who is told to wait waits, and comes to the end.
func throttledIsHeeded(t *trial) {
	mend := t.Proxy.Inject(faultproxy.Fault{
		Match: faultproxy.Request.Mutates, Times: 2, Status: http.StatusTooManyRequests, RetryAfter: time.Second,
	})
	defer mend()
	r := t.request(t.Resource)
	began := time.Now()
	for range 5 {
		if done, _ := t.attempt(r, t.Patience); done {
			break
		}
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("told to wait a second, went on after %s", took)
	}
	t.converge(r)
}

// errorsOfTheServerPass: they are told as what can be tried again, nothing
// comes of them but that, and it works when they are over.
func errorsOfTheServerPass(t *trial) {
	r := t.request(t.Resource)
	for _, status := range []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
		mend := t.Proxy.Inject(faultproxy.Fault{Match: faultproxy.Request.Mutates, Status: status})
		_, steps := t.look(r)
		if len(steps) == 0 {
			t.Fatal("nothing is there, nothing planned")
		}
		_, err := t.provider.Apply(t.ctx, r, steps[0])
		t.clean(err)
		switch kind := reconcile.KindOf(err); {
		case err == nil:
			t.Errorf("%d: applied against a server that refuses", status)
		case kind == reconcile.Invalid || kind == reconcile.Waiting || kind == reconcile.Denied:
			t.Errorf("%d: kind %s: it would not be tried again soon: %v", status, kind, err)
		}
		mend()
	}
	t.converge(r)
	t.quiet("afterwards", func() { t.converge(r) })
}

func slowAnswersAreWaitedFor(t *trial) {
	mend := t.Proxy.Inject(faultproxy.Fault{Delay: 50 * time.Millisecond})
	defer mend()
	t.converge(t.request(t.Resource))
	t.converge(t.request(t.Changed))
}

// brokenWatchesLoseNothing: watches that end, and that the server has
// forgotten where they were, are begun again, without a write; and what
// happens in between is seen.
func brokenWatchesLoseNothing(t *trial) {
	r := t.request(t.Resource)
	t.converge(r)
	watches := func(r faultproxy.Request) bool { return r.Watch }
	mend := t.Proxy.Inject(faultproxy.Fault{Match: watches, Status: http.StatusGone, Times: 3})
	t.quiet("while watches break", func() {
		t.Proxy.HangUp()
		t.readable(r)
		t.await(r, "watches that work again", func(_ reconcile.Observed, steps []reconcile.Step) bool { return len(steps) == 0 })
	})
	mend()

	away := t.Proxy.Inject(faultproxy.Fault{Match: watches, Cut: true})
	t.Proxy.HangUp()
	t.Edit(t.T)
	away()
	t.readable(r)
	t.await(r, "an edit while watches were broken", drift)
	t.converge(r)
}

// readable waits until the resource can be read again. Until then nothing is
// known, which the provider says; it tells when that has changed.
func (t *trial) readable(r reconcile.Request) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, t.Patience)
	defer cancel()
	for {
		_, err := t.provider.Observe(t.ctx, r)
		t.clean(err)
		if err == nil {
			return
		}
		select {
		case <-t.events:
		case <-ctx.Done():
			t.Fatalf("not readable again within %s: %v", t.Patience, err)
		}
	}
}
