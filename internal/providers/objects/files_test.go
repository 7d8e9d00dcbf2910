package objects

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
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

// A disk that does not answer holds up nobody for longer than he wants to wait,
// holds one question for each file however often it is asked, and hides no
// change of another file. When it answers, the file is read.
func TestDiskThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFiles(dir)
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"hung", "well"} {
		write(t, filepath.Join(dir, name), "one")
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	hang := make(chan struct{})
	var asked atomic.Int32
	f.stat = func(path string) (stamp, error) {
		if filepath.Base(path) == "hung" {
			asked.Add(1)
			<-hang
		}
		return stampOf(path)
	}
	f.follow(user{id: forge.ID{Name: "a"}}, []string{"hung"})
	f.follow(user{id: forge.ID{Name: "b"}}, []string{"well"})
	if _, err := f.get(t.Context(), "well", 10); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if _, err := f.get(ended, "hung", 10); reconcile.KindOf(err) != reconcile.Unavailable || !strings.Contains(err.Error(), filepath.Join(dir, "hung")) {
			t.Fatal(err)
		}
	}
	told := map[string]stamp{}
	for range 20 {
		if events := f.changed(t.Context(), told); len(events) != 0 {
			t.Fatalf("events %v", events)
		}
	}
	write(t, filepath.Join(dir, "well"), "two")
	if events := f.changed(t.Context(), told); len(events) != 1 || events[0].ID.Name != "b" {
		t.Errorf("events %v", events)
	}
	if n := asked.Load(); n != 2 { // by who reads, and by who watches
		t.Errorf("the disk holds %d questions", n)
	}
	close(hang)
	if c, err := f.get(t.Context(), "hung", 10); err != nil || c.text != "one" {
		t.Errorf("%+v, %v", c, err)
	}
}
