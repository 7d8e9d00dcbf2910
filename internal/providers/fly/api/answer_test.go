package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/secret"
)

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

func TestAnswersThatSayNothing(t *testing.T) {
	for name, call := range map[string]func(context.Context, *Client) error{
		"app":         func(ctx context.Context, c *Client) error { _, err := c.App(ctx, "a"); return err },
		"machine":     func(ctx context.Context, c *Client) error { _, err := c.Machine(ctx, "a", "1"); return err },
		"volume":      func(ctx context.Context, c *Client) error { _, err := c.Volume(ctx, "a", "1"); return err },
		"certificate": func(ctx context.Context, c *Client) error { _, err := c.Certificate(ctx, "a", "h"); return err },
		"addresses":   func(ctx context.Context, c *Client) error { _, err := c.IPs(ctx, "a"); return err },
		"clusters":    func(ctx context.Context, c *Client) error { _, err := c.PostgresClusters(ctx, "o"); return err },
		"databases":   func(ctx context.Context, c *Client) error { _, err := c.PostgresDatabases(ctx, "1"); return err },
		"add-ons":     func(ctx context.Context, c *Client) error { _, err := c.AddOns(ctx, "o", AddOnRedis); return err },
		"lease":       func(ctx context.Context, c *Client) error { _, err := c.Lease(ctx, "a", "1"); return err },
		"token":       func(ctx context.Context, c *Client) error { _, err := c.TokenScope(ctx); return err },
	} {
		err := call(t.Context(), newClient(t, answers(says(200, `{}`))))
		if e := asError(t, err); e.Kind != SchemaDrift || e.Field == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := newClient(t, answers(says(201, `{}`))).CreateVolume(t.Context(), "a", CreateVolume{})
	if KindOf(err) != Ambiguous {
		t.Errorf("%v: it was made, whatever it says", err)
	}
}

func TestNothingIsLeftOfAFailedAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := answers(says(200, `{"name":"old","state":"started","config":{"stop_config":{"timeout":"soon"}}}`), says(200, `{"id":"1","state":"started"}`))
		m, err := newClient(t, f).Machine(t.Context(), "shop", "1")
		if err != nil || m.Name != "" || len(f.requests()) != 2 {
			t.Errorf("%+v, %v", m, err)
		}
	})
}

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
		f := answers(func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Second); says(503, "")(w, r) }, says(200, whole))
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
