package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/server"
)

const registryOnFKS = `forge: "v1"
app: {name: "NAME", image: {repository: "registry.fly.io/shop-api", tag: "1.4.1"}}
environments: prod: {
	platform: {
		kind: "fks", org: "acme", cluster: "NAME", region: "ord"
		create: true, acknowledgeClosedBeta: true
	}
	services: {postgres: mode: "off", redis: mode: "off", temporal: mode: "off"}
	charts: settings: {kind: "oci", url: "URL", version: "VERSION", values: level: "high"}
}
`

// A chart in a registry is loaded to see whether it can run on a cluster that is
// not there yet; forged validate, which asks nobody, cannot say.
func TestChartInARegistryForAClusterToBe(t *testing.T) {
	t.Parallel()
	registry := newChartRegistry(t)
	registry.push("1.0.0", "plain")
	registry.push("2.0.0", "agents}\n---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: agent")
	p := newOnFKS(t)
	dir := t.TempDir()
	forged := func(version string, want int, args ...string) string {
		t.Helper()
		file := filepath.Join(dir, "forge.cue")
		text := strings.NewReplacer("NAME", p.name, "URL", registry.url, "VERSION", version).Replace(registryOnFKS)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "forged", append(args, "-e", "prod")...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir()) // a machine that knows no chart
		for name, value := range p.environ() {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%v of %s: exit code %d, want %d\n%s%s", args, version, got, want, out.String(), errs.String())
		}
		return errs.String()
	}
	if said := forged("1.0.0", 2, "plan"); strings.Contains(said, "FKS") {
		t.Errorf("of one that can run it says %s", said)
	}
	for _, args := range [][]string{{"plan"}, {"apply", "--yes"}} {
		if said := forged("2.0.0", 1, args...); !strings.Contains(said, "forge.cue:9:39: error: environments.prod.charts.settings.url: FKS109: DaemonSets are not supported") {
			t.Errorf("%v: %s", args, said)
		}
	}
	made, err := p.made(t.Context())
	if err != nil || len(made) > 0 {
		t.Errorf("made: %v, %v", made, err)
	}
}

// A daemon says that it lives while it waits for Fly, or for anybody else.
func TestStartWhileFlyIsSilent(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	defer silent.CloseClientConnections()
	for _, name := range []string{"FLY_FLAPS_BASE_URL", "FLY_API_BASE_URL", "FLY_UIEX_BASE_URL"} {
		t.Setenv(name, silent.URL)
	}
	t.Setenv("FLY_API_TOKEN", "fm2_any")
	h := &home{Env: &sandboxtest.Env{Instance: "shop"}, t: t, dir: t.TempDir()}
	h.write("forge.cue", strings.NewReplacer("NAME", "shop", "URL", strings.Replace(silent.URL, "http:", "oci:", 1)+"/settings", "VERSION", "1.0.0").Replace(registryOnFKS))
	d := h.run()
	s := d.await("the answer of one that has begun nothing", func(s server.Snapshot) bool { return s.Config.Generation == 0 })
	if lives, err := d.get("/healthz"); err != nil || lives != "ok\n" || len(s.Environments) > 0 {
		t.Errorf("%q %v %+v", lives, err, s.Environments)
	}
	d.stop()
}
