package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := answers(says(503, `{"error":"upstream"}`), says(502, `<html>`), says(200, `{"name":"shop"}`))
		app, err := newClient(t, f).App(t.Context(), "shop")
		if err != nil || app.Name != "shop" || len(f.requests()) != 3 {
			t.Errorf("%+v, %v after %d requests", app, err, len(f.requests()))
		}
	})
}

func TestReadsAreNotTriedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := answers(says(503, `{"error":"upstream"}`))
		_, err := newClient(t, f).App(t.Context(), "shop")
		if e := asError(t, err); e.Kind != Unavailable || len(f.requests()) != attempts || e.RequestID != "01K-req" {
			t.Errorf("%v after %d requests", err, len(f.requests()))
		}
	})
}

// TestWritesAreNotMadeTwice: whatever becomes of the answer.
func TestWritesAreNotMadeTwice(t *testing.T) {
	dropped := func(*http.Request) error { return fmt.Errorf("read tcp: %w", syscall.ECONNRESET) }
	ended := func(*http.Request) error { return io.ErrUnexpectedEOF }
	calls := map[string]func(context.Context, *Client) error{
		"app": func(ctx context.Context, c *Client) error {
			_, err := c.CreateApp(ctx, CreateApp{Name: "a", Org: "o"})
			return err
		},
		"machine": func(ctx context.Context, c *Client) error {
			_, err := c.CreateMachine(ctx, "a", CreateMachine{})
			return err
		},
		"update": func(ctx context.Context, c *Client) error {
			_, err := c.UpdateMachine(ctx, "a", "1", UpdateMachine{})
			return err
		},
		"volume": func(ctx context.Context, c *Client) error {
			_, err := c.CreateVolume(ctx, "a", CreateVolume{})
			return err
		},
		"address": func(ctx context.Context, c *Client) error { _, err := c.AssignIP(ctx, "a", AssignIP{}); return err },
		"cert":    func(ctx context.Context, c *Client) error { _, err := c.RequestCertificate(ctx, "a", "h"); return err },
		"postgres": func(ctx context.Context, c *Client) error {
			_, err := c.CreatePostgres(ctx, CreatePostgres{})
			return err
		},
		"add-on": func(ctx context.Context, c *Client) error {
			_, err := c.CreateAddOn(ctx, CreateAddOn{Type: AddOnRedis})
			return err
		},
		"lease": func(ctx context.Context, c *Client) error {
			_, err := c.AcquireLease(ctx, "a", "1", time.Minute, "")
			return err
		},
		"token": func(ctx context.Context, c *Client) error {
			_, err := c.CreateLimitedToken(ctx, CreateLimitedToken{})
			return err
		},
		"rotate": func(ctx context.Context, c *Client) error { return c.RotatePostgresPassword(ctx, "1", "u", false) },
		"exec":   func(ctx context.Context, c *Client) error { _, err := c.Exec(ctx, "a", "1", "", Exec{}); return err },
	}
	answersLost := map[string]*fake{
		"500": answers(says(500, "")), "502": answers(says(502, "<html>")), "503": answers(says(503, "")), "504": answers(says(504, "")),
		"408": answers(says(408, "")), "reset": {fail: dropped}, "cut": {fail: ended},
		"nonsense": answers(says(200, "<html>OK")),
		"silence":  {fail: func(r *http.Request) error { <-r.Context().Done(); return r.Context().Err() }},
	}
	for name, call := range calls {
		for how, f := range answersLost {
			if name == "rotate" && how == "nonsense" { // nobody reads what it says
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				f.seen = nil
				err := call(t.Context(), newClient(t, f))
				if e := asError(t, err); e.Kind != Ambiguous || len(f.requests()) != 1 {
					t.Errorf("%s, %s: %q (%v) after %d requests", name, how, e.Kind, err, len(f.requests()))
				}
			})
		}
	}
}

// TestWritesThatNeverLeftAreTriedAgain: who cannot be reached has done nothing.
func TestWritesThatNeverLeftAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := answers(says(201, `{"id":"x"}`))
		failures := 2
		f.fail = func(*http.Request) error {
			if failures--; failures >= 0 {
				return &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			return nil
		}
		if _, err := newClient(t, f).CreateApp(t.Context(), CreateApp{Name: "a", Org: "o"}); err != nil || len(f.requests()) != 3 {
			t.Errorf("%v after %d requests", err, len(f.requests()))
		}
		f.fail = func(*http.Request) error { return &net.DNSError{Err: "no such host", Name: "api.machines.dev"} }
		_, err := newClient(t, f).CreateApp(t.Context(), CreateApp{Name: "a", Org: "o"})
		if e := asError(t, err); e.Kind != Unavailable {
			t.Error(err)
		}
	})
}

func TestThrottledWaitsAsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttled := func(after string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", after)
				w.WriteHeader(429)
				io.WriteString(w, `{"error":"rate limit exceeded"}`)
			}
		}
		f := answers(throttled("20"), throttled(""), says(200, `{"id":"m","instance_id":"01"}`)) // also a create: it was not made
		if _, err := newClient(t, f).CreateMachine(t.Context(), "a", CreateMachine{}); err != nil {
			t.Fatal(err)
		}
		seen := f.requests()
		first, second := seen[1].at.Sub(seen[0].at), seen[2].at.Sub(seen[1].at)
		if first < 20*time.Second || first > 23*time.Second || second < 500*time.Millisecond || second > 4*time.Second {
			t.Errorf("waited %s and %s", first, second)
		}
		f = answers(throttled("3600"))
		began := time.Now()
		_, err := newClient(t, f).CreateMachine(t.Context(), "a", CreateMachine{})
		if e := asError(t, err); e.Kind != Throttled || e.RetryAfter != time.Minute || time.Since(began) > noMoreAfter {
			t.Errorf("%v, after %s, in %s", err, e.RetryAfter, time.Since(began))
		}
	})
}

func TestBackoffGrowsAndDiffers(t *testing.T) {
	seen := map[time.Duration]bool{}
	for attempt := 1; attempt <= 20; attempt++ {
		base := 500 * time.Millisecond << min(attempt-1, 6)
		for range 50 {
			d := backoff(attempt)
			seen[d] = true
			if d < base/2 || d > base*3/2 {
				t.Errorf("attempt %d: %s", attempt, d)
			}
		}
	}
	if len(seen) < 500 {
		t.Errorf("%d different ones of 1000", len(seen))
	}
}

func TestContextEndsEverything(t *testing.T) {
	for name, f := range map[string]*fake{
		"no answer": {fail: func(r *http.Request) error { <-r.Context().Done(); return r.Context().Err() }},
		"failures":  answers(says(503, "")),
		"throttled": answers(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(429)
		}),
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err := newClient(t, f).App(ctx, "a")
			if asError(t, err); time.Since(began) > 100*time.Millisecond {
				t.Errorf("%s: %v after %s", name, err, time.Since(began))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, answers(says(200, `{}`)))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := c.CreateApp(ctx, CreateApp{Name: "a", Org: "o"})
		if e := asError(t, err); e.Kind != Unavailable || !errors.Is(err, context.Canceled) {
			t.Errorf("%v: nothing was sent, so nothing is ambiguous", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := &fake{fail: func(r *http.Request) error { cancel(); <-r.Context().Done(); return r.Context().Err() }}
		_, err := newClient(t, f).CreateApp(ctx, CreateApp{Name: "a", Org: "o"})
		if e := asError(t, err); e.Kind != Ambiguous || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestSlowAnswerIsWaitedFor: 29 seconds are nothing.
func TestSlowAnswerIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := answers(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(29 * time.Second)
			says(200, `{"id":"m","instance_id":"01"}`)(w, r)
		})
		if m, err := newClient(t, f).CreateMachine(t.Context(), "a", CreateMachine{}); err != nil || m.ID != "m" {
			t.Error(err)
		}
	})
}

// endless is a body that does not end.
// TestAnswersThatSayNothing: nothing is no app, and no empty list.
// TestNothingIsLeftOfAFailedAnswer: the second answer is not mixed with what
// the first one said before it broke.
// TestOneRefusalHoldsEverybody: whoever wants the same waits as well.
func TestOneRefusalHoldsEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := answers(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(429)
		}, says(200, whole))
		c := newClient(t, f)
		time.Sleep(time.Minute)
		go c.App(t.Context(), "shop")
		synctest.Wait()
		began := time.Now()
		if _, err := c.App(t.Context(), "shop"); err != nil || time.Since(began) < 20*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		time.Sleep(time.Minute)
	})
}

func TestNamesCannotLeaveTheirPlace(t *testing.T) {
	f := answers(says(200, whole))
	c := newClient(t, f)
	for _, name := range []string{"", ".", ".."} {
		if _, err := c.Machine(t.Context(), name, "1"); KindOf(err) != Invalid {
			t.Errorf("%q: %v", name, err)
		}
	}
	if len(f.requests()) != 0 {
		t.Error("something was sent")
	}
	if _, err := c.Machine(t.Context(), "a/../b?x#y", "1 2"); err != nil {
		t.Fatal(err)
	}
	if got := f.requests()[0].path; got != "/v1/apps/a%2F..%2Fb%3Fx%23y/machines/1%202" {
		t.Error(got)
	}
}

// TestNothingSecretIsTold: servers echo, transports complain, and people print.
