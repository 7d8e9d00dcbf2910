package helm

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"

	"forged.dev/forged/internal/reconcile"
)

// What is wrong with a chart that a release is to be made of next is told with
// the template it is in, before anything is done: neither a revision nor an
// object comes of it.
func TestBadUpgradeChangesNothing(t *testing.T) {
	noise := make([]byte, 3<<20)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	r.converge()
	want := r.live()
	for name, c := range map[string]struct {
		file, text string
		says       []string
	}{
		"an object twice":   {"templates/bad.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n", []string{"settings", "templates/bad.yaml", "templates/all.yaml"}},
		"a hook elsewhere":  {"templates/bad.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: kube-system, annotations: {helm.sh/hook: pre-install}}\n", []string{"templates/bad.yaml", "namespace kube-system"}},
		"an unknown field":  {"templates/bad.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {}\nbogus: 1\n", []string{"ConfigMap", ".bogus: field not declared in schema"}},
		"too large a chart": {"files/noise.txt", base64.StdEncoding.EncodeToString(noise), []string{"its record in Helm's storage", "demo/files/noise.txt", "4194304 bytes"}},
		"no definition":     {"crds/bad.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", []string{"crds/bad.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			r.with(map[string]string{c.file: c.text})
			r.values = map[string]any{"level": "new"}
			steps, err := r.pass(t.Context(), r.request())
			if reconcile.KindOf(err) != reconcile.Invalid {
				t.Fatalf("steps %v, error of kind %s: %v", steps, reconcile.KindOf(err), err)
			}
			for _, say := range c.says {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("it does not say %q: %v", say, err)
				}
			}
			if len(err.Error()) > 2000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if got := r.live(); got != want {
				t.Errorf("live has changed\n%s\nwant\n%s", got, want)
			}
			if h := r.history(); h != "deployed" {
				t.Errorf("history %q", h)
			}
		})
	}
	r.t = t
}
