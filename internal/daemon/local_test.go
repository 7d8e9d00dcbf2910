package daemon

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A chart, or the text of a configuration file, is part of what is in force.
func TestReloadWhatTheConfigurationNames(t *testing.T) {
	reloading(t, "one", func(t *testing.T, r *reloaderTest) {
		chart := filepath.Join(filepath.Dir(r.path), "chart")
		change := func(name, text string) {
			t.Helper()
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(chart, name)), 0o700))
			must(t, os.WriteFile(filepath.Join(chart, name), []byte(text), 0o600))
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		expect := func(active, rechecked int, errors bool) {
			t.Helper()
			if len(r.active) != active || len(r.rechecked) != rechecked || (r.State().Error != "") != errors {
				t.Errorf("%d in force, %d looked at, error %q; want %d, %d", len(r.active), len(r.rechecked), r.State().Error, active, rechecked)
			}
		}
		change("templates/a.yaml", "a")
		expect(1, 0, false) // nobody names it
		r.write(t, "chart")
		expect(2, 0, false)
		change("templates/a.yaml", "b")
		expect(3, 1, false)
		change("templates/a.yaml", "b")
		expect(3, 1, false)
		change("charts/deep/templates/a.yaml", "new")
		expect(4, 2, false)
		must(t, os.RemoveAll(chart))
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(5, 3, false)
		r.write(t, "two")
		change("templates/a.yaml", "c")
		expect(6, 3, false) // nobody names it any more

		// What is wrong may be put right where it is.
		r.write(t, "strict-chart")
		expect(6, 3, true)
		change("bad", "x")
		expect(6, 3, true)
		change("good", "x")
		expect(7, 4, false)
		// Without a new text, what is wrong there leaves all as it was.
		must(t, os.Remove(filepath.Join(chart, "good")))
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(7, 4, true)
		change("good", "x")
		expect(8, 5, false)
	})
}

// The system tells of changes anywhere in a directory, also in directories that
// are new, so that nobody waits for the poll.
func TestChangesInADirectoryAreToldAtOnce(t *testing.T) {
	dir := filepath.Join(realDir(t), "chart")
	must(t, os.MkdirAll(filepath.Join(dir, "templates"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte("name: x"), 0o600))
	w := NewWatcher(WatchOptions{Quiet: time.Millisecond, Settle: time.Millisecond, Poll: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	defer func() { cancel(); must(t, <-done) }()
	first := readLocal(dir)
	must(t, first.Err)
	w.Watch([]Watched{{Path: dir, Known: first.Hash, Read: func() Reading { return readLocal(dir) }}})
	for _, name := range []string{"templates/a.yaml", "templates/deep/b.yaml", "Chart.yaml", "templates/deep/b.yaml"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		must(t, err)
		_, err = f.WriteString("more")
		must(t, err)
		must(t, f.Close())
		select {
		case c := <-w.Changes():
			must(t, c.Reading.Err)
		case <-time.After(time.Minute):
			t.Fatalf("a change of %s is not told", name)
		}
	}
}

func TestReadLocal(t *testing.T) {
	dir := filepath.Join(realDir(t), "chart")
	must(t, os.MkdirAll(filepath.Join(dir, "templates"), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, ".git/objects"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "templates/a.yaml"), []byte("one"), 0o600))
	must(t, os.WriteFile(filepath.Join(filepath.Dir(dir), "outside"), []byte("one"), 0o600))
	must(t, os.Symlink("../outside", filepath.Join(dir, "link")))
	first := readLocal(dir)
	must(t, first.Err)
	if d := cmp.Diff([]string{dir, filepath.Join(dir, "templates")}, first.Trees); d != "" {
		t.Error(d)
	}
	for name, change := range map[string]struct {
		path, text string
		seen       bool
	}{
		"its content":  {"templates/a.yaml", "two", true},
		"a new file":   {"templates/b.yaml", "", true},
		"outside":      {"../outside", "two", false},
		"its versions": {".git/HEAD", "two", false},
	} {
		before := readLocal(dir)
		must(t, os.WriteFile(filepath.Join(dir, change.path), []byte(change.text), 0o600))
		now := readLocal(dir)
		must(t, now.Err)
		if (now.Hash != before.Hash) != change.seen {
			t.Errorf("a change of %s: seen %t, want %t", name, !change.seen, change.seen)
		}
	}
	if now := readLocal(filepath.Join(dir, "none")); now.Err == nil {
		t.Error("no error for what is not there")
	}
	file := filepath.Join(dir, "templates/a.yaml")
	if now := readLocal(file); now.Err != nil || now.Hash != hash([]byte("two")) {
		t.Error(now)
	}
}
