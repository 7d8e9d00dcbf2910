package objects

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestFilesThatAreNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFiles(dir)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]reconcile.ErrorKind{
		"pipe": reconcile.Invalid, ".": reconcile.Invalid, "missing": reconcile.Unavailable, "missing/file": reconcile.Unavailable,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := f.get(ctx, name, 10)
		cancel()
		if reconcile.KindOf(err) != kind || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file is read once for as long as nobody writes to it, and again when its
// content has changed without its size or its time.
func TestFilesAreReadOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	f := newFiles(dir)
	write(t, path, "one")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	get := func() content {
		c, err := f.get(t.Context(), "a", 10)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if first := get(); first.text != "one" || !first.sure {
		t.Fatalf("%+v", first)
	}
	write(t, path, "two")
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if second := get(); second.text != "two" {
		t.Errorf("%+v", second)
	}
	write(t, path, "new")
	if third := get(); third.text != "new" || third.sure {
		t.Errorf("a file that was written to just now may be so again: %+v", third)
	}
}

func TestFilesThatNobodyUsesAreForgotten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFiles(dir)
	write(t, filepath.Join(dir, "a"), "1")
	u := user{id: forge.ID{Name: "shop"}}
	f.follow(u, []string{"a"})
	if _, err := f.get(t.Context(), "a", 10); err != nil {
		t.Fatal(err)
	}
	f.follow(u, nil)
	if len(f.read) > 0 || len(f.users) > 0 {
		t.Errorf("%v %v", f.read, f.users)
	}
}

// A disk that does not answer holds up nobody for longer than he wants to wait.
func TestSystemThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	hang := make(chan struct{})
	defer close(hang)
	cancel()
	_, err := answered(ctx, func() (int, error) { <-hang; return 0, nil })
	if reconcile.KindOf(err) != reconcile.Unavailable {
		t.Error(err)
	}
	wrong := errors.New("wrong")
	if _, err := answered(t.Context(), func() (int, error) { return 0, wrong }); !errors.Is(err, wrong) {
		t.Error(err)
	}
}
