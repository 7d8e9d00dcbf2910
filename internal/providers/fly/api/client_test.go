package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"forged.dev/forged/internal/secret"
)

func TestAuthorization(t *testing.T) {
	for _, tt := range []struct {
		token                            string
		machines, graphQL, ui, telemetry string
	}{
		{"fo1_abc", "Bearer fo1_abc", "Bearer fo1_abc", "Bearer fo1_abc", "Bearer fo1_abc"},
		{"  FlyV1 fm2_a,fm2_b\n", "FlyV1 fm2_a,fm2_b", "FlyV1 fm2_a,fm2_b", "Bearer fm2_a,fm2_b", "FlyV1 fm2_a,fm2_b"},
		{"flyv1 fm1r_a", "FlyV1 fm1r_a", "FlyV1 fm1r_a", "Bearer fm1r_a", "FlyV1 fm1r_a"},
		{"Bearer fo1_x", "Bearer fo1_x", "Bearer fo1_x", "Bearer fo1_x", "Bearer fo1_x"},
		{"fm2_a, fo1_x ,fm1a_d,", "FlyV1 fm2_a,fm1a_d", "FlyV1 fm2_a,fo1_x,fm1a_d", "Bearer fm2_a,fo1_x,fm1a_d", "FlyV1 fm2_a,fm1a_d"},
		{"legacy,other", "Bearer legacy", "Bearer legacy", "Bearer legacy,other", "Bearer legacy"},
	} {
		c, err := New(Options{Token: secret.New([]byte(tt.token))})
		if err != nil {
			t.Errorf("%q: %v", tt.token, err)
			continue
		}
		for s, want := range []string{machines: tt.machines, graphQL: tt.graphQL, ui: tt.ui, prometheus: tt.telemetry} {
			if got := string(c.headers[s].Reveal()); got != want {
				t.Errorf("%q at service %d: %q, not %q", tt.token, s, got, want)
			}
		}
	}
	for _, token := range []string{"", "  ", "FlyV1 ", ",,", "fm2_a b", "fm2_a\nfm2_b", "fm2_ü", "fm2_a\x00"} {
		_, err := New(Options{Token: secret.New([]byte(token))})
		if err == nil {
			t.Errorf("%q is taken", token)
		} else if piece := strings.TrimSpace(token); len(piece) > 6 && strings.Contains(err.Error(), piece) {
			t.Errorf("%v tells the token", err)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for address, fine := range map[string]bool{
		"https://api.machines.dev": true, "https://proxy.example.com/fly": true, "http://_api.internal:4280": true,
		"http://127.0.0.1:4280": true, "http://[::1]:4280": true, "http://localhost:1": true, "http://10.1.2.3:80": true, "http://emulator:8080": true,
		"http://api.machines.dev": false, "http://8.8.8.8": false, "ftp://x": false, "api.machines.dev": false, "https://": false,
		"https://user:pass@x.y": false, "https://x.y?token=z": false, "https://x.y#z": false, "://": false,
	} {
		_, err := New(Options{Token: secret.New([]byte(testToken)), Endpoints: Endpoints{Machines: address}})
		if (err == nil) != fine {
			t.Errorf("%s: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "pass") {
			t.Errorf("%v tells a password", err)
		}
	}
	f := answers(says(200, whole))
	c, err := New(Options{Token: secret.New([]byte(testToken)), HTTP: &http.Client{Transport: f}, Endpoints: Endpoints{Machines: "https://proxy.example.com/fly/"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.App(t.Context(), "a"); err != nil || f.requests()[0].path != "/fly/v1/apps/a" {
		t.Errorf("%v, %s", err, f.requests()[0].path)
	}
}

func TestAffinity(t *testing.T) { synctest.Test(t, testAffinity) }

func testAffinity(t *testing.T) {
	f := &fake{}
	f.serve = func(w http.ResponseWriter, r *http.Request) {
		if app := strings.Split(r.URL.Path, "/")[3]; app != "none" {
			w.Header().Add("Set-Cookie", affinityCookie+"=of-"+app+"; Path=/v1/apps/"+app)
			w.Header().Add("Set-Cookie", "other=x")
		}
		says(200, whole)(w, r)
	}
	c := newClient(t, f)
	for _, app := range []string{"a", "b", "a", "none", "none", "b"} {
		if _, err := c.App(t.Context(), app); err != nil {
			t.Fatal(err)
		}
	}
	var cookies []string
	for _, r := range f.requests() {
		cookies = append(cookies, r.cookies)
	}
	want := []string{"", "", affinityCookie + "=of-a", "", "", affinityCookie + "=of-b"}
	if !slices.Equal(cookies, want) {
		t.Error(cookies)
	}
}
