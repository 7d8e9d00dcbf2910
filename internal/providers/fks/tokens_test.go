package fks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

// door is an API server that opens to those whom Fly's emulator vouches for.
type door struct {
	r      *rig
	closed bool // to everybody

	mu     sync.Mutex
	tokens map[string]int // how often each was shown
	bodies []string       // of requests that passed
}

// RoundTrip implements http.RoundTripper.
func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		body = string(b)
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	_, opens := d.r.OpensClusters(token, flytest.Org)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tokens[token]++
	resp := &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("Unauthorized")), Request: r}
	if opens && !d.closed {
		resp.StatusCode = http.StatusOK
		d.bodies = append(d.bodies, body)
	}
	return resp, nil
}

func (d *door) shown() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.tokens)
}

// lock is a door and the way to it.
type lock struct {
	*door
	rt http.RoundTripper
}

// lock begins with a cluster that is ready.
func (r *rig) lock() *lock {
	r.t.Helper()
	p := r.fks()
	r.Converge(p, r.request())
	d := &door{r: r, tokens: map[string]int{}}
	return &lock{d, &bearer{next: d, tokens: p.ways[clusterID].tokens}}
}

// try is one request.
func (l *lock) try(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://k.flycast:6443/api", strings.NewReader("what is written"))
	if err != nil {
		return 0, err
	}
	resp, err := l.rt.RoundTrip(req)
	if err != nil {
		l.r.Silent(err.Error())
		return 0, err
	}
	defer resp.Body.Close()
	if req.Header.Get("Authorization") != "" {
		l.r.t.Error("the caller's request was changed")
	}
	return resp.StatusCode, nil
}

func (l *lock) opens() {
	l.r.t.Helper()
	code, err := l.try(l.r.t.Context())
	l.r.Must(err)
	if code != http.StatusOK {
		l.r.t.Fatalf("%s: status %d", time.Now(), code)
	}
}

// A token is made once, used for most of its life, and replaced before its end.
func TestTokenIsRenewed(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		l := r.lock()
		for range 5 * 60 {
			l.opens()
			time.Sleep(time.Minute)
		}
		if n := l.shown(); n != 7 { // at 0, 48, 96, 144, 192, 240, 288 minutes
			r.t.Errorf("%d tokens in five hours", n)
		}
		time.Sleep(24 * time.Hour)
		l.opens()
		for token, n := range l.tokens {
			if strings.HasPrefix(token, "FlyV1") || !strings.HasPrefix(token, "fm2_") {
				r.t.Errorf("what was shown %d times is not what flyctl shows", n)
			}
		}
		tokens, err := r.Somebody.LimitedTokens(r.t.Context(), flytest.Org)
		r.Must(err)
		for _, made := range tokens {
			if made.Name == tokenName && made.ExpiresAt.After(time.Now().Add(time.Hour)) {
				r.t.Errorf("a token lasts until %s", made.ExpiresAt)
			}
		}
	})
}

// However many ask, one token is made; and while that takes long, the old one is
// used.
func TestTokenIsMadeOnce(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		l := r.lock()
		all := func() {
			var asking sync.WaitGroup
			for range 50 {
				asking.Go(l.opens)
			}
			asking.Wait()
		}
		all()
		if n := l.shown(); n != 1 {
			r.t.Fatalf("%d tokens for 50 requests", n)
		}
		time.Sleep(50 * time.Minute)
		r.Fault(flyemulator.Fault{Body: `createLimitedAccessToken`, Delay: flyemulator.Duration(5 * time.Second), Count: 1})
		began := time.Now()
		var slow sync.Mutex
		waited := 0
		var asking sync.WaitGroup
		for range 50 {
			asking.Go(func() {
				l.opens()
				slow.Lock()
				defer slow.Unlock()
				if time.Since(began) > time.Second {
					waited++
				}
			})
		}
		asking.Wait()
		if n := l.shown(); n != 2 || waited > 1 {
			r.t.Errorf("%d tokens; %d requests waited for the second", n, waited)
		}
	})
}

// One that is refused is replaced, once, and the request repeated with all that
// was in it.
func TestTokenThatIsRefused(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		l := r.lock()
		l.opens()
		all, err := r.Somebody.LimitedTokens(r.t.Context(), flytest.Org)
		r.Must(err)
		for _, made := range all {
			if made.Name == tokenName {
				r.Must(r.Somebody.DeleteLimitedToken(r.t.Context(), made.ID))
			}
		}
		var asking sync.WaitGroup
		for range 20 {
			asking.Go(l.opens)
		}
		asking.Wait()
		if n := l.shown(); n != 2 {
			r.t.Errorf("%d tokens", n)
		}
		for _, body := range l.bodies {
			if body != "what is written" {
				r.t.Errorf("repeated with %q", body)
			}
		}
	})
}

// A cluster that opens to nobody has no tokens made without end.
func TestTokensThatAreAllRefused(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		l := r.lock()
		l.closed = true
		for range 100 {
			if code, err := l.try(r.t.Context()); err != nil || code != http.StatusUnauthorized {
				r.t.Fatal(code, err)
			}
			time.Sleep(time.Second)
		}
		if n := l.shown(); n > 5 {
			r.t.Errorf("%d tokens in 100 s", n)
		}
		l.closed = false
		l.opens()
	})
}

// A token that cannot be replaced is used until its end; what is wrong is said
// then, by its kind.
func TestTokenThatCannotBeRenewed(t *testing.T) {
	for _, tt := range []struct {
		what  string
		fault flyemulator.Fault
		kind  reconcile.ErrorKind
		want  string
	}{
		{"no network", flyemulator.Fault{Drop: flyemulator.DropBefore}, reconcile.Unavailable, "get a token for"},
		{"Fly is down", flyemulator.Fault{Status: 503}, reconcile.Unavailable, "get a token for"},
		{"the token of forge.cue was revoked", flyemulator.Fault{Status: 401}, reconcile.Denied, "revoked"},
		{"it may not make tokens", flyemulator.Fault{Body: `createLimitedAccessToken`, Status: 200, Text: `{"errors":[{"message":"Not authorized","extensions":{"code":"UNAUTHORIZED"}}],"data":null}`}, reconcile.Denied, "get a token for"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			inBubble(t, flyemulator.Options{}, func(r *rig) {
				l := r.lock()
				l.opens()
				mend := r.Fault(tt.fault)
				for range 58 {
					time.Sleep(time.Minute)
					l.opens()
				}
				time.Sleep(2 * time.Minute)
				_, err := l.try(r.t.Context())
				if reconcile.KindOf(err) != tt.kind || !strings.Contains(fmt.Sprint(err), tt.want) {
					r.t.Errorf("%s: %v", reconcile.KindOf(err), err)
				}
				mend()
				time.Sleep(2 * time.Minute)
				l.opens()
				if n := l.shown(); n != 2 {
					r.t.Errorf("%d tokens", n)
				}
			})
		})
	}
}

// Who waits for a token waits no longer than its context, and takes nothing from
// those who go on.
func TestWaitingForATokenEnds(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		l := r.lock()
		r.Fault(flyemulator.Fault{Body: `createLimitedAccessToken`, Delay: flyemulator.Duration(20 * time.Second), Count: 1})
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		done := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := l.try(ctx)
				done <- err
			}()
		}
		synctest.Wait()
		l.opens()
		for range 2 {
			if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
				r.t.Errorf("after %s: %v", time.Since(began), err)
			}
		}
	})
}
