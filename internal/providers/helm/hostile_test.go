package helm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/reconcile"
)

// A chart that asks for more memory than there is takes nothing down with it:
// the release says what is wrong, what runs is healed without trying that again,
// and a mended chart is rolled out.
func TestHostileChart(t *testing.T) {
	t.Parallel()
	const good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {level: {{ .Values.level | quote }}}\n"
	h := newHazard(t, "", map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.0.0\n", "values.yaml": "level: info\n", "templates/a.yaml": good,
	})
	h.end()
	h.memory = 192 << 20
	put := func(template string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(h.dir, "templates/a.yaml"), []byte(template), 0o644); err != nil {
			t.Fatal(err)
		}
		h.begin()
	}
	h.begin()
	h.settle()
	h.end()
	put("{{ range until 10000000000 }}{{ end }}")
	const words = "its templates need more than 192 MiB of memory"
	if _, err := h.pass(t.Context(), h.request()); reconcile.KindOf(err) != reconcile.Invalid || !strings.Contains(err.Error(), words) {
		t.Fatalf("error %v", err)
	}
	if len(h.p.charts.beyond) != 1 {
		t.Fatal("it would be tried again and again")
	}
	h.drain()
	h.patchMap(`{"data":{"level":"edited"}}`)
	h.changed("ConfigMap " + h.env.Namespace + "/settings")
	steps := h.plan(h.request())
	if len(steps) != 2 || steps[0].Action != reconcile.ActionHeal {
		t.Fatalf("steps %v", steps)
	}
	if _, err := h.p.Apply(t.Context(), h.request(), steps[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := h.p.Apply(t.Context(), h.request(), steps[1]); err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v", err)
	}
	m, err := h.env.Client.CoreV1().ConfigMaps(h.env.Namespace).Get(t.Context(), "settings", metav1.GetOptions{})
	if err != nil || m.Data["level"] != "info" {
		t.Errorf("it was not healed: %v, %v", m.Data, err)
	}
	h.end()
	put(strings.ReplaceAll(good, "level:", "height:"))
	if steps := h.settle(); len(steps) != 1 || steps[0].Action != reconcile.ActionUpdate {
		t.Errorf("the mended chart: %v", steps)
	}
}
