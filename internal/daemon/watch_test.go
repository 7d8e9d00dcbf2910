package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"
)

// fakeSubscription lets a test say when the system notices something.
type fakeSubscription struct {
	events chan fsnotify.Event
	errors chan error

	mu   sync.Mutex
	dirs map[string]bool
}

func newFakeSubscription() *fakeSubscription {
	return &fakeSubscription{events: make(chan fsnotify.Event), errors: make(chan error), dirs: map[string]bool{}}
}

func (f *fakeSubscription) Add(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirs[dir] = true
	return nil
}

func (f *fakeSubscription) Remove(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.dirs, dir)
	return nil
}
func (f *fakeSubscription) Close() error                  { return nil }
func (f *fakeSubscription) Events() <-chan fsnotify.Event { return f.events }
func (f *fakeSubscription) Errors() <-chan error          { return f.errors }

func (f *fakeSubscription) watched() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.dirs)
}

// watching runs a Watcher of one file in a bubble of synthetic time.
func watching(t *testing.T, opts WatchOptions, test func(t *testing.T, path string, w *Watcher, sub *fakeSubscription)) {
	path := filepath.Join(realDir(t), "forge.cue")
	must(t, os.WriteFile(path, []byte("one"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		sub := newFakeSubscription()
		if opts.subscribe == nil {
			opts.subscribe = func() (subscription, error) { return sub, nil }
		}
		w := NewWatcher(opts)
		w.Watch([]Watched{{Path: path, Known: hash([]byte("one")), Read: single(path, nil)}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		test(t, path, w, sub)
		cancel()
		must(t, <-done)
	})
}

func told(w *Watcher) (Change, bool) {
	synctest.Wait()
	select {
	case c := <-w.Changes():
		return c, true
	default:
		return Change{}, false
	}
}

func TestWatcherWaitsForFinalBytes(t *testing.T) {
	watching(t, WatchOptions{}, func(t *testing.T, path string, w *Watcher, sub *fakeSubscription) {
		write := fsnotify.Event{Name: path, Op: fsnotify.Write}
		began := time.Now()
		// A slow writer: each piece comes before the file has been quiet.
		for _, piece := range []string{"t", "tw", "two"} {
			must(t, os.WriteFile(path, []byte(piece), 0o600))
			sub.events <- write
			time.Sleep(90 * time.Millisecond)
			if c, ok := told(w); ok {
				t.Fatalf("told of %+v after %s", c, time.Since(began))
			}
		}
		time.Sleep(time.Minute)
		c, ok := told(w)
		if !ok || text(t, c.Reading) != "two" {
			t.Fatalf("told %v %+v", ok, c)
		}
		if c, ok := told(w); ok {
			t.Fatalf("told twice: %+v", c)
		}
	})
}

func TestWatcherSecondReadingDiffers(t *testing.T) {
	watching(t, WatchOptions{}, func(t *testing.T, path string, w *Watcher, sub *fakeSubscription) {
		// The first piece lies still for longer than Quiet, and the second
		// comes without an event before the second reading.
		must(t, os.WriteFile(path, []byte("tw"), 0o600))
		sub.events <- fsnotify.Event{Name: path, Op: fsnotify.Write}
		time.Sleep(120 * time.Millisecond)
		must(t, os.WriteFile(path, []byte("two"), 0o600))
		time.Sleep(50 * time.Millisecond)
		if c, ok := told(w); ok {
			t.Fatalf("told of %+v", c)
		}
		time.Sleep(50 * time.Millisecond)
		if c, ok := told(w); !ok || text(t, c.Reading) != "two" {
			t.Fatalf("told %v %+v", ok, c)
		}
	})
}

func TestWatcherDelay(t *testing.T) {
	watching(t, WatchOptions{}, func(t *testing.T, path string, w *Watcher, sub *fakeSubscription) {
		began := time.Now()
		must(t, os.WriteFile(path, []byte("two"), 0o600))
		sub.events <- fsnotify.Event{Name: path, Op: fsnotify.Write}
		<-w.Changes()
		if got := time.Since(began); got < 100*time.Millisecond || got > 250*time.Millisecond {
			t.Errorf("a save is told after %s", got)
		}
	})
}

func TestWatcherIgnores(t *testing.T) {
	watching(t, WatchOptions{}, func(t *testing.T, path string, w *Watcher, sub *fakeSubscription) {
		other := filepath.Join(filepath.Dir(path), "other.cue")
		for _, e := range []fsnotify.Event{
			{Name: path, Op: fsnotify.Chmod},
			{Name: path, Op: fsnotify.Write}, // the same bytes again
			{Name: other, Op: fsnotify.Write},
		} {
			sub.events <- e
		}
		time.Sleep(time.Hour)
		if c, ok := told(w); ok {
			t.Errorf("told of %+v", c)
		}
	})
}

func TestWatcherWithoutEvents(t *testing.T) {
	tests := map[string]struct {
		opts WatchOptions
		poke func(*fakeSubscription)
		want time.Duration
	}{
		"the event was lost":     {want: 31 * time.Second},
		"the queue overflowed":   {poke: func(s *fakeSubscription) { s.errors <- fsnotify.ErrEventOverflow }, want: time.Second},
		"no watch to be had":     {opts: WatchOptions{subscribe: func() (subscription, error) { return nil, errors.New("too many open files") }}, want: 6 * time.Second},
		"no watch on the folder": {opts: WatchOptions{subscribe: func() (subscription, error) { return deaf{}, nil }}, want: 31 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			logs := make(recorder, 10)
			tt.opts.Logger = slog.New(logs)
			watching(t, tt.opts, func(t *testing.T, path string, w *Watcher, sub *fakeSubscription) {
				began := time.Now()
				must(t, os.WriteFile(path, []byte("two"), 0o600))
				if tt.poke != nil {
					tt.poke(sub)
				}
				c := <-w.Changes()
				if got := time.Since(began); got > tt.want || text(t, c.Reading) != "two" {
					t.Errorf("told of %+v after %s, want within %s", c, got, tt.want)
				}
			})
			if quiet := tt.opts.subscribe == nil && tt.poke == nil; !quiet && len(logs) != 1 {
				t.Errorf("%d warnings, want one", len(logs))
			}
		})
	}
}

// deaf is a system out of inotify watches.
type deaf struct{}

func (deaf) Add(string) error              { return errors.New("no space left on device") }
func (deaf) Remove(string) error           { return fsnotify.ErrNonExistentWatch }
func (deaf) Close() error                  { return nil }
func (deaf) Events() <-chan fsnotify.Event { return nil }
func (deaf) Errors() <-chan error          { return nil }

func TestWatcherSecretFile(t *testing.T) {
	watching(t, WatchOptions{}, func(t *testing.T, path string, w *Watcher, sub *fakeSubscription) {
		key := filepath.Join(filepath.Dir(path), "token")
		must(t, os.WriteFile(key, []byte("hunter2"), 0o600))
		w.Watch([]Watched{{Path: path, Read: single(path, nil)}, {Path: key}})
		time.Sleep(time.Minute)
		if c, ok := told(w); ok {
			t.Fatalf("told of %+v before any change", c)
		}
		must(t, os.WriteFile(key, []byte("hunter3"), 0o600))
		sub.events <- fsnotify.Event{Name: key, Op: fsnotify.Write}
		c := <-w.Changes()
		if d := cmp.Diff(Change{Path: key}, c); d != "" {
			t.Error(d)
		}
		must(t, os.Remove(key))
		if c := <-w.Changes(); c.Path != key || !errors.Is(c.Reading.Err, os.ErrNotExist) {
			t.Errorf("told %+v", c)
		}
		w.Watch(nil)
		synctest.Wait()
		if n := sub.watched(); n != 0 {
			t.Errorf("%d directories still watched", n)
		}
	})
}

func TestWatcherCoalesces(t *testing.T) {
	watching(t, WatchOptions{}, func(t *testing.T, path string, w *Watcher, sub *fakeSubscription) {
		for _, c := range []string{"two", "three", "four"} {
			must(t, os.WriteFile(path, []byte(c), 0o600))
			sub.events <- fsnotify.Event{Name: path, Op: fsnotify.Write}
			time.Sleep(time.Second)
		}
		if c, ok := told(w); !ok || text(t, c.Reading) != "four" {
			t.Errorf("told %v %+v", ok, c)
		}
		if c, ok := told(w); ok {
			t.Errorf("told once more: %+v", c)
		}
	})
}
