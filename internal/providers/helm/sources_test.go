package helm

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/registry"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// chartRegistry is an OCI registry on this machine that wants a login.
type chartRegistry struct {
	*httptest.Server
	down atomic.Bool
}

const registryPassword = "r3gistry-c4nary"

func newChartRegistry(t *testing.T) *chartRegistry {
	t.Helper()
	backend := ociserver.New(ocimem.New(), nil)
	r := &chartRegistry{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if r.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if user, password, _ := q.BasicAuth(); user != "robot" || password != registryPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="charts"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, q)
	}))
	t.Cleanup(r.Close)
	return r
}

// push does what helm push does.
func (r *chartRegistry) push(t *testing.T, version, data string) {
	t.Helper()
	packed, err := chartutil.Save(&chart.Chart{
		Metadata:  &chart.Metadata{APIVersion: "v2", Name: "settings", Version: version},
		Templates: []*chart.File{{Name: "templates/a.yaml", Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {data: " + data + "}\n")}},
	}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	client, err := registry.NewClient(registry.ClientOptPlainHTTP(), registry.ClientOptBasicAuth("robot", registryPassword),
		registry.ClientOptCredentialsFile(filepath.Join(t.TempDir(), "none")))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Push(text, r.Listener.Addr().String()+"/charts/settings:"+version); err != nil {
		t.Fatal(err)
	}
}

// fromRegistry is a release of a chart in a registry, whose password lies in a
// Secret of the cluster.
func fromRegistry(t *testing.T, reg *chartRegistry) *hazard {
	t.Helper()
	h := newHazard(t, "", map[string]string{"unused": ""})
	ref := func(key string) forge.SecretRef {
		return forge.SecretRef{Kubernetes: &forge.KubernetesRef{Name: "pull", Key: key}}
	}
	h.chart = &forge.ChartSource{
		Kind: forge.ChartOCI, URL: "oci://" + reg.Listener.Addr().String() + "/charts/settings", Version: "^1.0",
		Username: ref("user"), Password: ref("password"),
	}
	_, err := h.env.Client.CoreV1().Secrets(h.env.Namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "pull"}, StringData: map[string]string{"user": "robot\n", "password": registryPassword},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hazard) setting() string {
	h.t.Helper()
	m, err := h.env.Client.CoreV1().ConfigMaps(h.env.Namespace).Get(h.t.Context(), "settings", metav1.GetOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return m.Data["data"]
}

func TestChartOfARegistryIsRolledOut(t *testing.T) {
	reg := newChartRegistry(t)
	reg.push(t, "1.0.0", "one")
	h := fromRegistry(t, reg)
	steps := h.settle()
	if len(steps) != 1 || steps[0].Changes[0].Path != "chart" || !strings.HasPrefix(steps[0].Changes[0].To, "settings 1.0.0 from "+h.chart.URL+" (sha256:") {
		t.Fatalf("the plan does not say what ^1.0 is: %v", steps)
	}
	if s := h.setting(); s != "one" {
		t.Fatal(s)
	}
	// A newer one, while nobody asks for it: not in mode heal, and not before
	// it is time to look.
	reg.push(t, "1.1.0", "two")
	h.mode = forge.ModeHeal
	for range 3 {
		h.end()
		h.begin()
		if steps := h.settle(); len(steps) > 0 {
			t.Fatalf("in mode heal, after a restart: %v", steps)
		}
	}
	h.mode = forge.ModeApply
	h.chart.Version = "1.1.0"
	if steps := h.settle(); len(steps) != 1 || !strings.HasPrefix(steps[0].Changes[0].From, "settings 1.0.0 ") || !strings.HasPrefix(steps[0].Changes[0].To, "settings 1.1.0 ") {
		t.Errorf("another version: %v", steps)
	}
	if s := h.setting(); s != "two" {
		t.Error(s)
	}
}

// Whoever runs is looked after, also while the registry of its chart is away:
// after a restart nothing is known of the chart, and a heal does not need it.
func TestRegistryThatIsAwayStopsNoHeal(t *testing.T) {
	reg := newChartRegistry(t)
	reg.push(t, "1.0.0", "one")
	h := fromRegistry(t, reg)
	h.settle()
	h.end()
	reg.down.Store(true)
	h.begin()
	edit := func() {
		t.Helper()
		_, err := h.env.Client.CoreV1().ConfigMaps(h.env.Namespace).Patch(t.Context(), "settings", types.MergePatchType, []byte(`{"data":{"data":"edited"}}`), metav1.PatchOptions{FieldManager: "alice"})
		if err != nil {
			t.Fatal(err)
		}
	}
	blocked := func(steps []reconcile.Step) bool {
		return len(steps) > 0 && strings.Contains(steps[len(steps)-1].Blocked, "503 Service Unavailable")
	}
	if steps, err := h.pass(t.Context(), h.request()); err != nil || len(steps) != 1 || !blocked(steps) {
		t.Fatalf("%v, %v", steps, err)
	}
	edit()
	limit, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for h.setting() != "one" {
		if limit.Err() != nil {
			t.Fatal("not healed")
		}
		steps, err := h.pass(limit, h.request())
		if err != nil && reconcile.KindOf(err) != reconcile.Stale || !blocked(steps) {
			t.Fatalf("%v, %v", steps, err)
		}
	}
	// What cannot be known is no reason to uninstall, nor to install anew.
	if got := h.history(); got != "deployed" {
		t.Error(got)
	}
	reg.down.Store(false)
	for limit.Err() == nil {
		if steps, err := h.pass(limit, h.request()); err == nil && len(steps) == 0 {
			return
		}
		select {
		case <-h.events: // it has been looked at again
		case <-limit.Done():
		}
	}
	t.Error("the registry is back, and nobody has noticed")
}

// A first install needs the chart, and its error says what is wrong.
func TestChartThatCannotBeHad(t *testing.T) {
	reg := newChartRegistry(t)
	h := fromRegistry(t, reg)
	for name, test := range map[string]struct {
		change func()
		kind   reconcile.ErrorKind
		word   string
	}{
		"no such chart":  {func() {}, reconcile.Invalid, "404"},
		"away":           {func() { reg.down.Store(true); h.chart.Version = "^1.1" }, reconcile.Unavailable, "503"},
		"no such Secret": {func() { h.chart.Password.Kubernetes = &forge.KubernetesRef{Name: "none", Key: "a"} }, reconcile.Invalid, "Secret " + h.env.Namespace + "/none: it does not exist"},
		"no such key":    {func() { h.chart.Password.Kubernetes = &forge.KubernetesRef{Name: "pull", Key: "a"} }, reconcile.Invalid, "no key a"},
	} {
		before := *h.chart
		test.change()
		steps, err := h.pass(t.Context(), h.request())
		if err == nil || reconcile.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.word) || len(steps) > 0 {
			t.Errorf("%s: %v, %v", name, steps, err)
		}
		if err != nil && strings.Contains(err.Error(), registryPassword) {
			t.Errorf("%s: the error gives the password away", name)
		}
		h.chart = &before
		reg.down.Store(false)
	}
	maps, err := h.env.Client.CoreV1().Secrets(h.env.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil || len(maps.Items) > 0 {
		t.Errorf("%v, %v", maps, err)
	}
}
