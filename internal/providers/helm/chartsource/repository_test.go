package chartsource

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestChartOfARepository(t *testing.T) {
	r := repositoryServer(t, nil)
	for _, version := range []string{"1.4.0", "1.4.2", "2.0.0-rc.1"} {
		r.add(t, version, archive(t, "shop", shop(version)))
	}
	for want, version := range map[string]string{"1.4.0": "1.4.0", "^1.4": "1.4.2", "*": "1.4.2", "2.0.0-rc.1": "2.0.0-rc.1"} {
		c := load(t, source(t, r.server, Options{}), r.chart(want))
		if c.Version != version || c.Lock != sha(archive(t, "shop", shop(version))) || c.From != r.URL+"/stable/shop-"+version+".tgz" {
			t.Errorf("%s: %v", want, c)
		}
	}
	s := source(t, r.server, Options{})
	refused(t, s, r.chart("^3"), reconcile.Invalid, "no version of it is ^3; it has 2.0.0-rc.1, 1.4.2, 1.4.0")
	none := r.chart("^1")
	none.Name = "none"
	refused(t, s, none, reconcile.Invalid, "no chart none")
	elsewhere := r.chart("^1")
	elsewhere.URL = r.URL
	refused(t, s, elsewhere, reconcile.Invalid, "read its index", "404")
}

func TestLockOfARepository(t *testing.T) {
	r := repositoryServer(t, nil)
	good := archive(t, "shop", shop("1.4.2"))
	r.add(t, "1.4.2", good)
	s := source(t, r.server, Options{})
	req := r.chart("^1.4")
	req.Digest = sha(good)
	load(t, s, req)
	other := req
	other.Digest = "sha256:" + strings.Repeat("0", 64)
	refused(t, s, other, reconcile.Invalid, sha(good)+" for version 1.4.2", "asks for "+other.Digest)

	// An archive that is not the one of the index is used by nobody, whether
	// its digest is locked or not.
	if err := os.WriteFile(filepath.Join(r.dir, "shop-1.4.2.tgz"), archive(t, "shop", with(shop("1.4.2"), "values.yaml", "level: evil\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	s = source(t, r.server, Options{})
	refused(t, s, r.chart("^1.4"), reconcile.Invalid, "the index says "+sha(good))
	refused(t, s, req, reconcile.Invalid, "the index says "+sha(good))

	// Without a digest in the index, that of forge.cue decides.
	index, err := os.ReadFile(filepath.Join(r.dir, "index.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(string(index)) {
		if !strings.Contains(line, "digest:") {
			kept = append(kept, line)
		}
	}
	if err := os.WriteFile(filepath.Join(r.dir, "index.yaml"), []byte(strings.Join(kept, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, source(t, r.server, Options{}), req, reconcile.Invalid, "asks for "+sha(good))
}

// Credentials go to the repository and to nobody it refers to.
func TestCredentialsStayWhereTheyBelong(t *testing.T) {
	elsewhere := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, sent := r.BasicAuth(); sent || r.Header.Get("Authorization") != "" {
			t.Error("another server was sent the credentials")
		}
		_, _ = w.Write(archive(t, "shop", shop("1.0.0")))
	}))
	r := repositoryServer(t, guarded)
	r.add(t, "1.0.0", archive(t, "shop", shop("1.0.0")))
	s := source(t, r.server, Options{})
	load(t, s, r.chart("1.0.0"))
	wrong := r.chart("1.0.0")
	wrong.Username = forge.SecretRef{}
	refused(t, s, wrong, reconcile.Denied, "401", "look at its username")

	index := filepath.Join(r.dir, "index.yaml")
	text, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	point := func(to string) {
		t.Helper()
		if err := os.WriteFile(index, []byte(strings.Replace(string(text), "- shop-1.0.0.tgz", "- "+to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	point(elsewhere.URL + "/shop-1.0.0.tgz?signature=" + canary)
	c := load(t, source(t, r.server, Options{}), r.chart("1.0.0"))
	if strings.Contains(c.String(), canary) {
		t.Errorf("what signs an address is shown: %v", c)
	}
	elsewhere.breakWith(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, canary, http.StatusGone) })
	refused(t, source(t, r.server, Options{}), r.chart("1.0.0"), reconcile.Unavailable, "410")

	plain := httptest.NewServer(nil)
	defer plain.Close()
	point(plain.URL + "/shop-1.0.0.tgz")
	refused(t, source(t, r.server, Options{}), r.chart("1.0.0"), reconcile.Invalid, "not encrypted")
	point("file:///etc/passwd")
	refused(t, source(t, r.server, Options{}), r.chart("1.0.0"), reconcile.Invalid, "not encrypted")
	elsewhere.breakWith(func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, plain.URL, http.StatusFound) })
	point(elsewhere.URL + "/shop-1.0.0.tgz")
	refused(t, source(t, r.server, Options{}), r.chart("1.0.0"), reconcile.Unavailable, "without encryption")
}

// Some repositories keep their archives in a registry.
func TestRepositoryOfARegistry(t *testing.T) {
	reg := serve(t, ociserver.New(ocimem.New(), nil))
	packed := archive(t, "shop", shop("1.0.0"))
	reg.push(t, "charts/shop", "1.0.0", packed)
	r := repositoryServer(t, guarded)
	r.add(t, "1.0.0", packed)
	index := filepath.Join(r.dir, "index.yaml")
	text, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"", ":1.0.0"} {
		to := "- oci://" + reg.Listener.Addr().String() + "/charts/shop" + end
		if err := os.WriteFile(index, []byte(strings.Replace(string(text), "- shop-1.0.0.tgz", to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if c := load(t, source(t, r.server, Options{}), r.chart("^1")); c.Lock != sha(packed) {
			t.Error(c)
		}
	}
	for _, line := range reg.log() {
		if strings.HasSuffix(line, "alice") && strings.HasPrefix(line, "GET") {
			t.Errorf("the registry was sent the credentials of the repository: %s", line)
		}
	}
}

// An index that is what it was is not read again.
func TestIndexThatIsWhatItWas(t *testing.T) {
	tag := `"one"`
	r := repositoryServer(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if strings.HasSuffix(q.URL.Path, "index.yaml") {
				w.Header().Set("ETag", tag)
			}
			h.ServeHTTP(w, q) // which answers 304 by itself
		})
	})
	r.add(t, "1.0.0", archive(t, "shop", shop("1.0.0")))
	at := newClock()
	s := source(t, r.server, Options{Now: at.now})
	req := r.chart("^1")
	req.MaxAge = time.Minute
	first := load(t, s, req)
	asked := r.requests.Load()
	at.pass(time.Hour)
	if c := load(t, s, req); c.Digest != first.Digest || c.Stale != nil {
		t.Error(c)
	}
	if n := r.requests.Load() - asked; n != 1 {
		t.Errorf("%d requests, want the index alone", n)
	}
	r.add(t, "1.1.0", archive(t, "shop", shop("1.1.0")))
	tag = `"two"`
	at.pass(time.Hour)
	if c := load(t, s, req); c.Version != "1.1.0" {
		t.Error(c)
	}
}

func TestAnswersWithoutEnd(t *testing.T) {
	flood := func(head string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(head))
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}
	}
	r := repositoryServer(t, nil)
	r.add(t, "1.0.0", archive(t, "shop", shop("1.0.0")))
	r.breakWith(flood("entries:"))
	refused(t, source(t, r.server, Options{}), r.chart("1.0.0"), reconcile.Invalid, "larger than 48 MiB")
	r.breakWith(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasSuffix(q.URL.Path, ".tgz") {
			flood("")(w, q)
			return
		}
		http.ServeFile(w, q, filepath.Join(r.dir, "index.yaml"))
	})
	refused(t, source(t, r.server, Options{}), r.chart("1.0.0"), reconcile.Invalid, "larger than 20 MiB")
}
