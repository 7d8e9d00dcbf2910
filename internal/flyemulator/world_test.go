package flyemulator

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// world is an emulator with an app "web", asked over HTTP.
type world struct {
	*testing.T
	e      *Emulator
	client *http.Client
	token  string
}

// in runs a test in a bubble, in which no time is real.
func in(t *testing.T, o Options, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := New(o)
		defer e.Close()
		f(newWorld(t, e))
	})
}

func newWorld(t *testing.T, e *Emulator) *world {
	t.Helper()
	w := &world{T: t, e: e, client: &http.Client{Transport: checked{t, e.Transport()}}, token: DefaultToken}
	w.app("web")
	return w
}

// app makes an app that is there at once.
func (w *world) app(name string) *app {
	w.Helper()
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	a, f := w.e.newApp(w.e.state.Orgs["acme"], appRequest{Name: name})
	if f != nil {
		w.Fatal(f.text)
	}
	return a
}

// value is decoded JSON.
type value struct {
	any
	raw string
}

// at goes down by names and indexes: "data.0.name".
func (v value) at(path string) any {
	x := v.any
	for key := range strings.SplitSeq(path, ".") {
		switch y := x.(type) {
		case map[string]any:
			x = y[key]
		case []any:
			i := 0
			for _, c := range key {
				i = i*10 + int(c-'0')
			}
			if i >= len(y) {
				return nil
			}
			x = y[i]
		default:
			return nil
		}
	}
	return x
}

// ask sends a request; the body is JSON text, or nothing.
func (w *world) ask(method, path, body string) (int, value) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, "https://api.machines.dev"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		w.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.token)
	answer, err := w.client.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		w.Fatal(err)
	}
	v := value{raw: string(raw)}
	if len(raw) > 0 && strings.Contains(answer.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(raw, &v.any); err != nil {
			w.Fatalf("%s %s: %v: %s", method, path, err, raw)
		}
	}
	return answer.StatusCode, v
}

// want asks and wants a status.
func (w *world) want(status int, method, path, body string) value {
	w.Helper()
	got, v := w.ask(method, path, body)
	if got != status {
		w.Fatalf("%s %s: %d, want %d: %s", method, path, got, status, v.raw)
	}
	return v
}

// says wants a value in an answer.
func (w *world) says(v value, path string, want any) {
	w.Helper()
	if n, ok := want.(int); ok {
		want = float64(n)
	}
	if got := v.at(path); got != want {
		w.Fatalf("%s is %v, want %v, in %s", path, got, want, v.raw)
	}
}

// refused is a row: what is asked, and how it is answered.
type refused struct {
	name, method, path, body string
	status                   int
	text                     string // of the error, or a part of it
}

func (w *world) refuses(rows []refused) {
	w.Helper()
	for _, r := range rows {
		got, v := w.ask(r.method, r.path, r.body)
		text, ok := v.at("error").(string)
		if got != r.status || !strings.Contains(text, r.text) || !ok {
			w.Errorf("%s: %d %s, want %d %q", r.name, got, v.raw, r.status, r.text)
		}
	}
}

// pass lets time go by.
func pass(d time.Duration) { time.Sleep(d) }
