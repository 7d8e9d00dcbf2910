package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// several reads all of a directory, and of the directory lib in it, which need
// not be there.
func several(dir string, active chan<- string) func() Reading {
	return func() Reading {
		lib := filepath.Join(dir, "lib")
		r := Reading{Dirs: []string{dir, lib}}
		text := ""
		for _, d := range r.Dirs {
			names, err := filepath.Glob(filepath.Join(d, "*.cue"))
			if err != nil {
				return Reading{Err: err}
			}
			for _, name := range names {
				data, err := readRegular(name)
				if err != nil {
					return Reading{Err: err}
				}
				r.Files = append(r.Files, name)
				text += filepath.Base(name) + "=" + string(data) + " "
			}
		}
		r.Hash = hash([]byte(text))
		r.Build = func(context.Context) (*Config, error) {
			return &Config{Activate: func(int, string) error { active <- text; return nil }}, nil
		}
		return r
	}
}

// TestSavesOfAPackage: files that come, go and change are seen without a poll,
// wherever the text is read from, and what is saved together comes into force
// together.
func TestSavesOfAPackage(t *testing.T) {
	write := func(path, content string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, path), []byte(content), 0o600))
		}
	}
	replace := func(path, content string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "tmp"), []byte(content), 0o600))
			must(t, os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, path)))
		}
	}
	steps := []struct {
		name string
		do   func(t *testing.T, dir string)
		want string
	}{
		{"one file changes", write("a.cue", "2"), "a.cue=2 "},
		{"a second one appears", write("b.cue", "1"), "a.cue=2 b.cue=1 "},
		{"the second one changes", replace("b.cue", "2"), "a.cue=2 b.cue=2 "},
		{"both change", func(t *testing.T, dir string) {
			write("a.cue", "3")(t, dir)
			replace("b.cue", "3")(t, dir)
		}, "a.cue=3 b.cue=3 "},
		{"a link appears", func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "elsewhere"), 0o755))
			write("elsewhere/real", "1")(t, dir)
			must(t, os.Symlink("elsewhere/real", filepath.Join(dir, "c.cue")))
		}, "a.cue=3 b.cue=3 c.cue=1 "},
		{"what the link leads to changes", replace("elsewhere/real", "2"), "a.cue=3 b.cue=3 c.cue=2 "},
		{"one goes", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "c.cue"))) }, "a.cue=3 b.cue=3 "},
		{"a missing directory appears", func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "lib"), 0o755))
			write("lib/d.cue", "1")(t, dir)
		}, "a.cue=3 b.cue=3 d.cue=1 "},
		{"a file in it changes", replace("lib/d.cue", "2"), "a.cue=3 b.cue=3 d.cue=2 "},
		{"the directory is replaced", func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "next"), 0o755))
			write("next/e.cue", "1")(t, dir)
			must(t, os.Rename(filepath.Join(dir, "lib"), filepath.Join(dir, "before")))
			must(t, os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "lib")))
		}, "a.cue=3 b.cue=3 e.cue=1 "},
		{"a file in the new one changes", write("lib/e.cue", "2"), "a.cue=3 b.cue=3 e.cue=2 "},
		{"the directory goes", func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "lib"))) }, "a.cue=3 b.cue=3 "},
	}
	dir := realDir(t)
	write("a.cue", "1")(t, dir)
	active := make(chan string, 10)
	r := NewReloader(ReloadOptions{
		Path: dir, Read: several(dir, active),
		Watch: WatchOptions{Quiet: 30 * time.Millisecond, Settle: 20 * time.Millisecond, Poll: time.Hour},
	})
	ctx, stop := start(t, r)
	if got := <-active; got != "a.cue=1 " {
		t.Fatalf("started with %q", got)
	}
	for _, step := range steps {
		step.do(t, dir)
		select {
		case got := <-active:
			if got != step.want {
				t.Fatalf("%s: in force is %q, want %q", step.name, got, step.want)
			}
		case <-ctx.Done():
			t.Fatalf("%s: never seen; state %+v", step.name, r.State())
		}
	}
	write("other.txt", "of no interest")(t, dir)
	stop()
	if got := r.State(); len(active) > 0 || got.Generation != len(steps)+1 || fmt.Sprint(got.Files) != fmt.Sprint([]string{dir + "/a.cue", dir + "/b.cue"}) {
		t.Errorf("%d more came into force; state %+v", len(active), got)
	}
}

// TestPackageUnreadable: where the text was is still watched.
func TestPackageUnreadable(t *testing.T) {
	dir := realDir(t)
	active := make(chan string, 10)
	must(t, os.WriteFile(filepath.Join(dir, "a.cue"), []byte("1"), 0o600))
	r := NewReloader(ReloadOptions{
		Path: dir, Read: several(dir, active),
		Watch: WatchOptions{Quiet: 30 * time.Millisecond, Settle: 20 * time.Millisecond, Poll: time.Hour},
	})
	must(t, r.Start(t.Context()))
	<-active
	// Already gone when the watch begins.
	must(t, os.Mkdir(filepath.Join(dir, "b.cue"), 0o755))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	for ; r.State().Error == ""; <-time.After(time.Millisecond) {
		must(t, ctx.Err())
	}
	must(t, os.Remove(filepath.Join(dir, "b.cue")))
	must(t, os.WriteFile(filepath.Join(dir, "a.cue"), []byte("2"), 0o600))
	select {
	case got := <-active:
		if got != "a.cue=2 " {
			t.Errorf("in force is %q", got)
		}
	case <-ctx.Done():
		t.Errorf("never seen; state %+v", r.State())
	}
	cancel()
	must(t, <-done)
}
