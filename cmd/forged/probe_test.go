package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forged.dev/forged/internal/providers/external"
)

// TestProbeCommand: what is left behind for forged, and what is left for people.
func TestProbeCommand(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "answer")
	if err := os.WriteFile(filepath.Join(dir, "url"), []byte("rediss://:S3cret@redis.invalid:6379/0"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := execute(t.Context(), []string{"probe", "redis", "--secrets", dir, "--answer", file}, streams{strings.NewReader(""), &out, &errs})
	if code != exitOK || !strings.Contains(out.String(), "the name redis.invalid is not known here") {
		t.Errorf("exit code %d: %s %s", code, &out, &errs)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var told external.Told
	if err := json.Unmarshal(raw, &told); err != nil || told.Code != "name" {
		t.Errorf("%s: %v", raw, err)
	}
	if strings.Contains(string(raw)+out.String()+errs.String(), "S3cret") {
		t.Error("a secret is told")
	}
	if code := execute(t.Context(), []string{"probe", "mysql", "--answer", file}, streams{strings.NewReader(""), &out, &errs}); code != exitError {
		t.Errorf("a service that nobody knows: exit code %d", code)
	}
}

func TestOwnImage(t *testing.T) {
	was := version
	t.Cleanup(func() { version = was })
	for _, tt := range []struct{ version, variable, want string }{
		{"1.2.3", "", "ghcr.io/forged/forged:1.2.3"},
		{"v1.2.3", "", "ghcr.io/forged/forged:1.2.3"},
		{"1.2.3-4-gabcdef", "", ""},
		{"(devel)", "", ""},
		{"1.2.3", "registry.acme.test/forged:mine", "registry.acme.test/forged:mine"},
	} {
		version = tt.version
		if got := ownImage(func(string) string { return tt.variable }); got != tt.want {
			t.Errorf("%s with %q: %q", tt.version, tt.variable, got)
		}
	}
}
