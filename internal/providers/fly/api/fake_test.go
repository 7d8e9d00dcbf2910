package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"forged.dev/forged/internal/secret"
)

const testToken = "fm2_the-token-that-must-not-be-told"

// seen is a request as the fake saw it.
type seen struct {
	at                   time.Time
	method, path, query  string
	auth, nonce, cookies string
	body                 string
}

// fake answers in process, so that it lives in a bubble of synctest.
type fake struct {
	mu    sync.Mutex
	seen  []seen
	serve http.HandlerFunc
	fail  func(*http.Request) error // instead of an answer
}

func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	f.mu.Lock()
	f.seen = append(f.seen, seen{
		time.Now(), r.Method, r.URL.EscapedPath(), r.URL.RawQuery,
		r.Header.Get("Authorization"), r.Header.Get(leaseHeader), r.Header.Get("Cookie"), string(body),
	})
	f.mu.Unlock()
	if f.fail != nil {
		if err := f.fail(r); err != nil {
			return nil, err
		}
	}
	w := httptest.NewRecorder()
	f.serve(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func (f *fake) requests() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]seen(nil), f.seen...)
}

// answers gives one answer after the other, and the last for ever.
func answers(list ...http.HandlerFunc) *fake {
	f := &fake{}
	i := 0
	f.serve = func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		answer := list[min(i, len(list)-1)]
		i++
		f.mu.Unlock()
		answer(w, r)
	}
	return f
}

// whole is an answer that holds what every call looks for.
const whole = `{"id":"1","name":"a","state":"started","instance_id":"01","hostname":"h","expires_at":1,"ips":[],"tokens":[],"data":{}}`

// says answers with a status and a body.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("fly-request-id", "01K-req")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func newClient(t *testing.T, transport http.RoundTripper) *Client {
	t.Helper()
	c, err := New(Options{Token: secret.New([]byte(testToken)), HTTP: &http.Client{Transport: against{t, transport}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// asked makes one call of a client that is answered so.
func asked[T any](t *testing.T, status int, body string, call func(context.Context, *Client) (T, error)) (T, []seen) {
	t.Helper()
	f := answers(says(status, body))
	got, err := call(t.Context(), newClient(t, f))
	if err != nil {
		t.Fatal(err)
	}
	return got, f.requests()
}

func asError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v (%T) is no *Error", err, err)
	}
	return e
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not hold %q", text, part)
		}
	}
}
