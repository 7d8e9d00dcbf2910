package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Config is a configuration that is valid as a whole.
type Config struct {
	// Secrets are the files secret values are read from, by path, with the
	// environments that use them.
	Secrets map[string][]string
	// Local are files and directories that the configuration names and that are
	// read when it is put in force, by path, with the environments that use
	// them: charts, texts of configuration files.
	Local map[string][]string
	// Warnings do not keep it from being put in force.
	Warnings []Problem
	// Activate puts the configuration in force as a whole, or leaves the one
	// before in force and says why. generation counts from 1.
	Activate func(generation int, hash string) error
}

// InvalidError says everything that is wrong with a configuration.
type InvalidError struct{ Problems []Problem }

// Problem is one mistake, or one warning, and where it is. Line and Column
// count from 1; 0 means unknown.
type Problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path,omitempty"` // field, e.g. environments.prod.scaling.min
	Rule    string `json:"rule,omitempty"` // id of what is broken, e.g. F101
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Position is the place of the problem as editors take it: file:line:column.
func (p Problem) Position() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d", p.Line)
		if p.Column > 0 {
			s += fmt.Sprintf(":%d", p.Column)
		}
	}
	return s
}

// String is the problem in one line.
func (p Problem) String() string {
	s := p.Message
	if p.Path != "" {
		s = p.Path + ": " + s
	}
	if pos := p.Position(); pos != "" {
		s = pos + ": " + s
	}
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	if p.Rule != "" {
		s += " [" + p.Rule + "]"
	}
	return s
}

func (p Problem) attributes() []any {
	return []any{"position", p.Position(), "path", p.Path, "problem", p.Message, "hint", p.Hint, "rule", p.Rule}
}

func (e *InvalidError) Error() string {
	s := "the configuration is invalid"
	for _, p := range e.Problems {
		s += "\n  " + p.String()
	}
	return s
}

// UnjudgedError says that a configuration could not be judged, for a reason
// that is not in its text and may go away.
type UnjudgedError struct{ Err error }

func (e *UnjudgedError) Error() string { return e.Err.Error() }
func (e *UnjudgedError) Unwrap() error { return e.Err }

// The time before a configuration that could not be judged is tried again.
const (
	minRetry = 5 * time.Second
	maxRetry = 5 * time.Minute
)

// Version is one content of the configuration.
type Version struct {
	Hash string    `json:"hash,omitempty"` // SHA-256 of the names and the text of all files, hexadecimal
	At   time.Time `json:"at,omitzero"`    // when it was received, or put in force
}

// ConfigState tells which configuration is in force and how the last reload
// went.
type ConfigState struct {
	Path       string    `json:"path"`               // as given: a file or a directory
	Files      []string  `json:"files,omitempty"`    // whose text was read last
	OK         bool      `json:"ok"`                 // the last load succeeded
	Generation int       `json:"generation"`         // how many configurations have been in force
	Received   Version   `json:"received"`           // the newest content seen
	Active     Version   `json:"active"`             // the content in force
	Failures   uint64    `json:"failures"`           // loads that failed since the start
	Error      string    `json:"error,omitempty"`    // of the last load
	Problems   []Problem `json:"problems,omitempty"` // of the last load
	Warnings   []Problem `json:"warnings,omitempty"` // about what is in force
}

// ReloadOptions are what a Reloader works with. Path and Read are required.
type ReloadOptions struct {
	Path    string         // where the configuration is
	Read    func() Reading // reads it
	Logger  *slog.Logger
	Watch   WatchOptions
	Recheck func(environment string) // a secret file of the environment has changed; must not block
	Asked   func()                   // somebody has asked for a reload, and it has ended; must not block
	// Notifier hears of loads while the daemon runs.
	Notifier Notifier
}

// Reloader owns the configuration: what is in force, and how it is replaced.
// The last good configuration stays in force until a better one is valid as a
// whole.
type Reloader struct {
	opts     ReloadOptions
	watcher  *Watcher
	requests chan request
	poke     chan struct{}
	done     chan struct{}
	state    atomic.Pointer[ConfigState]

	// Owned by the goroutine that loads.
	secrets map[string][]string
	local   map[string][]string // of the configuration in force
	broken  map[string][]string // of a newer one that does not load
	last    Reading             // that succeeded
	retry   time.Duration       // before the last reading is judged again; 0: never
	due     time.Time           // when that is
	reader  reader
}

type request struct{ reply chan error }

// NewReloader makes a Reloader that has loaded nothing yet.
func NewReloader(opts ReloadOptions) *Reloader {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Watch.Logger == nil {
		opts.Watch.Logger = opts.Logger
	}
	r := &Reloader{
		opts:     opts,
		watcher:  NewWatcher(opts.Watch),
		requests: make(chan request),
		poke:     make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	r.state.Store(&ConfigState{Path: opts.Path})
	return r
}

// State is a snapshot; it never blocks.
func (r *Reloader) State() ConfigState { return *r.state.Load() }

// Start loads the configuration for the first time. There is no last good one
// yet, so an error means that there is nothing to run.
func (r *Reloader) Start(ctx context.Context) error {
	return r.load(ctx, r.read(ctx))
}

// Run watches the files and carries out reloads until ctx ends. Call it once,
// after Start.
func (r *Reloader) Run(ctx context.Context) error {
	defer close(r.done)
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		_ = r.watcher.Run(watching)
	}()
	defer func() { stop(); <-watched }()
	for {
		var retry <-chan time.Time
		if r.retry > 0 {
			retry = time.After(time.Until(r.due)) // whatever comes in between
		}
		select {
		case <-ctx.Done():
			return nil
		case c := <-r.watcher.Changes():
			r.changed(ctx, c)
		case q := <-r.requests:
			err := r.reload(ctx, r.read(ctx))
			r.asked()
			q.reply <- err
		case <-retry:
			_ = r.reload(ctx, r.read(ctx))
		case <-r.poke:
			_ = r.reload(ctx, r.read(ctx)) // logged and counted there
			r.asked()
		}
	}
}

func (r *Reloader) asked() {
	if r.opts.Asked != nil {
		r.opts.Asked()
	}
}

func (r *Reloader) read(ctx context.Context) Reading {
	return r.reader.read(ctx, r.opts.Path, r.opts.Read)
}

// Request asks for a reload and does not wait for it. Requests that nobody has
// picked up yet count as one.
func (r *Reloader) Request() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// Reload loads the configuration again, also when its content is what it was,
// and answers with what is wrong with it.
func (r *Reloader) Reload(ctx context.Context) error {
	q := request{reply: make(chan error, 1)}
	select {
	case r.requests <- q:
	case <-r.done:
		return errors.New("reload: forged is stopping")
	case <-ctx.Done():
		return fmt.Errorf("reload: %w", context.Cause(ctx))
	}
	select {
	case err := <-q.reply:
		return err
	case <-ctx.Done():
		return fmt.Errorf("reload: %w; it goes on without you, see /status for its end", context.Cause(ctx))
	}
}

func (r *Reloader) changed(ctx context.Context, c Change) {
	if c.Path == r.opts.Path {
		if c.Reading.Err == nil && c.Reading.Hash == r.State().Received.Hash && r.State().Error == "" {
			return // back to what is in force
		}
		_ = r.reload(ctx, c.Reading)
		return
	}
	if envs, ok := r.named()[c.Path]; ok {
		r.opts.Logger.Info("what the configuration names has changed", "path", c.Path)
		if r.reload(ctx, r.read(ctx)) == nil {
			for _, env := range envs {
				r.recheck(env)
			}
		}
		return
	}
	for _, env := range r.secrets[c.Path] {
		if err := c.Reading.Err; err != nil {
			r.opts.Logger.Warn("a secret file cannot be read", "environment", env, "file", c.Path, "error", err)
		} else {
			r.opts.Logger.Info("a secret file has changed", "environment", env, "file", c.Path)
		}
		r.recheck(env)
	}
}

func (r *Reloader) recheck(environment string) {
	if r.opts.Recheck != nil {
		r.opts.Recheck(environment)
	}
}

// reload is load while the daemon runs: it says so, and leaves no memory of
// the evaluation behind.
func (r *Reloader) reload(ctx context.Context, now Reading) error {
	if now.Err != nil && ctx.Err() != nil {
		return now.Err // that is no news about the configuration
	}
	r.notified(r.opts.Notifier.Reloading())
	err := r.load(ctx, now)
	debug.FreeOSMemory()
	status := "running"
	if err != nil {
		status = "running; the newest configuration is invalid, the last good one is in force"
	}
	r.notified(r.opts.Notifier.Ready(status))
	return err
}

func (r *Reloader) notified(err error) {
	if err != nil {
		r.opts.Logger.Warn("service manager", "error", err)
	}
}

// load builds a configuration from one reading and puts it in force, or leaves
// everything as it is.
func (r *Reloader) load(ctx context.Context, now Reading) error {
	began := time.Now()
	state := r.State()
	var built *Config
	err := now.Err
	if err == nil {
		r.last = Reading{Files: now.Files, Dirs: now.Dirs} // without the text
		state.Received, state.Files = Version{Hash: now.Hash, At: began}, now.Files
		built, err = now.Build(ctx)
	}
	r.again(err)
	if err != nil {
		if r.broken = nil; built != nil {
			r.broken = built.Local // what is wrong may be in there, and be put right
		}
		r.failed(state, err)
		return err
	}
	// Watch the secret files before their values are read: a change in between
	// is then seen.
	secrets, local := r.secrets, r.local
	r.secrets, r.local, r.broken = built.Secrets, built.Local, nil
	r.watch(state.Received.Hash)
	if err := built.Activate(state.Generation+1, state.Received.Hash); err != nil {
		r.secrets, r.local, r.broken = secrets, local, built.Local
		r.failed(state, err)
		return err
	}
	state.OK, state.Error, state.Problems, state.Warnings = true, "", nil, built.Warnings
	state.Generation++
	state.Active = Version{Hash: state.Received.Hash, At: time.Now()}
	r.state.Store(&state)
	for _, p := range built.Warnings {
		r.opts.Logger.Warn("warning about the configuration", p.attributes()...)
	}
	r.opts.Logger.Info("configuration in force", "file", r.opts.Path, "hash", short(state.Active.Hash),
		"generation", state.Generation, "took", time.Since(began))
	return nil
}

// again decides when to try again by ourselves: when the text was not judged,
// which is not for its author to put right.
func (r *Reloader) again(err error) {
	if unjudged := (*UnjudgedError)(nil); errors.As(err, &unjudged) {
		r.retry = min(max(2*r.retry, minRetry), maxRetry)
		r.due = time.Now().Add(r.retry)
	} else {
		r.retry = 0
	}
}

func (r *Reloader) failed(state ConfigState, err error) {
	state.OK, state.Error, state.Problems = false, err.Error(), nil
	state.Failures++
	attrs := []any{"file", r.opts.Path, "received", short(state.Received.Hash)}
	if state.Generation > 0 {
		attrs = append(attrs, "in force", short(state.Active.Hash))
	}
	if invalid := (*InvalidError)(nil); errors.As(err, &invalid) {
		state.Problems = invalid.Problems
		for _, p := range invalid.Problems {
			r.opts.Logger.Error("invalid configuration", append(attrs, p.attributes()...)...)
		}
	} else {
		r.opts.Logger.Error("cannot load the configuration", append(attrs, "error", err)...)
	}
	if state.Generation > 0 {
		r.opts.Logger.Warn("the last good configuration stays in force", "hash", short(state.Active.Hash),
			"since", state.Active.At)
		r.watch(state.Received.Hash)
	}
	r.state.Store(&state)
}

// watch watches the configuration and the secret files in force. A secret file
// that stays in the set keeps its history.
func (r *Reloader) watch(known string) {
	watched := []Watched{{Path: r.opts.Path, Known: known, Files: r.last.Files, Dirs: r.last.Dirs, Read: r.opts.Read}}
	for path := range r.secrets {
		watched = append(watched, Watched{Path: path})
	}
	for path := range r.named() {
		if _, secret := r.secrets[path]; !secret {
			watched = append(watched, Watched{Path: path, Read: func() Reading { return readLocal(path) }})
		}
	}
	r.watcher.Watch(watched)
}

func short(hash string) string { return hash[:min(12, len(hash))] }
