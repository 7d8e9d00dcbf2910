package chartsource

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestChartOfARegistry(t *testing.T) {
	reg := registryServer(t)
	digests := map[string]string{}
	for _, version := range []string{"1.4.0", "1.4.2", "1.5.0-rc.1", "1.10.0", "2.0.0", "1.4.2+build.7"} {
		digests[version] = reg.push(t, "charts/shop", version, archive(t, "shop", shop(version)))
	}
	for want, version := range map[string]string{
		"1.4.0": "1.4.0", "^1.4": "1.10.0", "~1.4": "1.4.2", "1.x": "1.10.0", ">=2": "2.0.0", "*": "2.0.0",
		"1.4.2+build.7": "1.4.2+build.7", "1.5.0-rc.1": "1.5.0-rc.1", ">1.4.2-0 <1.6.0-0": "1.5.0-rc.1",
	} {
		s := source(t, reg, Options{})
		c := load(t, s, reg.oci("charts/shop", want))
		if c.Name != "shop" || c.Version != version && !(want == "~1.4" && strings.HasPrefix(c.Version, version)) || c.Lock != digests[c.Version] || c.Stale != nil {
			t.Errorf("%s: %v", want, c)
		}
		if got := names(c); got != "Chart.yaml templates/settings.yaml values.yaml" {
			t.Errorf("%s: files %s", want, got)
		}
	}
	s := source(t, reg, Options{})
	refused(t, s, reg.oci("charts/shop", "^3"), reconcile.Invalid, "no version of it is ^3", "2.0.0, 1.10.0")
	refused(t, s, reg.oci("charts/shop", "7.7.7"), reconcile.Invalid, "version 7.7.7", "404")
	refused(t, s, reg.oci("charts/none", "^1"), reconcile.Invalid, "list its versions", "404")
}

// A digest allows one manifest and no other, whatever its tag says by now.
func TestLockOfARegistry(t *testing.T) {
	reg := registryServer(t)
	first := reg.push(t, "charts/shop", "1.4.2", archive(t, "shop", shop("1.4.2")))
	moved := reg.push(t, "charts/shop", "1.4.2", archive(t, "shop", with(shop("1.4.2"), "values.yaml", "level: evil\n")))
	if first == moved {
		t.Fatal("the tag did not move")
	}
	s := source(t, reg, Options{})
	r := reg.oci("charts/shop", "1.4.2")
	r.Digest = first
	if c := load(t, s, r); c.Lock != first {
		t.Errorf("%v, want %s", c, first)
	}
	r.Version = "1.4.3"
	refused(t, s, r, reconcile.Invalid, "is version 1.4.2", "asks for 1.4.3")
	r.Version, r.Digest = "1.4.2", "sha256:"+strings.Repeat("0", 64)
	refused(t, s, r, reconcile.Invalid, "404")
}

func TestLoginToARegistry(t *testing.T) {
	for name, wrap := range map[string]func(http.Handler) *server{
		"name and password": func(h http.Handler) *server { return serve(t, guarded(h)) },
		"token":             func(h http.Handler) *server { return tokens(t, h) },
	} {
		t.Run(name, func(t *testing.T) {
			mem := ociserver.New(ocimem.New(), nil)
			reg := wrap(mem)
			open := serve(t, mem) // the same one, for whoever fills it
			open.push(t, "charts/shop", "1.4.2", archive(t, "shop", shop("1.4.2")))
			s := source(t, reg, Options{})
			load(t, s, reg.oci("charts/shop", "^1"))
			without := reg.oci("charts/shop", "^1")
			without.Username, without.Password = forge.SecretRef{}, forge.SecretRef{}
			refused(t, s, without, reconcile.Denied, "401", "give it a username")
			wrong := reg.oci("charts/shop", "^1")
			wrong.Username = forge.SecretRef{Env: "PASSWORD"}
			refused(t, s, wrong, reconcile.Denied, "401", "look at its username")
		})
	}
}

// A registry on this machine may speak without encryption, as with docker.
func TestRegistryOfThisMachine(t *testing.T) {
	plain := httptest.NewServer(ociserver.New(ocimem.New(), nil))
	defer plain.Close()
	reg := &server{Server: plain}
	reg.push(t, "charts/shop", "1.0.0", archive(t, "shop", shop("1.0.0")))
	s := source(t, nil, Options{})
	if c := load(t, s, reg.oci("charts/shop", "^1")); c.Version != "1.0.0" {
		t.Error(c)
	}
}

func TestWhatIsNoChart(t *testing.T) {
	reg := registryServer(t)
	s := source(t, reg, Options{})
	// An image, as a registry has many.
	put(t, reg, "/v2/charts/image/blobs/uploads/?digest="+sha([]byte("{}")), http.MethodPost, "application/octet-stream", "{}")
	put(t, reg, "/v2/charts/image/manifests/1.0.0", http.MethodPut, "application/vnd.oci.image.manifest.v1+json",
		`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"`+sha([]byte("{}"))+`","size":2},"layers":[]}`)
	refused(t, s, reg.oci("charts/image", "1.0.0"), reconcile.Invalid, "no Helm chart")
	reg.push(t, "charts/library", "1.0.0", archive(t, "shop", with(shop("1.0.0"), "Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\ntype: library\n")))
	refused(t, s, reg.oci("charts/library", "1.0.0"), reconcile.Invalid, "library")
}

func put(t *testing.T, s *server, path, method, mediaType, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", mediaType)
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
}

// What a source once stood for stays, until it is time to look again; then it
// is asked without a download.
func TestResolvedVersionStays(t *testing.T) {
	reg := registryServer(t)
	reg.push(t, "charts/shop", "1.4.0", archive(t, "shop", shop("1.4.0")))
	at := newClock()
	s := source(t, reg, Options{Now: at.now})
	r := reg.oci("charts/shop", "^1.4")
	if c := load(t, s, r); c.Version != "1.4.0" {
		t.Fatal(c)
	}
	reg.push(t, "charts/shop", "1.4.1", archive(t, "shop", shop("1.4.1")))
	asked := reg.requests.Load()
	at.pass(1000 * time.Hour)
	for range 100 {
		if c := load(t, s, r); c.Version != "1.4.0" {
			t.Fatalf("without anybody asking for it: %v", c)
		}
	}
	if n := reg.requests.Load() - asked; n != 0 {
		t.Errorf("%d requests, and nothing was due", n)
	}
	r.MaxAge = time.Minute // which is less than the least
	if c := load(t, s, r); c.Version != "1.4.1" {
		t.Errorf("when it was due: %v", c)
	}
	asked = reg.requests.Load()
	at.pass(4 * time.Minute)
	load(t, s, r)
	if n := reg.requests.Load() - asked; n != 0 {
		t.Errorf("%d requests within the least time", n)
	}
	at.pass(time.Hour)
	before := len(reg.log())
	load(t, s, r)
	for _, line := range reg.log()[before:] {
		if strings.HasPrefix(line, "GET") && (strings.Contains(line, "/manifests/") || strings.Contains(line, "/blobs/")) {
			t.Errorf("nothing has changed, and it was downloaded: %s", line)
		}
	}
}

// The version that runs is not left for a newer one while nobody asks for that.
func TestVersionThatRunsIsKept(t *testing.T) {
	reg := registryServer(t)
	for _, version := range []string{"1.4.0", "1.4.1"} {
		reg.push(t, "charts/shop", version, archive(t, "shop", shop(version)))
	}
	for want, keep := range map[string]string{"1.4.0": "1.4.0", "1.4.1": "1.3.0"} {
		r := reg.oci("charts/shop", "^1.4")
		r.Keep = keep
		if c := load(t, source(t, reg, Options{}), r); c.Version != want {
			t.Errorf("keeping %s: %v, want %s", keep, c, want)
		}
	}
	r := reg.oci("charts/shop", "^1.4")
	r.Keep, r.MaxAge = "1.4.0", time.Minute
	if c := load(t, source(t, reg, Options{}), r); c.Version != "1.4.1" {
		t.Errorf("where new versions are wanted: %v", c)
	}
}

func TestSourceOutOfReach(t *testing.T) {
	reg := registryServer(t)
	reg.push(t, "charts/shop", "1.4.0", archive(t, "shop", shop("1.4.0")))
	at := newClock()
	dir := filepath.Join(t.TempDir(), "cache")
	s := source(t, reg, Options{Now: at.now, CacheDir: dir})
	r := reg.oci("charts/shop", "^1.4")
	r.MaxAge = 10 * time.Minute
	fresh := load(t, s, r)
	for name, broken := range map[string]struct {
		answer http.HandlerFunc
		kind   reconcile.ErrorKind
	}{
		"gone":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, reconcile.Unavailable},
		"ill":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, reconcile.Unavailable},
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, reconcile.Denied},
		"busy": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
		}, reconcile.Throttled},
	} {
		reg.breakWith(broken.answer)
		at.pass(time.Hour)
		c := load(t, s, r)
		if c.Digest != fresh.Digest || reconcile.KindOf(c.Stale) != broken.kind {
			t.Errorf("%s: %v, stale: %v", name, c, c.Stale)
		}
		asked := reg.requests.Load()
		load(t, s, r)
		if n := reg.requests.Load() - asked; n != 0 {
			t.Errorf("%s: it was asked %d times, directly after it failed", name, n)
		}
		// After a restart, from the directory.
		c = load(t, source(t, reg, Options{Now: at.now, CacheDir: dir}), r)
		if c.Digest != fresh.Digest || c.Lock != fresh.Lock || reconcile.KindOf(c.Stale) != broken.kind {
			t.Errorf("%s, after a restart: %v, stale: %v", name, c, c.Stale)
		}
		// Without any memory nothing is known, and that is what is said.
		refused(t, source(t, reg, Options{Now: at.now}), r, broken.kind)
		other := reg.oci("charts/shop", "^2")
		refused(t, s, other, broken.kind)
		reg.breakWith(nil)
		at.pass(time.Hour)
		if c := load(t, s, r); c.Stale != nil {
			t.Errorf("%s: it is back, and stale: %v", name, c.Stale)
		}
	}
}

// After a restart the same version runs, and nobody is asked.
func TestResolvedVersionOutlivesTheProcess(t *testing.T) {
	reg := registryServer(t)
	reg.push(t, "charts/shop", "1.4.0", archive(t, "shop", shop("1.4.0")))
	dir := t.TempDir()
	r := reg.oci("charts/shop", "^1.4")
	first := load(t, source(t, reg, Options{CacheDir: dir}), r)
	reg.push(t, "charts/shop", "1.4.1", archive(t, "shop", shop("1.4.1")))
	asked := reg.requests.Load()
	if c := load(t, source(t, reg, Options{CacheDir: dir}), r); c.Digest != first.Digest || c.String() != first.String() {
		t.Errorf("%v, want %v", c, first)
	}
	if n := reg.requests.Load() - asked; n != 0 {
		t.Errorf("%d requests", n)
	}
	// What was damaged is fetched again.
	files, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(files[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := load(t, source(t, reg, Options{CacheDir: dir}), r); c.Version != "1.4.1" {
		t.Errorf("%v", c)
	}
}

// A server that does not answer is left when the caller has had enough, and
// that is no news of the source: the next one asks again.
func TestServerThatHangs(t *testing.T) {
	reg := registryServer(t)
	reg.push(t, "charts/shop", "1.0.0", archive(t, "shop", shop("1.0.0")))
	s := source(t, reg, Options{})
	reg.breakWith(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	enough := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, enough)
	defer cancel()
	var both sync.WaitGroup
	for range 2 { // the second waits for the first
		both.Go(func() {
			_, err := s.Load(ctx, reg.oci("charts/shop", "^1"))
			if reconcile.KindOf(err) != reconcile.Unavailable || !errors.Is(err, enough) {
				t.Error(err)
			}
		})
	}
	both.Wait()
	reg.breakWith(nil)
	load(t, s, reg.oci("charts/shop", "^1"))
}

// While somebody watches, nobody waits for a source of which something is
// known, and a change is told.
func TestWatchLooksInTheBackground(t *testing.T) {
	reg := registryServer(t)
	reg.push(t, "charts/shop", "1.0.0", archive(t, "shop", shop("1.0.0")))
	at := newClock()
	s := source(t, reg, Options{Now: at.now})
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan struct{}, 10)
	var watch sync.WaitGroup
	watch.Go(func() { _ = s.Watch(ctx, func() { changes <- struct{}{} }) })
	defer watch.Wait()
	defer cancel()
	r := reg.oci("charts/shop", "^1")
	r.MaxAge = 10 * time.Minute
	load(t, s, r)
	hangs := make(chan struct{})
	reg.breakWith(func(w http.ResponseWriter, _ *http.Request) {
		<-hangs
		w.WriteHeader(http.StatusBadGateway)
	})
	at.pass(time.Hour)
	for range 100 {
		if c := load(t, s, r); c.Version != "1.0.0" || c.Stale != nil {
			t.Fatal(c)
		}
	}
	r.MaxAge = 11 * time.Minute // another time to look, which wakes whoever watches
	load(t, s, r)
	close(hangs)
	<-changes
	if c := load(t, s, r); reconcile.KindOf(c.Stale) != reconcile.Unavailable || c.Version != "1.0.0" {
		t.Errorf("%v, stale: %v", c, c.Stale)
	}
	reg.breakWith(nil)
	reg.push(t, "charts/shop", "1.1.0", archive(t, "shop", shop("1.1.0")))
	s.Recheck()
	<-changes
	if c := load(t, s, r); c.Stale != nil || c.Version != "1.1.0" {
		t.Errorf("%v, stale: %v", c, c.Stale)
	}
}
