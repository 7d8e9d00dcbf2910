package daemon

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// saveRounds is how often each way of saving is tried.
const saveRounds = 60

// complete ends every configuration of these tests; what does not end with it
// is half-written, and the Build of these tests refuses it as the language
// refuses a file cut in the middle.
const complete = "\n// end\n"

// saver writes one version of the configuration the way some program does.
type saver struct {
	name  string
	setup func(t *testing.T, dir string) (path string) // makes the first version
	save  func(t *testing.T, dir string, round int, content []byte)
}

func savers() []saver {
	plain := func(t *testing.T, dir string) string {
		path := filepath.Join(dir, "forge.cue")
		must(t, os.WriteFile(path, content(0), 0o600))
		return path
	}
	return []saver{
		{"truncate and write in pieces", plain, func(t *testing.T, dir string, _ int, c []byte) {
			f, err := os.Create(filepath.Join(dir, "forge.cue"))
			must(t, err)
			for half := range 2 {
				_, err = f.Write(c[half*len(c)/2 : (half+1)*len(c)/2])
				must(t, err)
			}
			must(t, f.Close())
		}},
		{"temporary file and rename", plain, func(t *testing.T, dir string, _ int, c []byte) {
			tmp := filepath.Join(dir, ".forge.cue.swp")
			must(t, os.WriteFile(tmp, c, 0o600))
			must(t, os.Rename(tmp, filepath.Join(dir, "forge.cue")))
		}},
		{"backup and rename", plain, func(t *testing.T, dir string, _ int, c []byte) {
			path := filepath.Join(dir, "forge.cue")
			must(t, os.Rename(path, path+"~"))
			must(t, os.WriteFile(path, c, 0o600))
		}},
		{"vim: probe, backup, write, remove backup", plain, func(t *testing.T, dir string, _ int, c []byte) {
			path := filepath.Join(dir, "forge.cue")
			must(t, os.WriteFile(filepath.Join(dir, "4913"), nil, 0o600))
			must(t, os.Remove(filepath.Join(dir, "4913")))
			must(t, os.Rename(path, path+"~"))
			must(t, os.WriteFile(path, c, 0o600))
			must(t, os.Chmod(path, 0o640))
			must(t, os.Remove(path+"~"))
		}},
		{"delete and write", plain, func(t *testing.T, dir string, _ int, c []byte) {
			path := filepath.Join(dir, "forge.cue")
			must(t, os.Remove(path))
			must(t, os.WriteFile(path, c, 0o600))
		}},
		{
			"ConfigMap volume", func(t *testing.T, dir string) string {
				swapConfigMap(t, dir, 0, content(0))
				path := filepath.Join(dir, "forge.cue")
				must(t, os.Symlink("..data/forge.cue", path))
				return path
			},
			swapConfigMap,
		},
		{
			"target of a link in another directory", func(t *testing.T, dir string) string {
				for _, d := range []string{"here", "there"} {
					must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
				}
				must(t, os.WriteFile(filepath.Join(dir, "there", "real.cue"), content(0), 0o600))
				path := filepath.Join(dir, "here", "forge.cue")
				must(t, os.Symlink("../there/real.cue", path))
				return path
			},
			func(t *testing.T, dir string, _ int, c []byte) {
				tmp := filepath.Join(dir, "there", "tmp")
				must(t, os.WriteFile(tmp, c, 0o600))
				must(t, os.Rename(tmp, filepath.Join(dir, "there", "real.cue")))
			},
		},
		{
			"the whole directory replaced", func(t *testing.T, dir string) string {
				must(t, os.Mkdir(filepath.Join(dir, "conf"), 0o755))
				path := filepath.Join(dir, "conf", "forge.cue")
				must(t, os.WriteFile(path, content(0), 0o600))
				return path
			},
			func(t *testing.T, dir string, round int, c []byte) {
				next := filepath.Join(dir, "next")
				must(t, os.Mkdir(next, 0o755))
				must(t, os.WriteFile(filepath.Join(next, "forge.cue"), c, 0o600))
				must(t, os.Rename(filepath.Join(dir, "conf"), filepath.Join(dir, fmt.Sprint("old", round))))
				must(t, os.Rename(next, filepath.Join(dir, "conf")))
			},
		},
	}
}

// swapConfigMap does what the kubelet does: a new directory, a link beside the
// old one, and one rename that switches all files at once.
func swapConfigMap(t *testing.T, dir string, round int, c []byte) {
	data := fmt.Sprintf("..2026_%d", round)
	must(t, os.Mkdir(filepath.Join(dir, data), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, data, "forge.cue"), c, 0o600))
	must(t, os.Symlink(data, filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if round > 0 {
		must(t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..2026_%d", round-1))))
	}
}

func content(round int) []byte {
	return fmt.Appendf(nil, "// %d\n%s%s", round, bytes.Repeat([]byte("x: 1\n"), 400), complete)
}

// TestSaves: whichever way a file is saved, its final bytes come into force
// exactly once, and nothing half-written ever does.
func TestSaves(t *testing.T) {
	for _, s := range savers() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			dir := realDir(t)
			path := s.setup(t, dir)
			active := make(chan []byte, 2*saveRounds)
			r := NewReloader(ReloadOptions{
				Path: path,
				// Without a poll within the test's life: notifications must do.
				Watch: WatchOptions{Quiet: 20 * time.Millisecond, Settle: 10 * time.Millisecond, Poll: time.Hour},
				Read: single(path, func(data []byte) (*Config, error) {
					if !bytes.HasSuffix(data, []byte(complete)) {
						return nil, &InvalidError{[]Problem{{File: path, Line: 1, Message: "unexpected end of file"}}}
					}
					return &Config{Activate: func(int, string) error { active <- data; return nil }}, nil
				}),
			})
			ctx, stop := start(t, r)
			if got := <-active; !bytes.Equal(got, content(0)) {
				t.Fatalf("started with %.20q", got)
			}
			for round := 1; round <= saveRounds; round++ {
				s.save(t, dir, round, content(round))
				select {
				case got := <-active:
					if !bytes.Equal(got, content(round)) {
						t.Fatalf("round %d: in force is %.20q… (%d bytes)", round, got, len(got))
					}
				case <-ctx.Done():
					t.Fatalf("round %d: never seen; state %+v", round, r.State())
				}
			}
			stop()
			if n := len(active); n > 0 {
				t.Errorf("%d further reloads", n)
			}
			if got := r.State(); got.Generation != saveRounds+1 || !got.OK || got.Active.Hash != hash(content(saveRounds)) {
				t.Errorf("state %+v", got)
			}
		})
	}
}

// start starts and runs a Reloader until stop is called or the test ends. The
// context ends when the test has taken far too long.
func start(t *testing.T, r *Reloader) (ctx context.Context, stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	must(t, r.Start(ctx))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return ctx, stop
}

// TestDeletedFile: the last good configuration stays in force, and the file's
// return is seen.
func TestDeletedFile(t *testing.T) {
	dir := realDir(t)
	path := filepath.Join(dir, "conf", "forge.cue")
	must(t, os.Mkdir(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, content(0), 0o600))
	logs := make(recorder, 100)
	active := make(chan []byte, 10)
	r := NewReloader(ReloadOptions{
		Path: path, Logger: slog.New(logs),
		Watch: WatchOptions{Quiet: 20 * time.Millisecond, Settle: 10 * time.Millisecond, Poll: time.Hour},
		Read: single(path, func(data []byte) (*Config, error) {
			return &Config{Activate: func(int, string) error { active <- data; return nil }}, nil
		}),
	})
	ctx, stop := start(t, r)
	<-active
	for round := 1; round <= 20; round++ {
		must(t, os.RemoveAll(filepath.Dir(path)))
		waitLog(ctx, t, logs, "the last good configuration stays in force")
		must(t, os.Mkdir(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, content(round), 0o600))
		select {
		case got := <-active:
			if !bytes.Equal(got, content(round)) {
				t.Fatalf("round %d: in force is %.20q", round, got)
			}
		case <-ctx.Done():
			t.Fatalf("round %d: the file's return was never seen: %+v", round, r.State())
		}
	}
	stop()
	if got := r.State(); got.Failures != 20 || !got.OK {
		t.Errorf("state %+v", got)
	}
}

func waitLog(ctx context.Context, t *testing.T, logs recorder, want string) string {
	t.Helper()
	for {
		select {
		case got := <-logs:
			if bytes.Contains([]byte(got), []byte(want)) {
				return got
			}
		case <-ctx.Done():
			t.Fatalf("never logged %q", want)
		}
	}
}
