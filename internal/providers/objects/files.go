package objects

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

const (
	// pollEvery is how often files are compared with what was read of them. It
	// costs a stat each; events of the system would get lost on a network disk.
	pollEvery = time.Second

	// settling is how long a file must have been left alone before it is read,
	// so that a half-written one is not taken for the whole.
	settling = 50 * time.Millisecond

	// settledWithin is how long that is waited for.
	settledWithin = 10 * time.Second

	// statWithin is how long one look at a file may take. One that takes longer is
	// left to itself, and the others go on being watched.
	statWithin = 250 * time.Millisecond

	// coarse is how far two writes may be apart and still leave the same time
	// on a file, on any file system.
	coarse = 2 * time.Second

	causeFile = "file" // a file that forge.cue names has changed
)

// files reads the files of resources and remembers what they held for as long
// as nobody writes to them.
type files struct {
	dir string // where relative paths start

	stat func(path string) (stamp, error)

	mu    sync.Mutex
	read  map[string]content
	users map[user][]string // paths

	// What the system was asked and has not answered, by path. A disk or a
	// network that hangs holds a goroutine until it answers: one for each file,
	// however often it is asked for.
	reads map[string]*question[content]
	stats map[string]*question[stamp]
}

type question[T any] struct {
	done  chan struct{} // closed when it is answered
	value T
	err   error
}

type user struct {
	target forge.Target
	id     forge.ID
}

// content is what a file held when it was read.
type content struct {
	stamp stamp
	sure  bool // the next write to the file is sure to change the stamp
	text  string
	sum   [sha256.Size]byte
}

// stamp is what the system tells of a file without reading it. The zero stamp
// is that of a file which cannot be looked at.
type stamp struct {
	size     int64
	modified time.Time
	changed  time.Time // of the inode: also by what sets the time of a file
	inode    uint64
}

func newFiles(dir string) *files {
	return &files{
		dir: dir, stat: stampOf, read: map[string]content{}, users: map[user][]string{},
		reads: map[string]*question[content]{}, stats: map[string]*question[stamp]{},
	}
}

func (f *files) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.dir, name)
}

// follow has a resource looked at again when one of the files changes.
func (f *files) follow(u user, names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(names) == 0 {
		delete(f.users, u)
	} else {
		paths := make([]string, 0, len(names))
		for _, name := range names {
			paths = append(paths, f.path(name))
		}
		f.users[u] = paths
	}
	used := map[string]bool{}
	for _, paths := range f.users {
		for _, path := range paths {
			used[path] = true
		}
	}
	for path := range f.read {
		if !used[path] {
			delete(f.read, path)
		}
	}
}

// get is what a file holds, at most most bytes.
func (f *files) get(ctx context.Context, name string, most int64) (content, error) {
	path := f.path(name)
	q := ask(&f.mu, f.reads, path, func() (content, error) { return f.current(path, most) })
	err := unanswered(path)
	select {
	case <-q.done:
		err = q.err
	case <-ctx.Done():
	}
	if err != nil {
		f.mu.Lock()
		delete(f.read, path)
		f.mu.Unlock()
		return content{}, err
	}
	return q.value, nil
}

// ask has f answer a question, unless it is at it already.
func ask[T any](mu *sync.Mutex, open map[string]*question[T], path string, f func() (T, error)) *question[T] {
	mu.Lock()
	defer mu.Unlock()
	if q := open[path]; q != nil {
		return q
	}
	q := &question[T]{done: make(chan struct{})}
	open[path] = q
	go func() {
		q.value, q.err = f()
		mu.Lock()
		delete(open, path)
		mu.Unlock()
		close(q.done)
	}()
	return q
}

func unanswered(path string) error {
	return &reconcile.Error{
		Kind: reconcile.Unavailable, Op: "read " + path, Err: errors.New("the disk or the network that it is on does not answer"),
		Hint: "what is in the cluster stays as it is until the file can be read",
	}
}

func (f *files) current(path string, most int64) (content, error) {
	now, err := f.stat(path)
	if err != nil {
		return content{}, err
	}
	f.mu.Lock()
	c, known := f.read[path]
	f.mu.Unlock()
	if known && c.sure && c.stamp == now {
		return c, nil
	}
	if c, err = readSettled(path, most); err != nil {
		return c, err
	}
	f.mu.Lock()
	f.read[path] = c
	f.mu.Unlock()
	return c, nil
}

// readSettled reads a file that nobody is writing to at the moment.
func readSettled(path string, most int64) (content, error) {
	before, err := stampOf(path)
	for began := time.Now(); err == nil; {
		if time.Since(began) > settledWithin {
			return content{}, unread(path, errors.New("somebody writes to it all the time"))
		}
		if young := settling - time.Since(before.modified); young > 0 && young <= settling {
			<-time.After(young)
		}
		var raw []byte
		if raw, err = readFile(path, most); err != nil {
			break
		}
		var after stamp
		if after, err = stampOf(path); err == nil && after == before {
			return content{
				stamp: after, sure: time.Since(after.modified) > coarse,
				text: string(raw), sum: sha256.Sum256(raw),
			}, nil
		}
		before = after
	}
	return content{}, err
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return stamp{}, unread(path, err)
	case !info.Mode().IsRegular():
		return stamp{}, reconcile.Errorf(reconcile.Invalid, "read "+path, "it is not a regular file")
	}
	s := stamp{size: info.Size(), modified: info.ModTime()}
	s.inode, s.changed = identity(info)
	return s, nil
}

func readFile(path string, most int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // does not wait for a pipe
	if err != nil {
		return nil, unread(path, err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, most+1))
	switch {
	case err != nil:
		return nil, unread(path, err)
	case int64(len(raw)) > most:
		return nil, &reconcile.Error{
			Kind: reconcile.Invalid, Op: "read " + path, Err: fmt.Errorf("it is larger than the %d bytes that a ConfigMap holds", most),
			Hint: "put it into the image, or on a volume",
		}
	}
	return raw, nil
}

// unread says that nothing is known of a file: it is neither empty nor gone.
func unread(path string, err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return &reconcile.Error{
		Kind: reconcile.Unavailable, Op: "read " + path, Err: err,
		Hint: "what is in the cluster stays as it is until the file can be read",
	}
}

// watch reports files that are no longer as they were read, once they are left
// alone, until ctx ends.
func (f *files) watch(ctx context.Context, notify func(reconcile.Event)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	told := map[string]stamp{} // by path, since it was read last
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, e := range f.changed(ctx, told) {
			notify(e)
		}
	}
}

// glance is the stamp of a file: zero when it cannot be looked at, and not known
// while the system does not answer.
func (f *files) glance(ctx context.Context, path string) (now stamp, known bool) {
	f.mu.Lock()
	hung := f.stats[path] != nil
	f.mu.Unlock()
	if hung {
		return stamp{}, false
	}
	q := ask(&f.mu, f.stats, path, func() (stamp, error) { return f.stat(path) })
	late := time.NewTimer(statWithin)
	defer late.Stop()
	select {
	case <-q.done:
		return q.value, true
	case <-late.C:
	case <-ctx.Done():
	}
	return stamp{}, false
}

// changed compares files with what was read of them. What was told once is not
// told again before it has changed again.
func (f *files) changed(ctx context.Context, told map[string]stamp) []reconcile.Event {
	f.mu.Lock()
	read := make(map[string]stamp, len(f.read))
	for path, c := range f.read {
		read[path] = c.stamp
	}
	users := make(map[user][]string, len(f.users))
	for u, paths := range f.users {
		users[u] = paths
	}
	f.mu.Unlock()

	moved := map[string]bool{}
	now := map[string]stamp{}
	for _, paths := range users {
		for _, path := range paths {
			if _, done := now[path]; done {
				continue
			}
			s, known := f.glance(ctx, path)
			now[path] = s
			if !known {
				continue
			}
			if read[path] == s {
				delete(told, path)
			} else if last, ok := told[path]; !ok || last != s {
				told[path], moved[path] = s, true
			}
		}
	}
	var events []reconcile.Event
	for u, paths := range users {
		for _, path := range paths {
			if moved[path] {
				events = append(events, reconcile.Event{ID: u.id, Cause: causeFile, At: time.Now(), Object: path, Retry: true})
				break
			}
		}
	}
	return events
}
