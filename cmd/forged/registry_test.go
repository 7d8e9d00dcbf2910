package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// chartRegistry is an OCI registry on this machine.
type chartRegistry struct {
	t     *testing.T
	store ociregistry.Interface
	url   string // of its chart "settings"
}

func newChartRegistry(t *testing.T) *chartRegistry {
	t.Helper()
	store := ocimem.New()
	server := httptest.NewServer(ociserver.New(store, nil))
	t.Cleanup(server.Close)
	return &chartRegistry{t, store, "oci://" + server.Listener.Addr().String() + "/charts/settings"}
}

// push does what helm push does with a chart, and returns the digest of its
// manifest.
func (r *chartRegistry) push(version, word string) string {
	r.t.Helper()
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	head := "apiVersion: v2\nname: settings\nversion: " + version + "\n"
	for _, f := range [][2]string{
		{"settings/Chart.yaml", head},
		{"settings/templates/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {word: " + word + ", level: {{ .Values.level }}}\n"},
	} {
		if err := archive.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}); err != nil {
			r.t.Fatal(err)
		}
		if _, err := archive.Write([]byte(f[1])); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		r.t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		r.t.Fatal(err)
	}
	const repo = "charts/settings"
	blob := func(mediaType string, data []byte) map[string]any {
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
		d := ociregistry.Descriptor{MediaType: mediaType, Digest: ociregistry.Digest(digest), Size: int64(len(data))}
		if _, err := r.store.PushBlob(r.t.Context(), repo, d, bytes.NewReader(data)); err != nil {
			r.t.Fatal(err)
		}
		return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(data)}
	}
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": blob("application/vnd.cncf.helm.config.v1+json", []byte(`{"name":"settings","version":"`+version+`","apiVersion":"v2"}`)),
		"layers": []any{blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", packed.Bytes())},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	d, err := r.store.PushManifest(r.t.Context(), repo, version, manifest, manifestType)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(d.Digest)
}

const registryForge = `forge: "v1"
app: {name: "shop", image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.1"}, migrate: run: "never"}
environments: prod: {
	platform: {kind: "kubernetes", context: "proxied", namespace: "$NAMESPACE", createNamespace: false}
	policy: {mode: "apply", prune: "owned"}
	services: {postgres: mode: "off", redis: mode: "off", temporal: mode: "off"}
	charts: settings: {kind: "oci", url: "URL", version: "1.0.0", digest: "DIGEST", values: level: "high"}
}
`

// A chart in a registry, locked by its digest, from plan to what runs. Who moves
// its tag changes nothing, also for a machine that has never seen it. A digest
// that nobody knows changes nothing either, and another one is another chart.
func TestChartInARegistry(t *testing.T) {
	registry := newChartRegistry(t)
	one := registry.push("1.0.0", "one")
	h := newHome(t)
	h.CreateNamespace(t)
	forge := func(digest string) {
		h.write("forge.cue", strings.NewReplacer("URL", registry.url, "DIGEST", digest).Replace(registryForge))
	}
	word := func() string {
		t.Helper()
		m, err := h.Client.CoreV1().ConfigMaps(h.Namespace).Get(t.Context(), "settings", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return m.Data["word"] + " " + m.Data["level"]
	}
	command := func(want int, args ...string) string {
		t.Helper()
		t.Setenv("XDG_CACHE_HOME", t.TempDir()) // a machine that knows no chart
		stdout, stderr, code := h.command(append(args, "--instance", h.Instance)...)
		if code != want {
			t.Fatalf("%v: exit code %d, want %d\n%s\n%s", args, code, want, stdout, stderr)
		}
		return strings.Join(strings.Fields(stdout), " ")
	}
	forge(one)
	if out := command(2, "plan"); !strings.Contains(out, "settings 1.0.0 from "+registry.url+" ("+one+")") {
		t.Errorf("plan:\n%s", out)
	}
	command(0, "run", "--once")
	if got := word(); got != "one high" {
		t.Errorf("it made %q", got)
	}
	command(0, "plan")

	two := registry.push("1.0.0", "two")
	command(0, "plan")
	command(0, "run", "--once")
	if got := word(); got != "one high" {
		t.Errorf("a tag was moved, and it made %q", got)
	}
	forge("sha256:" + strings.Repeat("0", 64))
	if out := command(2, "run", "--once"); !strings.Contains(out, "blocked") || word() != "one high" {
		t.Errorf("a chart that nobody has made %q:\n%s", word(), out)
	}
	forge(two)
	command(0, "run", "--once")
	if got := word(); got != "two high" {
		t.Errorf("another digest made %q", got)
	}
}
