package flyemulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// answer is what came back, or why nothing did.
type answer struct {
	value
	status int
	header http.Header
	err    error
}

// send is ask with headers, and with what can go wrong.
func (w *world) send(ctx context.Context, method, path, body string, headers ...string) answer {
	w.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "https://api.machines.dev"+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.token)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.client.Transport.RoundTrip(r)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, value: value{raw: string(raw)}}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(raw, &a.any); err != nil {
			w.Fatalf("%s %s: %v: %s", method, path, err, raw)
		}
	}
	return a
}

// with sends headers and wants a status.
func (w *world) with(status int, method, path, body string, headers ...string) answer {
	w.Helper()
	a := w.send(w.Context(), method, path, body, headers...)
	if a.err != nil || a.status != status {
		w.Fatalf("%s %s: %d %v, want %d: %s", method, path, a.status, a.err, status, a.raw)
	}
	return a
}

// took wants that f takes a time, within a tenth of a second.
func (w *world) took(want time.Duration, f func()) {
	w.Helper()
	start := time.Now()
	f()
	if got := time.Since(start); got < want || got > want+100*time.Millisecond {
		w.Errorf("it took %s, want %s", got, want)
	}
}

func TestAuthorization(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.app("other")
		w.e.AddToken(Token{Value: "fm2_deploy", Kind: AppToken, Org: "acme", App: "web"})
		w.e.AddToken(Token{Value: "fm2_reader", Kind: ReadOnlyToken, Org: "acme"})
		w.e.AddToken(Token{Value: "fm2_stranger", Kind: OrgToken, Org: strangers})
		w.e.AddToken(Token{Value: "fm2_short", Kind: OrgToken, Org: "acme", Expires: time.Now().Add(time.Minute)})
		w.e.AddToken(Token{Value: "fm2_revoked", Kind: OrgToken, Org: "acme"})
		w.e.Revoke("fm2_revoked")
		const app, other, apps = "/v1/apps/web", "/v1/apps/other", "/v1/apps?org_slug=acme"
		for _, row := range []struct {
			name, header, method, path, body string
			status                           int
			text                             string
		}{
			{"bearer", "Bearer " + DefaultToken, "GET", app, "", 200, ""},
			{"own scheme", "FlyV1 " + DefaultToken, "GET", app, "", 200, ""},
			{"both schemes", "Bearer FlyV1 " + DefaultToken, "GET", app, "", 200, ""},
			{"a list", "FlyV1 fm2_unknown," + DefaultToken, "GET", app, "", 200, ""},
			{"no header", "", "GET", app, "", 401, "malformed authorization header"},
			{"another scheme", "Basic eDp5", "GET", app, "", 401, "malformed authorization header"},
			{"unknown", "Bearer fm2_unknown", "GET", app, "", 401, "Authenticate: token validation error"},
			{"revoked", "Bearer fm2_revoked", "GET", app, "", 401, "Authenticate: token validation error"},
			{"of another organization", "Bearer fm2_stranger", "GET", app, "", 403, "unauthorized"},
			{"of this app", "Bearer fm2_deploy", "GET", app + "/machines", "", 200, ""},
			{"of this app, another", "Bearer fm2_deploy", "GET", other, "", 403, "unauthorized"},
			{"of this app, the listing", "Bearer fm2_deploy", "GET", apps, "", 403, "unauthorized"},
			{"of this app, the organization", "Bearer fm2_deploy", "GET", "/v1/orgs/acme/machines", "", 403, "unauthorized"},
			{"of this app, a new app", "Bearer fm2_deploy", "POST", "/v1/apps", `{"name":"x","org_slug":"acme"}`, 403, "unauthorized"},
			{"reader", "Bearer fm2_reader", "GET", apps, "", 200, ""},
			{"reader writes", "Bearer fm2_reader", "POST", app + "/machines", `{"config":{"image":"x"}}`, 403, "unauthorized"},
			{"reader makes an app", "Bearer fm2_reader", "POST", "/v1/apps", `{"name":"x","org_slug":"acme"}`, 403, "unauthorized"},
			{"reader asks for placements", "Bearer fm2_reader", "POST", "/v1/platform/placements", `{"org_slug":"acme"}`, 200, ""},
			{"until it expires", "Bearer fm2_short", "GET", app, "", 200, ""},
		} {
			a := w.send(w.Context(), row.method, row.path, row.body, "Authorization", row.header)
			if text, _ := a.at("error").(string); a.status != row.status || text != row.text {
				w.Errorf("%s: %d %s, want %d %q", row.name, a.status, a.raw, row.status, row.text)
			}
		}
		pass(time.Minute)
		w.with(401, "GET", app, "", "Authorization", "Bearer fm2_short")

		a := w.with(200, "GET", "/v1/tokens/current", "", "Authorization", "Bearer fm2_deploy")
		w.says(a.value, "tokens.0.apps.0", "web")
		w.says(a.value, "tokens.0.org_slug", "acme")
		made, _ := w.want(200, "POST", app+"/deploy_token", `{"expiry":"1h"}`).at("token").(string)
		if !strings.HasPrefix(made, "FlyV1 fm2_") {
			w.Fatalf("token: %q", made)
		}
		w.with(200, "GET", app, "", "Authorization", made)
		pass(time.Hour)
		w.with(401, "GET", app, "", "Authorization", made)
	})
}

func TestHeaders(t *testing.T) {
	in(t, Options{}, func(w *world) {
		a, b := w.with(200, "GET", "/v1/apps/web", ""), w.with(200, "GET", "/v1/apps/web", "")
		id := a.header.Get("Fly-Request-Id")
		if id == "" || id == b.header.Get("Fly-Request-Id") || a.header.Get("Fly-Trace-Id") == "" {
			w.Errorf("headers: %v", a.header)
		}
		if k := a.header.Get("Set-Cookie"); !strings.HasPrefix(k, "fly_flaps_affinity=") || !strings.HasSuffix(k, "; Path=/v1/apps/web") {
			w.Errorf("cookie: %q", k)
		}
		if a := w.send(w.Context(), "GET", "/v1/nothing", ""); a.status != 404 {
			w.Errorf("unknown path: %d", a.status)
		}
		if a := w.send(w.Context(), "PATCH", "/v1/apps/web", ""); a.status != 405 {
			w.Errorf("unknown method: %d", a.status)
		}
	})
}

func TestRateLimits(t *testing.T) {
	in(t, Options{RateLimits: true, RetryAfter: true}, func(w *world) {
		w.app("other")
		burst := func(n int, path string) {
			w.Helper()
			for range n {
				w.want(200, "GET", path, "")
			}
			a := w.with(429, "GET", path, "")
			w.says(a.value, "error", "rate limit exceeded")
			if a.header.Get("Retry-After") != "1" {
				w.Errorf("headers: %v", a.header)
			}
		}
		burst(3, "/v1/apps/web")
		burst(3, "/v1/apps/other")         // each app has its own
		burst(3, "/v1/apps/web/machines")  // and each action
		burst(3, "/v1/orgs/acme/machines") // as has the organization
		pass(time.Second)
		burst(1, "/v1/apps/web")
		id := w.want(200, "POST", "/v1/apps/web/machines", `{"config":{"image":"nginx"}}`).at("id").(string)
		burst(10, "/v1/apps/web/machines/"+id)
		pass(time.Second)
		burst(5, "/v1/apps/web/machines/"+id)
		pass(time.Hour)
		burst(10, "/v1/apps/web/machines/"+id)
	})
}

func TestLog(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.want(200, "GET", "/v1/apps/web?x=1", "")
		w.e.Fault(Fault{Count: 1, Drop: DropAfter})
		w.send(w.Context(), "DELETE", "/v1/apps/web", "")
		w.want(200, "GET", "/_emulator/now", "")
		got := w.e.Requests()
		if len(got) != 2 || got[0].Action != "apps.get" || got[0].Path != "/v1/apps/web?x=1" || got[0].App != "web" || got[0].Status != 200 ||
			got[1].Status != 0 || got[1].Method != "DELETE" {
			w.Errorf("%+v", got)
		}
		w.e.ForgetRequests()
		if len(w.e.Requests()) != 0 {
			w.Error("they are not forgotten")
		}
	})
}

func TestReplicaLag(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.e.SetLag(Lag{Replica: 2 * time.Second})
		const machines = "/v1/apps/web/machines"
		a := w.with(200, "POST", machines, `{"config":{"image":"nginx"}}`)
		cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
		id, _ := a.at("id").(string)
		w.want(404, "GET", machines+"/"+id, "")
		w.with(200, "GET", machines+"/"+id, "", "Cookie", cookie)
		pass(2 * time.Second)
		w.says(w.want(200, "GET", machines+"/"+id, ""), "state", created)
		w.says(w.with(200, "GET", machines+"/"+id, "", "Cookie", cookie).value, "state", starting)
		pass(3 * time.Second)
		w.says(w.want(200, "GET", machines+"/"+id, ""), "state", started)

		w.want(201, "POST", "/v1/apps?wait=true", `{"name":"fresh","org_slug":"acme"}`)
		w.want(404, "GET", "/v1/apps/fresh", "")
		pass(time.Second)
		w.want(200, "GET", "/v1/apps/fresh", "")
		two, _ := w.want(200, "POST", machines, nginx).at("id").(string)
		w.e.Advance(time.Hour) // what is an hour old everybody has seen
		w.says(w.want(200, "GET", machines+"/"+two, ""), "state", started)
		w.want(202, "DELETE", "/v1/apps/fresh", "")
		w.want(404, "GET", "/v1/apps/fresh", "")
		w.e.SetLag(Lag{})
		w.want(200, "GET", machines+"/"+id, "")
	})
}

func TestSaveAndLoad(t *testing.T) {
	var saved bytes.Buffer
	var id, late string
	const machines = "/v1/apps/web/machines"
	in(t, Options{}, func(w *world) {
		id, _ = w.want(200, "POST", machines, `{"name":"a","lease_ttl":600,"config":{"image":"nginx","env":{"A":"b"},
			"services":[{"protocol":"tcp","internal_port":80,"autostop":"off"},{"protocol":"tcp","internal_port":81,"autostop":"stop"}]}}`).at("id").(string)
		pass(10 * time.Second)
		late, _ = w.want(200, "POST", machines, `{"name":"b","config":{"image":"nginx"}}`).at("id").(string)
		if err := w.e.Save(&saved); err != nil {
			w.Fatal(err)
		}
	})
	first := saved.String()
	in(t, Options{}, func(w *world) {
		pass(time.Second)
		if err := w.e.Load(&saved); err != nil {
			w.Fatal(err)
		}
		var again bytes.Buffer
		if err := w.e.Save(&again); err != nil {
			w.Fatal(err)
		}
		if again.String() != first {
			w.Errorf("what was loaded is not what was saved:\n%s\n%s", first, again.String())
		}
		w.says(w.want(200, "GET", machines+"/"+id, ""), "state", started)
		w.want(409, "POST", machines+"/"+id+"/lease", "")
		w.says(w.want(200, "GET", machines+"/"+late, ""), "state", created)
		pass(4 * time.Second)
		w.says(w.want(200, "GET", machines+"/"+late, ""), "state", started)
		if err := w.e.Load(strings.NewReader("{")); err == nil {
			w.Error("half a state was loaded")
		}
		w.says(w.want(200, "GET", machines+"/"+late, ""), "state", started)
	})
}

// TestSockets: over a connection it is the same, and a dropped answer is a
// broken connection.
func TestSockets(t *testing.T) {
	e := New(Options{TimeFactor: 1000})
	defer e.Close()
	s := httptest.NewServer(e)
	defer s.Close()
	ask := func() (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/v1/apps?wait=true", strings.NewReader(`{"name":"web","org_slug":"acme"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+DefaultToken)
		return s.Client().Do(r)
	}
	e.Fault(Fault{Action: "apps.create", Drop: DropAfter, Count: 1})
	if resp, err := ask(); !errors.Is(err, io.EOF) {
		t.Fatalf("dropped: %v %v", resp, err)
	}
	resp, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if raw, _ := io.ReadAll(resp.Body); resp.StatusCode != 422 || !strings.Contains(string(raw), "name_taken") {
		t.Errorf("%d %s", resp.StatusCode, raw)
	}
}

// TestClose: nobody waits for an emulator that is no more.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://x/v1/apps/missing", nil)
			r.Header.Set("Authorization", "Bearer "+DefaultToken)
			resp, err := e.Transport().RoundTrip(r)
			if err == nil {
				resp.Body.Close()
			}
		}()
		synctest.Wait()
		start := time.Now()
		e.Close()
		e.Close()
		<-done
		if time.Since(start) != 0 {
			t.Error("it waited")
		}
	})
}

// TestTimeFactor: virtual time runs faster than real time.
func TestTimeFactor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{TimeFactor: 60})
		defer e.Close()
		start, real := e.Now(), time.Now()
		time.Sleep(time.Minute)
		if got := e.Now().Sub(start); got != time.Hour {
			t.Errorf("a minute is %s", got)
		}
		e.Advance(time.Hour)
		if got := e.Now().Sub(start); got != 2*time.Hour || time.Since(real) != time.Minute {
			t.Errorf("after the jump: %s", got)
		}
	})
}

// TestAnswersAreWhole: an answer is what was when it was given, whatever is
// changed while it is on its way.
func TestAnswersAreWhole(t *testing.T) {
	in(t, Options{}, func(w *world) {
		_, one := w.make(`{"config":{"image":"nginx","metadata":{"k":"0"}}}`)
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for n := range 100 {
					w.want(204, "PATCH", one+"/metadata", fmt.Sprintf(`{"metadata":{"k":"%d","k%d":"x"}}`, n, 100*i+n))
				}
			})
			all.Go(func() {
				for range 100 {
					w.want(200, "GET", one, "")
					w.want(200, "GET", "/v1/orgs/acme/machines", "")
				}
			})
		}
		all.Wait()
	})
}
