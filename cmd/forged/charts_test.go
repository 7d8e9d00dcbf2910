package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/server"
)

// ownChart is a forge whose app is a chart beside it, after another one.
const ownChart = `forge: "v1"
app: {name: "shop", image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.1"}, migrate: run: "never"}
environments: prod: {
	platform: {kind: "kubernetes", context: "proxied", namespace: "$NAMESPACE", createNamespace: false}
	policy: {mode: "MODE", prune: "owned"}
	services: {postgres: mode: "off", redis: mode: "off", temporal: mode: "off"}
	app: {
		chart: {kind: "path", path: "charts/shop", values: greeting: "hello"}
		needs: ["base"]
	}
	charts: base: {kind: "path", path: "charts/base"}
}
`

func (h *home) charts(greeting string) {
	h.t.Helper()
	for name, text := range map[string]string{
		"charts/shop/Chart.yaml":              "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
		"charts/shop/templates/settings.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: greeting}\ndata: {text: \"{{ .Values.greeting }} " + greeting + "\"}\n",
		"charts/base/Chart.yaml":              "apiVersion: v2\nname: base\nversion: 0.1.0\n",
		"charts/base/templates/base.yaml":     "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: base}\ndata: {made: \"true\"}\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(h.dir, name)), 0o700); err != nil {
			h.t.Fatal(err)
		}
		h.write(name, text)
	}
}

// greeting is what the app's chart has made.
func (h *home) greeting() string {
	h.t.Helper()
	m, err := h.Client.CoreV1().ConfigMaps(h.Namespace).Get(h.t.Context(), "greeting", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return ""
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return m.Data["text"]
}

// A chart beside forge.cue is rolled out; whoever changes a file of it has it
// rolled out again, and whoever breaks it is told so while what runs goes on.
func TestChartBesideTheForge(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.CreateNamespace(t)
	h.charts("world")
	h.write("forge.cue", strings.Replace(ownChart, "MODE", "apply", 1))
	stdout, stderr, code := h.command("plan", "--instance", h.Instance)
	if code != 2 || !strings.Contains(stdout, "shop 1.0.0 from charts/shop") || !strings.Contains(stdout, "base 0.1.0 from charts/base") {
		t.Fatalf("plan: %d\n%s\n%s", code, stdout, stderr)
	}
	if stdout, stderr, code = h.command("run", "--once", "--instance", h.Instance); code != 0 || h.greeting() != "hello world" {
		t.Fatalf("run --once: %d, %q\n%s\n%s", code, h.greeting(), stdout, stderr)
	}

	d := h.run()
	d.await("in sync", ready(1))
	h.charts("there")
	d.await("the new chart", func(server.Snapshot) bool { return h.greeting() == "hello there" })

	h.write("charts/shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.1.0\ndependencies: [{name: db, version: 1.x, repository: \"https://charts.example.com\"}]\n")
	d.await("the refusal", func(s server.Snapshot) bool {
		return !s.Config.OK && len(s.Config.Problems) == 1 && strings.Contains(s.Config.Problems[0].Message, "depends on db")
	})
	h.edit("ConfigMap", "greeting", `{"data":{"text":"by hand"}}`)
	d.await("the heal", func(server.Snapshot) bool { return h.greeting() == "hello there" })
	h.charts("again")
	d.await("the mended chart", func(s server.Snapshot) bool { return s.Config.OK && h.greeting() == "hello again" })

	// In mode heal another chart is no reason to roll out.
	h.write("forge.cue", strings.Replace(ownChart, "MODE", "heal", 1))
	s := d.await("mode heal", func(s server.Snapshot) bool { return s.Config.OK && environment(s, "prod").Mode == "heal" })
	h.charts("quietly")
	d.await("the chart", func(now server.Snapshot) bool { return now.Generation > s.Generation })
	h.edit("ConfigMap", "greeting", `{"data":{"text":"by hand"}}`)
	d.await("the heal", func(s server.Snapshot) bool {
		r := resource(s, "prod/release/app")
		return h.greeting() == "hello again" && r.LastAction != nil && r.LastAction.Action == reconcile.ActionHeal
	})
	d.stop()
}
