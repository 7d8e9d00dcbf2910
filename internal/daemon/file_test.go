package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWatchPoints(t *testing.T) {
	root := realDir(t)
	must(t, os.MkdirAll(filepath.Join(root, "mount", "..2026"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "mount", "..2026", "forge.cue"), nil, 0o600))
	must(t, os.Symlink("..2026", filepath.Join(root, "mount", "..data")))
	must(t, os.Symlink("..data/forge.cue", filepath.Join(root, "mount", "forge.cue")))
	must(t, os.Symlink(filepath.Join(root, "mount"), filepath.Join(root, "link")))
	must(t, os.Symlink("loop", filepath.Join(root, "loop")))

	tests := []struct {
		name, path string
		want       []string
		err        string
	}{
		{"a ConfigMap volume", "mount/forge.cue", []string{"mount/..2026/forge.cue", "mount/..data", "mount/forge.cue"}, ""},
		{"through a linked directory", "link/forge.cue", []string{"link", "mount/..2026/forge.cue", "mount/..data", "mount/forge.cue"}, ""},
		{"dots", "mount/../mount/./..2026/forge.cue", []string{"mount/..2026/forge.cue"}, ""},
		{"a missing file", "mount/other.cue", []string{"mount/other.cue"}, ""},
		{"a missing directory", "none/at/all.cue", []string{"none"}, ""},
		{"a loop", "loop", []string{"loop"}, "too many symbolic links"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			points, err := watchPoints(root + "/" + tt.path)
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			var got []string
			for dir, bases := range points {
				for base := range maps.Keys(bases) {
					got = append(got, strings.TrimPrefix(filepath.Join(dir, base), root+"/"))
				}
			}
			slices.Sort(got)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestReadSecretRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	must(t, syscall.Mkfifo(pipe, 0o600))
	large := filepath.Join(dir, "large")
	must(t, os.WriteFile(large, nil, 0o600))
	must(t, os.Truncate(large, maxFileSize+1))
	for path, want := range map[string]string{
		pipe:                         "not a regular file",
		dir:                          "not a regular file",
		large:                        "larger than 16 MiB",
		filepath.Join(dir, "absent"): "no such file",
	} {
		if r := readSecret(path); r.Err == nil || !strings.Contains(r.Err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, r.Err, want)
		}
	}
}

// hash is how the tests tell content apart.
func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// single reads a configuration of one file.
func single(path string, build func(data []byte) (*Config, error)) func() Reading {
	return func() Reading {
		data, err := readRegular(path)
		if err != nil {
			return Reading{Err: err}
		}
		return Reading{
			Hash: hash(data), Files: []string{path},
			Build: func(context.Context) (*Config, error) { return build(data) },
		}
	}
}

// text is what a reading of single has read.
func text(t *testing.T, r Reading) string {
	t.Helper()
	data, err := os.ReadFile(r.Files[0])
	must(t, err)
	if hash(data) != r.Hash {
		t.Errorf("%s holds something else by now", r.Files[0])
	}
	return string(data)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// realDir is a temporary directory by its real name: where the system's own
// temporary directory is a link, paths would have more links than a test says.
func realDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}
