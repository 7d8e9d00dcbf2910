package chartsource

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"go.uber.org/goleak"
	"helm.sh/helm/v3/pkg/registry"
	"helm.sh/helm/v3/pkg/repo"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary stands for passwords: it must appear nowhere.
const canary = "c4n4ry-s3cret"

type entryOf struct {
	name string
	data string
	kind byte // 0: a file
}

// pack makes an archive of exactly these entries.
func pack(t testing.TB, entries ...entryOf) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.data)), Typeflag: tar.TypeReg}
		if e.kind != 0 {
			h.Typeflag, h.Size, h.Linkname, e.data = e.kind, 0, e.data, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// archive packs the files of a chart as helm package does.
func archive(t testing.TB, name string, files map[string]string) []byte {
	t.Helper()
	var entries []entryOf
	for _, file := range slices.Sorted(maps.Keys(files)) {
		entries = append(entries, entryOf{name: name + "/" + file, data: files[file]})
	}
	return pack(t, entries...)
}

// shop is a chart of one ConfigMap.
func shop(version string) map[string]string {
	return map[string]string{
		"Chart.yaml":              "apiVersion: v2\nname: shop\nversion: " + version + "\n",
		"values.yaml":             "level: info\n",
		"templates/settings.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {version: \"" + version + "\"}\n",
	}
}

func with(files map[string]string, more ...string) map[string]string {
	files = maps.Clone(files)
	for i := 0; i < len(more); i += 2 {
		files[more[i]] = more[i+1]
	}
	return files
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// server is a registry or a repository that can be made to fail.
type server struct {
	*httptest.Server
	requests atomic.Int64
	mu       sync.Mutex
	broken   http.HandlerFunc // instead of it
	seen     []string         // what was asked for, with whom
}

func (s *server) breakWith(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = h
}

func (s *server) log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

func serve(t *testing.T, h http.Handler) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		user, _, _ := r.BasicAuth()
		s.mu.Lock()
		broken := s.broken
		s.seen = append(s.seen, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+user))
		s.mu.Unlock()
		if broken != nil {
			broken(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// registryServer is a registry, spoken to by TLS.
func registryServer(t *testing.T) *server {
	return serve(t, ociserver.New(ocimem.New(), nil))
}

// push does what helm push does, and returns the digest of the manifest.
func (s *server) push(t *testing.T, repository, version string, archive []byte) string {
	t.Helper()
	options := []registry.ClientOption{
		registry.ClientOptHTTPClient(s.Client()), registry.ClientOptBasicAuth("alice", canary),
		registry.ClientOptCredentialsFile(filepath.Join(t.TempDir(), "none.json")),
	}
	if strings.HasPrefix(s.URL, "http://") {
		options = append(options, registry.ClientOptPlainHTTP())
	}
	client, err := registry.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	result, err := client.Push(archive, s.Listener.Addr().String()+"/"+repository+":"+version, registry.PushOptStrictMode(false))
	if err != nil {
		t.Fatal(err)
	}
	return result.Manifest.Digest
}

// locked asks for a name and a password, as a registry does that gives no
// tokens.
func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "alice" || password != canary {
			w.Header().Set("WWW-Authenticate", `Basic realm="charts"`)
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// tokens asks for a token, which it hands out for a name and a password.
func tokens(t *testing.T, h http.Handler) *server {
	var s *server
	s = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			if user, password, _ := r.BasicAuth(); user != "alice" || password != canary {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			_, _ = w.Write([]byte(`{"token":"` + canary + `-token"}`))
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+canary+"-token" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.URL+`/token",service="charts",scope="repository:charts/shop:pull"`)
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}))
	return s
}

// repository is a directory that is served, with an index as helm repo index
// writes it.
type repository struct {
	*server
	dir string
}

func repositoryServer(t *testing.T, wrap func(http.Handler) http.Handler) *repository {
	t.Helper()
	r := &repository{dir: t.TempDir()}
	var h http.Handler = http.StripPrefix("/stable", http.FileServer(http.Dir(r.dir)))
	if wrap != nil {
		h = wrap(h)
	}
	r.server = serve(t, h)
	return r
}

func (r *repository) add(t *testing.T, version string, archive []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "shop-"+version+".tgz"), archive, 0o600); err != nil {
		t.Fatal(err)
	}
	index, err := repo.IndexDirectory(r.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	index.SortEntries()
	if err := index.WriteFile(filepath.Join(r.dir, "index.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// clock is one that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// source makes a Source that trusts a server.
func source(t *testing.T, s *server, o Options) *Source {
	t.Helper()
	if s != nil {
		transport := newTransport()
		transport.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
		t.Cleanup(transport.CloseIdleConnections)
		o.Transport = transport
	}
	out := New(o)
	t.Cleanup(out.Close)
	return out
}

func (s *server) oci(repository, version string) Request {
	return Request{
		ChartSource: forge.ChartSource{
			Kind: "oci", URL: "oci://" + s.Listener.Addr().String() + "/" + repository, Version: version,
			Username: forge.SecretRef{Env: "USER"}, Password: forge.SecretRef{Env: "PASSWORD"},
		},
		Secret: secrets,
	}
}

func (r *repository) chart(version string) Request {
	return Request{
		ChartSource: forge.ChartSource{
			Kind: "repository", URL: r.URL + "/stable", Name: "shop", Version: version,
			Username: forge.SecretRef{Env: "USER"}, Password: forge.SecretRef{Env: "PASSWORD"},
		},
		Secret: secrets,
	}
}

func secrets(_ context.Context, ref forge.SecretRef) (secret.Value, error) {
	if ref.Env == "USER" {
		return secret.New([]byte("alice")), nil
	}
	return secret.New([]byte(canary)), nil
}

func load(t *testing.T, s *Source, r Request) Chart {
	t.Helper()
	c, err := s.Load(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused loads in vain, and checks the kind of the error and words in it.
func refused(t *testing.T, s *Source, r Request, kind reconcile.ErrorKind, words ...string) {
	t.Helper()
	_, err := s.Load(t.Context(), r)
	if err == nil {
		t.Fatalf("no error, want %s: %v", kind, words)
	}
	if got := reconcile.KindOf(err); got != kind {
		t.Errorf("an error of kind %s, want %s: %v", got, kind, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v\ndoes not say %q", err, word)
		}
	}
	if strings.Contains(err.Error(), canary) {
		t.Errorf("the error gives a secret away: %v", err)
	}
}

func names(c Chart) string {
	var out []string
	for _, f := range c.Files {
		out = append(out, f.Name)
	}
	return strings.Join(out, " ")
}
