package daemon

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watched is something to watch: the text of the configuration, a file or a
// directory that it names, or a secret file.
type Watched struct {
	Path string
	// Known is the hash the caller has acted on already; anything else is a
	// change. Empty: what is found at the first look.
	Known string
	// Files and Dirs are where to look for changes before the first reading,
	// besides at Path.
	Files, Dirs []string
	// Read looks at it. Nil: it is a secret file, which is compared by hash and
	// whose content is never handed out.
	Read func() Reading
}

// Change says that something watched reads otherwise now.
type Change struct {
	Path string
	// Reading is the new one. Of a secret file it has nothing but an error: a
	// hash of a weak secret gives it away.
	Reading Reading
}

// WatchOptions bound how soon and how surely a change is seen.
type WatchOptions struct {
	Quiet  time.Duration // without any event before a file is read; default 100 ms
	Settle time.Duration // between the two equal readings a change needs; default 50 ms
	Poll   time.Duration // between looks without any event; default 30 s
	Logger *slog.Logger

	// subscribe replaces inotify in tests.
	subscribe func() (subscription, error)
}

// blindPoll is the time between looks where the system cannot tell of changes
// at all.
const blindPoll = 5 * time.Second

// subscription is what a Watcher needs of the system's change notification.
type subscription interface {
	Add(dir string) error
	Remove(dir string) error
	Close() error
	Events() <-chan fsnotify.Event
	Errors() <-chan error
}

type inotify struct{ *fsnotify.Watcher }

func (i inotify) Events() <-chan fsnotify.Event { return i.Watcher.Events }
func (i inotify) Errors() <-chan error          { return i.Watcher.Errors }

func subscribeToSystem() (subscription, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return inotify{w}, nil
}

// Watcher tells when the content of files changes. Directories are watched
// rather than files, because editors and ConfigMap volumes replace files; what
// decides is the content's hash, never the kind of an event. A change is told
// once all that is read together has been the same in two readings, so that a
// half-written file is not taken for a finished one, nor a new file beside an
// old one for what was meant.
type Watcher struct {
	opts    WatchOptions
	changes chan Change
	wake    chan struct{}

	mu      sync.Mutex
	watched []Watched
}

// NewWatcher makes a Watcher that watches nothing yet.
func NewWatcher(opts WatchOptions) *Watcher {
	if opts.Quiet <= 0 {
		opts.Quiet = 100 * time.Millisecond
	}
	if opts.Settle <= 0 {
		opts.Settle = 50 * time.Millisecond
	}
	if opts.Poll <= 0 {
		opts.Poll = 30 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.subscribe == nil {
		opts.subscribe = subscribeToSystem
	}
	return &Watcher{opts: opts, changes: make(chan Change), wake: make(chan struct{}, 1)}
}

// Changes is where changes are told. Changes at one path that nobody has
// picked up yet are told as one.
func (w *Watcher) Changes() <-chan Change { return w.changes }

// Watch replaces what is watched. What stays and has no Known hash keeps its
// history.
func (w *Watcher) Watch(watched []Watched) {
	w.mu.Lock()
	w.watched = slices.Clone(watched)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	r := &watchRun{Watcher: w, tracked: map[string]*tracked{}, dirs: map[string]map[string]bool{}, said: map[string]bool{}}
	poll := w.opts.Poll
	sub, err := w.opts.subscribe()
	if err != nil {
		poll = min(poll, blindPoll)
		w.opts.Logger.Warn("the system cannot tell of file changes; looking at the files instead",
			"every", poll, "error", err)
	} else {
		r.sub, r.events, r.errors = sub, sub.Events(), sub.Errors()
		defer func() { _ = sub.Close() }() // nothing is lost
	}
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	r.timer = time.NewTimer(0)
	defer r.timer.Stop()
	for {
		if ctx.Err() != nil {
			return nil // and somebody may still be looking
		}
		var out chan<- Change
		var next Change
		if len(r.pending) > 0 {
			out, next = w.changes, r.pending[0]
		}
		select {
		case <-ctx.Done():
			return nil
		case out <- next:
			r.pending = r.pending[1:]
		case <-w.wake:
			r.lookWhile(ctx)
		case e := <-r.events:
			if r.concerns(e) {
				r.timer.Reset(w.opts.Quiet)
			}
		case err := <-r.errors:
			// Most likely an overflow: what was lost is unknown, so look.
			w.opts.Logger.Warn("watching files", "error", err)
			r.timer.Reset(w.opts.Quiet)
		case <-r.timer.C:
			r.lookWhile(ctx)
		case <-ticker.C:
			r.lookWhile(ctx)
		}
	}
}

// watchRun is the state of one Run; its goroutine owns it.
type watchRun struct {
	*Watcher
	sub     subscription
	events  <-chan fsnotify.Event
	errors  <-chan error
	timer   *time.Timer
	tracked map[string]*tracked
	dirs    map[string]map[string]bool // watched directories and the entries that matter there
	pending []Change
	said    map[string]bool // what was warned of already
}

// tracked is what is known of one thing that is watched.
type tracked struct {
	Watched
	files, dirs, trees []string // of the last reading that succeeded
	last               Reading
	told               string    // last told, as key() makes it
	candidate          string    // what was read instead, likewise; empty: nothing
	since              time.Time // of the candidate
	reader             reader
}

func (t *tracked) read(ctx context.Context) {
	if t.Read == nil {
		t.last = t.reader.read(ctx, t.Path, func() Reading { return readSecret(t.Path) })
		return
	}
	if t.last = t.reader.read(ctx, t.Path, t.Read); t.last.Err == nil {
		t.files, t.dirs, t.trees = t.last.Files, t.last.Dirs, t.last.Trees
	}
}

// lookWhile looks until ctx ends. It is a goroutine that looks, because the
// system may not answer; then it owns the state from there on.
func (r *watchRun) lookWhile(ctx context.Context) {
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		r.look(ctx)
	}()
	select {
	case <-looked:
		return
	case <-ctx.Done():
	}
	late := time.NewTimer(leave)
	defer late.Stop()
	select {
	case <-looked:
	case <-late.C:
	}
}

// look reads everything and tells what has changed for good. It arms the timer
// when a change needs a second look.
func (r *watchRun) look(ctx context.Context) {
	r.adopt()
	// What was read says where to look next time, and what happens between a
	// reading and the watch of a new place makes no event.
	for range maxLinks {
		r.subscribeAll()
		for _, t := range r.tracked {
			t.read(ctx)
		}
		if reflect.DeepEqual(r.resolve(), r.dirs) {
			break
		}
	}
	again := time.Duration(0)
	for _, t := range r.tracked {
		if wait := r.lookAt(t); wait > 0 && (again == 0 || wait < again) {
			again = wait
		}
		t.last = Reading{} // it may hold much text
	}
	if again > 0 {
		r.timer.Reset(again)
	}
}

// lookAt returns how long to wait before the next look at t, 0 when it is
// settled.
func (r *watchRun) lookAt(t *tracked) time.Duration {
	now := t.last.key()
	if t.told == "" {
		t.told = now
		return 0
	}
	if now == t.told {
		t.candidate = ""
		return 0
	}
	if t.candidate != now {
		t.candidate, t.since = now, time.Now()
		return r.opts.Settle
	}
	if wait := r.opts.Settle - time.Since(t.since); wait > 0 {
		return wait
	}
	t.told, t.candidate = now, ""
	c := Change{Path: t.Path, Reading: t.last}
	if t.Read == nil {
		c.Reading.Hash = ""
	}
	r.tell(c)
	return 0
}

func (r *watchRun) tell(c Change) {
	for i := range r.pending {
		if r.pending[i].Path == c.Path {
			r.pending[i] = c
			return
		}
	}
	r.pending = append(r.pending, c)
}

// adopt takes over what was given to Watch.
func (r *watchRun) adopt() {
	r.mu.Lock()
	watched := r.watched
	r.mu.Unlock()
	next := make(map[string]*tracked, len(watched))
	for _, w := range watched {
		t := r.tracked[w.Path]
		if t == nil {
			t = &tracked{told: w.Known, files: w.Files, dirs: w.Dirs}
		} else if w.Known != "" && w.Known != t.Known {
			t.told, t.candidate = w.Known, ""
		}
		t.Watched = w
		next[w.Path] = t
	}
	r.tracked = next
}

// subscribeAll watches the directories that matter now. Links may have moved
// since the last time, so it is done anew at every look; watching a directory
// twice costs nothing.
func (r *watchRun) subscribeAll() {
	old := r.dirs
	r.dirs = r.resolve()
	if r.sub == nil {
		return
	}
	// What appears between resolving a path and watching its directory makes
	// no event, so resolve until nothing has moved meanwhile.
	for range maxLinks {
		for dir := range r.dirs {
			if err := r.sub.Add(dir); err != nil {
				r.warnOnce(dir, "cannot watch a directory; looking at its files instead", err)
			}
		}
		again := r.resolve()
		if reflect.DeepEqual(again, r.dirs) {
			break
		}
		r.dirs = again
	}
	for dir := range old {
		if r.dirs[dir] == nil {
			_ = r.sub.Remove(dir) // gone with its directory, as often as not
		}
	}
}

func (r *watchRun) warnOnce(path, message string, err error) {
	if r.said[path] {
		return
	}
	r.said[path] = true
	r.opts.Logger.Warn(message, "path", path, "every", r.opts.Poll, "error", err)
}
