package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/secret"
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
		f := answers(throttled("20"), throttled(""), says(200, `{"id":"m"}`)) // also a create: it was not made
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
			says(200, `{"id":"m"}`)(w, r)
		})
		if m, err := newClient(t, f).CreateMachine(t.Context(), "a", CreateMachine{}); err != nil || m.ID != "m" {
			t.Error(err)
		}
	})
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, other.URL+"/v1/apps/a", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	c, err := New(Options{Token: secret.New([]byte(testToken)), Endpoints: Endpoints{Machines: server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.StartMachine(t.Context(), "a", "1", "")
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	if elsewhere != 0 {
		t.Error("the token was taken elsewhere")
	}
	contains(t, err.Error(), "check the address")
}

// endless is a body that does not end.
type endless struct{}

func (endless) Close() error { return nil }

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestAnswersAreBounded(t *testing.T) {
	huge := func(status int) transport {
		return func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: endless{}}, nil
		}
	}
	_, err := newClient(t, huge(201)).CreateApp(t.Context(), CreateApp{Name: "a", Org: "o"})
	if e := asError(t, err); e.Kind != Ambiguous {
		t.Error(err)
	}
	contains(t, err.Error(), "larger than")
	_, err = newClient(t, huge(422)).CreateApp(t.Context(), CreateApp{Name: "a", Org: "o"})
	if e := asError(t, err); e.Kind != Invalid || len(err.Error()) > 2*longestText {
		t.Errorf("%q of %d bytes", e.Kind, len(err.Error()))
	}
}

func TestAnswersOfAnotherShape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := newClient(t, answers(says(200, `{"name":["a"]}`))).App(t.Context(), "a")
		if e := asError(t, err); e.Kind != SchemaDrift || e.Field != "name" {
			t.Errorf("%v: field %q", err, e.Field)
		}
		_, err = newClient(t, answers(says(201, `{"id":["a"]}`))).CreateApp(t.Context(), CreateApp{Name: "a", Org: "o"})
		if e := asError(t, err); e.Kind != Ambiguous || e.Field != "id" {
			t.Errorf("%v: it was made, whatever it says", err)
		}
		_, err = newClient(t, answers(says(200, `<html>`))).App(t.Context(), "a")
		if e := asError(t, err); e.Kind != Unavailable {
			t.Error(err)
		}
	})
}

// TestNothingIsLeftOfAFailedAnswer: the second answer is not mixed with what
// the first one said before it broke.
func TestNothingIsLeftOfAFailedAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := answers(says(200, `{"name":"old","config":{"stop_config":{"timeout":"soon"}}}`), says(200, `{"id":"1"}`))
		m, err := newClient(t, f).Machine(t.Context(), "shop", "1")
		if err != nil || m.Name != "" || len(f.requests()) != 2 {
			t.Errorf("%+v, %v", m, err)
		}
	})
}

// TestOneRefusalHoldsEverybody: whoever wants the same waits as well.
func TestOneRefusalHoldsEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := answers(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(429)
		}, says(200, `{}`))
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
	f := answers(says(200, `{}`))
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
func TestNothingSecretIsTold(t *testing.T) {
	const value, stdin, nonce, line = "s3cret-value", "stdin-value", "lease-nonce-1", "MIIEvQIBADANBgkqhkiG9w0BAQ"
	key := secret.New([]byte("-----BEGIN PRIVATE KEY-----\n" + line + "\n-----END PRIVATE KEY-----\n"))
	calls := map[string]struct {
		canaries []string
		call     func(context.Context, *Client) error
	}{
		"secrets": {[]string{value}, func(ctx context.Context, c *Client) error {
			_, err := c.SetSecrets(ctx, "a", map[string]*secret.Value{"X": new(secret.New([]byte(value)))})
			return err
		}},
		"certificate": {[]string{line}, func(ctx context.Context, c *Client) error {
			_, err := c.UploadCertificate(ctx, "a", "h", key, key)
			return err
		}},
		"exec": {[]string{stdin, nonce}, func(ctx context.Context, c *Client) error {
			_, err := c.Exec(ctx, "a", "1", nonce, Exec{Stdin: stdin})
			return err
		}},
		"GraphQL": {nil, func(ctx context.Context, c *Client) error { _, err := c.Organization(ctx, "o"); return err }},
		"start":   {[]string{nonce}, func(ctx context.Context, c *Client) error { return c.StartMachine(ctx, "a", "1", nonce) }},
	}
	for name, tt := range calls {
		canaries := append(tt.canaries, testToken)
		all := strings.Join(canaries, " ")
		echo := func(status int, body string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("fly-request-id", testToken)
				w.WriteHeader(status)
				fmt.Fprintf(w, body, all, all)
			}
		}
		for how, f := range map[string]*fake{
			"422": answers(echo(422, `{"error":%q,"status":%q}`)), "503": answers(echo(503, `{"message":%q,"status":%q}`)),
			"text": answers(echo(400, strings.Repeat("x", longestText-len(all)/2)+"%s%s")), "errors": answers(echo(200, `{"errors":[{"message":%q,"extensions":{"code":%q}}]}`)),
			"nonsense": answers(echo(200, "%s%s")), "network": {fail: func(*http.Request) error { return errors.New(all) }},
		} {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				c, err := New(Options{
					Token: secret.New([]byte("FlyV1 " + testToken)), HTTP: &http.Client{Transport: f},
					Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
				})
				if err != nil {
					t.Fatal(err)
				}
				err = tt.call(t.Context(), c)
				text := fmt.Sprintf("%v %+v %#v %s %+v %#v", err, err, err, log.String(), c, c)
				for e := err; e != nil; e = errors.Unwrap(e) {
					text += fmt.Sprintf("%v %#v", e, e)
				}
				for _, r := range f.requests() {
					text += r.path + "?" + r.query
				}
				for _, canary := range canaries {
					if strings.Contains(text, canary) {
						t.Errorf("%s, %s: %q is told: %s", name, how, canary, text)
					}
				}
			})
		}
	}
}

func TestObserverIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		f := answers(func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Second); says(503, "")(w, r) }, says(200, "{}"))
		c, err := New(Options{
			Token: secret.New([]byte(testToken)), HTTP: &http.Client{Transport: f},
			OnRequest: func(action string, status int, took time.Duration) {
				told = append(told, fmt.Sprint(action, " ", status, " ", took))
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.App(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(told, ", "); got != "app.get 503 1s, app.get 200 0s" {
			t.Error(got)
		}
	})
}
